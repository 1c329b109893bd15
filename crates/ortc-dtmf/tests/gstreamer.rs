//! Against GStreamer, over sockets of this machine: its packets and its sound, both ways.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ortc_dtmf::{
    Detection, Digit, Law, ReceivedPacket, ToneDetector, ToneDetectorConfig, ToneGenerator,
    ToneOutput, ToneQueue, ToneQueueConfig, ToneReceiver, ToneReceiverConfig, ToneReport,
    ToneShape,
};

const ALL: &str = "0123456789*#ABCD";

/// Starting GStreamer on a busy machine takes a while; nothing else here does.
const LIMIT: Duration = Duration::from_secs(60);

/// A program that is stopped when the test is over.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Debian's Python has the bindings; another that comes first may not.
fn press_keys(pipeline: &str, method: &str) -> Program {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/press_keys.py");
    let has_bindings = |python: &&str| {
        let mut probe = Command::new(python);
        probe.args(["-c", "import gi"]).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    let python = ["python3", "/usr/bin/python3"].into_iter().find(has_bindings);
    let python =
        python.expect("python3 with GStreamer's bindings: apt-get install python3-gst-1.0");
    let child = Command::new(python).args([script, pipeline, ALL, method]).spawn();
    Program(child.expect("python has just been started"))
}

/// An RTP packet: sequence number, timestamp, marker and payload.
fn parse(packet: &[u8]) -> (u16, u32, bool, &[u8]) {
    let sequence = u16::from_be_bytes([packet[2], packet[3]]);
    let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
    (sequence, timestamp, packet[1] & 0x80 != 0, &packet[12..])
}

fn rtp(payload_type: u8, sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type | u8::from(marker) << 7];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(0x1234_5678u32.to_be_bytes());
    packet.extend(payload);
    packet
}

/// A socket that GStreamer sends to, and what it is called there.
fn listen() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, format!("udpsink host=127.0.0.1 port={port}"))
}

/// A datagram, if one comes within 20 ms.
fn receive(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut datagram = vec![0; 2_000];
    match socket.recv(&mut datagram) {
        Ok(len) => Some(datagram[..len].to_vec()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(error) => panic!("{error}"),
    }
}

/// GStreamer that listens, and the digits it finds.
struct Listener {
    _program: Program,
    lines: Receiver<String>,
    to: UdpSocket,
    digits: String,
}

impl Listener {
    /// Starts a pipeline behind a socket and waits until it plays.
    fn start(caps: &str, pipeline: &str) -> Self {
        // Free a moment ago.
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let pipeline = format!(
            "udpsrc port={port} caps={caps} ! {pipeline} ! fakesink name=end sync=false async=false"
        );
        let mut child = Command::new("gst-launch-1.0")
            .arg("-m")
            .args(pipeline.split(' '))
            .stdout(Stdio::piped())
            .spawn()
            .expect("gst-launch-1.0: apt-get install gstreamer1.0-tools");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let to = UdpSocket::bind("127.0.0.1:0").unwrap();
        to.connect(("127.0.0.1", port)).unwrap();
        let mut listener = Self { _program: Program(child), lines, to, digits: String::new() };
        let playing =
            |line: &str| line.contains("pipeline0") && line.contains("new-state=(GstState)playing");
        listener.until(Instant::now() + LIMIT, playing).expect("GStreamer does not play");
        listener
    }

    /// Reads what it says until a deadline, or until a line that is waited for.
    fn until(&mut self, deadline: Instant, is_last: impl Fn(&str) -> bool) -> Option<String> {
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(wait) {
                Ok(line) => {
                    let event = line.split_once("dtmf-event,");
                    if let Some((_, number)) =
                        event.and_then(|(_, rest)| rest.split_once("number=(int)"))
                    {
                        let end =
                            number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
                        let digit = Digit::from_event(number[..end].parse().unwrap()).unwrap();
                        self.digits.push(digit.to_char());
                    }
                    if is_last(&line) {
                        return Some(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => panic!("GStreamer has ended"),
            }
        }
    }

    /// All digits, once there are sixteen and nothing follows for a while.
    fn digits(mut self) -> String {
        let deadline = Instant::now() + LIMIT;
        while self.digits.len() < ALL.len() && Instant::now() < deadline {
            self.until(deadline, |line| line.contains("dtmf-event"));
        }
        self.until(Instant::now() + Duration::from_millis(300), |_| false);
        self.digits
    }
}

/// Digits and lengths that GStreamer's events are recognised as.
fn events_of_gstreamer(clock_rate: u32) -> Vec<(char, Duration)> {
    let (socket, sink) = listen();
    let pipeline = format!("rtpdtmfsrc pt=101 clock-rate={clock_rate} ! {sink} sync=false");
    let _python = press_keys(&pipeline, "1");
    let mut receiver = ToneReceiver::new(ToneReceiverConfig::default());
    let (mut found, deadline) = (Vec::new(), Instant::now() + LIMIT);
    let mut quiet_since = Instant::now();
    // Until nothing more comes.
    while found.len() < ALL.len() || quiet_since.elapsed() < Duration::from_millis(500) {
        assert!(Instant::now() < deadline, "only {found:?}");
        if let Some(datagram) = receive(&socket) {
            quiet_since = Instant::now();
            let (sequence, timestamp, marker, payload) = parse(&datagram);
            let packet = ReceivedPacket { sequence, timestamp, marker, clock_rate, payload };
            receiver.handle_packet(Instant::now(), &packet).unwrap();
        }
        receiver.handle_timeout(Instant::now());
        while let Some(report) = receiver.poll_output() {
            if let ToneReport::Ended(tone, _) = report {
                found.push((tone.digit().unwrap().to_char(), tone.duration));
            }
        }
    }
    found
}

#[test]
fn events_from_gstreamer_are_recognised_at_8_khz_and_at_48() {
    let threads =
        [8_000, 48_000].map(|rate| (rate, thread::spawn(move || events_of_gstreamer(rate))));
    for (rate, thread) in threads {
        let found = thread.join().unwrap();
        let digits: String = found.iter().map(|(digit, _)| *digit).collect();
        assert_eq!(digits, ALL, "{rate}");
        for (digit, duration) in found {
            // A key is held for 260 ms, and GStreamer reports it in steps of 40.
            let is_right = (240..=2_000).contains(&duration.as_millis());
            assert!(is_right, "{rate}: {digit} for {duration:?}");
        }
    }
}

/// Digits that GStreamer finds in events of ours.
fn events_to_gstreamer(clock_rate: u32) -> String {
    let caps = format!(
        "application/x-rtp,media=audio,encoding-name=TELEPHONE-EVENT,clock-rate={clock_rate},payload=101"
    );
    let mut listener = Listener::start(&caps, "rtpdtmfdepay");
    let mut queue = ToneQueue::new(ToneQueueConfig::new(clock_rate));
    let gap = Duration::from_millis(50);
    queue.insert_dtmf(Instant::now(), ALL, Some(Duration::from_millis(70)), Some(gap)).unwrap();
    let mut sequence = 0;
    loop {
        while let Some(output) = queue.poll_output(Instant::now()) {
            if let ToneOutput::Packet(packet) = output {
                let datagram =
                    rtp(101, sequence, packet.timestamp, packet.marker, packet.payload());
                listener.to.send(&datagram).unwrap();
                sequence += 1;
            }
        }
        let Some((due, _)) = queue.poll_timeout() else { return listener.digits() };
        listener.until(due, |_| false);
    }
}

#[test]
fn gstreamer_recognises_our_events_at_8_khz_and_at_48() {
    for rate in [8_000, 48_000] {
        assert_eq!(events_to_gstreamer(rate), ALL, "{rate}");
    }
}

/// Digits that are recognised in GStreamer's sound: when they begin, and when they end.
fn sound_of_gstreamer(law: Law, encoder: &str) -> (String, String) {
    let (socket, sink) = listen();
    let pipeline = format!(
        "dtmfsrc ! audio/x-raw,format=S16LE,rate=8000,channels=1 ! audioconvert ! {encoder} ! {sink}"
    );
    let _python = press_keys(&pipeline, "2");
    let mut detector = ToneDetector::new(8_000, ToneDetectorConfig::default()).unwrap();
    let (mut began, mut ended, deadline) = (String::new(), String::new(), Instant::now() + LIMIT);
    let mut quiet_since = Instant::now();
    while ended.len() < ALL.len() {
        assert!(Instant::now() < deadline, "only {ended}");
        match receive(&socket) {
            Some(datagram) => {
                detector.process_g711(law, parse(&datagram).3);
                quiet_since = Instant::now();
            }
            // GStreamer sends nothing after its last tone: whoever listens hears silence.
            None if quiet_since.elapsed() > Duration::from_millis(500) => {
                detector.process(&[0; 160]);
            }
            None => {}
        }
        while let Some(detection) = detector.poll_output() {
            match detection {
                Detection::Began(tone) => began.push(tone.digit.to_char()),
                Detection::Ended(tone) => ended.push(tone.digit.to_char()),
            }
        }
    }
    (began, ended)
}

#[test]
fn sound_from_gstreamer_is_recognised_in_both_laws() {
    let laws = [(Law::Alaw, "alawenc ! rtppcmapay"), (Law::Ulaw, "mulawenc ! rtppcmupay")];
    let threads =
        laws.map(|(law, encoder)| thread::spawn(move || sound_of_gstreamer(law, encoder)));
    for (thread, (law, _)) in threads.into_iter().zip(laws) {
        assert_eq!(thread.join().unwrap(), (ALL.to_owned(), ALL.to_owned()), "{law:?}");
    }
}

#[test]
fn gstreamer_recognises_our_sound() {
    for (law, payload_type, name, decoder) in [
        (Law::Alaw, 8, "PCMA", "rtppcmadepay ! alawdec"),
        (Law::Ulaw, 0, "PCMU", "rtppcmudepay ! mulawdec"),
    ] {
        let caps = format!(
            "application/x-rtp,media=audio,encoding-name={name},clock-rate=8000,payload={payload_type}"
        );
        let mut listener = Listener::start(&caps, &format!("{decoder} ! dtmfdetect"));
        let mut generator = ToneGenerator::new(8_000, ToneShape::default()).unwrap();
        let mut samples = vec![0; 800];
        for digit in ALL.chars().filter_map(Digit::from_char) {
            samples.extend(generator.tone(digit, Duration::from_millis(60)));
            samples.extend([0; 480]);
        }
        samples.extend([0; 1_600]);
        for (at, frame) in (0u16..).zip(samples.chunks(160)) {
            let codes: Vec<u8> = frame.iter().map(|sample| law.encode(*sample)).collect();
            let datagram = rtp(payload_type, at, u32::from(at) * 160, at == 0, &codes);
            listener.to.send(&datagram).unwrap();
            // Ten times as fast as it sounds, so that no buffer runs over.
            listener.until(Instant::now() + Duration::from_millis(2), |_| false);
        }
        assert_eq!(listener.digits(), ALL, "{name}");
    }
}
