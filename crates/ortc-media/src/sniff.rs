//! What the first bytes of a file look like.

/// Names what these first bytes look like, if they are known.
pub(crate) fn looks_like(start: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 10] = [
        (b"RIFF", "a WAV or AVI file"),
        (b"ID3", "an MP3 file"),
        (b"\xff\xfb", "an MP3 file"),
        (b"fLaC", "a FLAC file"),
        (b"OggS", "an Ogg file"),
        (b"DKIF", "an IVF video"),
        (b"FLV", "an FLV file"),
        (b"\x1a\x45\xdf\xa3", "a WebM or Matroska file"),
        (b"YUV4MPEG2", "uncompressed video"),
        (b"\0\0\0\x01", "an H.264 video"),
    ];
    if start.get(4..8) == Some(b"ftyp") {
        return Some("an MP4 file");
    }
    let known = KINDS.iter().find(|(magic, _)| start.starts_with(magic));
    match known {
        Some((_, name)) => Some(name),
        None if !start.is_empty()
            && start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) =>
        {
            Some("text")
        }
        None => None,
    }
}
