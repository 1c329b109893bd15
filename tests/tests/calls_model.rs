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
use ortc_tests::calls::{Census, Program, random_program_holds, run, shrunk};
use ortc_tests::each_seed;

#[test]
fn no_random_program_breaks_a_rule() {
    each_seed("calls", 200, random_program_holds);
}

/// Finds a program that shows the fault by one of these rules, and shrinks it.
fn is_found(rules: &[&str], longest: usize, faulty: impl Fn(&Census) -> Transports + Sync) {
    let found = (0..200).map(Program::random).find_map(|program| {
        let failure = run(&program, &faulty).err()?;
        assert!(rules.contains(&failure.rule), "{failure:?}: {program:?}");
        Some((program, failure.rule))
    });
    let (found, rule) = found.expect("some program shows the fault");
    let short = shrunk(&found, rule, &faulty);
    let (before, after) = (found.operations.len(), short.operations.len());
    assert!(after <= longest, "{after} operations of {before} are left: {short:?}");
    let again = run(&short, &faulty).expect_err("it fails every time");
    assert_eq!((again.rule, run(&short, &faulty)), (rule, Err(again.clone())));
    // The fault is in what was planted.
    assert_eq!(run(&short, &Census::transports), Ok(()));
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
    let rules =
        ["what is not set, not connecting or closed sends nothing", "what is active was set"];
    is_found(&rules, 10, |_| {
        with_ice(pass_command, |event, inner, owner| {
            if let IceEvent::CandidateFound(candidate) = &event {
                inner.do_send(IceCommand::SetLocalCandidate(candidate.clone()));
            }
            pass_event(event, inner, owner);
        })
    });
}

#[test]
fn a_path_that_is_lost_for_a_moment_is_found() {
    is_found(&["a calm network loses no path"], 14, |_| {
        let on_command =
            |command, inner: &Recipient<IceCommand>, owner: &WeakRecipient<IceEvent>| {
                if command == IceCommand::Update {
                    for state in [IceState::Disconnected, IceState::Connected] {
                        pass_event(IceEvent::StateChanged(state), inner, owner);
                    }
                }
                pass_command(command, inner, owner);
            };
        with_ice(on_command, pass_event)
    });
}

#[test]
fn a_close_that_nobody_hears_is_found() {
    is_found(&["a close is heard"], 6, |_| {
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
    });
}

#[test]
fn a_track_that_cannot_be_stopped_is_found() {
    is_found(&["a track that is stopped is silent"], 14, |_| {
        with_rtp(|command, inner, owner| {
            if !matches!(command, RtpCommand::EnableSender(_, false)) {
                pass_command(command, inner, owner);
            }
        })
    });
}

/// Keeps itself, as an actor does that has its own address in a timer.
struct Forgotten;

/// What it would be told.
#[derive(Message)]
#[rtype(result = "()")]
struct Anything;

impl Actor for Forgotten {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let own = context.address();
        context.run_interval(std::time::Duration::from_secs(5), move |_, _| {
            let _ = own.connected();
        });
    }
}

impl Handler<Anything> for Forgotten {
    type Result = ();

    fn handle(&mut self, Anything: Anything, _: &mut Context<Self>) {}
}

#[test]
fn an_actor_that_nobody_ends_is_found() {
    is_found(&["no actor is left"], 1, |census| {
        let census = census.clone();
        Transports::new().with_rtp_actor(move |start: RtpStart| {
            census.note("a forgotten one", &Forgotten.start().recipient::<Anything>());
            start.start()
        })
    });
}

// What the model has found, shrunk.

#[test]
fn a_fork_hears_the_end_of_candidates_once() {
    use ortc_tests::calls::{Operation::*, Shape, holds};
    holds(38, Shape::Forks, &[Create(0), Create(2)]);
}

#[test]
fn a_fork_whose_addresses_come_back_hears_media() {
    use ortc_tests::calls::{Operation::*, Shape, holds};
    holds(
        244,
        Shape::Forks,
        &[
            Create(0),
            Create(2),
            Create(3),
            AddStream(3, 1, true),
            Wait(1),
            Down(0, 0),
            Down(0, 1),
            Update(2),
            Wait(1),
        ],
    );
}
