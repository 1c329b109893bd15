//! The pairs of a track that its packets tell by themselves (ORTC drafts, "rtpExtHeaders").
//!
//! An element of a header extension has a number, and what a number means is told by
//! descriptions (RFC 8285 §5). A track that nobody has described has none; so names and values
//! travel together, as UTF-8 lines of `name=value` in one element of the two-byte form. They are
//! authenticated and, as all header extensions, not encrypted.

use std::collections::BTreeMap;

/// The id of the element unless another is chosen: the first that the one-byte form cannot have,
/// and so no description of a browser.
pub const DEFAULT_EXT_HEADERS_ID: u8 = 15;

/// What one element holds (RFC 8285 §4.3).
const MAX_LEN: usize = 255;

/// Writes pairs as lines; `None` when there are none, when they take more than 255 bytes, a name
/// is empty or has a `=` in it, or either has a line feed.
pub fn write_ext_headers(pairs: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let mut lines = String::new();
    for (name, value) in pairs {
        if name.is_empty() || name.contains(['=', '\n']) || value.contains('\n') {
            return None;
        }
        if !lines.is_empty() {
            lines.push('\n');
        }
        lines.push_str(name);
        lines.push('=');
        lines.push_str(value);
        if lines.len() > MAX_LEN {
            return None;
        }
    }
    (!lines.is_empty()).then(|| lines.into_bytes())
}

/// Reads lines of `name=value`; `None` for anything else. Of a name that comes twice the last
/// value counts.
pub fn read_ext_headers(data: &[u8]) -> Option<BTreeMap<String, String>> {
    let lines = std::str::from_utf8(data).ok().filter(|lines| lines.len() <= MAX_LEN)?;
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').filter(|(name, _)| !name.is_empty())?;
        Some((name.to_owned(), value.to_owned()))
    };
    lines.split('\n').map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn pairs_are_read_as_they_were_written() {
        let all = pairs(&[("seat", "12"), ("größe", "a=b"), ("empty", "")]);
        let lines = write_ext_headers(&all).unwrap();
        assert_eq!(lines, "empty=\ngröße=a=b\nseat=12".as_bytes());
        assert_eq!(read_ext_headers(&lines), Some(all));
    }

    #[test]
    fn what_cannot_be_read_again_is_not_written() {
        for odd in [&[("", "x")][..], &[("a=b", "x")], &[("a\n", "x")], &[("a", "x\ny=z")], &[]] {
            assert_eq!(write_ext_headers(&pairs(odd)), None, "{odd:?}");
        }
        let (fits, long) = ("x".repeat(253), "x".repeat(254));
        assert_eq!(write_ext_headers(&pairs(&[("a", &fits)])).map(|it| it.len()), Some(255));
        assert_eq!(write_ext_headers(&pairs(&[("a", &long)])), None);
    }

    #[test]
    fn anything_else_is_no_pairs() {
        for data in [&b""[..], b"seat", b"=12", b"a=b\n", b"a=b\n\nc=d", b"a=\xff", &[b'='; 300]] {
            assert_eq!(read_ext_headers(data), None, "{data:?}");
        }
        assert_eq!(read_ext_headers(b"a=b\na=c"), Some(pairs(&[("a", "c")])));
    }
}
