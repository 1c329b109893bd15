use std::time::Duration;

use super::*;

/// Two sets of sockets with one socket each.
struct Pair {
    left: UdpIo,
    right: UdpIo,
    left_socket: SocketId,
    right_socket: SocketId,
    left_address: SocketAddr,
    right_address: SocketAddr,
}

const SINGLE: UdpConfig = UdpConfig {
    receive_buffer: 1 << 20,
    send_buffer: 1 << 20,
    gso: Offload::Off,
    gro: Offload::Off,
};

const LOOPBACKS: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

fn pair(address: &str, config: UdpConfig) -> Pair {
    let [mut left, mut right] = [(); 2].map(|()| UdpIo::new(config).unwrap());
    let (left_socket, left_address) = left.bind(address.parse().unwrap()).unwrap();
    let (right_socket, right_address) = right.bind(address.parse().unwrap()).unwrap();
    Pair { left, right, left_socket, right_socket, left_address, right_address }
}

/// A datagram of this length, told from others by its content.
fn datagram(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|index| (number * 31 + index) as u8).collect()
}

/// Waits until `count` datagrams have arrived, with what came beside them.
fn receive(io: &mut UdpIo, count: usize) -> (Vec<(SocketId, SocketAddr, Vec<u8>)>, u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let (mut batch, mut failed, mut received) = (ReceiveBatch::new(), Vec::new(), Vec::new());
    while received.len() + (batch.truncated() as usize) < count {
        assert!(Instant::now() < deadline, "only {} of {count} arrived", received.len());
        let more = io.receive(&mut batch, &mut failed);
        for index in 0..batch.len() {
            let (datagram, bytes) = batch.get_mut(index);
            received.push((datagram.socket, datagram.remote, bytes.to_vec()));
        }
        batch.clear();
        assert!(failed.is_empty(), "{failed:?}");
        if !more && received.len() + (batch.truncated() as usize) < count {
            io.wait(Some(deadline)).unwrap();
        }
    }
    (received, batch.truncated())
}

fn exchange(pair: &mut Pair, lengths: &[usize]) -> SendReport {
    let mut batch = SendBatch::new();
    let sent: Vec<_> = lengths.iter().enumerate().map(|(n, len)| datagram(n, *len)).collect();
    for bytes in &sent {
        assert!(batch.push(pair.left_socket, pair.right_address, bytes));
    }
    let report = pair.left.send(&mut batch);
    assert!(batch.is_empty());
    let (received, truncated) = receive(&mut pair.right, sent.len());
    let expected: Vec<_> =
        sent.into_iter().map(|bytes| (pair.right_socket, pair.left_address, bytes)).collect();
    assert!(received == expected, "what was received is not what was sent");
    assert_eq!(truncated, 0);
    report
}

#[test]
fn runs_of_equal_size_arrive_whole_and_in_order() {
    for address in LOOPBACKS {
        for config in [UdpConfig::default(), SINGLE] {
            let mut pair = pair(address, config);
            let report = exchange(&mut pair, &[1200; 40]);
            assert_eq!((report.sent, report.dropped), (40, 0));
            if cfg!(target_os = "linux") && pair.left.segments() {
                assert_eq!(report.calls, 1);
                assert_eq!(pair.left.stats().runs_sent, 3);
                assert!(pair.right.stats().runs_received > 0);
            }
            if config == SINGLE {
                assert_eq!(pair.left.stats().runs_sent, 0);
                assert_eq!(pair.right.stats().runs_received, 0);
            }
        }
    }
}

#[test]
fn mixed_sizes_arrive_the_same_with_and_without_offload() {
    let lengths = [100, 100, 60, 1200, 1200, 1, 0, 1400, 1400, 1400, 7, 2048, 2048, 3];
    for address in LOOPBACKS {
        for gso in [Offload::Auto, Offload::Off] {
            for gro in [Offload::Auto, Offload::Off] {
                let config = UdpConfig { gso, gro, ..UdpConfig::default() };
                let report = exchange(&mut pair(address, config), &lengths);
                assert_eq!((report.sent, report.dropped), (lengths.len(), 0));
            }
        }
    }
}

#[test]
fn more_than_one_batch_of_sending_and_of_receiving_arrives_whole() {
    for config in [UdpConfig::default(), SINGLE] {
        let lengths: Vec<usize> = (0..150).map(|n| 100 + n).collect();
        let report = exchange(&mut pair("127.0.0.1:0", config), &lengths);
        assert_eq!((report.sent, report.dropped), (150, 0));
        if cfg!(target_os = "linux") {
            assert_eq!(report.calls, 150usize.div_ceil(SEND_MESSAGES));
        }
    }
}

#[test]
fn a_datagram_that_is_too_long_is_dropped_and_counted() {
    for config in [UdpConfig::default(), SINGLE] {
        let mut pair = pair("127.0.0.1:0", config);
        let mut batch = SendBatch::new();
        for len in [2049, 2048, 9000, 9000, 10] {
            batch.push(pair.left_socket, pair.right_address, &datagram(0, len));
        }
        assert_eq!(pair.left.send(&mut batch).sent, 5);
        let (received, truncated) = receive(&mut pair.right, 5);
        let lengths: Vec<usize> = received.iter().map(|(_, _, bytes)| bytes.len()).collect();
        assert_eq!((lengths, truncated), (vec![2048, 10], 3));
    }
}

#[test]
fn a_slot_that_is_bound_again_has_a_new_generation() {
    let mut pair = pair("127.0.0.1:0", UdpConfig::default());
    let mut batch = SendBatch::new();
    batch.push(pair.left_socket, pair.right_address, b"to the old one");
    pair.left.send(&mut batch);
    pair.right.wait(Some(Instant::now() + Duration::from_secs(10))).unwrap();
    pair.right.close(pair.right_socket);
    pair.right.close(pair.right_socket);
    assert!(!pair.right.receive(&mut ReceiveBatch::new(), &mut Vec::new()));

    let (socket, address) = pair.right.bind(pair.right_address).unwrap();
    assert_eq!(address, pair.right_address);
    assert_eq!((socket.slot, socket.generation), (0, 1));
    batch.push(pair.right_socket, pair.left_address, b"from the old one");
    batch.push(socket, pair.left_address, b"from the new one");
    let report = pair.right.send(&mut batch);
    assert_eq!((report.sent, report.dropped), (1, 1));
    let (received, _) = receive(&mut pair.left, 1);
    let expected = (pair.left_socket, address, b"from the new one".to_vec());
    assert_eq!(received, [expected]);
}

#[test]
fn many_sockets_share_one_poller() {
    let mut io = UdpIo::new(UdpConfig::default()).unwrap();
    let sockets: Vec<_> =
        (0..20).map(|_| io.bind("127.0.0.1:0".parse().unwrap()).unwrap()).collect();
    let mut batch = SendBatch::new();
    for (n, (from, _)) in sockets.iter().enumerate() {
        batch.push(*from, sockets[(n + 1) % 20].1, &[n as u8]);
    }
    assert_eq!(io.send(&mut batch).sent, 20);
    let (mut received, _) = receive(&mut io, 20);
    received.sort();
    let expected: Vec<_> = (0..20)
        .map(|n| (sockets[n].0, sockets[(n + 19) % 20].1, vec![((n + 19) % 20) as u8]))
        .collect();
    assert_eq!(received, expected);
}

#[test]
fn both_families_can_have_the_same_port() {
    let mut io = UdpIo::new(UdpConfig::default()).unwrap();
    let (_, six) = io.bind("[::]:0".parse().unwrap()).unwrap();
    let four = SocketAddr::new([0, 0, 0, 0].into(), six.port());
    assert_eq!(io.bind(four).unwrap().1, four);
    let error = io.bind(four).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let elsewhere = io.bind("192.0.2.1:0".parse().unwrap()).unwrap_err();
    assert_eq!(elsewhere.kind(), io::ErrorKind::AddrNotAvailable);
}

#[test]
fn what_cannot_be_sent_is_dropped_and_the_rest_is_sent() {
    for config in [UdpConfig::default(), SINGLE] {
        let mut pair = pair("127.0.0.1:0", config);
        let mut batch = SendBatch::new();
        let nobody: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        batch.push(pair.left_socket, pair.right_address, b"one");
        for _ in 0..3 {
            // Of the wrong family: not even a run of these goes out.
            batch.push(pair.left_socket, nobody, b"lost");
        }
        batch.push(pair.left_socket, pair.right_address, b"two");
        let report = pair.left.send(&mut batch);
        assert_eq!((report.sent, report.dropped), (2, 3));
        let (received, _) = receive(&mut pair.right, 2);
        assert_eq!((&received[0].2[..], &received[1].2[..]), (&b"one"[..], &b"two"[..]));
    }
}

#[test]
fn a_closed_port_on_the_far_side_does_not_hurt_the_socket() {
    let mut pair = pair("127.0.0.1:0", UdpConfig::default());
    pair.right.close(pair.right_socket);
    let mut batch = SendBatch::new();
    for _ in 0..3 {
        batch.push(pair.left_socket, pair.right_address, b"anyone?");
        pair.left.send(&mut batch);
    }
    let (socket, address) = pair.right.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    batch.push(socket, pair.left_address, b"here");
    pair.right.send(&mut batch);
    let (received, _) = receive(&mut pair.left, 1);
    assert_eq!(received, [(pair.left_socket, address, b"here".to_vec())]);
}

#[test]
fn wake_ups_coalesce_and_are_never_lost() {
    let mut io = UdpIo::new(UdpConfig::default()).unwrap();
    let waker = io.waker();
    let far = || Some(Instant::now() + Duration::from_secs(60));
    let started = Instant::now();
    for _ in 0..1000 {
        waker.wake_by_ref();
    }
    io.wait(far()).unwrap();
    // All of them were that one: the next wait lasts until its deadline.
    let deadline = Instant::now() + Duration::from_millis(20);
    io.wait(Some(deadline)).unwrap();
    assert!(Instant::now() >= deadline);
    let thread = std::thread::spawn(move || {
        for _ in 0..100 {
            waker.wake_by_ref();
            std::thread::yield_now();
        }
    });
    io.wait(far()).unwrap();
    thread.join().unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_set_of_sockets_can_move_to_the_thread_that_will_own_it() {
    let io = UdpIo::new(UdpConfig::default()).unwrap();
    let bound = std::thread::spawn(move || {
        let mut io = io;
        io.bind("127.0.0.1:0".parse().unwrap()).is_ok()
    });
    assert!(bound.join().unwrap());
}

#[test]
fn a_datagram_a_call_works_where_there_is_nothing_better() {
    let [left, right] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap());
    let remote = right.local_addr().unwrap();
    let (mut sender, mut receiver) = (sys_other::Sender::new(32), sys_other::Receiver::new());
    for len in [10, 2048, 2049, 0] {
        let bytes = datagram(1, len);
        let message = sys_other::Message { bytes: &bytes, remote, segment: None, datagrams: 1 };
        assert_eq!(sender.send(&left, &[message, message]).unwrap(), 1);
    }
    let mut arena = vec![0; 6 * MAX_DATAGRAM];
    // Loopback delivers before it returns.
    assert_eq!(receiver.receive(&right, &mut arena, MAX_DATAGRAM, 3).unwrap(), 3);
    let arrived = |receiver: &sys_other::Receiver, index| {
        let arrival = receiver.arrival(index);
        assert_eq!(arrival.remote, Some(left.local_addr().unwrap()));
        (arrival.len, arrival.segment, arrival.truncated)
    };
    assert_eq!(arrived(&receiver, 0), (10, 10, false));
    assert_eq!(arrived(&receiver, 1), (2048, 2048, false));
    assert!(arrived(&receiver, 2).2);
    assert_eq!(arena[..10], datagram(1, 10));
    assert_eq!(receiver.receive(&right, &mut arena, MAX_DATAGRAM, 6).unwrap(), 1);
    assert_eq!(arrived(&receiver, 0), (0, 0, false));
    let empty = receiver.receive(&right, &mut arena, MAX_DATAGRAM, 6).unwrap_err();
    assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn buffers_are_sized_and_a_refusal_is_told_once_and_harms_nobody() {
    let buffers = |bytes| UdpConfig { receive_buffer: bytes, send_buffer: bytes, ..SINGLE };
    // Every system grants that.
    let mut granted_all = pair(LOOPBACKS[0], buffers(64 << 10));
    assert!(!granted_all.left.has_told_of_buffers);
    let sizes = Buffers { receive: 64 << 10, send: 64 << 10 };
    let granted = size_buffers(&open("127.0.0.1:0".parse().unwrap()).unwrap(), sizes);
    assert!(granted.receive >= sizes.receive && granted.send >= sizes.send, "{granted:?}");
    assert_eq!(exchange(&mut granted_all, &[100; 4]).sent, 4);
    // None grants that.
    let mut refused = pair(LOOPBACKS[0], buffers(usize::MAX));
    assert!(refused.left.has_told_of_buffers && refused.right.has_told_of_buffers);
    assert_eq!(exchange(&mut refused, &[100; 4]).sent, 4);
}

#[cfg(target_os = "linux")]
#[test]
fn a_thread_runs_in_real_time_where_that_is_permitted_and_else_as_before() {
    /// Scheduling policy and real-time priority of this thread (proc(5)).
    fn scheduling() -> (u32, u32) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // Behind the name, which may have spaces in it, comes the third field.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let fields: Vec<_> = fields.split_whitespace().collect();
        (fields[41 - 3].parse().unwrap(), fields[40 - 3].parse().unwrap())
    }
    let thread = std::thread::spawn(|| {
        assert_eq!(run_in_real_time(100).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let before = scheduling();
        match run_in_real_time(1) {
            Ok(()) => assert_eq!(scheduling(), (libc::SCHED_FIFO as u32, 1)),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                assert_eq!(scheduling(), before);
            }
        }
    });
    thread.join().unwrap();
}

#[test]
fn a_stream_is_a_socket_among_others_until_it_ends() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let (end, task) = runtime.block_on(crate::open_stream(server, None)).unwrap();
    // Left to itself when the peer closes.
    std::thread::spawn(move || runtime.block_on(task.run()));
    let (mut peer, from) = listener.accept().unwrap();
    let mut io = UdpIo::new(SINGLE).unwrap();
    let (socket, local) = io.adopt(end).unwrap();
    assert_eq!(local, from);
    // A run of channel data goes out message by message, padded.
    let mut batch = SendBatch::new();
    for byte in [1, 2] {
        batch.push(socket, server, &[0x40, 0, 0, 1, byte]);
    }
    assert_eq!(io.send(&mut batch).sent, 2);
    let mut written = [0; 16];
    io::Read::read_exact(&mut peer, &mut written).unwrap();
    assert_eq!(written, [0x40, 0, 0, 1, 1, 0, 0, 0, 0x40, 0, 0, 1, 2, 0, 0, 0]);
    io::Write::write_all(&mut peer, &written).unwrap();
    let (received, _) = receive(&mut io, 2);
    let expected = [1, 2].map(|byte| (socket, server, vec![0x40, 0, 0, 1, byte]));
    assert_eq!(received, expected);
    // The server closes it; whoever has it hears so.
    drop(peer);
    let (mut batch, mut failed) = (ReceiveBatch::new(), Vec::new());
    let deadline = Instant::now() + Duration::from_secs(10);
    io.receive(&mut batch, &mut failed);
    while failed.is_empty() {
        assert!(Instant::now() < deadline, "the stream is gone");
        io.wait(Some(deadline)).unwrap();
        io.receive(&mut batch, &mut failed);
    }
    assert_eq!(failed[0].0, socket);
    assert!(failed[0].1.to_string().contains("closed by the other side"), "{}", failed[0].1);
    io.close(socket);
    assert_eq!(io.streams, [] as [u32; 0]);
}
