//! WAV, IVF and H.264 files written and read again, and files of others; sources without end.

use std::io::{Cursor, Read};
use std::time::Duration;

use ortc_media::{
    AnnexBReader, AnnexBWriter, ColourBars, Container, IvfReader, IvfWriter, Law, MatroskaWriter,
    MediaCounts, MediaFormat, MediaFrame, MediaReader, MediaWriter, OpenOptions, Tone, WavReader,
    WavWriter, open_stream,
};

const SPEECH: &[u8] = include_bytes!("../../../tests/media/speech.ogg");

fn all(reader: &mut dyn MediaReader) -> Vec<MediaFrame> {
    std::iter::from_fn(|| reader.next_frame().unwrap()).collect()
}

/// A chunk of a RIFF file.
fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let pad = &[0][..body.len() % 2];
    [name, &(body.len() as u32).to_le_bytes()[..], body, pad].concat()
}

fn wav(tag: u16, channels: u16, rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
    let block = channels * bits / 8;
    let mut format = [tag.to_le_bytes(), channels.to_le_bytes()].concat();
    format.extend(rate.to_le_bytes());
    format.extend((rate * u32::from(block)).to_le_bytes());
    format.extend([block.to_le_bytes(), bits.to_le_bytes()].concat());
    let chunks = [chunk(b"fmt ", &format), chunk(b"LIST", b"odd"), chunk(b"data", data)].concat();
    chunk(b"RIFF", &[b"WAVE", &chunks[..]].concat())
}

fn read_wav(file: &[u8], law: Option<Law>) -> Vec<MediaFrame> {
    all(&mut WavReader::new(file, law).unwrap())
}

fn wav_error(file: &[u8]) -> String {
    WavReader::new(file, None).err().unwrap().to_string()
}

#[test]
fn g711_is_handed_out_as_it_stands_and_the_last_frame_filled_up() {
    let data: Vec<u8> = (0..400).map(|at| at as u8).collect();
    for (tag, law) in [(6, Law::Alaw), (7, Law::Ulaw)] {
        let frames = read_wav(&wav(tag, 1, 8_000, 8, &data), None);
        let got: Vec<_> = frames.iter().map(|frame| frame.timestamp).collect();
        assert_eq!(got, [0, 160, 320]);
        assert!(frames.iter().all(|frame| frame.duration == 160 && frame.key));
        let mut expected = data.clone();
        expected.resize(480, law.silence());
        let got: Vec<u8> = frames.iter().flat_map(|frame| frame.data.to_vec()).collect();
        assert_eq!(got, expected);
    }
}

#[test]
fn samples_are_mixed_down_and_change_their_law() {
    let sample = |left: i16, right: i16| [left.to_le_bytes(), right.to_le_bytes()].concat();
    let data: Vec<u8> = (0..160).flat_map(|_| sample(8_000, 4_000)).collect();
    let frames = read_wav(&wav(1, 2, 8_000, 16, &data), Some(Law::Alaw));
    assert_eq!(frames[0].data, vec![Law::Alaw.encode(6_000); 160]);
    let frames = read_wav(&wav(1, 1, 8_000, 8, &[192; 160]), None);
    assert_eq!(frames[0].data, vec![Law::Ulaw.encode(64 * 256); 160]);
    let frames = read_wav(&wav(6, 1, 8_000, 8, &[0xaa; 160]), Some(Law::Ulaw));
    assert_eq!(frames[0].data, vec![Law::Ulaw.encode(32_256); 160]);
}

#[test]
fn a_wav_file_without_a_length_is_read_to_its_end() {
    let mut file = wav(7, 1, 8_000, 8, &[1; 320]);
    let at = file.len() - 324;
    for length in [0u32, 0xffff_ffff] {
        file[at..at + 4].copy_from_slice(&length.to_le_bytes());
        assert_eq!(read_wav(&file, None).len(), 2);
    }
    // Cut off, as after a crash.
    file[at..at + 4].copy_from_slice(&320u32.to_le_bytes());
    assert_eq!(read_wav(&file[..file.len() - 1], None).len(), 2);
    // What follows the sound is not sound.
    file.extend(chunk(b"LIST", &[9; 400]));
    assert_eq!(read_wav(&file, None).len(), 2);
}

#[test]
fn what_a_wav_file_has_that_cannot_be_read_is_named() {
    for (file, expected) in [
        (wav(1, 1, 8_000, 24, &[]), "PCM of 24 bits; 8 or 16 can be read"),
        (
            wav(3, 1, 8_000, 32, &[]),
            "its format has the number 3; PCM (1) and G.711 (6, 7) can be read",
        ),
        (wav(1, 6, 8_000, 16, &[]), "it has 6 channels; one or two can be read"),
        (
            wav(1, 1, 12_345, 16, &[]),
            "12345 Hz; 8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000 and 96000 can be read",
        ),
        (b"RIFF\0\0\0\0WAVE".to_vec(), "it ends before its sound"),
        (b"RIFF\0\0\0\0AVI LIST".to_vec(), "it does not begin as one"),
    ] {
        assert_eq!(wav_error(&file), format!("this WAV file cannot be read: {expected}"));
    }
}

#[test]
fn a_recording_in_wav_is_as_long_as_what_was_said() {
    let mut writer = WavWriter::new(Cursor::new(Vec::new()), Law::Ulaw).unwrap();
    let origin = u64::MAX - 200;
    let mut write = |at: u64, data: &[u8]| writer.write(origin.wrapping_add(at), data).unwrap();
    write(0, &[1; 160]);
    write(160, &[2; 160]);
    write(160, &[3; 160]); // late
    write(480, &[4; 160]); // after a gap
    write(560, &[5; 160]); // half of it late
    write(1_000_000, &[6; 1]); // a jump
    write(999_000, &[7; 160]); // late
    write(1_000_001, &[]); // nothing
    let expected = MediaCounts {
        frames: 5,
        bytes: 561,
        duration: 721,
        filled: 160,
        late: 2,
        malformed: 1,
        before_key: 0,
        jumps: 1,
    };
    assert_eq!(writer.counts(), expected);
    let file = writer.into_inner().unwrap().into_inner();
    assert_eq!(file.len(), 58 + 722, "an even length");
    assert_eq!(file[..4], *b"RIFF");
    assert_eq!(file[4..8], (50u32 + 722).to_le_bytes());
    assert_eq!(file[54..58], 721u32.to_le_bytes());
    let runs = [(1, 160), (2, 160), (0xff, 160), (4, 160), (5, 80), (6, 1)];
    let expected: Vec<u8> =
        runs.iter().flat_map(|&(code, count)| std::iter::repeat_n(code, count)).collect();
    assert_eq!(file[58..779], expected);
    assert_eq!(read_wav(&file, None).len(), 5);
}

fn ivf(fourcc: &[u8; 4], rate: u32, scale: u32, frames: &[(u64, &[u8])]) -> Vec<u8> {
    let mut file = [b"DKIF\0\0\x20\0", &fourcc[..], &[0x40, 1, 180, 0]].concat();
    file.extend([rate.to_le_bytes(), scale.to_le_bytes()].concat());
    file.resize(32, 0);
    for (time, data) in frames {
        file.extend((data.len() as u32).to_le_bytes());
        file.extend(time.to_le_bytes());
        file.extend_from_slice(data);
    }
    file
}

#[test]
fn ivf_frames_have_their_times_in_any_time_base() {
    let frames: [(u64, &[u8]); 4] = [(10, &[0, 1]), (11, &[1, 2]), (13, &[]), (14, &[1, 3])];
    let file = ivf(b"VP80", 30_000, 1_001, &frames);
    let mut reader = IvfReader::new(&file[..]).unwrap();
    assert_eq!((reader.format(), reader.size()), (MediaFormat::Vp8, (320, 180)));
    let got: Vec<_> = all(&mut reader)
        .into_iter()
        .map(|frame| (frame.timestamp, frame.duration, frame.key, frame.data.to_vec()))
        .collect();
    let expected = [
        (0, 3_003, true, vec![0, 1]),
        (3_003, 9_009, false, vec![1, 2]),
        (12_012, 9_009, false, vec![1, 3]),
    ];
    assert_eq!(got, expected);
    // A clock that stands still or goes back plays on.
    let file = ivf(b"AV01", 30, 1, &[(5, &[1]), (4, &[1])]);
    let mut reader = IvfReader::new(&file[..]).unwrap();
    let got: Vec<_> = all(&mut reader).iter().map(|f| (f.timestamp, f.duration)).collect();
    assert_eq!(got, [(0, 1), (0, 1)]);
}

#[test]
fn what_an_ivf_file_has_that_cannot_be_read_is_named() {
    let error = |file: &[u8]| match IvfReader::new(file) {
        Ok(mut reader) => std::iter::from_fn(|| reader.next_frame().transpose())
            .find_map(Result::err)
            .unwrap()
            .to_string(),
        Err(error) => error.to_string(),
    };
    let long = [&ivf(b"VP90", 30, 1, &[(0, &[1])])[..], &[0xff; 12]].concat();
    for (file, expected) in [
        (ivf(b"VP90", 30, 1, &[])[..31].to_vec(), "it has no whole header".to_owned()),
        (ivf(b"H264", 30, 1, &[]), "its codec is \"H264\"; VP80, VP90 and AV01 can be read".into()),
        (ivf(b"VP80", 0, 1, &[]), "its time base is zero".into()),
        (long, "frame 1 has 4294967295 bytes; at most 4194304 can be read".into()),
    ] {
        assert_eq!(error(&file), format!("this IVF file cannot be read: {expected}"));
    }
}

#[test]
fn a_cut_ivf_file_is_read_up_to_the_cut() {
    let file = ivf(b"VP80", 30, 1, &[(0, &[0, 1, 2]), (1, &[1, 2, 3])]);
    for len in 32..file.len() {
        let mut reader = IvfReader::new(&file[..len]).unwrap();
        let frames = all(&mut reader).len();
        assert_eq!(frames, usize::from(len >= 47), "{len}");
        assert_eq!(reader.is_truncated(), len != 32 && len != 47, "{len}");
    }
}

#[test]
fn a_recording_in_ivf_begins_with_a_key_frame_and_keeps_times() {
    let key = ColourBars::new(128, 64, 30).frame().data;
    let mut writer = IvfWriter::new(Cursor::new(Vec::new()), MediaFormat::Vp8).unwrap();
    let origin = u64::MAX - 4_000;
    let mut write = |at: u64, data: &[u8]| writer.write(origin.wrapping_add(at), data).unwrap();
    write(0, &[1, 1]); // before a key frame
    write(3_000, &key);
    write(6_000, &[1, 2]);
    write(6_000, &[1, 3]); // late
    write(90_000, &[1, 4]);
    write(90_000_000_000, &[1, 5]); // a jump
    write(90_000_003_000, &[1, 6]);
    write(90_000_006_000, &[]); // nothing
    let expected = MediaCounts {
        frames: 5,
        bytes: key.len() as u64 + 8,
        duration: 93_000,
        filled: 0,
        late: 1,
        malformed: 1,
        before_key: 1,
        jumps: 1,
    };
    assert_eq!(writer.counts(), expected);
    let file = writer.into_inner().unwrap().into_inner();
    // The last frame lasts as long as the others do on average: a quarter of what they do.
    assert_eq!(file[24..28], (93_000u32 + 93_000 / 4).to_le_bytes());
    let mut reader = IvfReader::new(&file[..]).unwrap();
    assert_eq!(reader.size(), (128, 64));
    let times: Vec<_> = all(&mut reader).iter().map(|frame| frame.timestamp).collect();
    assert_eq!(times, [0, 3_000, 87_000, 90_000, 93_000]);
    assert!(IvfWriter::new(Cursor::new(Vec::new()), MediaFormat::H264).is_none());
}

/// Hands out a few bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(buffer.len()).min(self.0.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

#[test]
fn access_units_begin_where_the_standard_says() {
    // Two slices of a picture, then one with a delimiter, then one without.
    let stream = [
        &[0, 0, 0, 1, 0x67, 0x42, 0, 0, 1, 0x68, 0xce, 0, 0, 0, 1, 0x65, 0x88, 7, 0, 0, 1][..],
        &[0x65, 0x48, 8, 0, 0, 0, 0, 1, 9, 0x10, 0, 0, 1, 0x41, 0x9a, 1, 0, 0, 1, 0x41, 0x9a, 2],
    ]
    .concat();
    let expected = [
        (
            0,
            3_003,
            true,
            b"\0\0\0\x01\x67\x42\0\0\0\x01\x68\xce\0\0\0\x01\x65\x88\x07\0\0\0\x01\x65\x48\x08"
                .to_vec(),
        ),
        (3_003, 3_003, false, b"\0\0\0\x01\x09\x10\0\0\0\x01\x41\x9a\x01".to_vec()),
        (6_006, 3_003, false, b"\0\0\0\x01\x41\x9a\x02".to_vec()),
    ];
    for piece in [1, 2, 3, 5, 1_000] {
        let mut reader = AnnexBReader::new(Trickle(&stream, piece), (30_000, 1_001)).unwrap();
        let got: Vec<_> = all(&mut reader)
            .into_iter()
            .map(|frame| (frame.timestamp, frame.duration, frame.key, frame.data.to_vec()))
            .collect();
        assert_eq!(got, expected, "{piece}");
    }
    for no_stream in [&b""[..], b"text", &[0, 0], &[7, 0, 0, 1, 0x67]] {
        let error = AnnexBReader::new(no_stream, (30, 1)).err().unwrap().to_string();
        let expected = "this H.264 stream cannot be read: it does not begin with a start code";
        assert_eq!(error, expected);
    }
}

#[test]
fn a_recording_in_h264_begins_with_an_idr_picture() {
    let mut writer = AnnexBWriter::new(Vec::new());
    writer.write(0, &[0, 0, 0, 1, 0x41, 1]).unwrap();
    writer.write(3_000, &[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x65, 1]).unwrap();
    writer.write(6_000, &[0x41, 1]).unwrap();
    writer.write(9_000, &[0, 0, 1, 0x41, 2]).unwrap();
    let counts = writer.counts();
    assert_eq!((counts.frames, counts.before_key, counts.malformed), (2, 1, 1));
    assert_eq!(counts.duration, 6_000);
    let expected = b"\0\0\0\x01\x67\x01\0\0\0\x01\x65\x01\0\0\x01\x41\x02";
    assert_eq!(writer.into_inner().unwrap(), expected);
}

/// A WebM file of one picture and a packet of sound.
fn webm(picture: &[u8]) -> Vec<u8> {
    let mut writer = MatroskaWriter::new(Cursor::new(Vec::new()), Container::WebM);
    let pictures = writer.add_track(MediaFormat::Vp8, picture).unwrap();
    let sound = writer.add_track(MediaFormat::Opus, &[0x78]).unwrap();
    writer.write(pictures, Duration::ZERO, picture).unwrap();
    writer.write(sound, Duration::from_millis(5), &[0x78, 1, 2, 3]).unwrap();
    writer.finish().unwrap().0.into_inner()
}

#[test]
fn the_content_says_what_a_file_is() {
    let bars = ColourBars::new(64, 64, 30).frame().data;
    for (file, expected) in [
        (SPEECH.to_vec(), MediaFormat::Opus),
        (wav(1, 1, 8_000, 16, &[0; 320]), MediaFormat::Ulaw),
        (wav(6, 1, 8_000, 8, &[0; 160]), MediaFormat::Alaw),
        (ivf(b"VP80", 30, 1, &[(0, &bars)]), MediaFormat::Vp8),
        (ivf(b"VP90", 30, 1, &[(0, &[0x82])]), MediaFormat::Vp9),
        (ivf(b"AV01", 30, 1, &[(0, &[0x12, 0])]), MediaFormat::Av1),
        (vec![0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 0x80], MediaFormat::H264),
        (webm(&bars), MediaFormat::Vp8),
    ] {
        let mut reader = open_stream(Cursor::new(file), "it", &OpenOptions::default()).unwrap();
        assert_eq!(reader.format(), expected);
        assert!(!all(&mut *reader).is_empty(), "{expected:?}");
    }
    for (file, expected) in [
        (&b"\0\0\0\x20ftypisom"[..], ": it looks like an MP4 file"),
        (b"\0\0\x01\xba\x44", ""),
        (b"\x01\x02", ""),
    ] {
        let error = open_stream(Cursor::new(file), "it", &OpenOptions::default()).err().unwrap();
        let start = format!("it is no media file that can be played{expected}; supported: ");
        assert!(error.to_string().starts_with(&start), "{error}");
    }
}

#[test]
fn damaged_files_of_every_kind_end_or_fail_but_never_panic() {
    let bars = ColourBars::new(64, 64, 30).frame().data;
    let files = [
        SPEECH[..2_000].to_vec(),
        wav(1, 2, 44_100, 16, &[3; 2_000]),
        ivf(b"AV01", 30, 1, &[(0, &[0x0a, 4, 0, 0, 0, 4, 0x32, 1, 0x10]), (1, &bars)]),
        ivf(b"VP90", 30, 1, &[(0, &[0x82, 0x49, 0x83, 0x42]), (1, &bars)]),
        vec![0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 0x80, 0, 0, 1, 0x41, 0x80, 0, 0, 0, 1, 9, 0x10],
        webm(&bars),
    ];
    let read = |file: Vec<u8>| {
        if let Ok(mut reader) = open_stream(Cursor::new(file), "it", &OpenOptions::default()) {
            let mut sink = IvfWriter::new(Cursor::new(Vec::new()), reader.format());
            while let Ok(Some(frame)) = reader.next_frame() {
                assert!(frame.duration >= 1);
                if let Some(sink) = &mut sink {
                    sink.write(frame.timestamp, &frame.data).unwrap();
                }
            }
        }
    };
    let mut state = 1u64;
    // A generator of numbers (Knuth's constants): this crate has no dependency for it.
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for file in files {
        for len in 0..file.len().min(200) {
            read(file[..len].to_vec());
        }
        for _ in 0..2_000 {
            let mut file = file.clone();
            for _ in 0..=random(4) {
                let at = random(file.len().min(80));
                file[at] = random(256) as u8;
            }
            read(file);
        }
    }
}

#[test]
fn sources_without_end_keep_time() {
    let mut tone = Tone::new(Law::Alaw, 1_000.0, 0.0);
    let mut bars = ColourBars::new(0, 60_000, 29);
    assert_eq!((tone.format(), bars.format()), (MediaFormat::Alaw, MediaFormat::Vp8));
    let first = bars.frame();
    // Brought inside: 64 by 4,096.
    assert_eq!(first.data[3..10], [0x9d, 0x01, 0x2a, 64, 0, 0, 0x10]);
    assert_ne!(bars.frame().data, first.data, "the block moves");
    let mut bars = ColourBars::new(640, 360, 29);
    let (mut heard, mut seen) = (0, 0);
    for _ in 0..29 {
        let frame = bars.next_frame().unwrap().unwrap();
        assert_eq!(frame.timestamp, seen);
        assert!(frame.key && frame.data.len() < 1_000);
        seen += u64::from(frame.duration);
    }
    for _ in 0..50 {
        let frame = tone.next_frame().unwrap().unwrap();
        assert_eq!((frame.timestamp, frame.data.len()), (heard, 160));
        heard += u64::from(frame.duration);
    }
    assert_eq!((seen, heard), (90_000, 8_000));
}
