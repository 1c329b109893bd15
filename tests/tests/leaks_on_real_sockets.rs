//! Nothing is left of connections over the system's sockets: a test of its own, since what it
//! counts belongs to the whole process.
#![cfg(target_os = "linux")]

mod counting;

use std::time::Duration;

use counting::live_everywhere;
use ortc_api::{Engine, EngineConfig, RTCConnection, RTCConnectionOptions, RTCEvent};
use ortc_tests::soak::Sample;
use ortc_tests::{frame, trickle};

const LIMIT: Duration = Duration::from_secs(20);

/// What tables may have grown by: a connection takes some 100 kB, a forgotten actor at least 1 kB, and
/// there are five hundred.
const MOST_GROWN: u64 = 64 * 1024;

/// What this process has of the system now.
fn held() -> Sample {
    Sample::take(Duration::ZERO, 0, live_everywhere())
}

/// Two connections that trickle to each other, each on an engine.
fn pair(engines: [&Engine; 2]) -> [RTCConnection; 2] {
    let pair = engines.map(|engine| {
        let options = RTCConnectionOptions::new().with_engine(engine.clone()).with_loopback(true);
        RTCConnection::new(options).unwrap()
    });
    trickle(&pair[0], &pair[1]).unwrap();
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
    let before = held();
    {
        let [one, two] = [(); 2].map(|()| Engine::new(EngineConfig::new()).unwrap());
        let engines = [&one, &two];
        let fresh = held();
        crowd(engines).await;
        for n in 0..20 {
            life(engines, n).await;
        }
        let warm = held();
        for n in 0..200 {
            life(engines, n).await;
        }
        crowd(engines).await;
        // The last ones were dropped: they close when they find the time.
        settles("the descriptors of idle engines", || {
            let idle = held();
            (idle.threads, idle.descriptors) == (fresh.threads, fresh.descriptors)
        })
        .await;
        let idle = held();
        let grown = idle.allocated.saturating_sub(warm.allocated);
        assert!(grown < MOST_GROWN, "{grown} bytes more: {warm:?}, {idle:?}");
        let grown = idle.resident_kb.saturating_sub(warm.resident_kb);
        assert!(grown < 8 * 1024, "{grown} kB more: {warm:?}, {idle:?}");
    }
    settles("threads and descriptors as before", || {
        let after = held();
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
    assert!(in_time.is_ok(), "{what}: never; {:?}", held());
}
