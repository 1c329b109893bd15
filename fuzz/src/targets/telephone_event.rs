//! Payloads of telephone events: what is read is written again.

use ortc_dtmf::TelephoneEvent;

pub(crate) fn run(data: &[u8]) {
    let _ = TelephoneEvent::is_likely_digit(data);
    let Ok(reports) = TelephoneEvent::decode_all(data) else { return };
    let mut count = 0;
    let mut offset = 0;
    for (at, report) in reports {
        assert_eq!(at, offset);
        offset += u32::from(report.duration);
        assert_eq!(TelephoneEvent::decode(&report.encode()), Ok(report));
        count += 1;
    }
    assert_eq!(count * 4, data.len());
}
