//! The drafts' own example ("Simple Peer-to-peer Example", 9.1), statement by statement, over
//! a signalling channel of JSON text, with nothing but what the drafts signal.

use std::cell::Cell;
use std::time::Duration;

use ortc_api::{
    Engine, FrameSender, MediaFormat, MediaFrame, MediaStream, MediaStreamTrack, RTCConnection,
    RTCConnectionOptions, RTCEvent, RTCEvents, RTCIceServer, TrackKind,
};
use ortc_io::sim::{self, Host, Network};
use ortc_media::{ColourBars, Law, Tone};
use serde_json::{Value, from_str, from_value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const SOON: Duration = Duration::from_secs(20);

/// A camera and a microphone.
struct UserMedia {
    stream: MediaStream,
    sound: (Tone, FrameSender),
    pictures: (ColourBars, FrameSender),
}

impl UserMedia {
    fn get() -> Self {
        let stream = MediaStream::new();
        let (microphone, sound) = MediaStreamTrack::local(MediaFormat::Ulaw);
        let (camera, pictures) = MediaStreamTrack::local(MediaFormat::Vp8);
        stream.add_track(&microphone);
        stream.add_track(&camera);
        let (tone, bars) = (Tone::new(Law::Ulaw, 440.0, -12.0), ColourBars::new(320, 180, 50));
        Self { stream, sound: (tone, sound), pictures: (bars, pictures) }
    }

    /// Plays 20 ms.
    fn play(&mut self) {
        let frame = self.sound.0.frame();
        let frame = MediaFrame { data: frame.data, timestamp: frame.timestamp };
        self.sound.1.send(frame).unwrap();
        let frame = self.pictures.0.frame();
        let frame = MediaFrame { data: frame.data, timestamp: frame.timestamp };
        self.pictures.1.send(frame).unwrap();
    }
}

/// One page that runs the example.
struct Page {
    engine: Engine,
    signalling: UnboundedSender<String>,
    conn: Option<RTCConnection>,
    events: Option<RTCEvents>,
    media: Option<UserMedia>,
    /// Tells of each frame that the remote view shows.
    shown: UnboundedSender<TrackKind>,
}

impl Page {
    fn new(host: &Host, seed: u64, signalling: UnboundedSender<String>) -> (Self, Views) {
        let (shown, views) = unbounded_channel();
        let engine = Engine::simulated(host.io(), seed);
        (Self { engine, signalling, conn: None, events: None, media: None, shown }, views)
    }

    fn send(&self, message: &Value) {
        self.signalling.send(message.to_string()).unwrap();
    }

    // call start() to initiate
    fn start(&mut self) -> RTCConnection {
        let servers: Vec<RTCIceServer> =
            from_value(json!([{ "url": "stun:stun.example.org" }])).unwrap();
        let options =
            RTCConnectionOptions::new().with_engine(self.engine.clone()).with_ice_servers(servers);
        let conn = RTCConnection::new(options).unwrap();

        // send my ICE information to the other peer
        self.send(&json!({ "iceInfo": {
            "usernameFrag": conn.local().ice.username_frag,
            "password": conn.local().ice.password,
        }}));

        // apply any local ICE candidate and send it to the remote
        let signalling = self.signalling.clone();
        conn.on_candidate(Some(move |conn: &RTCConnection, candidate| {
            conn.set_local_candidate(&candidate).unwrap();
            let _ = signalling.send(json!({ "candidate": candidate }).to_string());
        }));

        // once remote stream arrives, show it in the remote video element
        let shown = self.shown.clone();
        conn.on_add_stream(Some(move |_: &RTCConnection, stream: MediaStream| {
            for track in stream.tracks() {
                show(&track, &shown);
            }
        }));
        self.events = Some(conn.events());
        self.conn = Some(conn.clone());
        conn
    }

    // get a local stream, show it in a self-view and add it to be sent
    fn got_user_media(&mut self) {
        let media = UserMedia::get();
        let conn = self.conn.clone().unwrap();
        conn.add_stream(&media.stream, None).unwrap();
        // send tracks description to the peer
        let tracks = conn.tracks(None);
        assert_eq!(tracks.len(), 2, "before the connection is connected");
        for track in tracks {
            self.send(&json!({ "track": track.description() }));
        }
        self.media = Some(media);
    }

    // signalingChannel.onmessage
    fn on_message(&mut self, data: &str) {
        let conn = match &self.conn {
            Some(conn) => conn.clone(),
            None => self.start(),
        };
        let mut message: Value = from_str(data).unwrap();
        if message["iceInfo"].is_object() {
            conn.set_remote_ice(from_value(message["iceInfo"].take()).unwrap()).unwrap();
            conn.connect().unwrap();
        }
        if message["candidate"].is_object() {
            let candidate = from_value(message["candidate"].take()).unwrap();
            conn.set_remote_candidate(&candidate).unwrap();
        }
        if message["track"].is_object() {
            // addstream comes with the first of them; the second is in the same stream.
            let track = conn.receive_track(&from_value(message["track"].take()).unwrap()).unwrap();
            show(&track, &self.shown);
        }
    }
}

type Inbox = UnboundedReceiver<String>;
type Views = UnboundedReceiver<TrackKind>;

/// A video element: tells of each frame. The first to show a track has it.
fn show(track: &MediaStreamTrack, shown: &UnboundedSender<TrackKind>) {
    let Some(mut frames) = track.take_frames() else { return };
    let (kind, shown) = (track.kind(), shown.clone());
    tokio::spawn(async move {
        while frames.recv().await.is_some() {
            let _ = shown.send(kind);
        }
    });
}

/// Runs a page until it and its peer have been shown ten frames of both kinds.
async fn run(page: &mut Page, views: &mut Views, inbox: &mut Inbox, ready: &Cell<usize>) {
    // getUserMedia asks its user: it answers later than the first messages.
    let mut user = Box::pin(tokio::time::sleep(Duration::from_millis(300)));
    let mut counts = [0, 0];
    let mut counted = false;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while ready.get() < 2 {
        tokio::select! {
            message = inbox.recv() => page.on_message(&message.expect("the peer is there")),
            () = &mut user, if page.conn.is_some() && page.media.is_none() => page.got_user_media(),
            kind = views.recv() => counts[usize::from(kind == Some(TrackKind::Video))] += 1,
            _ = tick.tick() => if let Some(media) = &mut page.media { media.play() },
        }
        if !counted && counts.iter().all(|count| *count >= 10) {
            counted = true;
            ready.set(ready.get() + 1);
        }
    }
}

fn hosts(net: &Network) -> [Host; 2] {
    [("alice", 1), ("bob", 2)].map(|(name, n)| net.host(name, &[[10, 0, 0, n].into()]))
}

#[test]
fn the_drafts_example_is_a_call_with_sound_and_pictures() {
    sim::run(1, |net| async move {
        let [a, b] = hosts(&net);
        let (to_bob, mut from_alice) = unbounded_channel();
        let (to_alice, mut from_bob) = unbounded_channel();
        let (mut alice, mut alice_views) = Page::new(&a, net.random(), to_bob);
        let (mut bob, mut bob_views) = Page::new(&b, net.random(), to_alice);
        let ready = Cell::new(0);
        // Only one of them calls start(): the other does by the first message.
        alice.start();
        let call = async {
            tokio::join!(
                run(&mut alice, &mut alice_views, &mut from_bob, &ready),
                run(&mut bob, &mut bob_views, &mut from_alice, &ready),
            )
        };
        tokio::time::timeout(SOON, call).await.expect("both see and hear each other");
    });
}

#[test]
fn credentials_can_be_read_in_the_statement_after_the_constructor() {
    sim::run(2, |net| async move {
        let [a, _] = hosts(&net);
        let engine = Engine::simulated(a.io(), 1);
        let conn = RTCConnection::new(RTCConnectionOptions::new().with_engine(engine)).unwrap();
        // No await in between: nothing else can have run.
        let ice = conn.local().ice;
        assert_eq!((ice.username_frag.len(), ice.password.len()), (8, 67));
        assert_eq!(conn.local().ice, ice);
    });
}

/// All orders of `count` things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let shorter = orders(last);
    let insert = |order: &Vec<usize>, at| {
        let mut order = order.clone();
        order.insert(at, last);
        order
    };
    shorter.iter().flat_map(|order| (0..=last).map(move |at| insert(order, at))).collect()
}

#[test]
fn the_messages_may_come_in_any_order_and_before_the_local_stream() {
    let orders = orders(4);
    assert_eq!(orders.len(), 24);
    for (seed, order) in orders.into_iter().enumerate() {
        sim::run(seed as u64, |net| async move {
            let (to_bob, mut from_alice) = unbounded_channel();
            let (to_alice, mut from_bob) = unbounded_channel();
            let [a, b] = hosts(&net);
            let (mut alice, mut alice_views) = Page::new(&a, net.random(), to_bob);
            let (mut bob, mut bob_views) = Page::new(&b, net.random(), to_alice);
            alice.start();
            alice.got_user_media();
            let messages = four(&mut from_alice).await;
            // Bob has nothing of his own when Alice's messages come, in this order.
            for n in &order {
                bob.on_message(&messages[*n]);
            }
            bob.got_user_media();
            let messages = four(&mut from_bob).await;
            for n in order.iter().rev() {
                alice.on_message(&messages[*n]);
            }
            let ready = Cell::new(0);
            let call = async {
                tokio::join!(
                    run(&mut alice, &mut alice_views, &mut from_bob, &ready),
                    run(&mut bob, &mut bob_views, &mut from_alice, &ready),
                )
            };
            let shown = tokio::time::timeout(SOON, call).await;
            assert!(shown.is_ok(), "{order:?}: {messages:?}");
        });
    }
}

/// The iceInfo, the candidate and the two tracks of a page.
async fn four(inbox: &mut Inbox) -> Vec<String> {
    let mut messages = Vec::new();
    while messages.len() < 4 {
        messages.push(tokio::time::timeout(SOON, inbox.recv()).await.unwrap().unwrap());
    }
    messages
}

#[test]
fn username_fragment_and_password_are_enough_for_a_verified_connection() {
    sim::run(3, |net| async move {
        let (to_bob, mut from_alice) = unbounded_channel();
        let (to_alice, mut from_bob) = unbounded_channel();
        let [a, b] = hosts(&net);
        let (mut alice, _alice_views) = Page::new(&a, net.random(), to_bob);
        let (mut bob, _bob_views) = Page::new(&b, net.random(), to_alice);
        alice.start();
        alice.got_user_media();
        for message in four(&mut from_alice).await {
            bob.on_message(&message);
        }
        bob.got_user_media();
        for message in four(&mut from_bob).await {
            alice.on_message(&message);
        }
        let mut events = alice.events.take().unwrap();
        let connected =
            async { while events.recv().await.expect("open") != RTCEvent::Connected {} };
        tokio::time::timeout(SOON, connected).await.unwrap();
        let (alice, bob) = (alice.conn.unwrap(), bob.conn.unwrap());
        let remote = alice.remote().unwrap();
        assert_eq!(remote.ice.fingerprint, None, "nothing of ours was signalled");
        assert_eq!(remote.dtls, bob.local().dtls);
        // And it was verified: with a password that names another certificate, it is refused.
        let mut other = bob.local().ice;
        other.fingerprint = None;
        let flip = if other.password.ends_with('A') { "B" } else { "A" };
        other.password.replace_range(66.., flip);
        assert!(alice.set_remote_ice(other).is_err());
    });
}
