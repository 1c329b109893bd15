use super::*;

const SOCKET: SocketId = SocketId { slot: 1, generation: 2 };
const LOCAL: &str = "192.0.2.1:5000";
const AFTER_1970: Duration = Duration::from_secs(1_800_000_000);

fn path() -> Path {
    Path::plain(SOCKET, "198.51.100.7:6000".parse().unwrap())
}

fn local(socket: SocketId) -> Option<SocketAddr> {
    (socket == SOCKET).then(|| LOCAL.parse().unwrap())
}

fn rtp(n: u16) -> Vec<u8> {
    let [high, low] = n.to_be_bytes();
    let mut packet = vec![0x80, 111, high, low, 0, 0, 0, 0, 0, 0, 0, 9];
    packet.resize(200, 0xee);
    packet
}

#[test]
fn of_rtp_the_header_is_noted_and_of_all_else_everything() {
    let now = Instant::now();
    let mut recorder = FlightRecorder::new(now, FlightConfig::default());
    let stun = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let mut extended = rtp(2);
    extended[0] = 0x92;
    extended[20..24].copy_from_slice(&[0xbe, 0xde, 0, 2]);
    let mut overlong = extended.clone();
    overlong[22..24].copy_from_slice(&[0xff, 0xff]);
    for datagram in [&rtp(1)[..], &extended[..], &overlong[..], &stun, &[22; 1_400], &[0x80, 200]] {
        recorder.datagram(now, FlightDirection::In, path(), datagram);
    }
    let recording = recorder.recording(now, AFTER_1970, local);
    let lengths: Vec<_> =
        recording.entries.iter().map(|(header, bytes)| (bytes.len(), header.original)).collect();
    assert_eq!(lengths, [(12, 200), (32, 200), (96, 200), (20, 20), (1_400, 1_400), (2, 2)]);
    assert_eq!(recording.locals, [(SOCKET, LOCAL.parse().unwrap())]);
}

#[test]
fn the_oldest_go_when_there_is_no_room_and_what_is_left_is_whole() {
    let now = Instant::now();
    let mut recorder =
        FlightRecorder::new(now, FlightConfig { bytes: 0, ..FlightConfig::default() });
    for n in 0..1_000 {
        recorder.datagram(now, FlightDirection::Out, path(), &rtp(n));
        recorder.words(now, &format!("this was number {n}"));
    }
    let recording = recorder.recording(now, AFTER_1970, local);
    assert!((50..70).contains(&recording.len()), "{}", recording.len());
    assert_eq!(recording.overwritten() as usize + recording.len(), 2_000);
    let mut next = None;
    for (header, bytes) in &recording.entries {
        let n = match header.direction {
            Some(_) => {
                assert_eq!((header.socket, header.remote), (path().socket, path().remote));
                u16::from_be_bytes([bytes[2], bytes[3]])
            }
            None => {
                std::str::from_utf8(bytes).unwrap().rsplit(' ').next().unwrap().parse().unwrap()
            }
        };
        let expected = next.replace(n);
        assert!(expected.is_none_or(|before| n == before || n == before + 1), "{n}");
    }
    assert_eq!(next, Some(999));
}

#[test]
fn what_is_too_old_is_left_out() {
    let start = Instant::now();
    let mut recorder = FlightRecorder::new(start, FlightConfig::default());
    for second in 0..30 {
        recorder.words(start + Duration::from_secs(second), "a second");
    }
    let recording = recorder.recording(start + Duration::from_secs(29), AFTER_1970, local);
    assert_eq!(recording.len(), 11);
}

#[test]
fn words_are_cut_where_a_character_ends() {
    let now = Instant::now();
    let mut recorder = FlightRecorder::new(now, FlightConfig::default());
    recorder.words(now, &"ß".repeat(200));
    recorder.words(now, &format!("x{}", "ß".repeat(200)));
    let recording = recorder.recording(now, AFTER_1970, local);
    let lengths: Vec<_> = recording.entries.iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(lengths, [200, 199]);
}

#[test]
fn addresses_of_both_families_are_kept() {
    let now = Instant::now();
    let mut recorder = FlightRecorder::new(now, FlightConfig::default());
    let remotes = ["[2001:db8::1]:7", "[::ffff:192.0.2.1]:8", "203.0.113.9:9"];
    for remote in remotes {
        let path = Path::plain(SOCKET, remote.parse().unwrap());
        recorder.datagram(now, FlightDirection::In, path, &rtp(1));
    }
    let recording = recorder.recording(now, AFTER_1970, local);
    let kept: Vec<_> =
        recording.entries.iter().map(|(header, _)| header.remote.to_string()).collect();
    assert_eq!(kept, remotes);
}

#[test]
fn every_block_says_its_length_twice_and_begins_at_a_multiple_of_four() {
    let now = Instant::now();
    let mut recorder = FlightRecorder::new(now, FlightConfig::default());
    recorder.words(now, "before everything");
    for len in 1..80 {
        recorder.datagram(now, FlightDirection::In, path(), &vec![22; len]);
    }
    recorder.words(now, "after everything");
    let file = recorder.recording(now, AFTER_1970, local).to_pcapng("all lengths");
    let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| file[at + n])) as usize;
    let (mut at, mut blocks) = (0, 0);
    while at < file.len() {
        let len = u32_at(at + 4);
        assert_eq!((len % 4, u32_at(at + len - 4)), (0, len), "block {blocks}");
        at += len;
        blocks += 1;
    }
    assert_eq!((at, blocks), (file.len(), 2 + 79 + 1));
}
