//! What a program is made of, and how a random one is made.

use std::fmt;

use fastrand::Rng;

/// Connections of a program are numbered: 0 calls 1, 2 calls 3, and 4 has nobody.
pub const CONNECTIONS: usize = 5;

/// Local streams of a connection.
pub const STREAMS: usize = 3;

/// What stream of a connection the forwarded stream 0 is; 11 is that of stream 1, and so on.
pub(super) const FORWARDED: usize = 10;

/// Hosts, each with two addresses.
pub const HOSTS: usize = 3;

/// Who is where, and what belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One call, each side on a host of its own.
    Pair,
    /// Two calls between the same two engines.
    Pairs,
    /// Connections 2 and 4 are forks of 0; 1 and 3 have hosts of their own.
    Forks,
    /// Connections 0 and 2 are on one port.
    Port,
    /// Connections 1 and 2 are a server's, which forwards from each to the other.
    Relay,
}

impl Shape {
    /// The connections that there are.
    pub(super) fn connections(self) -> usize {
        match self {
            Self::Pair => 2,
            Self::Forks => CONNECTIONS,
            Self::Pairs | Self::Port | Self::Relay => 4,
        }
    }

    /// The host of a connection.
    pub(super) fn host(self, conn: usize) -> usize {
        match (self, conn) {
            (Self::Relay, 0) => 0,
            (Self::Relay, 3) => 2,
            (Self::Relay, _) => 1,
            (Self::Forks, 3) => 2,
            (_, conn) => conn % 2,
        }
    }

    /// Whom a connection is to talk to.
    pub(super) fn peer(self, conn: usize) -> Option<usize> {
        (conn < 4).then_some(conn ^ 1)
    }
}

/// One step of a program. Numbers that name a connection, a stream, a host or a candidate that
/// is not there make it do nothing, so that any part of a program is a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Makes a connection; a fork, where the shape says so.
    Create(usize),
    /// Tells it the credentials of its peer.
    SetIce(usize),
    /// Has it connect.
    Connect(usize),
    /// Has its `n`th candidate take part.
    SetLocal(usize, usize),
    /// Tells it the `n`th candidate of its peer, set or not.
    SetRemote(usize, usize),
    /// Has all of its candidates take part, and tells the peer of them.
    Signal(usize),
    /// Tells the peer which of its candidates are gone.
    Withdraw(usize),
    /// Says that its peer has no more candidates.
    EndOfCandidates(usize),
    /// Gathers again.
    Update(usize),
    /// Adds a stream, sent at once or not.
    AddStream(usize, usize, bool),
    /// Removes a stream.
    RemoveStream(usize, usize),
    /// Starts the track of a stream.
    Start(usize, usize),
    /// Stops it.
    Stop(usize, usize),
    /// Removes it from the connection.
    RemoveTrack(usize, usize),
    /// Describes it to the peer.
    Describe(usize, usize),
    /// Has the peer receive it no more.
    Forget(usize, usize),
    /// Has a server send what this connection receives to the peer of its other connection.
    Forward(usize, usize),
    /// Sends some frames of a stream.
    Talk(usize, usize, u64),
    /// Closes a connection.
    Close(usize),
    /// Drops every handle of it.
    Drop(usize),
    /// Lets so many milliseconds pass.
    Wait(u64),
    /// Lets them pass all at once, as for processes that were suspended.
    Jump(u64),
    /// All links lose so many datagrams of a hundred, and take so many milliseconds.
    Link(u8, u64),
    /// Nothing gets from one host to another.
    Part(usize, usize),
    /// It does again.
    Heal(usize, usize),
    /// An address of a host goes.
    Down(usize, usize),
    /// It comes back.
    Up(usize, usize),
    /// A host hears and says nothing.
    Suspend(usize),
    /// It does again.
    Resume(usize),
}

use Operation as Op;

impl Operation {
    /// Whether it can cost datagrams or time.
    pub(super) fn is_trouble(&self) -> bool {
        match self {
            Op::Link(loss, _) => *loss > 0,
            Op::Part(..) | Op::Down(..) | Op::Suspend(_) | Op::Jump(_) => true,
            _ => false,
        }
    }

    /// What is simpler, and may do as well.
    pub(super) fn simpler(&self) -> Vec<Self> {
        let shorter = |ms: u64| [0, ms / 10, ms / 2].into_iter().filter(move |less| *less < ms);
        match *self {
            Op::Wait(ms) => shorter(ms).map(Op::Wait).collect(),
            Op::Jump(ms) => shorter(ms).map(Op::Wait).chain([Op::Wait(ms)]).collect(),
            Op::Talk(conn, stream, n) => {
                shorter(n).filter(|n| *n > 0).map(|n| Op::Talk(conn, stream, n)).collect()
            }
            Op::Link(loss, ms) if loss > 0 => vec![Op::Link(0, ms)],
            Op::Signal(conn) => vec![Op::SetLocal(conn, 0)],
            _ => Vec::new(),
        }
    }
}

/// A program, and the randomness that it runs with.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// Decides whatever the program does not: credentials, SSRCs, which datagrams are lost.
    pub seed: u64,
    /// Who is where.
    pub shape: Shape,
    /// What happens.
    pub operations: Vec<Operation>,
}

/// As a test to be pasted.
impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, shape, operations } = self;
        writeln!(f, "#[test]\nfn program_{seed}_holds() {{")?;
        writeln!(f, "    use ortc_tests::calls::{{Operation::*, Shape, holds}};")?;
        writeln!(f, "    holds(\n        {seed},\n        Shape::{shape:?},\n        &[")?;
        for operation in operations {
            writeln!(f, "            {operation:?},")?;
        }
        write!(f, "        ],\n    );\n}}")
    }
}

impl Program {
    /// Whether nothing in it can cost a datagram.
    pub(super) fn is_calm(&self) -> bool {
        !self.operations.iter().any(Operation::is_trouble)
    }

    /// The program of a seed.
    pub fn random(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let shapes = [Shape::Pair, Shape::Pairs, Shape::Forks, Shape::Port, Shape::Relay];
        let shape = shapes[random.usize(..shapes.len())];
        let calm = random.u8(..10) < 4;
        let mut operations = beginning(shape, calm, &mut random);
        for _ in 0..random.usize(..40) {
            operations.push(any(shape, calm, &mut random));
            if random.u8(..3) == 0 {
                operations.push(Op::Wait(random.u64(..2_000)));
            }
        }
        Self { seed, shape, operations }
    }
}

/// What makes calls of it, mostly: in some order, with pauses, and seldom whole.
fn beginning(shape: Shape, calm: bool, random: &mut Rng) -> Vec<Operation> {
    let mut operations = Vec::new();
    if random.bool() {
        let loss = if calm { 0 } else { random.u8(..15) };
        operations.push(Op::Link(loss, random.u64(..100)));
    }
    let mut rest: Vec<Operation> = Vec::new();
    for conn in 0..shape.connections() {
        operations.push(Op::Create(conn));
        let stream = random.usize(..STREAMS);
        rest.extend([Op::SetIce(conn), Op::Connect(conn), Op::Signal(conn)]);
        rest.extend([Op::AddStream(conn, stream, random.u8(..4) > 0), Op::Describe(conn, stream)]);
    }
    random.shuffle(&mut rest);
    // Mostly what has to come before something else does.
    rest.sort_by_cached_key(|operation| {
        let rank = match operation {
            Op::SetIce(_) | Op::AddStream(..) => 0,
            Op::Connect(_) | Op::Describe(..) => 1,
            _ => 2,
        };
        if random.u8(..8) == 0 { random.u8(..3) } else { rank }
    });
    for operation in rest {
        if random.u8(..4) == 0 {
            operations.push(Op::Wait(random.u64(..500)));
        }
        if random.u8(..16) > 0 {
            operations.push(operation);
        }
    }
    if random.u8(..4) > 0 {
        operations.push(Op::Wait(random.u64(..3_000)));
        (0..shape.connections())
            .filter(|_| random.u8(..4) > 0)
            .for_each(|conn| operations.push(Op::Signal(conn)));
        operations.push(Op::Wait(random.u64(..6_000)));
    }
    operations
}

/// Any operation; of a network that does nothing, if it is to be calm.
fn any(shape: Shape, calm: bool, random: &mut Rng) -> Operation {
    let conn = random.usize(..shape.connections());
    let stream = random.usize(..STREAMS);
    let any_stream = match shape {
        Shape::Relay if random.bool() => FORWARDED + stream,
        _ => stream,
    };
    let (host, address) = (random.usize(..HOSTS), random.usize(..2));
    let kinds = if calm { 44 } else { 60 };
    match random.u8(..kinds) {
        0 => Op::Create(conn),
        1 => Op::SetIce(conn),
        2 => Op::Connect(conn),
        3 => Op::SetLocal(conn, address),
        4 => Op::SetRemote(conn, address),
        5..=8 => Op::Signal(conn),
        9 => Op::Withdraw(conn),
        10 => Op::EndOfCandidates(conn),
        11..=12 => Op::Update(conn),
        13..=16 => Op::AddStream(conn, stream, random.u8(..4) > 0),
        17 => Op::RemoveStream(conn, any_stream),
        18..=19 => Op::Start(conn, any_stream),
        20 => Op::Stop(conn, any_stream),
        21 => Op::RemoveTrack(conn, any_stream),
        22..=25 => Op::Describe(conn, any_stream),
        26 => Op::Forget(conn, any_stream),
        27..=28 => Op::Forward(conn, stream),
        29..=35 => Op::Talk(conn, stream, random.u64(1..10)),
        36 => Op::Close(conn),
        37 => Op::Drop(conn),
        38..=42 => Op::Wait(random.u64(..4_000)),
        43 => Op::Link(0, random.u64(..150)),
        44..=45 => Op::Link(random.u8(..30), random.u64(..150)),
        46 => Op::Part(host, random.usize(..HOSTS)),
        47 => Op::Heal(host, random.usize(..HOSTS)),
        48..=49 => Op::Down(host, address),
        50..=51 => Op::Up(host, address),
        52 => Op::Suspend(host),
        53..=54 => Op::Resume(host),
        55 => Op::Jump(random.u64(..20_000)),
        56 => Op::Wait(random.u64(..60_000)),
        _ => Op::Update(conn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_printed_as_a_test() {
        let operations = vec![Op::Create(0), Op::AddStream(0, 1, true), Op::Wait(20)];
        let program = Program { seed: 7, shape: Shape::Pair, operations };
        let expected = "#[test]\nfn program_7_holds() {\n    \
             use ortc_tests::calls::{Operation::*, Shape, holds};\n    \
             holds(\n        7,\n        Shape::Pair,\n        &[\n            \
             Create(0),\n            AddStream(0, 1, true),\n            Wait(20),\n        \
             ],\n    );\n}";
        assert_eq!(format!("{program:?}"), expected);
    }

    #[test]
    fn a_seed_is_a_program_and_there_are_all_kinds_of_them() {
        assert_eq!(Program::random(3), Program::random(3));
        let programs: Vec<_> = (0..300).map(Program::random).collect();
        let calm = programs.iter().filter(|program| program.is_calm()).count();
        assert!((60..240).contains(&calm), "{calm} are calm");
        for shape in [Shape::Pair, Shape::Pairs, Shape::Forks, Shape::Port, Shape::Relay] {
            assert!(programs.iter().any(|program| program.shape == shape), "{shape:?}");
        }
    }
}
