use super::*;

fn address(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

fn ends() -> Ends {
    Ends { carrier: Carrier::Outgoing, local: address(9), remote: address(5000) }
}

fn socket(slot: u32) -> SocketId {
    SocketId { slot, generation: 0 }
}

#[test]
fn the_latest_check_waits_for_its_stream() {
    let (mut streams, now) = (Streams::default(), Instant::now());
    let Wanted::Open { token } = streams.want(now, ends(), Bytes::from_static(b"1")) else {
        panic!("the first check opens a stream");
    };
    assert_eq!(streams.want(now, ends(), Bytes::from_static(b"2")), Wanted::Nothing);
    assert_eq!(streams.path_between(ends()), None);
    let opened = streams.opened(now, token, socket(3));
    assert_eq!(opened, Some((ends(), Bytes::from_static(b"2"))));
    assert_eq!(streams.opened(now, token, socket(4)), None, "once");
    let path = streams.path_between(ends()).unwrap();
    let encapsulation = Encapsulation::Rfc4571;
    assert_eq!(path, Path { socket: socket(3), remote: address(5000), encapsulation });
    assert_eq!(streams.ends(socket(3)), Some(ends()));
}

#[test]
fn streams_are_opened_again_later_each_time() {
    let (mut streams, mut now) = (Streams::default(), Instant::now());
    let mut waits = Vec::new();
    for _ in 0..9 {
        let Wanted::Open { token } = streams.want(now, ends(), Bytes::new()) else {
            panic!("its time has come");
        };
        assert!(streams.open_failed(now, token) && !streams.open_failed(now, token));
        let begun = now;
        while let State::Closed { retry_at } = streams.outgoing[0].state
            && retry_at > now
        {
            assert_eq!(streams.want(now, ends(), Bytes::new()), Wanted::Nothing);
            now = retry_at;
        }
        waits.push((now - begun).as_millis());
    }
    assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16_000, 16_000, 16_000]);
    // One that was of use begins anew.
    let Wanted::Open { token } = streams.want(now, ends(), Bytes::new()) else { panic!() };
    streams.opened(now, token, socket(1)).unwrap();
    streams.ended(now, socket(1), true).unwrap();
    assert!(matches!(streams.want(now, ends(), Bytes::new()), Wanted::Open { .. }));
}

#[test]
fn the_number_of_streams_is_bounded_each_way() {
    let (mut streams, now) = (Streams::default(), Instant::now());
    for port in 0..MAX_OUTGOING as u16 {
        let ends = Ends { remote: address(port + 1), ..ends() };
        assert!(matches!(streams.want(now, ends, Bytes::new()), Wanted::Open { .. }));
    }
    assert_eq!(streams.want(now, ends(), Bytes::new()), Wanted::TooMany);
    let kept = |id: SocketId| id == socket(100);
    for n in 0..MAX_INCOMING as u32 {
        let at = now + Duration::from_millis(n.into());
        let taken = streams.accepted(at, socket(100 + n), (address(1), address(2)), kept);
        assert_eq!(taken, Some(None));
    }
    let taken = streams.accepted(now, socket(200), (address(1), address(3)), kept);
    let Some(Some(gone)) = taken else { panic!("another makes room") };
    assert_eq!((gone.socket, gone.ends.remote), (socket(101), "240.0.0.1:2".parse().unwrap()));
    let path = streams.path_between(gone.ends).unwrap();
    assert_eq!((path.socket, path.remote), (socket(200), address(3)), "the place has another");
    assert_eq!(streams.accepted(now, socket(201), (address(1), address(4)), |_| true), None);
}

#[test]
fn a_stream_of_no_use_has_fifteen_seconds() {
    let (mut streams, now) = (Streams::default(), Instant::now());
    streams.accepted(now, socket(1), (address(1), address(2)), |_| false);
    streams.accepted(now, socket(2), (address(1), address(3)), |_| false);
    let is_used = |id: SocketId| id == socket(1);
    assert_eq!(streams.next_idle(is_used), Some(now + IDLE));
    assert_eq!(streams.idle(now + IDLE / 2, is_used), []);
    assert_eq!(streams.idle(now + IDLE, is_used), [socket(2)]);
    let closed = streams.forget(|ends| ends.local == address(1));
    assert_eq!((closed, streams.next_idle(|_| false)), (vec![socket(1), socket(2)], None));
}
