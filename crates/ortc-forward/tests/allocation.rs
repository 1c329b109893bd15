//! Nothing is allocated per packet: from an application's ring to the wire, and from the
//! wire to the decrypted packet.
#![allow(unsafe_code, reason = "a global allocator that counts cannot be written otherwise")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ortc_forward::{
    ForwarderCommand, ForwarderConfig, ForwarderEvent, ForwarderHandle, PacketForwarder, WallClock,
};
use ortc_io::ring::{Popped, RingReceiver, ring};
use ortc_io::{
    Bind, ConnectionId, DatagramIo, Encapsulation, FlightConfig, InterfaceAddress, Join, Path,
    PathUpdate, ReceiveBatch, SendBatch, SendReport, SharedSocket, SocketEvent, SocketId, SrtpKeys,
    SrtpProfile,
};
use ortc_rtp::{
    CodecName, Extension, ForwardConfig, ForwardedPayloadType, KeyFrameFeedback, Layer,
    OutgoingPacket, PayloadType, ReceiveEncodingsConfig, ReceivedEncoding, ReceiverConfig,
    RecoverConfig, RetransmitConfig, RtpHeader, RtpView, RtxStream, SelectLayersConfig,
    SenderConfig, SrtpReceiver, SrtpSender, Ssrc, TrackSource, is_rtcp,
};

const ID: ConnectionId = ConnectionId { slot: 0, generation: 0 };
const SSRC: Ssrc = Ssrc(7);
const OPUS: PayloadType = PayloadType(111);

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counter;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTING.get() {
            ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        }
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counter = Counter;

/// How many allocations `work` makes.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    COUNTING.set(true);
    work();
    COUNTING.set(false);
    ALLOCATIONS.get() - before
}

/// What is on its way to one of two ends.
type Queue = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// One end of a wire between two sockets; what the wire itself allocates is not counted.
struct End {
    out: Queue,
    inward: Queue,
    remote: SocketAddr,
    /// Whether it is a stream to a peer, whose frames come off before the thread sees them.
    is_stream: bool,
}

const SOCKET: SocketId = SocketId { slot: 0, generation: 0 };

/// A socket of the connection's own, and nothing put round its datagrams.
const OWN: (bool, Encapsulation) = (false, Encapsulation::Plain);

fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    let counting = COUNTING.replace(false);
    let result = work();
    COUNTING.set(counting);
    result
}

impl DatagramIo for End {
    fn bind(&mut self, address: SocketAddr) -> io::Result<(SocketId, SocketAddr)> {
        Ok((SOCKET, address))
    }

    fn close(&mut self, _: SocketId) {}

    fn receive(
        &mut self,
        batch: &mut ReceiveBatch,
        _failed: &mut Vec<(SocketId, io::Error)>,
    ) -> bool {
        uncounted(|| {
            while !batch.is_full() {
                let Some(datagram) = self.inward.borrow_mut().pop_front() else { return false };
                match self.is_stream {
                    true => batch.push_framed(SOCKET, self.remote, &datagram[2..]),
                    false => batch.push(SOCKET, self.remote, &datagram),
                };
            }
            true
        })
    }

    fn send(&mut self, batch: &mut SendBatch) -> SendReport {
        uncounted(|| {
            let sent = batch.len();
            let datagrams = batch.iter().map(|(_, _, datagram)| datagram.to_vec());
            self.out.borrow_mut().extend(datagrams);
            batch.clear();
            SendReport { sent, dropped: 0, calls: 1 }
        })
    }

    fn interfaces(&mut self) -> io::Result<Vec<InterfaceAddress>> {
        Ok(Vec::new())
    }
}

fn srtp_keys(is_client: bool) -> SrtpKeys {
    let material: Vec<u8> = (0..56).collect();
    SrtpKeys::from_exported(SrtpProfile::AeadAes128Gcm, &material, is_client).expect("56")
}

/// A forwarder with one connection that may send to and receive from the other end, over a
/// socket of its own or one that it shares with others.
fn forwarder(
    is_client: bool,
    (shares, encapsulation): (bool, Encapsulation),
    now: Instant,
    io: &mut End,
) -> (PacketForwarder, ForwarderHandle, RingReceiver<ForwarderEvent>) {
    let clock = WallClock::new(now, 0);
    // The flight recorder allocates nothing either.
    let flight_recorder = Some(FlightConfig::default());
    let config = ForwarderConfig { flight_recorder, ..ForwarderConfig::default() };
    let (mut forwarder, handle, mut events) =
        PacketForwarder::new(&config, 1, clock, Waker::noop().clone());
    let keys = srtp_keys(is_client);
    let path = Path { encapsulation, ..Path::plain(SOCKET, io.remote) };
    let address = io.remote;
    let shared = SharedSocket { socket: SOCKET, local: address };
    let username_frag = "abcd".to_owned();
    let (bind, join) = if shares {
        let join = Join { connection: ID, token: 0, shared, username_frag, fork: false };
        (ForwarderCommand::BindShared { token: 0, address }, Some(ForwarderCommand::Join(join)))
    } else {
        (ForwarderCommand::Bind(Bind { connection: ID, token: 0, address }), None)
    };
    for command in [ForwarderCommand::Attach(ID), bind].into_iter().chain(join).chain([
        ForwarderCommand::Path(ID, PathUpdate::Validated(path)),
        ForwarderCommand::Path(ID, PathUpdate::Selected(path)),
        ForwarderCommand::Open(ID),
        ForwarderCommand::SetKeys(ID, keys),
    ]) {
        handle.send(command).expect("there is room");
    }
    forwarder.turn(now, io);
    for _ in 0..1 + usize::from(shares) {
        assert!(matches!(
            events.pop(),
            Popped::Item(ForwarderEvent::Socket(ID, SocketEvent::Bound { .. }))
                | Popped::Item(ForwarderEvent::SharedBound(0, Ok(_)))
        ));
    }
    (forwarder, handle, events)
}

#[test]
fn nothing_is_allocated_per_packet_but_the_applications_copy() {
    count_allocations(OWN);
}

#[test]
fn nor_on_a_socket_that_connections_share() {
    count_allocations((true, Encapsulation::Plain));
}

#[test]
fn nor_for_what_a_turn_server_relays() {
    count_allocations((false, Encapsulation::ChannelData(0x4001)));
}

#[test]
fn nor_for_what_goes_over_a_stream() {
    count_allocations((false, Encapsulation::Rfc4571));
}

fn count_allocations(over: (bool, Encapsulation)) {
    let start = Instant::now();
    let (there, back) = (Queue::default(), Queue::default());
    let remote = SocketAddr::from(([192, 0, 2, 1], 9));
    let is_stream = over.1 == Encapsulation::Rfc4571;
    let mut sending = End { out: there.clone(), inward: back.clone(), remote, is_stream };
    let mut receiving = End { out: back, inward: there, remote, is_stream };
    let (mut a, to_a, _a_events) = forwarder(true, over, start, &mut sending);
    let (mut b, to_b, _b_events) = forwarder(false, over, start, &mut receiving);

    let (applications, packets) = ring(64);
    let config = SenderConfig {
        ssrc: SSRC,
        payload_type: OPUS,
        clock_rate: 48_000,
        cname: "somebody".to_owned(),
        packets,
        enabled: true,
    };
    to_a.send(ForwarderCommand::AddSender(ID, config)).unwrap();
    let (packets, mut received) = ring(64);
    let config = ReceiverConfig { ssrc: SSRC, payload_types: vec![(OPUS, 48_000)], packets };
    to_b.send(ForwarderCommand::AddReceiver(ID, config)).unwrap();

    let payload = Bytes::from(vec![0x55; 1_100]);
    let (mut sent, mut opened) = (0, 0);
    // Under the second after which reports would be due; the first rounds grow what is
    // reused ever after.
    for round in 0..60u32 {
        let now = start + Duration::from_millis(u64::from(round));
        for n in 0..16 {
            let timestamp = u64::from(round * 16 + n) * 960;
            let packet = OutgoingPacket { payload: payload.clone(), timestamp, marker: false };
            applications.push(packet).unwrap();
        }
        let sealing = allocations(|| {
            a.turn(now, &mut sending);
        });
        if let (_, Encapsulation::ChannelData(channel)) = over {
            let header = |datagram: &Vec<u8>| {
                let (head, data) = datagram.split_at(4);
                (head[..2] == channel.to_be_bytes())
                    & (head[2..] == (data.len() as u16).to_be_bytes())
            };
            assert!(receiving.inward.borrow().iter().all(header), "framed");
        }
        if is_stream {
            let header =
                |datagram: &Vec<u8>| datagram[..2] == (datagram.len() as u16 - 2).to_be_bytes();
            assert!(receiving.inward.borrow().iter().all(header), "framed");
        }
        let opening = allocations(|| {
            b.turn(now, &mut receiving);
        });
        let mut count = 0;
        while let Popped::Item(packet) = received.pop() {
            assert_eq!(packet.payload, payload);
            count += 1;
        }
        assert_eq!(count, 16, "round {round}");
        if round >= 10 {
            sent += sealing;
            opened += opening;
        }
    }
    assert_eq!(sent, 0, "allocations for 800 packets from the ring to the wire");
    assert_eq!(opened, 800, "allocations for 800 packets from the wire to the application");

    // Nobody receives any more: what is decrypted is dropped, and costs nothing once as
    // many early packets are kept as may be.
    to_b.send(ForwarderCommand::RemoveReceiver(ID, SSRC)).unwrap();
    let mut dropped = 0;
    for round in 60..120u32 {
        let now = start + Duration::from_millis(u64::from(round));
        for n in 0..16 {
            let timestamp = u64::from(round * 16 + n) * 960;
            let packet = OutgoingPacket { payload: payload.clone(), timestamp, marker: false };
            applications.push(packet).unwrap();
        }
        a.turn(now, &mut sending);
        let opening = allocations(|| {
            b.turn(now, &mut receiving);
        });
        if round >= 80 {
            dropped += opening;
        }
    }
    assert_eq!(dropped, 0, "allocations for 640 packets that nobody takes");
}

/// Has what comes be sent back to where it comes from.
fn forward_back(ssrc: Ssrc, extensions: Vec<(u8, u8)>) -> ForwardConfig {
    let types = ForwardedPayloadType { received: OPUS, sent: OPUS, clock_rate: 48_000 };
    ForwardConfig {
        ssrc,
        source: TrackSource { connection: ID, ssrc: SSRC },
        payload_types: vec![types],
        unwrapped: Vec::new(),
        extensions,
        cname: "somebody".to_owned(),
        needs_key_frames: false,
        enabled: true,
    }
}

#[test]
fn header_extensions_get_the_subscribers_ids_and_nothing_is_allocated_for_it() {
    let allocated = forward_with_extensions(None);
    assert_eq!(allocated, 0, "allocations for 1,920 packets with other header extensions");
}

#[test]
fn numbers_across_tracks_are_written_and_what_was_sent_is_remembered_without_allocation() {
    // Without an answer the ring of what was sent doubles from 256 packets to 4,096.
    let allocated = forward_with_extensions(Some(9));
    assert!(allocated <= 5, "{allocated} allocations for 2,880 numbered packets");
}

#[test]
fn a_layer_is_chosen_and_its_numbers_are_changed_without_allocation() {
    const TRACK: Ssrc = Ssrc(70);
    const VP8: PayloadType = PayloadType(96);
    let start = Instant::now();
    let (there, back) = (Queue::default(), Queue::default());
    let remote = SocketAddr::from(([192, 0, 2, 1], 9));
    let mut io = End { out: back.clone(), inward: there.clone(), remote, is_stream: false };
    let (mut forwarder, commands, _events) =
        forwarder(false, (false, Encapsulation::Plain), start, &mut io);
    let (packets, _) = ring(1);
    let (payload_types, codecs) = (vec![(VP8, 90_000)], vec![(VP8, CodecName::Vp8)]);
    let config = ReceiverConfig { ssrc: TRACK, payload_types: payload_types.clone(), packets };
    commands.send(ForwarderCommand::AddReceiver(ID, config)).unwrap();
    let encoding = |(rid, ssrc): (&str, u32)| ReceivedEncoding {
        rid: rid.to_owned(),
        ssrc: Some(Ssrc(ssrc)),
        rtx_ssrc: None,
    };
    let encodings = ReceiveEncodingsConfig {
        ssrc: TRACK,
        encodings: [("q", 71), ("h", 72), ("f", 73)].map(encoding).into(),
        payload_types,
        codecs: codecs.clone(),
        rtx_payload_types: Vec::new(),
        nack: false,
        key_frames: KeyFrameFeedback::PictureLoss,
        rid_ids: (None, None),
        dependency_id: None,
    };
    commands.send(ForwarderCommand::ReceiveEncodings(ID, Box::new(encodings))).unwrap();
    // One is sent the best, and one every other picture of the least.
    let best = Layer { spatial: 2, temporal: 3 };
    for (ssrc, max) in [(100, best), (101, Layer::default())] {
        let ssrc = Ssrc(ssrc);
        let types = ForwardedPayloadType { received: VP8, sent: VP8, clock_rate: 90_000 };
        let source = TrackSource { connection: ID, ssrc: TRACK };
        let payload_types = vec![types];
        let forward = ForwardConfig { source, payload_types, ..forward_back(ssrc, Vec::new()) };
        commands.send(ForwarderCommand::AddForward(ID, forward)).unwrap();
        let config = SelectLayersConfig { ssrc, codecs: codecs.clone(), is_simulcast: true };
        commands.send(ForwarderCommand::SelectLayers(ID, config)).unwrap();
        commands.send(ForwarderCommand::LimitLayer(ID, ssrc, max)).unwrap();
    }
    let mut publisher = SrtpSender::from_keys(&srtp_keys(true)).unwrap();
    let mut allocated = 0;
    for round in 0..90u16 {
        // Under the second after which reports would be due.
        let now = start + Duration::from_millis(4 * u64::from(round));
        for (at, ssrc) in [71, 72, 73].into_iter().enumerate() {
            for n in 0..4 {
                let header = RtpHeader {
                    payload_type: VP8,
                    marker: n == 3,
                    sequence: round * 4 + n,
                    timestamp: u32::from(round) * 360,
                    ssrc: Ssrc(ssrc),
                    extensions: &[],
                };
                let mut packet = [0x55; 300];
                let len = header.write(&mut packet).unwrap();
                let [high, low] = (0x8000 | (round + 1_000 * at as u16)).to_be_bytes();
                let begins = if n == 0 { 0x10 } else { 0 };
                let temporal = (round % 2) as u8;
                let is_key = round % 30 == 0 && n == 0;
                // RFC 7741 §4.2: X, S; I, L, T; what these say; and the first byte of the frame.
                let descriptor = [
                    0x80 | begins,
                    0xe0,
                    high,
                    low,
                    (round / 2) as u8,
                    temporal << 6 | 0x20,
                    u8::from(!is_key),
                    at as u8,
                ];
                packet[len..len + descriptor.len()].copy_from_slice(&descriptor);
                let len = publisher.protect_rtp(&mut packet, len + 200).unwrap();
                there.borrow_mut().push_back(packet[..len].to_vec());
            }
        }
        let turn = allocations(|| {
            forwarder.turn(now, &mut io);
        });
        allocated += if round >= 70 { turn } else { 0 };
    }
    assert_eq!(allocated, 0, "allocations for 240 packets of which some are sent");
    let mut subscriber = SrtpReceiver::from_keys(&srtp_keys(true)).unwrap();
    let (mut shown, mut last) = ([Vec::new(), Vec::new()], [None; 2]);
    for mut datagram in back.borrow_mut().drain(..).filter(|datagram| !is_rtcp(datagram)) {
        let opened = subscriber.unprotect_rtp(&mut datagram).unwrap();
        let view = RtpView::parse(&datagram[..opened.len]).unwrap();
        let to = (view.ssrc().0 - 100) as usize;
        let id = u16::from_be_bytes([view.payload()[2], view.payload()[3]]) & 0x7fff;
        if let Some((sequence, before)) = last[to].replace((view.sequence(), id)) {
            assert_eq!(view.sequence(), u16::wrapping_add(sequence, 1));
            assert!(id == before || id == before + 1, "{before} {id}");
        }
        shown[to].push(view.payload()[7]);
    }
    assert_eq!((shown[0].last(), shown[1].last()), (Some(&2), Some(&0)));
    let counts = [shown[0].len(), shown[1].len()];
    assert!(counts[0] > 110 && (50..70).contains(&counts[1]), "{counts:?}");
}

/// Forwards to three subscribers, with numbers across them in the element of this id; how often
/// memory was allocated for it.
fn forward_with_extensions(number_id: Option<u8>) -> u64 {
    let start = Instant::now();
    let (there, back) = (Queue::default(), Queue::default());
    let remote = SocketAddr::from(([192, 0, 2, 1], 9));
    let mut io = End { out: back.clone(), inward: there.clone(), remote, is_stream: false };
    let (mut forwarder, commands, _events) =
        forwarder(false, (false, Encapsulation::Plain), start, &mut io);
    let (packets, _) = ring(1);
    let config = ReceiverConfig { ssrc: SSRC, payload_types: vec![(OPUS, 48_000)], packets };
    commands.send(ForwarderCommand::AddReceiver(ID, config)).unwrap();
    // Another id, one that takes the two-byte form, and none.
    for (ssrc, map) in [(100, vec![(1, 5), (3, 4)]), (101, vec![(2, 200)]), (102, Vec::new())] {
        let forward = forward_back(Ssrc(ssrc), map);
        commands.send(ForwarderCommand::AddForward(ID, forward)).unwrap();
        commands.send(ForwarderCommand::NumberSent(ID, Ssrc(ssrc), number_id)).unwrap();
    }
    let mut publisher = SrtpSender::from_keys(&srtp_keys(true)).unwrap();
    let mut allocated = 0;
    for round in 0..60u16 {
        let now = start + Duration::from_millis(u64::from(round));
        for n in 0..16 {
            let [_, low] = (round * 16 + n).to_be_bytes();
            let elements = [
                Extension { id: 1, data: &[low] },
                Extension { id: 2, data: &[low, 2] },
                Extension { id: 3, data: &[low, 3, 3] },
            ];
            let header = RtpHeader {
                payload_type: OPUS,
                marker: false,
                sequence: round * 16 + n,
                timestamp: u32::from(round * 16 + n) * 960,
                ssrc: SSRC,
                extensions: &elements,
            };
            let mut packet = [0x55; 200];
            let len = header.write(&mut packet).unwrap() + 100;
            let len = publisher.protect_rtp(&mut packet, len).unwrap();
            there.borrow_mut().push_back(packet[..len].to_vec());
        }
        let turn = counted_turn(&mut forwarder, now, &mut io, u32::from(round));
        allocated += turn;
    }
    let mut subscriber = SrtpReceiver::from_keys(&srtp_keys(true)).unwrap();
    let mut counts = [0; 3];
    let mut number = None;
    for mut datagram in back.borrow_mut().drain(..).filter(|datagram| !is_rtcp(datagram)) {
        let opened = subscriber.unprotect_rtp(&mut datagram).unwrap();
        let view = RtpView::parse(&datagram[..opened.len]).unwrap();
        assert_eq!(view.payload(), [0x55; 100]);
        let ssrc = view.ssrc().0;
        let at = (ssrc - 100) as usize;
        let low = counts[at] as u8;
        let found: Vec<_> =
            view.extensions().map(|e| e.map(|e| (e.id, e.data.to_vec())).unwrap()).collect();
        let mut expected = match ssrc {
            100 => vec![(5, vec![low]), (4, vec![low, 3, 3])],
            101 => vec![(200, vec![low, 2])],
            _ => Vec::new(),
        };
        if let Some(id) = number_id {
            let own = found.last().map(|(_, data)| u16::from_be_bytes([data[0], data[1]]));
            let next = number.map_or(own, |before: u16| Some(before.wrapping_add(1))).unwrap();
            expected.push((id, next.to_be_bytes().to_vec()));
            number = Some(next);
        }
        assert_eq!(found, expected);
        counts[at] += 1;
    }
    assert_eq!(counts, [960; 3]);
    allocated
}

/// What a hostile peer, or somebody else, sends beside the genuine packets of a round.
fn hostile(round: u32, genuine: &[Vec<u8>], earlier: &[Vec<u8>]) -> Vec<(bool, Vec<u8>)> {
    let mut all = Vec::new();
    for (n, packet) in genuine.iter().enumerate() {
        let mut forged = packet.clone();
        *forged.last_mut().expect("a packet is not empty") ^= 1;
        let mut unknown = packet.clone();
        unknown[8..12].copy_from_slice(&(round * 16 + n as u32).to_be_bytes());
        let cut = packet[..n].to_vec();
        let headless = [&packet[..1], &[0xff; 40]].concat();
        let oversized = [&packet[..], &vec![0; 700]].concat();
        // From the peer's own address.
        all.extend([forged, unknown, cut, headless, oversized].map(|datagram| (false, datagram)));
        all.extend(earlier.get(n).map(|replay| (false, replay.clone())));
        // From an address that nobody has validated.
        all.push((true, packet.clone()));
    }
    all
}

#[test]
fn hostile_input_costs_no_memory_and_no_genuine_packet_that_is_forwarded() {
    const ROUNDS: u32 = 400;
    let start = Instant::now();
    let (there, back) = (Queue::default(), Queue::default());
    let remote = SocketAddr::from(([192, 0, 2, 1], 9));
    let is_stream = false;
    let mut sending = End { out: there.clone(), inward: Queue::default(), remote, is_stream };
    let mut receiving = End { out: back.clone(), inward: there.clone(), remote, is_stream };
    let (mut a, to_a, _a_events) = forwarder(true, OWN, start, &mut sending);
    let (mut b, to_b, _b_events) = forwarder(false, OWN, start, &mut receiving);
    let (applications, packets) = ring(64);
    let config = SenderConfig {
        ssrc: SSRC,
        payload_type: OPUS,
        clock_rate: 48_000,
        cname: "somebody".to_owned(),
        packets,
        enabled: true,
    };
    to_a.send(ForwarderCommand::AddSender(ID, config)).unwrap();
    let (packets, _) = ring(1);
    let config = ReceiverConfig { ssrc: SSRC, payload_types: vec![(OPUS, 48_000)], packets };
    to_b.send(ForwarderCommand::AddReceiver(ID, config)).unwrap();
    // Sent back to where it comes from, three times.
    for copy in 0..3 {
        let forward = forward_back(Ssrc(100 + copy), Vec::new());
        to_b.send(ForwarderCommand::AddForward(ID, forward)).unwrap();
    }

    let payload = Bytes::from(vec![0x55; 1_100]);
    let (mut allocated, mut earlier) = (0, Vec::new());
    let (mut wrong, mut strange) = (0u64, 0u64);
    // All of it before the first reports are due.
    for round in 0..ROUNDS {
        let now = start + Duration::from_micros(100 * u64::from(round));
        for n in 0..16 {
            let timestamp = u64::from(round * 16 + n) * 960;
            let packet = OutgoingPacket { payload: payload.clone(), timestamp, marker: false };
            applications.push(packet).unwrap();
        }
        a.turn(now, &mut sending);
        let genuine: Vec<_> =
            there.borrow_mut().drain(..).filter(|datagram| !is_rtcp(datagram)).collect();
        assert_eq!(genuine.len(), 16);
        let mut genuine_left = genuine.iter().cloned();
        let (strangers, own): (Vec<_>, Vec<_>) =
            hostile(round, &genuine, &earlier).into_iter().partition(|(stranger, _)| *stranger);
        receiving.remote = SocketAddr::from(([198, 51, 100, 7], 7));
        strange += strangers.len() as u64;
        there.borrow_mut().extend(strangers.into_iter().map(|(_, datagram)| datagram));
        allocated += counted_turn(&mut b, now, &mut receiving, round);
        receiving.remote = remote;
        wrong += own.len() as u64;
        for (n, (_, datagram)) in own.into_iter().enumerate() {
            if n % 3 == 0 {
                there.borrow_mut().extend(genuine_left.next());
            }
            there.borrow_mut().push_back(datagram);
        }
        there.borrow_mut().extend(genuine_left);
        allocated += counted_turn(&mut b, now, &mut receiving, round);
        earlier = genuine;
    }
    let sent_back = back.borrow().iter().filter(|datagram| !is_rtcp(datagram)).count();
    assert_eq!(sent_back, 3 * 16 * ROUNDS as usize, "every genuine packet, to everybody");
    assert_eq!(allocated, 0, "allocations for what was forwarded and what was dropped");

    let (reply, mut stats) = tokio::sync::oneshot::channel();
    to_b.send(ForwarderCommand::Snapshot(reply)).unwrap();
    b.turn(start + Duration::from_millis(u64::from(ROUNDS)), &mut receiving);
    let stats = stats.try_recv().unwrap();
    let drops = stats.media.receive_drops;
    let counted = drops.not_authentic
        + drops.replayed
        + drops.malformed
        + drops.too_many_ssrcs
        + stats.paths.unknown
        + stats.too_long;
    assert_eq!(counted, wrong, "{drops:?} {:?} {}", stats.paths, stats.too_long);
    assert_eq!(stats.paths.unvalidated, strange);
    assert_eq!(stats.media.rtp_forwarded, 3 * 16 * u64::from(ROUNDS));
}

/// Takes a turn; how many allocations that were once what is reused has grown.
fn counted_turn(forwarder: &mut PacketForwarder, now: Instant, io: &mut End, round: u32) -> u64 {
    let allocated = allocations(|| {
        forwarder.turn(now, io);
    });
    if round < 20 { 0 } else { allocated }
}

#[test]
fn nothing_is_allocated_for_what_may_have_to_be_sent_again() {
    let start = Instant::now();
    let (there, back) = (Queue::default(), Queue::default());
    let remote = SocketAddr::from(([192, 0, 2, 1], 9));
    let mut io = End { out: back.clone(), inward: there.clone(), remote, is_stream: false };
    let (mut forwarder, commands, _events) =
        forwarder(false, (false, Encapsulation::Plain), start, &mut io);
    let (packets, _) = ring(1);
    let config = ReceiverConfig { ssrc: SSRC, payload_types: vec![(OPUS, 48_000)], packets };
    commands.send(ForwarderCommand::AddReceiver(ID, config)).unwrap();
    let key_frames = KeyFrameFeedback::None;
    let config = RecoverConfig { ssrc: SSRC, nack: true, key_frames, rtx: None };
    commands.send(ForwarderCommand::Recover(ID, config)).unwrap();
    // One is sent again on a stream of its own, the other exactly as it was.
    for (ssrc, rtx) in [(100, Some(200)), (101, None)] {
        let rtx = rtx
            .map(|rtx| RtxStream { ssrc: Ssrc(rtx), payload_types: vec![(OPUS, PayloadType(99))] });
        let forward = forward_back(Ssrc(ssrc), Vec::new());
        commands.send(ForwarderCommand::AddForward(ID, forward)).unwrap();
        let config = RetransmitConfig { ssrc: Ssrc(ssrc), nack: true, rtx };
        commands.send(ForwarderCommand::Retransmit(ID, config)).unwrap();
    }
    let mut publisher = SrtpSender::from_keys(&srtp_keys(true)).unwrap();
    let mut subscriber = SrtpReceiver::from_keys(&srtp_keys(true)).unwrap();
    let (mut allocated, mut newest) = (0, [0; 2]);
    for round in 0..400u16 {
        // All of it before the first reports are due.
        let now = start + Duration::from_micros(100 * u64::from(round));
        for n in 0..16 {
            let header = RtpHeader {
                payload_type: OPUS,
                marker: false,
                sequence: round * 16 + n,
                timestamp: u32::from(round * 16 + n) * 960,
                ssrc: SSRC,
                extensions: &[],
            };
            let mut packet = [0x55; 1_200];
            let len = header.write(&mut packet).unwrap() + 1_100;
            let len = publisher.protect_rtp(&mut packet, len).unwrap();
            there.borrow_mut().push_back(packet[..len].to_vec());
        }
        let turn = allocations(|| {
            forwarder.turn(now, &mut io);
        });
        // By then a megabyte of packets is kept, and that is all.
        if round >= 100 {
            allocated += turn;
        }
        for datagram in back.borrow_mut().drain(..) {
            newest.copy_from_slice(&datagram[2..4]);
        }
    }
    assert_eq!(allocated, 0, "allocations for 9,600 packets that are kept and sent");

    // The newest one of the one without a stream of its own, and an old one, are sent again.
    let mut peer = SrtpSender::from_keys(&srtp_keys(true)).unwrap();
    let number = u16::from_be_bytes(newest);
    let mut nack = vec![0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 101];
    for lost in [number, number.wrapping_sub(500)] {
        nack.extend(lost.to_be_bytes());
        nack.extend([0; 2]);
    }
    let len = nack.len();
    nack.resize(len + peer.rtcp_overhead(), 0);
    let len = peer.protect_rtcp(&mut nack, len).unwrap();
    there.borrow_mut().push_back(nack[..len].to_vec());
    forwarder.turn(start + Duration::from_millis(50), &mut io);
    let again: Vec<_> = back.borrow_mut().drain(..).collect();
    let numbers: Vec<_> = again
        .into_iter()
        .filter(|datagram| !is_rtcp(datagram))
        .map(|mut datagram| {
            let opened = subscriber.unprotect_rtp(&mut datagram).unwrap();
            assert_eq!((opened.ssrc, datagram[opened.header_len]), (Ssrc(101), 0x55));
            opened.index as u16
        })
        .collect();
    assert_eq!(numbers, [number, number.wrapping_sub(500)]);
}
