//! Random programs of whole calls, against a small reference model.
//!
//! A [`Program`] is a list of [`Operation`]s on two to five connections: pairs, forks, connections
//! of one port, and a server that forwards. They run in virtual time over the simulated network,
//! in the production composition. After each, what the connections say of themselves, what they
//! have told and what was on the wire is held against what is expected; a rule that does not hold
//! is a [`Failure`] that names it. When the program is over, the network lies still and everybody
//! signals everything, so what can be connected has to be; then all is closed, and nothing may be
//! left of it.
//!
//! Expected is, among other things:
//!
//! - what acts is answered as the documentation of `ortc-api` has it, and changes what it says;
//! - events come in a legal order, and nothing after the end;
//! - connected is who wants it, on both sides, and the peer is who was signalled;
//! - what is not set, not connecting or closed sends nothing, and media goes to validated paths;
//! - no index of SRTP is used for two packets;
//! - everybody hears what is theirs, once and in order, and all of it where the network is calm,
//!   whatever is nominated, gathered or described meanwhile;
//! - sockets, connections, handles and actors are gone in the end.

mod census;
mod end;
mod media;
mod program;
mod side;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Duration;

use ortc_api::Transports;
use ortc_io::sim::{self, Network, SimConfig};

pub use census::Census;
pub use program::{CONNECTIONS, HOSTS, Operation, Program, STREAMS, Shape};

use crate::shrink;
use world::World;

/// How often a program that fails is run again, to find a shorter one: a second or two.
const REPLAYS: usize = 600;

/// The name of the threads that do so, on which panics are not told.
const REPLAY: &str = "replay";

/// Where the environment has it, what was on the wire is printed.
const TRACE_VARIABLE: &str = "ORTC_MODEL_TRACE";

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The rule.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

fn fail<T>(rule: &'static str, what: String) -> Result<T, Failure> {
    Err(Failure { rule, what })
}

fn check(rule: &'static str, holds: bool, what: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { fail(rule, what()) }
}

/// Makes the transports of a connection; a census knows of their actors.
pub type MakeTransports<'a> = dyn Fn(&Census) -> Transports + Sync + 'a;

/// Runs a program, with these transports for its connections.
///
/// # Errors
/// The first rule that does not hold; a panic is one, too.
pub fn run(program: &Program, transports: &MakeTransports<'_>) -> Result<(), Failure> {
    let is_traced = std::env::var_os(TRACE_VARIABLE).is_some();
    let config = SimConfig {
        transcript_limit: if is_traced { 200_000 } else { 0 },
        // Half of the programs have the order of mailboxes shuffled as well.
        perturb: program.seed % 2 == 1,
        time_limit: Duration::from_secs(24 * 60 * 60),
        ..SimConfig::new(program.seed)
    };
    let ran = catch_unwind(AssertUnwindSafe(|| {
        sim::run_with(config, |net| async move {
            let ran = live(&net, program, transports).await;
            net.transcript().iter().for_each(|entry| eprintln!("{entry}"));
            ran
        })
    }));
    ran.unwrap_or_else(|_| fail("nothing panics", "the panic is told above".into()))
}

async fn live(
    net: &Network,
    program: &Program,
    transports: &MakeTransports<'_>,
) -> Result<(), Failure> {
    let mut world = World::new(net.clone(), program, transports);
    world.bind_port().await?;
    for operation in &program.operations {
        world.step(*operation).await?;
    }
    world.end().await
}

/// The shortest program that breaks the same rule, as far as some hundred replays can tell.
pub fn shrunk(program: &Program, rule: &str, transports: &MakeTransports<'_>) -> Program {
    be_quiet_in_replays();
    let with =
        |operations: &[Operation]| Program { operations: operations.to_vec(), ..program.clone() };
    let fails = |operations: &[Operation]| {
        let program = with(operations);
        // A panic may leave anything behind on its thread.
        std::thread::scope(|scope| {
            let replay = std::thread::Builder::new().name(REPLAY.into());
            let ran = replay.spawn_scoped(scope, || run(&program, transports));
            let ran = ran.expect("there are threads").join();
            matches!(ran, Ok(Err(failure)) if failure.rule == rule)
        })
    };
    with(&shrink(&program.operations, REPLAYS, Operation::simpler, fails))
}

fn be_quiet_in_replays() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() != Some(REPLAY) {
                before(panic);
            }
        }));
    });
}

/// Runs the program of a seed. When a rule does not hold, it is shrunk first.
///
/// # Panics
/// When a rule does not hold; the message is a test to be pasted.
pub fn random_program_holds(seed: u64) {
    let program = Program::random(seed);
    if let Err(Failure { rule, what }) = run(&program, &Census::transports) {
        let shrunk = shrunk(&program, rule, &Census::transports);
        panic!("\"{rule}\" does not hold: {what}\nThis is enough for that:\n\n{shrunk:?}\n");
    }
}

/// Runs a program that was found once.
///
/// # Panics
/// When a rule does not hold.
pub fn holds(seed: u64, shape: Shape, operations: &[Operation]) {
    let program = Program { seed, shape, operations: operations.to_vec() };
    if let Err(Failure { rule, what }) = run(&program, &Census::transports) {
        panic!("\"{rule}\" does not hold: {what}");
    }
}
