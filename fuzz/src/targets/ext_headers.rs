//! What packets tell of their track, and where key frames begin: what is read is written again.

use ortc_rtp::codec::begins_key_frame;
use ortc_rtp::{CodecName, read_ext_headers, write_ext_headers};

pub(crate) fn run(data: &[u8]) {
    if let Some(pairs) = read_ext_headers(data) {
        let written = write_ext_headers(&pairs).expect("what was read may be written");
        assert!(written.len() <= data.len());
        assert_eq!(read_ext_headers(&written), Some(pairs));
    }
    for codec in CodecName::all() {
        let is_video =
            matches!(codec, CodecName::Vp8 | CodecName::Vp9 | CodecName::Av1 | CodecName::H264);
        assert!(is_video || !begins_key_frame(codec, data));
    }
}
