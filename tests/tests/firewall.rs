//! A firewall of the system that forbids what is sent: a real `EPERM`, in a network of the test's
//! own, where it is run a second time.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use ortc_api::{
    Engine, EngineConfig, FrameReceiver, FrameSender, MediaFormat, MediaStream, MediaStreamTrack,
    RTCConnection, RTCConnectionOptions, RTCEvent, RTCEvents,
};
use ortc_tests::{frame, trickle};
use tokio::time::{interval, timeout};

const LIMIT: Duration = Duration::from_secs(20);

/// Between two frames.
const FRAME: Duration = Duration::from_millis(20);

/// Set where this runs in a network of its own.
const INSIDE: &str = "ORTC_TEST_INSIDE";

const TEST: &str = "what_a_firewall_forbids_is_lost_and_counted_and_the_call_goes_on";

fn in_a_network_of_its_own() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net"]);
    command
}

#[test]
fn what_a_firewall_forbids_is_lost_and_counted_and_the_call_goes_on() {
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Runtime::new().unwrap().block_on(inside());
    }
    let mut probe = in_a_network_of_its_own();
    probe.args(["nft", "list", "ruleset"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        // Past what captures the output of tests that pass.
        let why = "makes a network namespace, which needs unshare and nft on Linux";
        let _ = writeln!(std::io::stderr(), "NOT RUN: {TEST} {why}");
        return;
    }
    let mut again = in_a_network_of_its_own();
    again.arg(std::env::current_exe().unwrap()).args(["--exact", TEST, "--nocapture"]);
    let output = again.env(INSIDE, "").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// How many datagrams the firewall has refused.
fn refused() -> u64 {
    let said = run("nft", &["list", "counter", "inet", "firewall", "refused"]);
    let after = said.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
    after.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
}

fn connection(engine: &Engine) -> (RTCConnection, RTCEvents) {
    let options = RTCConnectionOptions::new().with_engine(engine.clone()).with_loopback(true);
    let conn = RTCConnection::new(options).unwrap();
    let events = conn.events();
    (conn, events)
}

/// One way of a call, whose frames are numbered.
struct Way {
    source: FrameSender,
    frames: FrameReceiver,
    next: u64,
}

impl Way {
    fn new(from: &RTCConnection, to: &RTCConnection) -> Self {
        let (track, source) = MediaStreamTrack::local(MediaFormat::Opus);
        let stream = MediaStream::new();
        stream.add_track(&track);
        from.add_stream(&stream, true).unwrap();
        let described = from.tracks(None)[0].description();
        let frames = to.receive_track(&described).unwrap().take_frames().unwrap();
        Self { source, frames, next: 0 }
    }

    fn send(&mut self) -> u64 {
        self.source.send(frame(self.next)).unwrap();
        self.next += 1;
        self.next - 1
    }

    async fn hear(&mut self) -> u64 {
        let frame = timeout(LIMIT, self.frames.recv()).await.expect("in time").expect("open");
        u64::from_be_bytes(frame.data[1..9].try_into().unwrap())
    }

    /// Sends frames until one is heard: both ends know the track then.
    async fn begin(&mut self) {
        let mut tick = interval(FRAME);
        timeout(LIMIT, async {
            loop {
                tick.tick().await;
                let number = self.send();
                while let Ok(heard) = timeout(FRAME / 2, self.frames.recv()).await {
                    if heard.expect("open").data == frame(number).data {
                        return;
                    }
                }
            }
        })
        .await
        .expect("heard in time");
    }

    /// Sends so many frames, each of which is heard before the next.
    async fn is_heard(&mut self, frames: u64) {
        let mut tick = interval(FRAME);
        for _ in 0..frames {
            tick.tick().await;
            let number = self.send();
            assert_eq!(self.hear().await, number);
        }
    }
}

async fn inside() {
    run("ip", &["link", "set", "lo", "up"]);
    let [near, far] = [(); 2].map(|()| Engine::new(EngineConfig::new()).unwrap());
    let [(one, mut of_one), (two, mut of_two)] = [connection(&near), connection(&far)];
    trickle(&one, &two).unwrap();
    let mut ports = Vec::new();
    let (mut there, mut back) = (Way::new(&one, &two), Way::new(&two, &one));
    for (events, is_near) in [(&mut of_one, true), (&mut of_two, false)] {
        let connected = async {
            loop {
                match events.recv().await.expect("open") {
                    RTCEvent::Candidate(it) if is_near => {
                        ports.push(it.connection_port.to_string());
                    }
                    RTCEvent::Connected => return,
                    _ => {}
                }
            }
        };
        timeout(LIMIT, connected).await.expect("connected in time");
    }
    there.begin().await;
    back.begin().await;
    there.is_heard(10).await;
    back.is_heard(10).await;

    let before = near.stats().await.unwrap().send_dropped;
    let rules = format!(
        "table inet firewall {{
            counter refused {{}}
            chain out {{
                type filter hook output priority 0;
                udp sport {{ {} }} counter name refused drop
            }}
        }}",
        ports.join(", ")
    );
    run("nft", &[&rules]);
    // Two seconds of sound, none of which gets anywhere; the other way all is heard.
    let first = there.next;
    let speak = async {
        let mut tick = interval(FRAME);
        for _ in 0..100 {
            tick.tick().await;
            there.send();
        }
        while refused() < 100 {
            tick.tick().await;
        }
    };
    tokio::join!(speak, back.is_heard(100));
    let refused = refused();
    run("nft", &["delete table inet firewall"]);
    let number = there.send();
    assert_eq!(number, first + 100);
    assert_eq!(there.hear().await, number, "what was forbidden is lost");
    there.is_heard(50).await;
    // Each of them was refused with an error, and is counted: sound, reports, checks.
    let dropped = near.stats().await.unwrap().send_dropped - before;
    assert!((refused..=refused + 20).contains(&dropped), "{dropped} dropped, {refused} refused");
    let mut told = Vec::new();
    for events in [&mut of_one, &mut of_two] {
        while let Ok(Some(event)) = timeout(Duration::from_millis(1), events.recv()).await {
            told.push(event);
        }
    }
    let is_end = |event: &RTCEvent| matches!(event, RTCEvent::Disconnected(_));
    assert!(!told.iter().any(is_end), "{told:?}");
    for conn in [one, two] {
        conn.close();
        timeout(LIMIT, conn.closed()).await.expect("closed");
    }
}
