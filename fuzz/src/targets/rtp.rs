//! Packets of RTP with their header extensions: what is read is written again.

use ortc_rtp::{RtpHeader, RtpView};

pub(crate) fn run(data: &[u8]) {
    let Ok(view) = RtpView::parse(data) else { return };
    assert!(view.header_len() + view.body().len() == data.len());
    assert!(view.payload().len() <= view.body().len());
    assert!(view.csrcs().count() <= 15);
    let extensions: Result<Vec<_>, _> = view.extensions().collect();
    let Ok(extensions) = extensions else { return };
    let total: usize = extensions.iter().map(|element| element.data.len()).sum();
    assert!(total <= data.len());
    let header = RtpHeader {
        payload_type: view.payload_type(),
        marker: view.marker(),
        sequence: view.sequence(),
        timestamp: view.timestamp(),
        ssrc: view.ssrc(),
        extensions: &extensions,
    };
    let mut out = vec![0; header.encoded_len()];
    let Ok(len) = header.write(&mut out) else { return };
    let again = RtpView::parse(&out[..len]).expect("what is written is read");
    assert_eq!((again.ssrc(), again.sequence()), (view.ssrc(), view.sequence()));
    assert_eq!((again.timestamp(), again.marker()), (view.timestamp(), view.marker()));
    assert_eq!(again.extensions().collect::<Result<Vec<_>, _>>(), Ok(extensions));
}
