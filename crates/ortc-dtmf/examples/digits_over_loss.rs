//! Digits into packets, through a network that loses, doubles and reorders, and back to digits.
//!
//! `cargo run -p ortc-dtmf --example digits_over_loss -- '1234,#' 20` loses 20 % of all packets.

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use ortc_dtmf::{
    ReceivedPacket, ToneOutput, ToneQueue, ToneQueueConfig, ToneReceiver, ToneReceiverConfig,
    ToneReport,
};

const CLOCK_RATE: u32 = 48_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let digits = arguments.next().unwrap_or_else(|| "0123456789*#ABCD".into());
    let loss: f64 = arguments.next().map_or(Ok(20.0), |percent| {
        percent.parse().map_err(|_| format!("{percent} is no percentage of packets to lose"))
    })?;

    // Time is only counted, so two minutes of dialling take a moment.
    let start = Instant::now();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut queue = ToneQueue::new(ToneQueueConfig::new(CLOCK_RATE));
    queue.insert_dtmf(start, &digits, None, None)?;

    // Packets on their way: when they arrive, and what they are.
    let mut network = BTreeMap::new();
    let (mut sent, mut lost, mut sequence) = (0, 0, rng.u16(..));
    while let Some((due, _)) = queue.poll_timeout() {
        while let Some(output) = queue.poll_output(due) {
            let ToneOutput::Packet(packet) = output else { continue };
            (sent, sequence) = (sent + 1, sequence.wrapping_add(1));
            if rng.f64() * 100.0 < loss {
                lost += 1;
                continue;
            }
            for _ in 0..rng.usize(1..=2) {
                let late = Duration::from_micros(rng.u64(10_000..50_000));
                network.insert((due + late, network.len()), (sequence, packet.clone()));
            }
        }
    }

    let mut receiver = ToneReceiver::new(ToneReceiverConfig::default());
    let mut heard = String::new();
    let mut tell = |receiver: &mut ToneReceiver| {
        while let Some(report) = receiver.poll_output() {
            if let ToneReport::Ended(tone, reason) = report
                && let Some(digit) = tone.digit()
            {
                let at = tone.begin.saturating_duration_since(start);
                println!("{digit} after {at:.0?} for {:.0?} ({reason:?})", tone.duration);
                heard.push(digit.to_char());
            }
        }
    };
    for ((at, _), (sequence, packet)) in &network {
        while let Some((due, _)) = receiver.poll_timeout().filter(|(due, _)| due <= at) {
            receiver.handle_timeout(due);
        }
        let packet = ReceivedPacket {
            sequence: *sequence,
            timestamp: packet.timestamp,
            marker: packet.marker,
            clock_rate: CLOCK_RATE,
            payload: packet.payload(),
        };
        receiver.handle_packet(*at, &packet)?;
        tell(&mut receiver);
    }
    while let Some((due, _)) = receiver.poll_timeout() {
        receiver.handle_timeout(due);
        tell(&mut receiver);
    }
    println!("{sent} packets sent, {lost} lost: `{digits}` was heard as `{heard}`");
    Ok(())
}
