//! Random programs of whole calls hold against a reference; see `ortc_tests::calls`.
//!
//! The faults that are planted here show that the model finds what it is there to find, and how
//! short a program it takes to show it.

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, WeakRecipient};
use ortc_api::{DtlsPorts, DtlsStart, Transports};
use ortc_dtls::{DtlsCommand, DtlsEvent};
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

between!(DtlsCommand, DtlsEvent);

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
