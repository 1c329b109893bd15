//! Connections from their making to their end.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ortc_api::{
    Engine, EngineConfig, FrameReceiver, FrameSender, MediaFormat, MediaStream, MediaStreamTrack,
    RTCConnection, RTCConnectionOptions, RTCEvent, RTCEvents, RTCSocket,
};

use crate::{frame, trickle};

/// How long anything may take: far more than it does.
const LIMIT: Duration = Duration::from_secs(30);

/// Where lives take place: an engine for each side of a call, and a server's port on one.
#[derive(Debug)]
pub(super) struct Stage {
    near: Engine,
    far: Engine,
    port: RTCSocket,
    /// Whether addresses vanish under the calls.
    moves: bool,
}

/// Of what the two sides of a life are made.
struct Plan {
    near: RTCConnectionOptions,
    far: RTCConnectionOptions,
    /// Whether addresses vanish under them.
    moves: bool,
}

/// One side of a call.
struct Side {
    conn: RTCConnection,
    events: RTCEvents,
    moves: bool,
}

impl Stage {
    pub(super) async fn begin(moves: bool) -> Result<Self, String> {
        let engine = || Engine::new(EngineConfig::new()).map_err(|error| error.to_string());
        let (near, far) = (engine()?, engine()?);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let port = RTCSocket::bind_on(&far, any).await.map_err(|error| error.to_string())?;
        Ok(Self { near, far, port, moves })
    }

    /// Connections that the engines have now.
    pub(super) async fn open_connections(&self) -> Result<u64, String> {
        let mut open = 0;
        for engine in [&self.near, &self.far] {
            open += engine.stats().await.ok_or("a media thread has died")?.connections;
        }
        Ok(open)
    }

    /// The `n`th life: how many connections it was.
    pub(super) fn life(
        &self,
        n: u64,
    ) -> impl Future<Output = Result<u64, String>> + Send + 'static {
        let options =
            || RTCConnectionOptions::new().with_loopback(true).with_network_changes(self.moves);
        let (moves, near) = (self.moves, options().with_engine(self.near.clone()));
        let far = match n % 2 {
            0 => options().with_engine(self.far.clone()),
            _ => options().with_socket(self.port.clone()),
        };
        let plan = Plan { near, far, moves };
        async move {
            let lived = match n % 9 {
                0 => closed_by_one(&plan).await,
                1 => closed_by_both(&plan).await,
                2 => updated(&plan).await,
                3 => dropped_in_a_call(&plan).await,
                4 => dropped_in_the_handshake(&plan).await,
                5 => closed_before_it_is_connected(&plan).await,
                6 => never_connected(&plan).await,
                _ => forwarded(&plan).await,
            };
            lived.map_err(|error| format!("life {n}: {error}"))
        }
    }
}

/// Two connections that signal each other all they find.
fn pair(plan: &Plan) -> Result<[Side; 2], String> {
    let Plan { near, far, moves } = plan;
    let make = |options: &RTCConnectionOptions| {
        let conn = RTCConnection::new(options.clone()).map_err(|error| error.to_string())?;
        Ok::<_, String>(Side { events: conn.events(), conn, moves: *moves })
    };
    let pair = [make(near)?, make(far)?];
    trickle(&pair[0].conn, &pair[1].conn)?;
    Ok(pair)
}

impl Side {
    async fn until(
        &mut self,
        what: &str,
        matches: impl Fn(&RTCEvent) -> bool,
    ) -> Result<(), String> {
        let wait = async {
            while let Some(event) = self.events.recv().await {
                if matches(&event) {
                    return Ok(());
                }
                // Without a path for a moment is what a network that changes does.
                if let RTCEvent::Disconnected(reason) = event
                    && reason.is_final()
                {
                    return Err(format!("{what}: disconnected, {reason}"));
                }
            }
            Err(format!("{what}: closed"))
        };
        in_time(what, wait).await?
    }

    async fn connected(&mut self) -> Result<(), String> {
        self.until("connected", |event| *event == RTCEvent::Connected).await
    }

    async fn closed(&self) -> Result<(), String> {
        in_time("closed", self.conn.closed()).await
    }

    /// Waits until it has ended because the other side has. Nobody repeats a goodbye: if every path
    /// that is known to work vanishes under it, no path is found again in two seconds where it was
    /// our address, or consent tells in half a minute, and the application hangs up.
    async fn left(&mut self) -> Result<(), String> {
        if !self.moves {
            return self.closed().await;
        }
        let told = async {
            while let Some(event) = self.events.recv().await {
                if matches!(event, RTCEvent::Disconnected(_)) {
                    break;
                }
            }
        };
        in_time_of(2 * LIMIT, "left", told).await?;
        self.conn.close();
        self.closed().await
    }

    /// Sends a stream with a track of Opus.
    fn publish(&self) -> Result<FrameSender, String> {
        let (track, frames) = MediaStreamTrack::local(MediaFormat::Opus);
        let stream = MediaStream::new();
        stream.add_track(&track);
        self.conn.add_stream(&stream, true).map_err(|error| error.to_string())?;
        Ok(frames)
    }

    /// Receives what the other side sends.
    fn receive(&self, from: &Self) -> Result<FrameReceiver, String> {
        let tracks = from.conn.tracks(None);
        let track = tracks.first().ok_or("there is no track")?;
        self.conn.receive_track(&track.description()).map_err(|error| error.to_string())?;
        let streams = self.conn.receiving_streams();
        let received = streams.last().and_then(|stream| stream.tracks().pop());
        received.and_then(|track| track.take_frames()).ok_or_else(|| "no track came".to_owned())
    }
}

async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> Result<T, String> {
    in_time_of(LIMIT, what, wait).await
}

async fn in_time_of<T>(
    limit: Duration,
    what: &str,
    wait: impl Future<Output = T>,
) -> Result<T, String> {
    tokio::time::timeout(limit, wait).await.map_err(|_| format!("not {what} within {limit:?}"))
}

/// A connected pair, the first of which sends audio to the second.
async fn call(plan: &Plan) -> Result<([Side; 2], FrameSender, FrameReceiver), String> {
    let [mut one, mut two] = pair(plan)?;
    one.connected().await?;
    two.connected().await?;
    let source = one.publish()?;
    let heard = two.receive(&one)?;
    Ok(([one, two], source, heard))
}

/// Sends frames until one of them is heard: there is a moment before the first can be.
async fn hear(source: &FrameSender, heard: &mut FrameReceiver, from: u64) -> Result<(), String> {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let sending = async {
        for n in from.. {
            tick.tick().await;
            // Full only as long as nobody takes them.
            let _ = source.send(frame(n));
        }
    };
    let wait = async {
        tokio::select! {
            () = sending => None,
            frame = heard.recv() => frame,
        }
    };
    in_time("heard", wait).await?.map(|_| ()).ok_or_else(|| "the track has ended".to_owned())
}

async fn closed_by_one(plan: &Plan) -> Result<u64, String> {
    let ([one, mut two], source, mut heard) = call(plan).await?;
    hear(&source, &mut heard, 0).await?;
    one.conn.close();
    one.closed().await?;
    two.left().await?;
    Ok(2)
}

async fn closed_by_both(plan: &Plan) -> Result<u64, String> {
    let ([one, two], ..) = call(plan).await?;
    one.conn.close();
    two.conn.close();
    one.conn.close();
    one.closed().await?;
    two.closed().await?;
    Ok(2)
}

/// Gathers anew in the middle of a call.
async fn updated(plan: &Plan) -> Result<u64, String> {
    let ([mut one, two], source, mut heard) = call(plan).await?;
    hear(&source, &mut heard, 0).await?;
    one.conn.update().map_err(|error| error.to_string())?;
    one.until("gathered anew", |event| *event == RTCEvent::EndOfCandidates).await?;
    hear(&source, &mut heard, 10_000).await?;
    two.conn.close();
    one.left().await?;
    two.closed().await?;
    Ok(2)
}

async fn dropped_in_a_call(plan: &Plan) -> Result<u64, String> {
    let ([one, mut two], source, mut heard) = call(plan).await?;
    hear(&source, &mut heard, 0).await?;
    drop(one);
    two.left().await?;
    Ok(2)
}

async fn dropped_in_the_handshake(plan: &Plan) -> Result<u64, String> {
    let [mut one, _two] = pair(plan)?;
    one.until("a path", |event| matches!(event, RTCEvent::ActiveCandidate { .. })).await?;
    Ok(2)
}

async fn closed_before_it_is_connected(plan: &Plan) -> Result<u64, String> {
    let [one, _two] = pair(plan)?;
    one.conn.close();
    one.closed().await?;
    Ok(2)
}

async fn never_connected(plan: &Plan) -> Result<u64, String> {
    let conn = RTCConnection::new(plan.near.clone()).map_err(|error| error.to_string())?;
    let mut side = Side { events: conn.events(), conn, moves: plan.moves };
    side.until("gathered", |event| *event == RTCEvent::EndOfCandidates).await?;
    Ok(1)
}

/// What one peer sends, a server sends on to another.
async fn forwarded(plan: &Plan) -> Result<u64, String> {
    let [mut publisher, mut from] = pair(plan)?;
    let [mut listener, mut to] = pair(plan)?;
    for side in [&mut publisher, &mut from, &mut listener, &mut to] {
        side.connected().await?;
    }
    let source = publisher.publish()?;
    let description = publisher.conn.tracks(None).first().ok_or("no track")?.description();
    from.conn.receive_track(&description).map_err(|error| error.to_string())?;
    let streams = from.conn.receiving_streams();
    let stream = streams.first().ok_or("no stream")?;
    to.conn.add_stream(stream, true).map_err(|error| error.to_string())?;
    let mut heard = listener.receive(&to)?;
    hear(&source, &mut heard, 0).await?;
    // The publisher leaves first, and the room is closed behind it.
    publisher.conn.close();
    from.left().await?;
    to.conn.close();
    listener.left().await?;
    Ok(4)
}
