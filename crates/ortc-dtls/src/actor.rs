use actix::{
    Actor, ActorContext, AsyncContext, Context, Handler, Recipient, Running, SpawnHandle,
    WeakRecipient,
};
use std::time::Instant;

use ortc_io::{ConnectionId, DatagramReceived, SendControl, SocketCommand, Tally, now};
use tracing::{debug, warn};

use crate::{Certificate, DtlsCommand, DtlsConfig, DtlsEndpoint, DtlsEvent, DtlsOutput, DtlsStats};

/// Messages that may wait; a full mailbox is a dropped datagram, counted by the sender.
const MAILBOX_CAPACITY: usize = 256;

/// The shell round a [`DtlsEndpoint`]: takes [`DtlsCommand`]s and [`DatagramReceived`], sends
/// over the connection's selected path, tells its owner [`DtlsEvent`]s.
///
/// It stops after [`DtlsEvent::Stopped`], and, with a close_notify, when its owner or every
/// address of it is gone. That is said on every path that works, as nobody answers it.
pub struct DtlsActor {
    endpoint: DtlsEndpoint,
    connection: ConnectionId,
    sockets: Recipient<SocketCommand>,
    owner: WeakRecipient<DtlsEvent>,
    tally: Tally<DtlsStats>,
    /// Whether all that is left to say is goodbye.
    is_closing: bool,
    timer: Option<(Instant, SpawnHandle)>,
    /// Within that of whoever has made it.
    span: tracing::Span,
}

impl DtlsActor {
    /// Makes an actor that waits for [`DtlsCommand::Start`].
    pub fn new(
        config: DtlsConfig,
        certificate: Certificate,
        connection: ConnectionId,
        sockets: Recipient<SocketCommand>,
        owner: WeakRecipient<DtlsEvent>,
    ) -> Self {
        let tally = config.tally.clone();
        let endpoint = DtlsEndpoint::new(config, certificate, now());
        let ConnectionId { slot, generation } = connection;
        let span = tracing::debug_span!("dtls", id = format_args!("{slot}.{generation}"));
        let (is_closing, timer) = (false, None);
        Self { endpoint, connection, sockets, owner, tally, is_closing, timer, span }
    }

    /// Carries out what the endpoint wants, then arms the timer and tells what it has counted.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                DtlsOutput::Transmit(datagram) => self.transmit(datagram),
                DtlsOutput::Connected { keys, certificate, version } => {
                    self.report(DtlsEvent::Connected { keys, certificate, version }, ctx);
                }
                DtlsOutput::ApplicationData(data) => {
                    self.report(DtlsEvent::ApplicationData(data), ctx);
                }
                DtlsOutput::Stopped(result) => {
                    self.report(DtlsEvent::Stopped(result), ctx);
                    ctx.stop();
                }
            }
        }
        self.arm(ctx);
        self.tally.set(self.endpoint.stats());
    }

    fn transmit(&self, datagram: bytes::Bytes) {
        let connection = self.connection;
        self.sockets.do_send(match self.is_closing {
            true => SocketCommand::SendEverywhere(connection, datagram),
            false => SocketCommand::SendControl(SendControl { connection, path: None, datagram }),
        });
    }

    fn report(&self, event: DtlsEvent, ctx: &mut Context<Self>) {
        match self.owner.upgrade() {
            Some(owner) => owner.do_send(event),
            None => ctx.stop(),
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let due = self.endpoint.poll_timeout().map(|(at, _)| at);
        if due == self.timer.as_ref().map(|(at, _)| *at) {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        self.timer = due.map(|at| {
            let delay = at.saturating_duration_since(now());
            let handle = ctx.run_later(delay, |this, ctx| {
                this.timer = None;
                let _within = this.span.clone().entered();
                this.endpoint.handle_timeout(now());
                this.settle(ctx);
            });
            (at, handle)
        });
    }
}

impl Actor for DtlsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        let _within = self.span.clone().entered();
        self.is_closing = true;
        self.endpoint.close(now());
        while let Some(output) = self.endpoint.poll_output() {
            if let DtlsOutput::Transmit(datagram) = output {
                self.transmit(datagram);
            }
        }
        debug!(connection = ?self.connection, stats = ?self.endpoint.stats(), "DTLS is over");
        Running::Stop
    }
}

impl Handler<DtlsCommand> for DtlsActor {
    type Result = ();

    fn handle(&mut self, command: DtlsCommand, ctx: &mut Self::Context) {
        let _within = self.span.clone().entered();
        let refused = match command {
            DtlsCommand::Start { role, expected_sha256 } => {
                self.endpoint.start(role, expected_sha256, now()).err()
            }
            DtlsCommand::SendApplicationData(data) => {
                self.endpoint.send_application_data(now(), &data).err()
            }
            DtlsCommand::RoundTrip(round_trip) => {
                self.endpoint.set_round_trip(round_trip);
                None
            }
            DtlsCommand::PathLost => {
                self.endpoint.path_lost(now());
                None
            }
            DtlsCommand::PathFound => {
                self.endpoint.path_found(now());
                None
            }
            DtlsCommand::Close => {
                self.is_closing = true;
                self.endpoint.close(now());
                None
            }
        };
        if let Some(error) = refused {
            warn!(connection = ?self.connection, %error, "a DTLS command was refused");
        }
        self.settle(ctx);
    }
}

impl Handler<DatagramReceived> for DtlsActor {
    type Result = ();

    fn handle(&mut self, message: DatagramReceived, ctx: &mut Self::Context) {
        if message.connection != self.connection {
            return;
        }
        let _within = self.span.clone().entered();
        self.endpoint.handle_datagram(now(), &message.datagram);
        self.settle(ctx);
    }
}
