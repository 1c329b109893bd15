//! Random programs of whole calls hold against a reference; see `ortc_tests::calls`.
//!
//! The faults that are planted here show that the model finds what it is there to find, and how
//! short a program it takes to show it.

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, WeakRecipient};
use ortc_api::{DtlsPorts, DtlsStart, IcePorts, IceStart, RtpStart, Transports};
use ortc_dtls::{DtlsCommand, DtlsEvent};
use ortc_ice::{IceCommand, IceEvent, IceState};
use ortc_io::{DatagramReceived, SocketEvent};
use ortc_rtp::{RtpCommand, RtpEvent};
use ortc_tests::calls::{Program, random_program_holds, run, shrunk};
use ortc_tests::each_seed;

#[test]
fn no_random_program_breaks_a_rule() {
    each_seed("calls", 200, random_program_holds);
}

/// Finds a program that shows the fault, and shrinks it.
fn is_found(rule: &str, faulty: impl Fn(usize) -> Transports + Sync, longest: usize) {
    let found = (0..200).map(Program::random).find_map(|program| {
        let failure = run(&program, &faulty).err()?;
        assert_eq!(failure.rule, rule, "{}: {program:?}", failure.what);
        Some(program)
    });
    let found = found.expect("some program shows the fault");
    let short = shrunk(&found, rule, &faulty);
    let (before, after) = (found.operations.len(), short.operations.len());
    assert!(after <= longest, "{after} operations of {before} are left: {short:?}");
    let again = run(&short, &faulty).expect_err("it fails every time");
    assert_eq!((again.rule, run(&short, &faulty)), (rule, Err(again.clone())));
    // The fault is in what was planted.
    assert_eq!(run(&short, &|_| Transports::new()), Ok(()));
}

/// An actor in between: what it does to commands and events is a function of each.
struct Between<C, E>
where
    C: Message<Result = ()> + Send + 'static,
    E: Message<Result = ()> + Send + 'static,
{
    inner: Recipient<C>,
    owner: WeakRecipient<E>,
    on_command: fn(C, &Recipient<C>, &WeakRecipient<E>),
    on_event: fn(E, &Recipient<C>, &WeakRecipient<E>),
}

impl<C, E> Actor for Between<C, E>
where
    C: Message<Result = ()> + Send + 'static,
    E: Message<Result = ()> + Send + 'static,
{
    type Context = Context<Self>;
}

macro_rules! between {
    ($command:ty, $event:ty) => {
        impl Handler<$command> for Between<$command, $event> {
            type Result = ();

            fn handle(&mut self, command: $command, _: &mut Context<Self>) {
                (self.on_command)(command, &self.inner, &self.owner);
            }
        }

        impl Handler<$event> for Between<$command, $event> {
            type Result = ();

            fn handle(&mut self, event: $event, _: &mut Context<Self>) {
                (self.on_event)(event, &self.inner, &self.owner);
            }
        }
    };
}

between!(IceCommand, IceEvent);
between!(DtlsCommand, DtlsEvent);
between!(RtpCommand, RtpEvent);

fn pass_command<C, E>(command: C, inner: &Recipient<C>, _: &WeakRecipient<E>)
where
    C: Message<Result = ()> + Send + 'static,
    E: Message<Result = ()> + Send + 'static,
{
    inner.do_send(command);
}

fn pass_event<C, E>(event: E, _: &Recipient<C>, owner: &WeakRecipient<E>)
where
    C: Message<Result = ()> + Send + 'static,
    E: Message<Result = ()> + Send + 'static,
{
    if let Some(owner) = owner.upgrade() {
        owner.do_send(event);
    }
}

fn with_ice(
    on_command: fn(IceCommand, &Recipient<IceCommand>, &WeakRecipient<IceEvent>),
    on_event: fn(IceEvent, &Recipient<IceCommand>, &WeakRecipient<IceEvent>),
) -> Transports {
    Transports::new().with_ice_actor(move |mut start: IceStart| {
        let context = Context::new();
        let own = context.address();
        let owner = std::mem::replace(&mut start.owner, own.downgrade().recipient());
        let IcePorts { commands: inner, socket_events, stun } = start.start();
        context.run(Between::<IceCommand, IceEvent> { inner, owner, on_command, on_event });
        let ports: (Recipient<SocketEvent>, Recipient<DatagramReceived>) = (socket_events, stun);
        IcePorts { commands: own.recipient(), socket_events: ports.0, stun: ports.1 }
    })
}

fn with_rtp(
    on_command: fn(RtpCommand, &Recipient<RtpCommand>, &WeakRecipient<RtpEvent>),
) -> Transports {
    Transports::new().with_rtp_actor(move |mut start: RtpStart| {
        let context = Context::new();
        let own = context.address();
        let owner = std::mem::replace(&mut start.owner, own.downgrade().recipient());
        let inner = start.start();
        let on_event = pass_event::<RtpCommand, RtpEvent>;
        context.run(Between::<RtpCommand, RtpEvent> { inner, owner, on_command, on_event });
        own.recipient()
    })
}

#[test]
fn a_candidate_that_takes_part_by_itself_is_found() {
    let eager = |_| {
        with_ice(pass_command, |event, inner, owner| {
            if let IceEvent::CandidateFound(candidate) = &event {
                inner.do_send(IceCommand::SetLocalCandidate(candidate.clone()));
            }
            pass_event(event, inner, owner);
        })
    };
    let rule = "what is not set, not connecting or closed sends nothing";
    is_found(rule, eager, 8);
}

#[test]
fn a_path_that_flaps_is_found() {
    let flapping = |_| {
        with_ice(pass_command, |event, inner, owner| {
            let is_connected = event == IceEvent::StateChanged(IceState::Connected);
            pass_event(event, inner, owner);
            if is_connected {
                for state in [IceState::Disconnected, IceState::Connected] {
                    pass_event(IceEvent::StateChanged(state), inner, owner);
                }
            }
        })
    };
    // Where the handshake is still to come, nobody hears of it.
    is_found("a calm network loses no path", flapping, 14);
}

#[test]
fn a_close_that_nobody_hears_is_found() {
    let silent = |_| {
        Transports::new().with_dtls_actor(|mut start: DtlsStart| {
            let context = Context::new();
            let own = context.address();
            let owner = std::mem::replace(&mut start.owner, own.downgrade().recipient());
            let DtlsPorts { commands: inner, datagrams } = start.start();
            context.run(Between::<DtlsCommand, DtlsEvent> {
                inner,
                owner,
                on_command: |command, inner, owner| match command {
                    DtlsCommand::Close => pass_event(DtlsEvent::Stopped(Ok(())), inner, owner),
                    other => pass_command(other, inner, owner),
                },
                on_event: pass_event,
            });
            DtlsPorts { commands: own.recipient(), datagrams }
        })
    };
    is_found("a close is heard", silent, 6);
}

#[test]
fn a_track_that_cannot_be_stopped_is_found() {
    let deaf = |_| {
        with_rtp(|command, inner, owner| {
            if !matches!(command, RtpCommand::EnableSender(_, false)) {
                pass_command(command, inner, owner);
            }
        })
    };
    is_found("a track that is stopped is silent", deaf, 14);
}

#[test]
fn an_actor_that_nobody_ends_is_found() {
    struct Forgotten;

    impl Actor for Forgotten {
        type Context = Context<Self>;

        fn started(&mut self, context: &mut Context<Self>) {
            // Its own timer keeps it.
            context.run_interval(std::time::Duration::from_secs(5), |_, _| {});
            let own = context.address();
            context.run_interval(std::time::Duration::from_secs(5), move |_, _| {
                let _ = own.connected();
            });
        }
    }

    let leaking = |_| {
        Transports::new().with_rtp_actor(|start: RtpStart| {
            Forgotten.start();
            start.start()
        })
    };
    is_found("no task is left", leaking, 1);
}
