//! The control thread stands still, on threads and sockets of the system.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use ortc_api::{
    Engine, EngineConfig, MediaFormat, MediaStream, MediaStreamTrack, RTCConnection,
    RTCConnectionOptions, RTCEvent,
};
use ortc_tests::{frame, trickle};
use tokio::time::{interval, timeout};

const LIMIT: Duration = Duration::from_secs(20);

fn connection(engine: &Engine) -> RTCConnection {
    let options = RTCConnectionOptions::new().with_engine(engine.clone()).with_loopback(true);
    RTCConnection::new(options).unwrap()
}

async fn connected(conn: &RTCConnection) {
    let mut events = conn.events();
    let wait = async { while events.recv().await.expect("open") != RTCEvent::Connected {} };
    timeout(LIMIT, wait).await.expect("connected in time");
}

/// Media goes from the application to the wire and back without the control thread, and so does
/// consent; what waits for it is late by as long as it was blocked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_thread_that_is_blocked_for_a_second_delays_no_media() {
    let [near, far] = [(); 2].map(|()| Engine::new(EngineConfig::new()).unwrap());
    let (one, two) = (connection(&near), connection(&far));
    trickle(&one, &two).unwrap();
    connected(&one).await;
    connected(&two).await;
    let (track, source) = MediaStreamTrack::local(MediaFormat::Opus);
    let stream = MediaStream::new();
    stream.add_track(&track);
    one.add_stream(&stream, true).unwrap();
    let received = two.receive_track(&one.tracks(None)[0].description()).unwrap();
    let mut frames = received.take_frames().unwrap();
    // Once a frame has come, both know the track.
    let mut tick = interval(Duration::from_millis(20));
    let mut sent = 0;
    timeout(LIMIT, async {
        loop {
            tokio::select! {
                _ = frames.recv() => break,
                _ = tick.tick() => {
                    source.send(frame(sent)).unwrap();
                    sent += 1;
                }
            }
        }
    })
    .await
    .expect("heard in time");

    // A handler that waits, far longer than one may, until it is let go.
    let (blocked, is_blocked) = tokio::sync::oneshot::channel();
    let (let_go, is_let_go) = mpsc::channel::<()>();
    let mut first = Some((blocked, is_let_go));
    one.on_end_of_candidates(Some(move |_: &RTCConnection| {
        if let Some((blocked, is_let_go)) = first.take() {
            let _ = blocked.send(());
            let _ = is_let_go.recv_timeout(LIMIT);
        }
    }));
    timeout(LIMIT, is_blocked).await.expect("in time").expect("it is blocked");
    let begun = Instant::now();
    // A second of sound: each frame is heard before the next is sent.
    for number in sent..sent + 50 {
        tick.tick().await;
        source.send(frame(number)).unwrap();
        let came = timeout(LIMIT, async {
            loop {
                let frame = frames.recv().await.expect("open");
                if u64::from_be_bytes(frame.data[1..9].try_into().unwrap()) == number {
                    return;
                }
            }
        });
        came.await.expect("heard in time");
    }
    assert!(begun.elapsed() >= Duration::from_millis(900));
    // What asks the control thread waits for it, and is answered.
    let mut stats = std::pin::pin!(near.stats());
    assert!(timeout(Duration::from_millis(50), &mut stats).await.is_err(), "it is blocked still");
    let_go.send(()).unwrap();
    let stats = timeout(LIMIT, stats).await.expect("in time");
    assert_eq!(stats.expect("the media thread lives").connections, 1);
    one.close();
    timeout(LIMIT, two.closed()).await.expect("closed");
}
