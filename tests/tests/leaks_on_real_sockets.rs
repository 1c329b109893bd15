//! Nothing is left of connections over the system's sockets: a test of its own, since what it
//! counts belongs to the whole process.
#![cfg(target_os = "linux")]

use std::time::Duration;

use ortc_api::{Engine, EngineConfig, RTCConnection, RTCConnectionOptions, RTCEvent};
use ortc_tests::frame;

const LIMIT: Duration = Duration::from_secs(20);

/// What this process has of the system: threads, descriptors, and resident memory in kB.
#[derive(Debug, Clone, Copy)]
struct Held {
    threads: usize,
    descriptors: usize,
    resident: usize,
}

impl Held {
    fn now() -> Self {
        let entries = |path| std::fs::read_dir(path).expect("Linux has it").count();
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        let resident = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        Self {
            threads: entries("/proc/self/task"),
            descriptors: entries("/proc/self/fd"),
            resident,
        }
    }
}

/// Two connections that trickle to each other, each on an engine.
fn pair(engines: [&Engine; 2]) -> [RTCConnection; 2] {
    let pair = engines.map(|engine| {
        let options = RTCConnectionOptions::new().with_engine(engine.clone()).with_loopback(true);
        RTCConnection::new(options).unwrap()
    });
    for (own, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
        let peer = other.downgrade();
        own.on_candidate(Some(move |conn: &RTCConnection, candidate| {
            // Either may have been closed by now.
            let _ = conn.set_local_candidate(&candidate);
            if let Some(peer) = peer.upgrade() {
                let _ = peer.set_remote_candidate(&candidate);
            }
        }));
        own.set_remote_ice(other.local().ice).unwrap();
        own.connect().unwrap();
    }
    pair
}

async fn connected(conn: &RTCConnection) {
    let mut events = conn.events();
    let wait = async { while events.recv().await.expect("open") != RTCEvent::Connected {} };
    tokio::time::timeout(LIMIT, wait).await.expect("connected in time");
}

async fn closed(conn: &RTCConnection) {
    tokio::time::timeout(LIMIT, conn.closed()).await.expect("closed in time");
}

/// One call, which ends in one of five ways.
async fn life(engines: [&Engine; 2], n: usize) {
    let [one, two] = pair(engines);
    let ending = n % 5;
    if ending < 3 {
        connected(&one).await;
        connected(&two).await;
        let (track, source) = ortc_api::MediaStreamTrack::local(ortc_api::MediaFormat::Opus);
        let stream = ortc_api::MediaStream::new();
        stream.add_track(&track);
        one.add_stream(&stream, true).unwrap();
        two.receive_track(&one.tracks(None)[0].description()).unwrap();
        source.send(frame(0)).unwrap();
    }
    match ending {
        0 => {
            one.close();
            closed(&one).await;
            closed(&two).await;
        }
        1 => {
            one.close();
            two.close();
            one.close();
            closed(&one).await;
            closed(&two).await;
        }
        // Dropped, in the midst of a call and of the handshake.
        2 | 3 => {}
        _ => {
            one.close();
            closed(&one).await;
        }
    }
}

/// Fifty calls at once, on the same two engines.
async fn crowd(engines: [&Engine; 2]) {
    let pairs: Vec<_> = (0..50).map(|_| pair(engines)).collect();
    for [one, two] in &pairs {
        connected(one).await;
        connected(two).await;
    }
    for [one, two] in &pairs {
        one.close();
        closed(two).await;
    }
}

#[tokio::test]
async fn hundreds_of_connections_leave_no_thread_no_descriptor_and_no_memory() {
    let before = Held::now();
    {
        let [one, two] = [(); 2].map(|()| Engine::new(EngineConfig::new()).unwrap());
        let engines = [&one, &two];
        let fresh = Held::now();
        crowd(engines).await;
        for n in 0..20 {
            life(engines, n).await;
        }
        let warm = Held::now();
        for n in 0..200 {
            life(engines, n).await;
        }
        crowd(engines).await;
        // The last ones were dropped: they close when they find the time.
        settles("the descriptors of idle engines", || {
            let idle = Held::now();
            (idle.threads, idle.descriptors) == (fresh.threads, fresh.descriptors)
        })
        .await;
        let idle = Held::now();
        let grown = idle.resident.saturating_sub(warm.resident);
        assert!(grown < 8 * 1024, "{grown} kB more: {warm:?}, {idle:?}");
    }
    settles("threads and descriptors as before", || {
        let after = Held::now();
        (after.threads, after.descriptors) == (before.threads, before.descriptors)
    })
    .await;
}

async fn settles(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while !is_so() {
            tick.tick().await;
        }
    };
    let in_time = tokio::time::timeout(LIMIT, wait).await;
    assert!(in_time.is_ok(), "{what}: never; {:?}", Held::now());
}
