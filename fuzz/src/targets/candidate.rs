//! The candidate line, and candidates in JSON: what is valid is written and read again.

use ortc_ice::RTCIceCandidateDescription;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(candidate) = text.parse::<RTCIceCandidateDescription>() {
        assert!(candidate.validate().is_ok(), "{candidate:?}");
        let again = candidate.to_candidate_line().parse();
        assert_eq!(again.as_ref(), Ok(&candidate));
    }
    if let Ok(mut candidate) = serde_json::from_str::<RTCIceCandidateDescription>(text)
        && candidate.validate().is_ok()
    {
        // A line has it in lower case.
        candidate.transport.make_ascii_lowercase();
        let again = candidate.to_candidate_line().parse();
        assert_eq!(again.as_ref(), Ok(&candidate));
    }
}
