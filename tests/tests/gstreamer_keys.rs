//! GStreamer presses keys on one side of a call, and GStreamer hears them on the other.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use ortc_api::{
    DTMFMediaStreamTrack, MediaFormat, MediaStream, MediaStreamTrack, RTCConnection,
    RTCConnectionOptions, RTCEvent,
};
use ortc_dtmf::{Digit, ReceivedPacket, ToneReceiver, ToneReceiverConfig, ToneReport};

const ALL: &str = "0123456789*#ABCD";
const LIMIT: Duration = Duration::from_secs(60);
const CAPS: &str =
    "application/x-rtp,media=audio,encoding-name=TELEPHONE-EVENT,clock-rate=8000,payload=101";

/// A program that is stopped when the test is over.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn every_digit_of_gstreamer_goes_through_a_call_into_gstreamer() {
    let options = || RTCConnectionOptions::new().with_loopback(true);
    let one = RTCConnection::new(options()).unwrap();
    let two = RTCConnection::new(options()).unwrap();
    let (audio, _frames) = MediaStreamTrack::local(MediaFormat::Alaw);
    let (stream, keys) = (MediaStream::new(), DTMFMediaStreamTrack::new());
    stream.add_track(&audio);
    stream.add_track(&keys);
    one.add_stream(&stream, true).unwrap();
    let received = two.receive_track(&one.tracks(None)[0].description()).unwrap();
    let mut tap = received.tap(1_024).unwrap();
    connect(&one, &two).await;

    let (to, digits, _listener) = tokio::task::spawn_blocking(listen).await.unwrap();
    let (from, _presser) = press();
    thread::spawn(move || hold(&from, &keys));

    let mut heard = String::new();
    let deadline = Instant::now() + LIMIT;
    let mut quiet_since = Instant::now();
    while heard.len() < ALL.len() || quiet_since.elapsed() < Duration::from_secs(1) {
        assert!(Instant::now() < deadline, "only {heard}");
        if let Ok(Some(packet)) = tokio::time::timeout(Duration::from_millis(20), tap.recv()).await
        {
            let mut plain = vec![0x80, 101 | u8::from(packet.marker) << 7];
            plain.extend((packet.sequence as u16).to_be_bytes());
            plain.extend(packet.timestamp.to_be_bytes());
            plain.extend([0x12, 0x34, 0x56, 0x78]);
            plain.extend(&packet.payload);
            to.send(&plain).unwrap();
        }
        for digit in digits.try_iter() {
            heard.push(digit);
            quiet_since = Instant::now();
        }
    }
    assert_eq!(heard, ALL);
}

async fn connect(one: &RTCConnection, two: &RTCConnection) {
    for (own, other) in [(one, two), (two, one)] {
        let peer = other.downgrade();
        own.on_candidate(Some(move |conn: &RTCConnection, candidate| {
            conn.set_local_candidate(&candidate).unwrap();
            if let Some(peer) = peer.upgrade() {
                peer.set_remote_candidate(&candidate).unwrap();
            }
        }));
        own.set_remote_ice(other.local().ice).unwrap();
        own.connect().unwrap();
    }
    let mut events = one.events();
    let connected = async { while events.recv().await.expect("open") != RTCEvent::Connected {} };
    tokio::time::timeout(LIMIT, connected).await.expect("connected in time");
}

/// Has GStreamer press all keys, as packets to a socket.
fn press() -> (UdpSocket, Program) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let pipeline = format!(
        "rtpdtmfsrc pt=101 clock-rate=8000 ! udpsink host=127.0.0.1 port={port} sync=false"
    );
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/ortc-dtmf/tests/press_keys.py");
    // Debian's Python has the bindings; another that comes first may not.
    let has_bindings = |python: &&str| {
        let mut probe = Command::new(python);
        probe.args(["-c", "import gi"]).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    let python = ["python3", "/usr/bin/python3"].into_iter().find(has_bindings);
    let python =
        python.expect("python3 with GStreamer's bindings: apt-get install python3-gst-1.0");
    let child = Command::new(python).args([script, &pipeline, ALL, "1"]).spawn().unwrap();
    (socket, Program(child))
}

/// Holds each key for as long as its packets say, until the line is closed.
fn hold(socket: &UdpSocket, keys: &DTMFMediaStreamTrack) {
    let mut receiver = ToneReceiver::new(ToneReceiverConfig::default());
    let mut datagram = [0; 2_000];
    loop {
        if let Ok(len @ 12..) = socket.recv(&mut datagram) {
            let number = |at: usize| u16::from_be_bytes([datagram[at], datagram[at + 1]]);
            let packet = ReceivedPacket {
                sequence: number(2),
                timestamp: u32::from(number(4)) << 16 | u32::from(number(6)),
                marker: datagram[1] & 0x80 != 0,
                clock_rate: 8_000,
                payload: &datagram[12..len],
            };
            receiver.handle_packet(Instant::now(), &packet).unwrap();
        }
        receiver.handle_timeout(Instant::now());
        while let Some(report) = receiver.poll_output() {
            let held = match report {
                ToneReport::Began(tone) => keys.tonestart(tone.digit().unwrap().to_char()),
                ToneReport::Ended(..) => keys.tonestop(),
            };
            if held.is_err() {
                return;
            }
        }
    }
}

/// Has GStreamer listen to a socket; the digits that it finds.
fn listen() -> (UdpSocket, Receiver<char>, Program) {
    // Free a moment ago.
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let pipeline =
        format!("udpsrc port={port} caps={CAPS} ! rtpdtmfdepay ! fakesink sync=false async=false");
    let mut child = Command::new("gst-launch-1.0")
        .arg("-m")
        .args(pipeline.split(' '))
        .stdout(Stdio::piped())
        .spawn()
        .expect("gst-launch-1.0: apt-get install gstreamer1.0-tools");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let playing =
        |line: &String| line.contains("pipeline0") && line.contains("new-state=(GstState)playing");
    assert!(lines.any(|line| playing(&line)), "GStreamer does not play");
    let (sender, digits) = channel();
    thread::spawn(move || {
        for line in lines {
            let event = line.split_once("dtmf-event,");
            let number = event.and_then(|(_, rest)| rest.split_once("number=(int)"));
            let Some((_, number)) = number else { continue };
            let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
            let digit = Digit::from_event(number[..end].parse().unwrap()).unwrap();
            if sender.send(digit.to_char()).is_err() {
                return;
            }
        }
    });
    let to = UdpSocket::bind("127.0.0.1:0").unwrap();
    to.connect(("127.0.0.1", port)).unwrap();
    (to, digits, Program(child))
}
