//! What the media thread makes of packets that come no more, or by another way.

use std::time::Duration;

use ortc_io::sim;

use super::*;

const TICK: Duration = Duration::from_millis(20);

/// Has one side talk for so many packets of 20 ms.
async fn talk(sender: &RingSender<OutgoingPacket>, packets: std::ops::Range<u64>) {
    for n in packets {
        sender.push(packet(n)).unwrap();
        tokio::time::sleep(TICK).await;
    }
}

fn doubted(events: &[ForwarderEvent]) -> Vec<Path> {
    let doubted = events.iter().filter_map(|event| match event {
        ForwarderEvent::Socket(ID, SocketEvent::PathDoubted(path)) => Some(*path),
        _ => None,
    });
    doubted.collect()
}

#[test]
fn a_path_is_doubted_once_when_sound_has_stopped_for_half_a_second() {
    sim::run(51, |net| async move {
        let (mut a, mut b) = pair(&net).await;
        let sender = a.add_sender();
        let _receiver = b.add_receiver();
        talk(&sender, 0..100).await;
        let last = net.elapsed() - TICK;
        let mut told = doubted(&b.pending().await);
        while told.is_empty() {
            told = doubted(&b.pending().await);
        }
        assert_eq!(told, [b.path_to(&a)]);
        // A report of the sender may have come after its last packet.
        let silence = (net.elapsed() - last).as_millis();
        assert!((500..1500).contains(&silence), "{silence} ms");
        // Reports go on coming, more seldom than sound.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let stats = b.stats().await;
        assert!((1..=2).contains(&stats.paths_doubted), "{}", stats.paths_doubted);
        // Who has said nothing yet is not missed.
        assert_eq!(doubted(&a.pending().await), []);
    });
}

/// Feedback alone leaves nothing else to be done, and sets the alarm all the same.
#[test]
fn who_hears_nothing_but_feedback_misses_that_as_soon() {
    sim::run(54, |net| async move {
        const NUMBER_ID: u8 = 3;
        let (mut a, b) = pair(&net).await;
        let sender = a.add_sender();
        let _receiver = b.add_receiver();
        a.send(ForwarderCommand::NumberSent(ID, SSRC, Some(NUMBER_ID)));
        b.send(ForwarderCommand::AnswerNumbers(ID, SSRC, Some(NUMBER_ID)));
        talk(&sender, 0..50).await;
        assert_eq!(doubted(&a.pending().await), []);
        assert!(a.stats().await.media.rtcp_received > 5, "there is feedback");
        net.partition(&a.host, &b.host);
        let last = net.elapsed();
        let mut told = Vec::new();
        while told.is_empty() {
            told = doubted(&a.pending().await);
        }
        assert_eq!(told, [a.path_to(&b)]);
        let silence = (net.elapsed() - last).as_millis();
        assert!((300..1000).contains(&silence), "{silence} ms");
    });
}

#[test]
fn what_cannot_be_opened_keeps_no_path_alive() {
    sim::run(52, |net| async move {
        let (mut a, mut b) = pair(&net).await;
        let sender = a.add_sender();
        let _receiver = b.add_receiver();
        talk(&sender, 0..50).await;
        b.pending().await;
        for _ in 0..40 {
            net.inject(a.local, b.local, &[&[0x80, 111, 0, 99][..], &[7; 60]].concat());
            tokio::time::sleep(TICK).await;
        }
        assert_eq!(doubted(&b.pending().await).len(), 1);
        a.pending().await;
    });
}

#[test]
fn a_path_is_doubted_when_the_peer_sends_by_another_one() {
    sim::run(53, |net| async move {
        let (mut a, mut b) = pair(&net).await;
        let (other, local) = a.bind(2).await;
        let sender = a.add_sender();
        let _receiver = b.add_receiver();
        talk(&sender, 0..50).await;
        b.pending().await;
        // It has moved, and b has not: there, that path is valid and not the selected one.
        let way = Path::plain(b.socket, local);
        b.validate(way);
        settle().await;
        a.select(Path::plain(other, b.local));
        talk(&sender, 50..60).await;
        assert_eq!(doubted(&b.pending().await), [], "what is on its way is no reason");
        talk(&sender, 60..75).await;
        let told = doubted(&b.pending().await);
        assert_eq!(told.first(), Some(&b.path_to(&a)), "{told:?}");
        // Once b has followed, all is well.
        b.select(way);
        talk(&sender, 75..150).await;
        assert_eq!(doubted(&b.pending().await), []);
    });
}
