//! Sound and pictures are recorded together: over a network that loses one packet in twenty, and in
//! step although they come at different times.

use std::fs::File;
use std::io::{BufWriter, Cursor};
use std::time::{Duration, Instant};

use ortc_api::{
    BandwidthLimits, FrameSender, JitterConfig, MediaFormat, MediaFrame, MediaStream,
    MediaStreamTrack, RTCConnectionOptions, ReceivedPacket, RtcpFeedback, StreamFrame,
    StreamReader, TrackKind,
};
use ortc_io::sim::{self, Network};
use ortc_media::{Container, MatroskaReader, MatroskaWriter, OpenOptions, open_all};
use ortc_rtp::codec::{DEFAULT_MAX_PAYLOAD, FrameAssembler, FrameEvent, Packetizer};
use ortc_rtp::{
    CaptureClock, CodecName, FrameTime, NtpTime, PayloadType, SenderInfo, Ssrc, StreamAligner,
};
use ortc_tests::av_sync::{changes, run};
use ortc_tests::{Dir, Pair, Peer, lossy, pass, signalled};

/// Time enough to connect at that loss.
const SOON: Duration = Duration::from_secs(60);

const FRAMES: u64 = 1_250;
const FRAME_TIME: Duration = Duration::from_millis(40);

/// The `n`th picture.
fn picture(n: u64, is_key: bool) -> MediaFrame {
    ortc_tests::picture(n, is_key, 77 + n * 3_600)
}

/// 20 ms of Opus with its number in it.
fn sound(n: u64) -> MediaFrame {
    let data = [&[0x78][..], &n.to_be_bytes(), &[0; 60]].concat();
    MediaFrame { data: data.into(), timestamp: 1_000_000 + n * 960 }
}

/// What is sent, and the tracks as they are received.
struct Call {
    pair: Pair,
    sound: FrameSender,
    pictures: FrameSender,
    tracks: Vec<MediaStreamTrack>,
}

/// Two peers, of which one sends sound and pictures to the other.
async fn call(net: &Network) -> Call {
    // The source sends what it sends; what is estimated is not to withhold any of it.
    let limits = BandwidthLimits { start: 3_000_000, min: 3_000_000, max: 10_000_000 };
    let peer = |name, last| {
        let host = net.host(name, &[[10, 0, 0, last].into()]);
        let options = RTCConnectionOptions::new().with_bandwidth(limits);
        Peer::with_options(host, net.random(), options)
    };
    let mut pair = Pair { alice: peer("alice", 1), bob: peer("bob", 2) };
    let stream = MediaStream::new();
    let (track, pictures) = MediaStreamTrack::local(MediaFormat::Vp8);
    stream.add_track(&track);
    let (track, sound) = MediaStreamTrack::local(MediaFormat::Opus);
    stream.add_track(&track);
    pair.alice.conn.add_stream(&stream, true).unwrap();
    let mut tracks = Vec::new();
    for track in pair.alice.conn.tracks(None) {
        let description = track.description();
        let is_video = description.kind == TrackKind::Video;
        assert_eq!(description.takes(RtcpFeedback::Nack), is_video);
        tracks.push(pair.bob.conn.receive_track(&signalled(&description)).unwrap());
    }
    pair.connect_within(SOON).await;
    Call { pair, sound, pictures, tracks }
}

/// Sends so many pictures and their sound, a key frame whenever one is wanted.
async fn play(sounds: &FrameSender, pictures: &FrameSender) {
    let mut tick = tokio::time::interval(FRAME_TIME / 2);
    for n in 0..2 * FRAMES {
        tick.tick().await;
        sounds.send(sound(n)).unwrap();
        if n % 2 == 0 {
            let is_key = pictures.take_key_frame_request() || n % 1_500 == 0;
            pictures.send(picture(n / 2, is_key)).unwrap();
        }
    }
    pass(Duration::from_secs(2)).await;
}

fn mark(data: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(data[at..at + 8].try_into().unwrap())
}

/// Records until nothing comes any more.
async fn record(tracks: &[MediaStreamTrack]) -> Vec<u8> {
    let mut reader = StreamReader::new();
    assert!(tracks.iter().all(|track| reader.add(track)));
    let mut writer = MatroskaWriter::new(Cursor::new(Vec::new()), Container::WebM);
    let mut known: Vec<(TrackKind, usize)> = Vec::new();
    while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_secs(5), reader.recv()).await {
        let StreamFrame { track, frame, position } = frame;
        if !frame.intact {
            track.request_key_frame();
            continue;
        }
        let number = match known.iter().find(|(kind, _)| *kind == track.kind()) {
            Some((_, number)) => *number,
            None => {
                let format = match track.kind() {
                    TrackKind::Video => ortc_media::MediaFormat::Vp8,
                    _ => ortc_media::MediaFormat::Opus,
                };
                let number = writer.add_track(format, &frame.data).unwrap();
                known.push((track.kind(), number));
                number
            }
        };
        writer.write(number, position, &frame.data).unwrap();
    }
    writer.finish().unwrap().0.into_inner()
}

#[test]
fn all_but_one_picture_in_a_thousand_are_in_the_file_and_in_step_with_the_sound() {
    for seed in 0..3 {
        sim::run(seed, |net| async move {
            net.link(lossy());
            let Call { pair, sound, pictures, tracks } = call(&net).await;
            let ((), file) = tokio::join!(play(&sound, &pictures), record(&tracks));
            drop(pair);

            let mut reader = MatroskaReader::new(&file[..]).unwrap();
            let is_video = |track: u64, reader: &MatroskaReader<_>| {
                let tracks = reader.tracks();
                let found = tracks.iter().find(|it| it.number == track).unwrap();
                found.format.unwrap().is_video()
            };
            let (mut shown, mut heard, mut first) = (0, 0, None);
            // Where in the file what was sent at first would stand, in ms, for each.
            let mut begins: [Vec<i64>; 2] = Default::default();
            while let Some(frame) = reader.next_frame().unwrap() {
                let position = frame.position.as_millis() as i64;
                if is_video(frame.track, &reader) {
                    let n = mark(&frame.data, 10);
                    assert_eq!(frame.data.len(), picture(n, frame.data[0] & 1 == 0).data.len());
                    first.get_or_insert(n);
                    shown += 1;
                    begins[1].push(position - 40 * n as i64);
                } else {
                    heard += 1;
                    begins[0].push(position - 20 * mark(&frame.data, 1) as i64);
                }
            }
            let missing = FRAMES - first.unwrap() - shown;
            assert!(missing <= FRAMES / 1_000, "seed {seed}: {missing} of {FRAMES}");
            assert!(heard > 2 * FRAMES * 93 / 100, "seed {seed}: {heard}");
            let least = *begins.iter().flatten().min().unwrap();
            let most = *begins.iter().flatten().max().unwrap();
            assert!(most - least <= 40, "seed {seed}: {least} to {most} ms");
        });
    }
}

#[test]
fn a_player_is_given_all_of_them_evenly() {
    sim::run(7, |net| async move {
        net.link(lossy());
        let Call { pair, sound, pictures, tracks } = call(&net).await;
        let track = tracks.iter().find(|track| track.kind() == TrackKind::Video).unwrap();
        let mut frames = track.take_frames().unwrap();
        frames.set_jitter(JitterConfig::live());
        let began = ortc_io::now();
        let watch = async {
            let mut shown = Vec::new();
            let limit = Duration::from_secs(5);
            while let Ok(Some(frame)) = tokio::time::timeout(limit, frames.recv()).await {
                let n = mark(&frame.data, 10);
                if frame.intact {
                    let at = (ortc_io::now() - began).as_millis() as i64;
                    shown.push((n, at - 40 * n as i64));
                } else {
                    track.request_key_frame();
                }
            }
            shown
        };
        let ((), shown) = tokio::join!(play(&sound, &pictures), watch);
        drop(pair);
        let missing = FRAMES - shown[0].0 - shown.len() as u64;
        assert!(missing <= FRAMES / 1_000, "{missing} of {FRAMES}");
        assert_eq!(frames.packet_counts().late, 0);
        // Once it has seen how long it takes until what is lost is there again, hardly anything
        // stops, and nothing comes in a hurry.
        let settled: Vec<_> = shown.iter().filter(|(n, _)| *n > FRAMES / 2).collect();
        let steps = settled.windows(2).map(|two| (two[1].1 - two[0].1).abs());
        let uneven = steps.filter(|step| *step > 5).count();
        assert!(uneven * 100 <= settled.len(), "{uneven} of {}", settled.len());
    });
}

/// Something that comes, and when.
struct Arrival {
    at: Duration,
    is_video: bool,
    what: What,
}

enum What {
    Packet(ReceivedPacket),
    Report(SenderInfo),
}

#[test]
fn a_tone_begins_with_its_picture_although_pictures_take_longer_and_clocks_differ() {
    let dir = Dir::new("in-step");
    let (source, recorded) = (dir.path("source.webm"), dir.path("recorded.webm"));
    let pictures =
        "color=black:s=160x120:r=25:d=2[a];color=white:s=160x120:r=25:d=2[b];[a][b]concat";
    let sound = "aevalsrc='if(gte(t,2),0.5*sin(2*PI*1000*t),0)':s=48000:d=4";
    let inputs = ["-y", "-f", "lavfi", "-i", pictures, "-f", "lavfi", "-i", sound];
    let codecs = ["-c:v", "libvpx", "-g", "25", "-c:a", "libopus", source.to_str().unwrap()];
    run("ffmpeg", &[&inputs[..], &codecs].concat());
    let (white, onset) = changes(&source);
    assert!((white - onset).abs() < 0.04, "as it was made: {white} and {onset}");

    // Sound takes 50 ms, pictures 350 and up to 30 more. Each counts from a number of its own, and
    // reports come from 0.3 s on, each second.
    let start = Instant::now();
    let ntp = NtpTime(0xdead_beef << 32);
    let mut random = fastrand::Rng::with_seed(3);
    let mut arrivals = Vec::new();
    for mut reader in open_all(&source, &OpenOptions::default()).unwrap() {
        let is_video = reader.format().is_video();
        let (codec, offset) = match is_video {
            true => (CodecName::Vp8, u32::MAX - 90_000),
            false => (CodecName::Opus, 123_456_789),
        };
        let rate = codec.default_clock_rate();
        let begins = (reader.begins().as_secs_f64() * f64::from(rate)) as u64;
        let mut packetizer = Packetizer::new(codec).unwrap();
        let mut sequence = 0;
        while let Some(frame) = reader.next_frame().unwrap() {
            let mut packets = Vec::new();
            let units = frame.timestamp + begins;
            packetizer.packetize(&frame.data, units, DEFAULT_MAX_PAYLOAD, &mut packets).unwrap();
            let delay = if is_video { 350 + random.u64(0..30) } else { 50 };
            let at = Duration::from_micros(units * 1_000_000 / u64::from(rate) + delay * 1_000);
            for packet in packets {
                let packet = ReceivedPacket {
                    payload: packet.payload,
                    payload_type: PayloadType(96),
                    sequence,
                    timestamp: offset.wrapping_add(packet.timestamp as u32),
                    marker: packet.marker,
                    received_at: start + at,
                    capture_time: None,
                };
                sequence += 1;
                arrivals.push(Arrival { at, is_video, what: What::Packet(packet) });
            }
        }
        for n in 0..4 {
            let seconds = f64::from(n) + 0.3;
            let info = SenderInfo {
                ssrc: Ssrc(1),
                ntp: ntp.plus_units((seconds * 1_000.0) as i64, 1_000).0,
                rtp_timestamp: offset.wrapping_add((seconds * f64::from(rate)) as u32),
                packets: 0,
                octets: 0,
            };
            let at = Duration::from_secs_f64(seconds + 0.05);
            arrivals.push(Arrival { at, is_video, what: What::Report(info) });
        }
    }
    arrivals.sort_by_key(|arrival| arrival.at);

    let file = BufWriter::new(File::create(&recorded).unwrap());
    let mut writer = MatroskaWriter::new(file, Container::WebM);
    let mut stream = StreamAligner::new();
    let codecs = [CodecName::Opus, CodecName::Vp8];
    let keys = codecs.map(|_| stream.add_track());
    let mut clocks = codecs.map(|_| CaptureClock::new());
    let mut assemblers = codecs.map(|codec| FrameAssembler::new([(PayloadType(96), codec)]));
    let mut unwrapped = [0_u64; 2];
    let mut known = [None; 2];
    for Arrival { at, is_video, what } in arrivals {
        let (track, now) = (usize::from(is_video), start + at);
        let rate = codecs[track].default_clock_rate();
        match what {
            What::Report(info) => clocks[track].on_sender_report(&info, rate),
            What::Packet(mut packet) => {
                packet.capture_time = clocks[track].capture_time(packet.timestamp, rate);
                assemblers[track].push(packet);
            }
        }
        while let Some(event) = assemblers[track].poll(now) {
            let FrameEvent::Frame(frame) = event else { panic!("{event:?}") };
            let last = unwrapped[track];
            let step = frame.timestamp.wrapping_sub(last as u32) as i32;
            unwrapped[track] = last.wrapping_add_signed(i64::from(step));
            let time = FrameTime {
                timestamp: unwrapped[track],
                clock_rate: rate,
                capture_time: frame.capture_time,
                received_at: frame.received_at,
            };
            stream.push(keys[track], time, frame);
        }
        while let Some(aligned) = stream.poll(now) {
            let track = usize::from(aligned.track == keys[1]);
            let format = [ortc_media::MediaFormat::Opus, ortc_media::MediaFormat::Vp8][track];
            let data = &aligned.item.data;
            let number =
                *known[track].get_or_insert_with(|| writer.add_track(format, data).unwrap());
            writer.write(number, aligned.position, data).unwrap();
        }
    }
    writer.finish().unwrap();
    let (white, onset) = changes(&recorded);
    assert!((white - onset).abs() < 0.04, "as it was recorded: {white} and {onset}");
    assert!((1.9..2.1).contains(&white), "{white}");
}
