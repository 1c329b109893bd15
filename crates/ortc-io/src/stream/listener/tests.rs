use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::consent::stun::{Asking, MAX_MESSAGE, request, seal};
use crate::{DatagramIo, Encapsulation, ReceiveBatch, UdpConfig, UdpIo, now};

const PASSWORD: &str = "a password of 22 characters";

fn check_of(username: &str, password: &str) -> Vec<u8> {
    let asking = Asking { username, controlling: true, tie_breaker: 7, priority: 9 };
    let (mut out, plain) = ([0; MAX_MESSAGE], request(asking));
    out[..plain.len()].copy_from_slice(&plain);
    let len = seal(plain.len(), &[5; 12], &integrity_key(password), &mut out);
    out[..len].to_vec()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

fn listener() -> (StreamListener, Listening, UnboundedReceiver<AcceptedStream>) {
    let listener = StreamListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (taken, streams) = unbounded_channel();
    let taker = move |stream| taken.send(stream).unwrap();
    let listening = listener.listen("ours", PASSWORD, taker).unwrap();
    (listener, listening, streams)
}

/// Sends something first, and waits until the other side has closed.
async fn try_in_vain(listener: &StreamListener, first: &[u8]) {
    let mut stream = TcpStream::connect(listener.local()).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream.shutdown().await.unwrap();
    // Closed with bytes unread, it is reset.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn a_stream_is_taken_with_a_right_check_and_what_follows_it() {
    let (listener, _listening, mut streams) = listener();
    let mut peer = TcpStream::connect(listener.local()).await.unwrap();
    let check = check_of("ours:theirs", PASSWORD);
    let whole = [framed(&check), framed(b"\x16 more")].concat();
    // In pieces, the first of which is half a length.
    for piece in [&whole[..1], &whole[1..30], &whole[30..]] {
        peer.write_all(piece).await.unwrap();
    }
    let mut stream = streams.recv().await.unwrap();
    assert_eq!((stream.local, stream.remote), (listener.local(), peer.local_addr().unwrap()));
    tokio::spawn(stream.task.run());
    let mut received = Vec::new();
    while received.len() < 2 {
        match stream.end.receive().unwrap() {
            Some(message) => received.push(message),
            None => tokio::task::yield_now().await,
        }
    }
    assert_eq!(received, [&check[..], b"\x16 more"]);
    assert!(!stream.end.send(b"without a frame") && stream.end.send(&framed(b"answer")));
    drop(stream.end);
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, framed(b"answer"));
    assert_eq!(listener.stats(), ListenerStats { accepted: 1, taken: 1, ..Default::default() });
}

#[tokio::test]
async fn a_stream_that_was_taken_may_send_anything_and_costs_what_datagrams_do() {
    let (listener, _listening, mut streams) = listener();
    let mut peer = TcpStream::connect(listener.local()).await.unwrap();
    let check = check_of("ours:theirs", PASSWORD);
    // Among them one that is longer than any datagram, and in the end half of one.
    let frames =
        [&framed(&check)[..], &framed(&[7; 2049]), &framed(b""), &framed(b"after"), &[0, 9]];
    peer.write_all(&frames.concat()).await.unwrap();
    let stream = streams.recv().await.unwrap();
    tokio::spawn(stream.task.run());
    let mut io = UdpIo::new(UdpConfig::default()).unwrap();
    let (socket, _) = io.adopt(stream.end).unwrap();
    let (mut batch, mut failed, mut received) = (ReceiveBatch::new(), Vec::new(), Vec::new());
    while received.len() < 2 {
        io.receive(&mut batch, &mut failed);
        for index in 0..batch.len() {
            assert_eq!(batch.unwrap(index).encapsulation, Encapsulation::Rfc4571);
            received.push(batch.get(index).to_vec());
        }
        batch.clear();
        tokio::task::yield_now().await;
        io.wait(Some(now())).unwrap();
    }
    assert_eq!(received, [&check[..], b"after"]);
    assert_eq!((batch.truncated(), failed.len()), (1, 0));
    drop(peer);
    while failed.is_empty() {
        tokio::task::yield_now().await;
        io.wait(Some(now())).unwrap();
        io.receive(&mut batch, &mut failed);
    }
    assert_eq!((failed[0].0, batch.len()), (socket, 0));
}

#[tokio::test]
async fn what_is_no_right_check_is_closed_and_counted() {
    let (listener, listening, mut streams) = listener();
    let check = check_of("ours:theirs", PASSWORD);
    let mut response = check.clone();
    response[0] = 1;
    let mut changed = check.clone();
    changed[30] ^= 1;
    for malformed in [
        &b""[..],
        b"\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        &framed(b""),
        &framed(&[0; 1025])[..2],
        &framed(&check[..40]),
        &framed(&check)[..80],
        &framed(&response),
        &check,
        &framed(&check_of("ours", PASSWORD)),
    ] {
        try_in_vain(&listener, malformed).await;
    }
    try_in_vain(&listener, &framed(&check_of("others:theirs", PASSWORD))).await;
    try_in_vain(&listener, &framed(&check_of("ours:theirs", "another password"))).await;
    // Nobody listens any more.
    drop(listening);
    try_in_vain(&listener, &framed(&check)).await;
    let expected = ListenerStats {
        accepted: 13,
        malformed: 10,
        unknown_username: 2,
        bad_integrity: 1,
        ..ListenerStats::default()
    };
    assert_eq!(listener.stats(), expected);
    assert!(streams.recv().await.is_none(), "none was taken, and the taker is dropped");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_has_five_seconds() {
    let (listener, _listening, _streams) = listener();
    let mut peer = TcpStream::connect(listener.local()).await.unwrap();
    let begun = tokio::time::Instant::now();
    // One byte each second does not help.
    let mut ended = false;
    for byte in framed(&check_of("ours:theirs", PASSWORD)) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ended |= peer.write_all(&[byte]).await.is_err();
        if listener.stats().timed_out > 0 {
            break;
        }
    }
    assert!(ended || peer.read(&mut [0; 8]).await.is_ok_and(|read| read == 0));
    assert_eq!(listener.stats().timed_out, 1);
    assert!(begun.elapsed() <= Duration::from_secs(7), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_oldest_who_says_nothing_gives_way() {
    let (listener, _listening, mut streams) = listener();
    let mut silent = Vec::new();
    for _ in 0..MAX_WAITING_OF_ONE {
        silent.push(TcpStream::connect(listener.local()).await.unwrap());
    }
    let mut honest = TcpStream::connect(listener.local()).await.unwrap();
    assert_eq!(silent[0].read(&mut [0; 8]).await.unwrap_or(0), 0, "the first is closed");
    honest.write_all(&framed(&check_of("ours:theirs", PASSWORD))).await.unwrap();
    assert!(streams.recv().await.is_some());
    let stats = listener.stats();
    assert_eq!((stats.accepted, stats.displaced, stats.taken), (9, 1, 1));
}

#[test]
fn the_number_of_those_who_wait_is_bounded() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut waiting, mut displaced, mut tasks) = (Waiting::default(), 0, JoinSet::new());
    for n in 0..1_000_u16 {
        let ip = IpAddr::from([192, 0, (n >> 8) as u8, n as u8]);
        displaced += usize::from(waiting.make_room(ip));
        let task = tasks.spawn_on(std::future::pending::<()>(), runtime.handle());
        waiting.0.push_back((task.id(), ip, task));
    }
    assert_eq!((waiting.0.len(), displaced), (MAX_WAITING, 1_000 - MAX_WAITING));
}

#[tokio::test]
async fn a_port_is_closed_with_its_last_handle() {
    let (listener, listening, streams) = listener();
    let local = listener.local();
    assert!(listener.listen("ours", PASSWORD, |_| {}).is_none(), "somebody has that name");
    drop((listener, streams));
    assert!(TcpStream::connect(local).await.is_ok());
    drop(listening);
    while TcpStream::connect(local).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
