//! Files of ffmpeg are read, and ffmpeg reads what is written: through packets and back, bit by
//! bit.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use ortc_media::{
    ColourBars, Law, MediaFormat, MediaFrame, MediaReader, MediaWriter, OpenError, OpenOptions,
    Tone, WavWriter, create, open,
};
use ortc_rtp::codec::{DEFAULT_MAX_PAYLOAD, FrameAssembler, FrameEvent, Packetizer};
use ortc_rtp::{CodecName, PayloadType, ReceivedPacket, RtpView};
use ortc_tests::Dir;

#[test]
fn wav_files_of_every_kind_are_read_as_a_tone_of_their_pitch() {
    let dir = Dir::new("wav-read");
    for (name, arguments) in [
        ("s16-48k-stereo", &["-c:a", "pcm_s16le", "-ar", "48000", "-ac", "2"][..]),
        ("s16-44k", &["-c:a", "pcm_s16le", "-ar", "44100"]),
        ("s16-16k", &["-c:a", "pcm_s16le", "-ar", "16000"]),
        ("u8-8k", &["-c:a", "pcm_u8", "-ar", "8000"]),
        ("alaw-8k", &["-c:a", "pcm_alaw", "-ar", "8000"]),
        ("mulaw-16k-stereo", &["-c:a", "pcm_mulaw", "-ar", "16000", "-ac", "2"]),
    ] {
        let path = dir.path(&format!("{name}.wav"));
        let source = ["-f", "lavfi", "-i", "sine=frequency=440:duration=2"];
        ffmpeg(&[&source[..], arguments, &[text(&path)]].concat());
        for law in [None, Some(Law::Alaw), Some(Law::Ulaw)] {
            let mut reader = open(&path, &OpenOptions { law, ..OpenOptions::default() }).unwrap();
            let own = if name.starts_with("alaw") { Law::Alaw } else { Law::Ulaw };
            let law = law.unwrap_or(own);
            let expected = if law == Law::Alaw { MediaFormat::Alaw } else { MediaFormat::Ulaw };
            assert_eq!(reader.format(), expected, "{name}");
            let frames = all(&mut *reader);
            let times: Vec<_> = frames.iter().map(|frame| frame.timestamp).collect();
            assert_eq!(times, (0..100).map(|at| at * 160).collect::<Vec<_>>(), "{name}");
            let samples: Vec<_> =
                frames.iter().flat_map(|f| f.data.to_vec()).map(|c| law.decode(c)).collect();
            let crossings =
                samples.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count();
            assert!((1_755..=1_763).contains(&crossings), "{name}: {crossings}");
            // ffmpeg's tone has an eighth of full scale, and less by 3 dB in two channels.
            let full = if name.contains("stereo") { 2_896 } else { 4_096 };
            let peak = samples[1_000..15_000].iter().map(|s| i32::from(*s)).max().unwrap();
            assert!((peak - full).abs() < full / 16, "{name}: {peak}");
        }
    }
}

#[test]
fn written_wav_files_are_g711_also_when_the_writer_was_killed() {
    let dir = Dir::new("wav-write");
    for (law, name) in [(Law::Alaw, "pcm_alaw"), (Law::Ulaw, "pcm_mulaw")] {
        let path = dir.path("tone.wav");
        let mut tone = Tone::new(law, 440.0, -12.0);
        let mut writer = create(&path, tone.format()).unwrap();
        for index in 0..75 {
            let frame = tone.frame();
            // A second is lost in the middle.
            if !(10..60).contains(&index) {
                writer.write(frame.timestamp, &frame.data).unwrap();
            }
        }
        assert_eq!(writer.finish().unwrap().filled, 8_000);
        let entries = "stream=codec_name,sample_rate,channels,duration";
        assert_eq!(ffprobe(&path, entries), format!("{name},8000,1,1.500000"));
        decode(&path);

        let mut killed = WavWriter::new(std::fs::File::create(&path).unwrap(), law).unwrap();
        for _ in 0..60 {
            let frame = tone.frame();
            killed.write(frame.timestamp, &frame.data).unwrap();
        }
        drop(killed);
        assert_eq!(ffprobe(&path, entries), format!("{name},8000,1,1.000000"));
        decode(&path);
    }
}

#[test]
fn every_format_goes_through_packets_into_a_file_that_decodes_to_the_same() {
    let dir = Dir::new("chain");
    let video = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=2"];
    let sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=2"];
    let key = ["-g", "20"];
    for (codec, format, name, source, arguments) in [
        (CodecName::Vp8, MediaFormat::Vp8, "a.ivf", &video, &["-c:v", "libvpx"][..]),
        (
            CodecName::Vp9,
            MediaFormat::Vp9,
            "a.ivf",
            &video,
            &["-c:v", "libvpx-vp9", "-cpu-used", "8"],
        ),
        (
            CodecName::Av1,
            MediaFormat::Av1,
            "a.ivf",
            &video,
            &["-c:v", "libaom-av1", "-cpu-used", "8"],
        ),
        (
            CodecName::H264,
            MediaFormat::H264,
            "a.h264",
            &video,
            &["-c:v", "libx264", "-pix_fmt", "yuv420p", "-x264-params", "slices=3:aud=1:bframes=0"],
        ),
        (CodecName::Opus, MediaFormat::Opus, "a.ogg", &sound, &["-c:a", "libopus"]),
        (CodecName::Alaw, MediaFormat::Alaw, "a.wav", &sound, &["-c:a", "pcm_alaw", "-ar", "8000"]),
        (
            CodecName::Ulaw,
            MediaFormat::Ulaw,
            "a.wav",
            &sound,
            &["-c:a", "pcm_mulaw", "-ar", "8000"],
        ),
    ] {
        let (original, copy) = (dir.path(name), dir.path(&format!("copy-{name}")));
        let keys = if format.is_video() { &key[..] } else { &[] };
        ffmpeg(&[&source[..], arguments, keys, &[text(&original)]].concat());
        let options = OpenOptions { frame_rate: (25, 1), ..OpenOptions::default() };
        let mut reader = open(&original, &options).unwrap();
        assert_eq!(reader.format(), format);
        let frames = all(&mut *reader);
        if format.is_video() {
            assert_eq!(frames.len(), 50, "{codec:?}");
            let times: Vec<_> = frames.iter().map(|frame| frame.timestamp).collect();
            assert_eq!(times, (0..50).map(|at| at * 3_600).collect::<Vec<_>>(), "{codec:?}");
            assert!(frames.iter().all(|frame| frame.duration == 3_600));
            let keys: Vec<_> = (0..50).filter(|&at| frames[at].key).collect();
            assert!(keys.starts_with(&[0]) && keys.contains(&20), "{codec:?} {keys:?}");
        }

        let mut writer = create(&copy, format).unwrap();
        let received = through_packets(codec, &frames);
        assert_eq!(received.len(), frames.len(), "{codec:?}");
        for (sent, (timestamp, key, data)) in frames.iter().zip(received) {
            assert_eq!((sent.timestamp, sent.key), (timestamp, key), "{codec:?}");
            writer.write(timestamp, &data).unwrap();
        }
        let counts = writer.finish().unwrap();
        assert_eq!((counts.frames, counts.filled), (frames.len() as u64, 0), "{codec:?}");

        let entries = "stream=codec_name,width,height,sample_rate";
        assert_eq!(ffprobe(&copy, entries), ffprobe(&original, entries));
        let (copied, expected) = (decoded(&copy, format), decoded(&original, format));
        if format == MediaFormat::Opus {
            // The end of the last packet is cut off in the original.
            assert!(copied.starts_with(&expected) && copied.len() < expected.len() + 5_760);
        } else {
            assert_eq!(copied, expected, "{codec:?}");
        }
        if name.ends_with(".ivf") {
            let entries = "frame=pts_time";
            assert_eq!(ffprobe(&copy, entries), ffprobe(&original, entries), "{codec:?}");
            assert_eq!(all(&mut *open(&copy, &options).unwrap()), frames, "{codec:?}");
        }
    }
}

#[test]
fn what_ffmpeg_sends_over_rtp_is_put_together_to_what_it_had() {
    let dir = Dir::new("rtp");
    let video = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=10:duration=1"];
    let sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1"];
    for (codec, name, source, arguments) in [
        (CodecName::Vp8, "a.ivf", &video, &["-c:v", "libvpx"][..]),
        (CodecName::Vp9, "a.ivf", &video, &["-c:v", "libvpx-vp9", "-cpu-used", "8"]),
        (CodecName::H264, "a.h264", &video, &["-c:v", "libx264", "-pix_fmt", "yuv420p"]),
        (CodecName::Opus, "a.ogg", &sound, &["-c:a", "libopus"]),
        (CodecName::Alaw, "a.wav", &sound, &["-c:a", "pcm_alaw", "-ar", "8000"]),
        (CodecName::Ulaw, "a.wav", &sound, &["-c:a", "pcm_mulaw", "-ar", "8000"]),
    ] {
        let path = dir.path(name);
        ffmpeg(&[&source[..], arguments, &["-bf", "0", text(&path)]].concat());
        let frames = all(&mut *open(&path, &OpenOptions::default()).unwrap());
        let got = sent_by_ffmpeg(codec, &path);
        if codec.default_clock_rate() == 8_000 {
            // It cuts sound where it likes.
            let got: Vec<u8> = got.into_iter().flat_map(|(_, data)| data).collect();
            let expected: Vec<u8> = frames.iter().flat_map(|frame| frame.data.to_vec()).collect();
            assert_eq!(got, expected, "{codec:?}");
        } else {
            let expected: Vec<_> = frames.iter().map(|f| (f.key, f.data.to_vec())).collect();
            assert!(got == expected, "{codec:?}: {} of {}", got.len(), expected.len());
        }
    }
}

#[test]
fn a_recording_of_video_begins_with_a_key_frame_and_survives_a_kill() {
    let dir = Dir::new("ivf-kill");
    let path = dir.path("bars.ivf");
    let mut bars = ColourBars::new(320, 180, 30);
    let mut writer = create(&path, MediaFormat::Vp8).unwrap();
    writer.write(1_000, &[0x31, 0, 0, 0]).unwrap();
    for _ in 0..45 {
        let frame = bars.frame();
        writer.write(5_000 + frame.timestamp, &frame.data).unwrap();
    }
    assert_eq!(writer.counts().before_key, 1);
    // Neither finished nor flushed by us: the buffer is dropped with what it held.
    writer.flush().unwrap();
    drop(writer);
    assert_eq!(ffprobe(&path, "stream=codec_name,width,height"), "vp8,320,180");
    let mut reader = open(&path, &OpenOptions::default()).unwrap();
    assert_eq!(all(&mut *reader).len(), 45);
    decode(&path);
}

#[test]
fn colour_bars_decode_to_their_colours_and_move() {
    let dir = Dir::new("bars");
    for (width, height) in [(320u16, 180u16), (640, 360), (333, 65)] {
        let path = dir.path("bars.ivf");
        let mut bars = ColourBars::new(width, height, 30);
        let mut writer = create(&path, MediaFormat::Vp8).unwrap();
        let mut longest = 0;
        for _ in 0..40 {
            let frame = bars.frame();
            longest = longest.max(frame.data.len());
            writer.write(frame.timestamp, &frame.data).unwrap();
        }
        writer.finish().unwrap();
        assert!(longest < 1_000, "{longest}");
        let raw = dir.path("bars.yuv");
        ffmpeg(&["-i", text(&path), "-f", "rawvideo", "-pix_fmt", "yuv420p", text(&raw)]);
        let raw = std::fs::read(&raw).unwrap();
        let (width, height) = (usize::from(width), usize::from(height));
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let size = width * height + 2 * half_width * half_height;
        assert_eq!(raw.len(), 40 * size);
        let pixel = |frame: usize, x: usize, y: usize| {
            let frame = &raw[frame * size..][..size];
            let chroma = width * height + y / 2 * half_width + x / 2;
            [frame[y * width + x], frame[chroma], frame[chroma + half_width * half_height]]
        };
        let columns = width.div_ceil(16);
        let expected: [[u8; 3]; 8] = [
            [180, 128, 128],
            [162, 44, 142],
            [131, 156, 44],
            [112, 72, 58],
            [84, 184, 198],
            [65, 100, 212],
            [35, 212, 114],
            [16, 128, 128],
        ];
        for frame in [0, 17, 39] {
            for x in 0..width {
                for y in [0, 15, 16, height / 2] {
                    assert_eq!(pixel(frame, x, y), expected[x / 16 * 8 / columns], "{x} {y}");
                }
                let white = (x / 16 + columns - frame % columns) % columns < 2;
                let expected = if white { 235 } else { 60 };
                assert_eq!(pixel(frame, x, height - 1), [expected, 128, 128], "{frame} {x}");
            }
        }
    }
}

#[test]
fn what_is_no_media_file_is_named() {
    let dir = Dir::new("wrong");
    let message = |name: &str, content: &[u8]| {
        let path = dir.path(name);
        std::fs::write(&path, content).unwrap();
        open(&path, &OpenOptions::default()).err().unwrap().to_string()
    };
    let supported = "supported: Ogg/Opus, WAV (PCM of 8 or 16 bits, A-law, µ-law), \
                     IVF (VP8, VP9, AV1), WebM and Matroska (of these codecs), H.264 as a byte \
                     stream (Annex B)";
    let text = message("notes.txt", b"Dear diary, today");
    assert!(text.ends_with(&format!(
        "notes.txt is no media file that can be played: it looks like text; {supported}"
    )));
    assert!(message("empty", b"").ends_with(&format!("empty is empty; {supported}")));
    let mp4 = dir.path("a.mp4");
    let source = ["-f", "lavfi", "-i", "testsrc2=size=64x64:rate=5:duration=1", "-c:v", "libx264"];
    ffmpeg(&[&source[..], &[self::text(&mp4)]].concat());
    let error = open(&mp4, &OpenOptions::default()).err().unwrap();
    assert!(matches!(error, OpenError::Unsupported { looks_like: Some("an MP4 file"), .. }));
    let error = open(dir.path("nowhere"), &OpenOptions::default()).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }));
}

/// Cuts frames into packets, swaps some of them, and puts frames together again: time, key and
/// content of each.
fn through_packets(codec: CodecName, frames: &[MediaFrame]) -> Vec<(u64, bool, Vec<u8>)> {
    let now = Instant::now();
    let payload_type = codec.default_payload_type();
    let mut packetizer = Packetizer::new(codec).unwrap();
    let mut outgoing = Vec::new();
    for frame in frames {
        packetizer
            .packetize(&frame.data, frame.timestamp, DEFAULT_MAX_PAYLOAD, &mut outgoing)
            .unwrap();
    }
    let mut packets: Vec<_> = (500u64..)
        .zip(outgoing)
        .map(|(sequence, packet)| received(payload_type, sequence, packet, now))
        .collect();
    for pair in packets[1..].chunks_exact_mut(2) {
        pair.swap(0, 1);
    }
    let mut assembler = FrameAssembler::new([(payload_type, codec)]);
    let mut got = Vec::new();
    for packet in packets {
        assembler.push(packet);
        while let Some(event) = assembler.poll(now) {
            let FrameEvent::Frame(frame) = event else { panic!("{codec:?}: {event:?}") };
            assert!(frame.intact);
            got.push((u64::from(frame.timestamp), frame.key, frame.data.to_vec()));
        }
    }
    got
}

/// Lets ffmpeg send a file over RTP and puts its frames together.
fn sent_by_ffmpeg(codec: CodecName, path: &Path) -> Vec<(bool, Vec<u8>)> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("rtp://{}?pkt_size=600", socket.local_addr().unwrap());
    // It sends faster than in real time; a second of this fits the buffer of a socket.
    ffmpeg(&[
        "-i",
        text(path),
        "-c",
        "copy",
        "-strict",
        "experimental",
        "-f",
        "rtp",
        "-sdp_file",
        text(&path.with_extension("sdp")),
        &url,
    ]);
    // All of it waits in the socket: ffmpeg has ended.
    socket.set_nonblocking(true).unwrap();
    let now = Instant::now();
    let mut assembler = FrameAssembler::new([(PayloadType(0), codec)]);
    let event = |event| match event {
        FrameEvent::Frame(frame) => (frame.key, frame.data.to_vec()),
        FrameEvent::Damaged(damage) => panic!("{codec:?}: {damage:?}"),
    };
    let mut first = None;
    let mut datagram = [0; 2_000];
    let mut got = Vec::new();
    while let Ok(len) = socket.recv(&mut datagram) {
        let view = RtpView::parse(&datagram[..len]).unwrap();
        let first = *first.get_or_insert(view.sequence());
        assembler.push(ReceivedPacket {
            payload: view.payload().to_vec().into(),
            payload_type: PayloadType(0),
            sequence: u64::from(view.sequence().wrapping_sub(first)),
            timestamp: view.timestamp(),
            marker: view.marker(),
            received_at: now,
            capture_time: None,
        });
        got.extend(std::iter::from_fn(|| assembler.poll(now)).map(event));
    }
    got
}

fn received(
    payload_type: PayloadType,
    sequence: u64,
    packet: ortc_rtp::OutgoingPacket,
    received_at: Instant,
) -> ReceivedPacket {
    ReceivedPacket {
        payload: packet.payload,
        payload_type,
        sequence,
        timestamp: packet.timestamp as u32,
        marker: packet.marker,
        received_at,
        capture_time: None,
    }
}

fn all(reader: &mut dyn MediaReader) -> Vec<MediaFrame> {
    std::iter::from_fn(|| reader.next_frame().unwrap()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed (cargo xtask test): {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program} {arguments:?}: {said}");
    output.stdout
}

fn ffmpeg(arguments: &[&str]) {
    run("ffmpeg", &[&["-v", "error", "-nostdin", "-y"], arguments].concat());
}

/// Decodes all of it; whatever ffmpeg has to say of it is a failure.
fn decode(path: &Path) {
    ffmpeg(&["-i", text(path), "-f", "null", "-"]);
}

/// All that is decoded: samples, or a checksum of pictures.
fn decoded(path: &Path, format: MediaFormat) -> Vec<u8> {
    let arguments = ["-v", "error", "-nostdin", "-i", text(path)];
    let output: &[&str] = if format.is_video() {
        // Frames without times have none to compare.
        &["-c:v", "rawvideo", "-vsync", "passthrough", "-f", "md5", "-"]
    } else {
        &["-f", "s16le", "-"]
    };
    run("ffmpeg", &[&arguments[..], output].concat())
}

fn ffprobe(path: &Path, entries: &str) -> String {
    let arguments = ["-v", "error", "-show_entries", entries, "-of", "csv=p=0", text(path)];
    let out = run("ffprobe", &arguments);
    String::from_utf8(out).unwrap().trim().to_owned()
}
