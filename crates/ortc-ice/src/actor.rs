use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use actix::fut::{ActorFutureExt, wrap_future};
use actix::{
    Actor, ActorContext, AsyncContext, Context, Handler, MessageResult, Recipient, SpawnHandle,
    WeakRecipient,
};
use ortc_io::{
    Bind, ConnectionId, DatagramReceived, Join, LinkNames, Listen, OpenStream, PublishedName,
    SendControl, Share, SocketCommand, SocketEvent, StreamKind, StreamTls, Tally, now, resolve,
};

use crate::{IceAgent, IceCommand, IceConfig, IceEvent, IceState, IceStats, Output, ReadIceStats};

/// Messages that wait for this actor before `try_send` refuses more.
const MAILBOX: usize = 256;

/// The ICE agent of one connection, as an actor.
///
/// A shell round [`IceAgent`]: it hears [`IceCommand`]s from its owner, [`SocketEvent`]s and
/// STUN datagrams from the socket port, and answers with [`SocketCommand`]s and
/// [`IceEvent`]s. Its creator attaches it to the port
/// ([`SocketCommand::Attach`]) before the first command.
///
/// It stops on [`IceCommand::Close`], and when its owner is gone.
#[derive(Debug)]
pub struct IceActor {
    agent: IceAgent,
    connection: ConnectionId,
    sockets: Recipient<SocketCommand>,
    owner: WeakRecipient<IceEvent>,
    roots: Option<Arc<[Vec<u8>]>>,
    /// What answers the names that hide our addresses.
    names: Option<LinkNames>,
    published: Vec<PublishedName>,
    tally: Tally<IceStats>,
    timer: Option<(Instant, SpawnHandle)>,
    /// Within that of whoever has made it.
    span: tracing::Span,
}

impl IceActor {
    /// Makes the actor of `connection`; it does nothing before its first command.
    pub fn new(
        config: IceConfig,
        connection: ConnectionId,
        sockets: Recipient<SocketCommand>,
        owner: WeakRecipient<IceEvent>,
    ) -> Self {
        let (roots, names) = (config.server_roots.clone(), config.names.clone());
        let tally = config.tally.clone();
        let ConnectionId { slot, generation } = connection;
        let span = tracing::debug_span!("ice", id = format_args!("{slot}.{generation}"));
        Self {
            agent: IceAgent::new(config),
            connection,
            sockets,
            owner,
            roots,
            names,
            published: Vec::new(),
            tally,
            timer: None,
            span,
        }
    }

    /// Hands on what the agent has to say, waits for the time that it names and tells what it has
    /// counted.
    fn drive(&mut self, ctx: &mut Context<Self>) {
        self.put_out(ctx);
        self.tally.set(self.agent.stats());
    }

    fn put_out(&mut self, ctx: &mut Context<Self>) {
        while let Some(output) = self.agent.poll_output() {
            let command = match output {
                Output::Event(event) => {
                    let closed = event == IceEvent::StateChanged(IceState::Closed);
                    match self.owner.upgrade() {
                        Some(owner) => owner.do_send(event),
                        None => return ctx.stop(),
                    }
                    if closed {
                        return ctx.stop();
                    }
                    continue;
                }
                Output::Enumerate => SocketCommand::EnumerateInterfaces(self.connection),
                Output::Bind { token, address } => {
                    SocketCommand::Bind(Bind { connection: self.connection, token, address })
                }
                Output::Join { token, shared, username_frag, fork } => SocketCommand::Join(Join {
                    connection: self.connection,
                    token,
                    shared,
                    username_frag,
                    fork,
                }),
                Output::Share { socket, username_frag } => SocketCommand::Share(Share {
                    connection: self.connection,
                    socket,
                    username_frag,
                }),
                Output::Release(socket) => SocketCommand::ReleaseShared(socket),
                Output::ClaimPeer(peer) => SocketCommand::ClaimPeer(self.connection, peer),
                Output::Resolve { token, host } => {
                    let answer = wrap_future::<_, Self>(resolve(host)).map(
                        move |result, actor: &mut Self, ctx: &mut Context<Self>| {
                            let agent = &mut actor.agent;
                            actor.span.in_scope(|| agent.handle_resolved(now(), token, result));
                            actor.drive(ctx);
                        },
                    );
                    ctx.spawn(answer);
                    continue;
                }
                Output::OpenStream { token, server, tls } => {
                    let tls = tls.map(|name| StreamTls { name, roots: self.roots.clone() });
                    let (connection, kind) = (self.connection, StreamKind::Turn(tls));
                    SocketCommand::OpenStream(OpenStream { connection, token, server, kind })
                }
                Output::OpenPeerStream { token, from, remote } => {
                    SocketCommand::OpenStream(OpenStream {
                        connection: self.connection,
                        token,
                        server: remote,
                        kind: StreamKind::Peer { from },
                    })
                }
                Output::Listen { token, on, credentials } => SocketCommand::Listen(Listen {
                    connection: self.connection,
                    token,
                    on,
                    username_frag: credentials.username_frag,
                    password: credentials.password,
                }),
                Output::StopListening(token) => {
                    SocketCommand::StopListening(self.connection, token)
                }
                Output::PublishName { name, address } => {
                    self.publish(&name, address);
                    continue;
                }
                Output::WithdrawName(name) => {
                    self.published.retain(|published| published.name() != name);
                    continue;
                }
                Output::Unbind(socket) => SocketCommand::Unbind(self.connection, socket),
                Output::Transmit { path, datagram } => SocketCommand::SendControl(SendControl {
                    connection: self.connection,
                    path: Some(path),
                    datagram,
                }),
                Output::Path(update) => SocketCommand::Path(self.connection, update),
                Output::DelegateConsent(delegation) => {
                    SocketCommand::DelegateConsent(self.connection, delegation)
                }
                Output::ReclaimConsent(token) => {
                    SocketCommand::ReclaimConsent(self.connection, token)
                }
            };
            self.sockets.do_send(command);
        }
        self.arm(ctx);
    }

    /// A name that nobody answers for hides its address all the same.
    fn publish(&mut self, name: &str, address: IpAddr) {
        let Some(names) = &self.names else { return };
        match names.publish(name, address) {
            Ok(published) => self.published.push(published),
            Err(error) => tracing::warn!(%error, "names of this host cannot be resolved"),
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let deadline = self.agent.poll_timeout().map(|(at, _)| at);
        if deadline == self.timer.map(|(at, _)| at) {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        self.timer = deadline.map(|at| {
            let handle = ctx.run_later(at.saturating_duration_since(now()), |actor, ctx| {
                actor.timer = None;
                actor.span.in_scope(|| actor.agent.handle_timeout(now()));
                actor.drive(ctx);
            });
            (at, handle)
        });
    }
}

impl Actor for IceActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<IceCommand> for IceActor {
    type Result = ();

    fn handle(&mut self, command: IceCommand, ctx: &mut Self::Context) {
        self.span.in_scope(|| self.agent.handle_command(now(), command));
        self.drive(ctx);
    }
}

impl Handler<SocketEvent> for IceActor {
    type Result = ();

    fn handle(&mut self, event: SocketEvent, ctx: &mut Self::Context) {
        self.span.in_scope(|| self.agent.handle_socket_event(now(), event));
        self.drive(ctx);
    }
}

impl Handler<DatagramReceived> for IceActor {
    type Result = ();

    fn handle(&mut self, received: DatagramReceived, ctx: &mut Self::Context) {
        let DatagramReceived { path, datagram, .. } = received;
        self.span.in_scope(|| self.agent.handle_datagram(now(), path, &datagram));
        self.drive(ctx);
    }
}

impl Handler<ReadIceStats> for IceActor {
    type Result = MessageResult<ReadIceStats>;

    fn handle(&mut self, _: ReadIceStats, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.agent.stats())
    }
}
