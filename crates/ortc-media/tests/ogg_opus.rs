//! Files written and read again, and files of others.

use std::io::Write;

use ortc_media::{
    OggOpusConfig, OggOpusCounts, OggOpusReadError, OggOpusReader, OggOpusWriter, OpusPacket,
};

const SPEECH: &[u8] = include_bytes!("../../../tests/media/speech.ogg");

fn packets(file: &[u8]) -> Vec<OpusPacket> {
    let mut reader = OggOpusReader::new(file).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = reader.read_packet().unwrap() {
        packets.push(packet);
    }
    assert_eq!((reader.lost(), reader.is_truncated()), (0, false));
    packets
}

fn error(file: &[u8]) -> OggOpusReadError {
    match OggOpusReader::new(file) {
        Err(error) => error,
        Ok(mut reader) => loop {
            match reader.read_packet() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("read to its end"),
                Err(error) => break error,
            }
        },
    }
}

/// Where the pages of a file begin, and its end.
fn page_offsets(file: &[u8]) -> Vec<usize> {
    let mut offsets = vec![0];
    let mut at = 0;
    while at < file.len() {
        assert_eq!(&file[at..at + 4], b"OggS");
        let segments = usize::from(file[at + 26]);
        let lacing = &file[at + 27..at + 27 + segments];
        at += 27 + segments + lacing.iter().map(|&length| usize::from(length)).sum::<usize>();
        offsets.push(at);
    }
    offsets
}

#[test]
fn the_speech_file_is_twelve_seconds_of_20_ms_packets() {
    let reader = OggOpusReader::new(SPEECH).unwrap();
    assert_eq!((reader.channels(), reader.pre_skip()), (1, 312));
    let packets = packets(SPEECH);
    assert!(packets.iter().all(|packet| packet.samples == 960));
    assert_eq!(packets.len(), 601, "12 s and the pre-skip");
}

#[test]
fn what_is_written_is_what_was_read() {
    let original = packets(SPEECH);
    let mut writer = OggOpusWriter::new(Vec::new(), OggOpusConfig::default()).unwrap();
    let mut time = u64::MAX - 5000; // media time may wrap
    for packet in &original {
        writer.write(time, &packet.data).unwrap();
        time = time.wrapping_add(u64::from(packet.samples));
    }
    let bytes = original.iter().map(|packet| packet.data.len() as u64).sum();
    let counts = OggOpusCounts { packets: 601, bytes, samples: 601 * 960, ..Default::default() };
    assert_eq!(writer.counts(), counts);
    assert_eq!(packets(&writer.finish().unwrap()), original);
}

#[test]
fn packets_of_any_length_survive() {
    let originals: Vec<Vec<u8>> = [1, 2, 254, 255, 256, 509, 510, 511, 1275, 61_440]
        .iter()
        .map(|&length| [vec![0x78], vec![0xab; length - 1]].concat())
        .collect();
    let mut writer = OggOpusWriter::new(Vec::new(), OggOpusConfig::default()).unwrap();
    for (index, packet) in originals.iter().enumerate() {
        writer.write(index as u64 * 960, packet).unwrap();
    }
    let read = packets(&writer.finish().unwrap());
    let read: Vec<Vec<u8>> = read.into_iter().map(|packet| packet.data.to_vec()).collect();
    assert_eq!(read, originals);
}

#[test]
fn a_gap_is_filled_so_that_the_length_is_right() {
    let original = packets(SPEECH);
    let mut writer = OggOpusWriter::new(Vec::new(), OggOpusConfig::default()).unwrap();
    for (index, packet) in original.iter().enumerate() {
        if index % 10 < 7 {
            writer.write(index as u64 * 960, &packet.data).unwrap();
        }
    }
    // 600 is the last packet; 60 times three are missing before it.
    let counts = writer.counts();
    assert_eq!((counts.packets, counts.samples, counts.filled), (421, 601 * 960, 180 * 960));
    let read = packets(&writer.finish().unwrap());
    assert_eq!(read.len(), 601);
    for (index, (read, original)) in read.iter().zip(&original).enumerate() {
        if index % 10 < 7 {
            assert_eq!(read, original);
        } else {
            assert_eq!((read.data.len(), read.samples), (1, 960), "no frame data");
        }
    }
}

#[test]
fn less_than_a_frame_is_not_forgotten() {
    // A sender whose clock runs fast by 2.08 ms a packet: SILK frames have at least 10 ms.
    let mut writer = OggOpusWriter::new(Vec::new(), OggOpusConfig::default()).unwrap();
    for index in 0..1000 {
        writer.write(index * 1060, &[0x48, 1, 2]).unwrap();
    }
    let counts = writer.counts();
    let missing = 999 * 1060 + 960 - counts.samples;
    assert!(missing < 480, "{missing} samples are missing");
    assert_eq!((counts.packets, counts.late), (1000, 0));
}

#[test]
fn what_is_late_malformed_or_from_another_clock_is_counted() {
    let mut writer = OggOpusWriter::new(Vec::new(), OggOpusConfig::default()).unwrap();
    let day = 24 * 3600 * 48_000;
    for (time, packet) in [
        (day, &[0x78, 1][..]),
        (day + 960, &[0x78, 2]),
        (day, &[0x78, 3]),         // late
        (day + 1920, &[]),         // empty
        (day + 1920, &[0x7b, 63]), // far too many frames
        (3 * day, &[0x78, 4]),     // a clock that was set
        (3 * day + 960, &[0x78, 5]),
        (7, &[0x78, 6]), // and set back
        (967, &[0x78, 7]),
    ] {
        writer.write(time, packet).unwrap();
    }
    let counts = OggOpusCounts {
        packets: 6,
        bytes: 12,
        samples: 6 * 960,
        filled: 0,
        late: 1,
        malformed: 2,
        jumps: 2,
    };
    assert_eq!(writer.counts(), counts);
    let read = packets(&writer.finish().unwrap());
    let marks: Vec<u8> = read.iter().map(|packet| packet.data[1]).collect();
    assert_eq!(marks, [1, 2, 4, 5, 6, 7]);
}

#[test]
fn a_writer_that_is_killed_loses_less_than_a_second() {
    #[derive(Default)]
    struct Disk(Vec<u8>);
    impl Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut disk = Disk::default();
    let mut writer = OggOpusWriter::new(&mut disk, OggOpusConfig::default()).unwrap();
    let original = packets(SPEECH);
    for (index, packet) in original.iter().enumerate() {
        writer.write(index as u64 * 960, &packet.data).unwrap();
    }
    drop(writer); // no finish
    let kept = packets(&disk.0).len();
    assert!((601 - 50..=601).contains(&kept), "{kept} of 601 packets");
}

#[test]
fn a_flush_writes_what_there_is() {
    let mut writer = OggOpusWriter::new(Vec::new(), OggOpusConfig::default()).unwrap();
    writer.write(0, &[0x78, 1]).unwrap();
    writer.flush().unwrap();
    writer.flush().unwrap();
    let file = writer.finish().unwrap();
    assert_eq!(page_offsets(&file).len() - 1, 4, "two headers, the flushed page, the end");
    assert_eq!(packets(&file).len(), 1);
}

#[test]
fn a_file_cut_anywhere_gives_what_came_before() {
    let whole = packets(SPEECH);
    let offsets = page_offsets(SPEECH);
    for cut in (offsets[2]..SPEECH.len()).step_by(997) {
        let mut reader = OggOpusReader::new(&SPEECH[..cut]).unwrap();
        let mut count = 0;
        while let Some(packet) = reader.read_packet().unwrap() {
            assert_eq!(packet, whole[count]);
            count += 1;
        }
        assert_eq!(reader.is_truncated(), !offsets.contains(&cut), "cut at {cut}");
    }
}

#[test]
fn chained_streams_are_read_on() {
    let chained = [SPEECH, SPEECH].concat();
    let whole = packets(SPEECH);
    assert_eq!(packets(&chained), [&whole[..], &whole[..]].concat());
}

#[test]
fn wrong_files_say_what_they_are() {
    let says = |file: &[u8], text: &str| assert_eq!(error(file).to_string(), text);
    says(b"", "the file is empty; an Ogg/Opus file is needed");
    says(
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x44\xac\0\0\x88\x58\x01\0",
        "this is no Ogg file, it looks like a WAV or AVI file; an Ogg/Opus file is needed",
    );
    says(b"hello", "this is no Ogg file, it looks like text; an Ogg/Opus file is needed");
    says(&[0x9c; 100], "this is no Ogg file; an Ogg/Opus file is needed");

    let vorbis = ogg_page(2, b"\x01vorbis\0\0\0\0");
    says(
        &vorbis,
        "an Ogg file, but without an Opus stream: found Vorbis; an Ogg/Opus file is needed",
    );
    let surround = ogg_page(2, b"OpusHead\x01\x06\x38\x01\x80\xbb\0\0\0\0\x01");
    says(
        &surround,
        "this Opus file has 6 channels in mapping family 1; one or two channels can be sent",
    );
    says(
        &ogg_page(2, b"OpusHead\x01\x02"),
        "the Opus header of this Ogg file is malformed: it is shorter than 19 bytes",
    );
    let head = ogg_page(2, b"OpusHead\x01\x01\x38\x01\x80\xbb\0\0\0\0\0");
    says(
        &[&head[..], &ogg_page(0, b"\x78\x01")].concat(),
        "this Ogg/Opus file has no comment header (OpusTags) after its Opus header",
    );
    let mut damaged = SPEECH.to_vec();
    damaged[20_000] ^= 1;
    let page = page_offsets(SPEECH).into_iter().rfind(|&at| at <= 20_000).unwrap();
    says(&damaged, &format!("this Ogg file is damaged at byte {page}"));
}

#[test]
fn a_packet_that_never_ends_is_refused() {
    let pages = page_offsets(SPEECH);
    let mut file = SPEECH[..pages[2]].to_vec();
    // A page whose only packet goes on in the next page, again and again.
    for _ in 0..3 {
        file.extend(ogg_page_of(0, &[255; 255], &[0x78; 255 * 255]));
        let at = file.len() - (27 + 255 + 255 * 255);
        file[at + 5] |= 1;
        fix_checksum(&mut file[at..]);
    }
    let mut reader = OggOpusReader::new(file.as_slice()).unwrap();
    let first = reader.read_packet();
    assert!(
        matches!(first, Ok(None)) && reader.lost() == 1,
        "its beginning is missing, so it is skipped: {first:?}"
    );
    // With its beginning there, it is too long.
    let at = pages[2];
    file[at + 5] &= !1;
    fix_checksum(&mut file[at..at + 27 + 255 + 255 * 255]);
    assert!(matches!(error(&file), OggOpusReadError::BadPacket { index: 0 }));
}

#[test]
fn no_bytes_make_the_reader_panic() {
    // Every byte of the headers and of the first audio page, changed in several ways.
    let end = page_offsets(SPEECH)[3];
    for at in 0..end {
        for change in [0x01, 0x80, 0xff] {
            let mut file = SPEECH[..end].to_vec();
            file[at] ^= change;
            if let Ok(mut reader) = OggOpusReader::new(file.as_slice()) {
                while let Ok(Some(_)) = reader.read_packet() {}
            }
        }
    }
}

fn ogg_page(flags: u8, packet: &[u8]) -> Vec<u8> {
    ogg_page_of(flags, &[packet.len() as u8], packet)
}

fn ogg_page_of(flags: u8, lacing: &[u8], body: &[u8]) -> Vec<u8> {
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend([0; 8]);
    page.extend(SPEECH[14..18].iter()); // the serial number of the speech file
    page.extend([0; 8]);
    page.push(lacing.len() as u8);
    page.extend(lacing);
    page.extend(body);
    fix_checksum(&mut page);
    page
}

fn fix_checksum(page: &mut [u8]) {
    page[22..26].fill(0);
    let mut crc = 0_u32;
    for &byte in page.iter() {
        crc ^= u32::from(byte) << 24;
        for _ in 0..8 {
            crc = crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 };
        }
    }
    page[22..26].copy_from_slice(&crc.to_le_bytes());
}
