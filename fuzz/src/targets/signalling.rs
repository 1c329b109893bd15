//! What comes over a signalling channel, and whatever else is JSON in the drafts.

use ortc_dtls::RTCDtlsConnectionInfo;
use ortc_rtp::{RTCCodec, RTCHeaderExtension};
use ortc_server::signalling::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Signal::parse(text) {
        Ok(signals) => {
            for signal in signals {
                let again = Signal::parse(&signal.to_text()).expect("what is said is understood");
                assert_eq!(again, [signal]);
            }
        }
        Err(error) => {
            // Whoever is told has to be able to read it.
            assert!(error.to_string().len() < 2 * text.len() + 400, "{error}");
            assert!(error.field().is_none_or(|field| !field.is_empty()));
        }
    }
    is_written_as_it_was_read::<RTCDtlsConnectionInfo>(text);
    is_written_as_it_was_read::<RTCCodec>(text);
    is_written_as_it_was_read::<RTCHeaderExtension>(text);
}

fn is_written_as_it_was_read<T: Serialize + DeserializeOwned + PartialEq>(text: &str) {
    if let Ok(read) = serde_json::from_str::<T>(text) {
        let written = serde_json::to_string(&read).expect("what was read is written");
        let again: T = serde_json::from_str(&written).expect("and what is written is read");
        assert!(again == read, "{written}");
    }
}
