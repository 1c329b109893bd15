//! WebM and Matroska files written and read again, whole and cut off anywhere.

use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ortc_media::{
    ColourBars, Container, Law, MatroskaFrame, MatroskaReader, MatroskaTrackError, MatroskaWriter,
    MediaFormat, MediaFrame, OpenOptions, Tone, open_stream,
};

const MS: Duration = Duration::from_millis(1);

fn opus(mark: u8) -> Vec<u8> {
    vec![0x78, mark, mark, mark]
}

fn frames(file: &[u8]) -> Vec<MatroskaFrame> {
    let mut reader = MatroskaReader::new(file).unwrap();
    std::iter::from_fn(|| reader.next_frame().unwrap()).collect()
}

fn of_track(frames: &[MatroskaFrame], track: u64) -> Vec<&MatroskaFrame> {
    frames.iter().filter(|frame| frame.track == track).collect()
}

/// Five seconds of sound and pictures, 250 frames and 125, of which something is said to `watch`
/// after each.
fn record<W: Write + Seek>(output: W, mut watch: impl FnMut(u64)) -> W {
    let mut bars = ColourBars::new(128, 96, 25);
    let mut writer = MatroskaWriter::new(output, Container::WebM);
    let mut picture = bars.frame();
    let sound = writer.add_track(MediaFormat::Opus, &opus(0)).unwrap();
    let pictures = writer.add_track(MediaFormat::Vp8, &picture.data).unwrap();
    for n in 0..250_u64 {
        let at = n as u32 * 20 * MS;
        writer.write(sound, at, &opus(n as u8)).unwrap();
        if n % 2 == 0 {
            writer.write(pictures, at + 7 * MS, &picture.data).unwrap();
            picture = bars.frame();
        }
        watch(n);
    }
    let (output, counts) = writer.finish().unwrap();
    assert_eq!((counts.frames, counts.malformed, counts.duration), (375, 0, 4_980 * MS));
    output
}

#[test]
fn sound_and_pictures_keep_their_times_and_their_bytes() {
    let file = record(Cursor::new(Vec::new()), |_| {}).into_inner();
    let mut bars = ColourBars::new(128, 96, 25);
    let frames = frames(&file);
    let (sound, pictures) = (of_track(&frames, 1), of_track(&frames, 2));
    assert_eq!((sound.len(), pictures.len()), (250, 125));
    for (n, frame) in (0..).zip(sound) {
        assert_eq!((frame.position, &frame.data[..]), (n * 20 * MS, &opus(n as u8)[..]));
    }
    for (n, frame) in (0..).zip(pictures) {
        assert_eq!((frame.position, &frame.data), (n * 40 * MS + 7 * MS, &bars.frame().data));
    }
    let reader = MatroskaReader::new(&file[..]).unwrap();
    let formats: Vec<_> = reader.tracks().into_iter().map(|track| track.format).collect();
    assert_eq!(formats, [Some(MediaFormat::Opus), Some(MediaFormat::Vp8)]);
}

/// A file, and what has been in it after each write, as whoever kills the writer would leave it.
type Written = (Cursor<Vec<u8>>, Vec<Vec<u8>>);

#[derive(Clone, Default)]
struct Disk(Arc<Mutex<Written>>);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (file, states) = &mut *self.0.lock().unwrap();
        let written = file.write(bytes)?;
        states.push(file.get_ref().clone());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.lock().unwrap().0.seek(to)
    }
}

#[test]
fn no_two_frames_of_a_track_have_one_time() {
    let mut writer = MatroskaWriter::new(Cursor::new(Vec::new()), Container::WebM);
    let tracks = [0, 1].map(|_| writer.add_track(MediaFormat::Opus, &opus(0)).unwrap());
    for ms in [0, 30, 30, 29, 31, 60] {
        for track in tracks {
            writer.write(track, Duration::from_millis(ms), &opus(1)).unwrap();
        }
    }
    let file = writer.finish().unwrap().0.into_inner();
    for track in [1, 2] {
        let frames = frames(&file);
        let times = of_track(&frames, track).into_iter().map(|it| it.position.as_millis());
        assert_eq!(times.collect::<Vec<_>>(), [0, 30, 31, 32, 33, 60]);
    }
}

#[test]
fn after_every_write_the_file_holds_all_but_the_last_moments() {
    let disk = Disk::default();
    let mut seen = 0;
    record(disk.clone(), |n| {
        let states = std::mem::take(&mut disk.0.lock().unwrap().1);
        for state in states {
            let mut reader = MatroskaReader::new(&state[..]).unwrap();
            seen = 0;
            while let Some(frame) = reader.next_frame().unwrap() {
                seen += u64::from(frame.track == 1);
            }
            assert!(!reader.is_truncated());
        }
        // 400 ms are 20 frames; those of the same moment may be on their way.
        assert!(n < seen + 22, "{seen} of {n}");
    });
    let states = std::mem::take(&mut disk.0.lock().unwrap().1);
    assert!(states.iter().all(|state| frames(state).len() > 350), "while it is completed");
    // Cut off within a write, it is read up to there.
    let file = states.last().unwrap();
    let whole = frames(file);
    for len in (0..file.len()).step_by(97) {
        let Ok(mut reader) = MatroskaReader::new(&file[..len]) else {
            assert!(len < 4_096, "{len}");
            continue;
        };
        let mut read = Vec::new();
        while let Some(frame) = reader.next_frame().unwrap() {
            read.push(frame);
        }
        assert_eq!(read[..], whole[..read.len()]);
    }
}

#[test]
fn tracks_may_come_at_any_time_and_pause() {
    let mut writer = MatroskaWriter::new(Cursor::new(Vec::new()), Container::Matroska);
    let mut tone = Tone::new(Law::Ulaw, 440.0, -12.0);
    let sound = writer.add_track(MediaFormat::Opus, &opus(0)).unwrap();
    writer.write(sound, Duration::ZERO, &opus(1)).unwrap();
    writer.flush().unwrap();
    writer.write(sound, 20 * MS, &opus(2)).unwrap();
    let law = writer.add_track(MediaFormat::Ulaw, &tone.frame().data).unwrap();
    writer.write(law, 10_000 * MS, &tone.frame().data).unwrap();
    writer.write(sound, 10_020 * MS, &opus(3)).unwrap();
    // One comes late, from before what is in the file already.
    writer.flush().unwrap();
    writer.write(sound, 9_000 * MS, &opus(4)).unwrap();
    writer.write(sound, 10_040 * MS, &[]).unwrap();
    writer.flush().unwrap();
    // And one of which nothing comes at all.
    writer.add_track(MediaFormat::Alaw, &[0xd5]).unwrap();
    let (file, counts) = writer.finish().unwrap();
    assert_eq!((counts.frames, counts.malformed), (5, 1));
    let read: Vec<_> = frames(file.get_ref())
        .into_iter()
        .map(|frame| (frame.track, frame.position.as_millis()))
        .collect();
    assert_eq!(read, [(1, 0), (1, 20), (2, 10_000), (1, 10_020), (1, 9_000)]);
    assert_eq!(MatroskaReader::new(&file.get_ref()[..]).unwrap().tracks().len(), 3);
}

#[test]
fn what_cannot_be_a_track_of_a_file_is_refused() {
    let mut writer = MatroskaWriter::new(Cursor::new(Vec::new()), Container::WebM);
    let format = MediaFormat::Alaw;
    assert_eq!(writer.add_track(format, &[0xd5]), Err(MatroskaTrackError::Format(format)));
    let format = MediaFormat::Vp8;
    let undescribed = Err(MatroskaTrackError::Undescribed(format));
    assert_eq!(writer.add_track(format, &[0x11, 0, 0, 1, 2, 3]), undescribed);
    assert_eq!(writer.add_track(format, &[]), undescribed);
    let mut added = 0;
    while writer.add_track(MediaFormat::Opus, &opus(0)).is_ok() {
        added += 1;
    }
    assert!((10..126).contains(&added), "{added}");
    assert_eq!(writer.add_track(MediaFormat::Opus, &opus(0)), Err(MatroskaTrackError::Full));
    let (file, _) = writer.finish().unwrap();
    assert!(file.get_ref().is_empty(), "there was not a frame");
}

#[test]
fn a_file_is_played_from_its_first_frame_and_pauses_are_kept() {
    let mut writer = MatroskaWriter::new(Cursor::new(Vec::new()), Container::WebM);
    let sound = writer.add_track(MediaFormat::Opus, &opus(0)).unwrap();
    // 2.5 ms each, which rounds to 3, 5, 8, ...; and then half a second of nothing.
    let short = [0xe0, 1];
    for n in 0..8 {
        let at = Duration::from_micros(1_000_000 + n * 2_500);
        writer.write(sound, at, &short).unwrap();
    }
    writer.write(sound, 1_520 * MS, &short).unwrap();
    let (file, _) = writer.finish().unwrap();
    let input = Cursor::new(file.into_inner());
    let mut reader = open_stream(input, "it", &OpenOptions::default()).unwrap();
    assert_eq!((reader.format(), reader.begins()), (MediaFormat::Opus, 1_000 * MS));
    let mut times = Vec::new();
    while let Some(MediaFrame { timestamp, duration, key, .. }) = reader.next_frame().unwrap() {
        assert!(key);
        times.push((timestamp, duration));
    }
    let mut expected: Vec<_> = (0..8).map(|n| (n * 120, 120)).collect();
    expected[7].1 = 520 * 48 - 7 * 120;
    expected.push((520 * 48, 120));
    assert_eq!(times, expected);
}

/// An element with a size of one byte.
fn element(id: &[u8], body: &[u8]) -> Vec<u8> {
    [id, &[0x80 | body.len() as u8], body].concat()
}

#[test]
fn files_of_others_are_read_with_lacing_and_without_sizes() {
    let entry = [
        element(&[0xd7], &[7]),
        element(&[0x86], b"A_OPUS\0"),
        element(&[0xe1], &element(&[0x9f], &[2])),
    ];
    let other = [element(&[0xd7], &[8]), element(&[0x86], b"S_TEXT/UTF8")].concat();
    let tracks = [element(&[0xae], &entry.concat()), element(&[0xae], &other)].concat();
    let block = |flags: u8, body: &[u8]| [&[0x87, 0, 5, flags][..], body].concat();
    // Xiph: sizes 4 and the rest. EBML: 4, one less, the rest. Fixed: two of 4.
    let xiph = block(2, &[&[1, 4][..], &opus(1), &opus(2)].concat());
    let ebml = block(6, &[&[2, 0x84, 0xbe][..], &opus(3), &opus(4)[..3], &opus(5)].concat());
    let fixed = block(4, &[&[1][..], &opus(6), &opus(7)].concat());
    let wrong = block(2, &[9, 200, 1]);
    let text = [&[0x88, 0, 0, 0][..], b"hello"].concat();
    let mut file = element(&[0x1a, 0x45, 0xdf, 0xa3], &element(&[0x42, 0x82], b"webm"));
    file.extend([0x18, 0x53, 0x80, 0x67, 0xff]);
    file.extend(element(&[0x16, 0x54, 0xae, 0x6b], &tracks));
    file.extend([0x1f, 0x43, 0xb6, 0x75, 0xff]);
    file.extend(element(&[0xe7], &[100]));
    file.extend(element(&[0xa3], &xiph));
    file.extend(element(&[0xa0], &element(&[0xa1], &ebml)));
    file.extend([0x1f, 0x43, 0xb6, 0x75, 0xff]);
    file.extend(element(&[0xe7], &[200]));
    for block in [&fixed, &wrong, &text] {
        file.extend(element(&[0xa3], block));
    }
    let read: Vec<_> = frames(&file)
        .into_iter()
        .map(|frame| (frame.track, frame.position.as_millis(), frame.data[1], frame.data.len()))
        .collect();
    let expected = [
        (7, 105, 1, 4),
        (7, 105, 2, 4),
        (7, 105, 3, 4),
        (7, 105, 4, 3),
        (7, 105, 5, 4),
        (7, 205, 6, 4),
        (7, 205, 7, 4),
    ];
    assert_eq!(read, expected);
    let named: Vec<_> = MatroskaReader::new(&file[..]).unwrap().tracks();
    assert_eq!((named[1].format, &*named[1].codec), (None, "S_TEXT/UTF8"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let error = |file: &[u8]| MatroskaReader::new(file).err().unwrap().to_string();
    let says = |what: &str| format!("this WebM or Matroska file cannot be read: {what}");
    assert_eq!(error(b""), says("it does not begin as one"));
    assert_eq!(error(b"RIFF"), says("it does not begin as one"));
    assert_eq!(error(&[0x1a, 0x45, 0xdf, 0xa3, 0x80]), says("it describes no track"));
    let tracks = element(&[0xae], &element(&[0x86], b"V_THEORA"));
    let file = [&[0x1a, 0x45, 0xdf, 0xa3, 0x80][..], &tracks].concat();
    let opened = open_stream(Cursor::new(file), "x.mkv", &OpenOptions::default());
    assert_eq!(
        opened.err().unwrap().to_string(),
        "x.mkv: this WebM or Matroska file cannot be read: it has V_THEORA; Opus, A-law, µ-law, \
         VP8, VP9, AV1 and H.264 can be read"
    );
}
