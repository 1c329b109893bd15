//! Churn: connections that are made and end in every way that there is, over and over, while
//! what the process holds is watched.
//!
//! All of it is real: sockets of the system on loopback, two engines, the signalling server. A
//! [`Soak`] goes on for as many connections, or as long, as it is told; between rounds it waits
//! until everything has closed and takes a [`Sample`], so that samples can be compared.

mod lives;
mod networks;
mod plot;
mod rooms;
mod sample;

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

pub use plot::plot;
pub use sample::{Growth, Sample};

use lives::Stage;
use networks::Networks;
use rooms::Rooms;

/// Lives that go on at a time.
const AT_A_TIME: u64 = 16;

/// Of how many rounds at the beginning nothing is concluded: what is made once is made by then,
/// and the allocator has found its size.
const WARM_UP: u64 = 4;

/// How long everything may take to be gone.
const SETTLE: Duration = Duration::from_secs(30);

/// How much of it there is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// So many connections have been made.
    Connections(u64),
    /// So much time has passed.
    Elapsed(Duration),
}

/// Connections and rooms that come and go.
#[derive(Debug)]
pub struct Soak {
    stage: Stage,
    networks: Option<Networks>,
    rooms: Rooms,
    begun: Instant,
    connections: u64,
    lives: u64,
    rounds: u64,
    allocated: fn() -> u64,
}

impl Soak {
    /// Starts the engines and the server. `allocated` tells how many bytes the process has
    /// allocated and not freed.
    ///
    /// # Errors
    /// What the system refuses, in words.
    pub async fn begin(allocated: fn() -> u64) -> Result<Self, String> {
        Self::begin_on(None, allocated).await
    }

    /// The same, with addresses that vanish and come back under the calls. The process has to be
    /// in a network namespace of its own, as `unshare --map-root-user --net` makes one.
    ///
    /// # Errors
    /// What the system refuses, in words.
    pub async fn begin_on_changing_networks(allocated: fn() -> u64) -> Result<Self, String> {
        Self::begin_on(Some(Networks::begin().await?), allocated).await
    }

    async fn begin_on(networks: Option<Networks>, allocated: fn() -> u64) -> Result<Self, String> {
        let stage = Stage::begin(networks.is_some()).await?;
        let rooms = Rooms::begin().await?;
        let begun = Instant::now();
        let (connections, lives, rounds) = (0, 0, 0);
        Ok(Self { stage, networks, rooms, begun, connections, lives, rounds, allocated })
    }

    /// Goes on until there has been enough, in rounds of so many `lives`; after each, `observe`
    /// gets a sample. Returns all samples.
    ///
    /// # Errors
    /// A call that did not do what it was made for, or something that does not end.
    pub async fn run(
        &mut self,
        until: Until,
        lives: u64,
        mut observe: impl FnMut(&Sample),
    ) -> Result<Vec<Sample>, String> {
        let mut samples = Vec::new();
        loop {
            self.round(lives.max(AT_A_TIME)).await?;
            let sample = self.settled().await?;
            observe(&sample);
            samples.push(sample);
            let is_enough = match until {
                Until::Connections(count) => self.connections >= count,
                Until::Elapsed(time) => self.begun.elapsed() >= time,
            };
            if is_enough && self.rounds > 2 * WARM_UP {
                return Ok(samples);
            }
        }
    }

    /// Ends the server.
    pub async fn end(self) {
        self.rooms.end().await;
    }

    async fn round(&mut self, lives: u64) -> Result<(), String> {
        self.rounds += 1;
        let room = self.rooms.meet(self.rounds);
        let calls = async {
            let mut running = JoinSet::new();
            for n in self.lives..self.lives + lives {
                if running.len() as u64 == AT_A_TIME {
                    self.connections += joined(running.join_next().await)?;
                }
                running.spawn(self.stage.life(n));
            }
            while let Some(life) = running.join_next().await {
                self.connections += joined(Some(life))?;
            }
            self.lives += lives;
            Ok(())
        };
        let all = async {
            let (room, calls): (Result<u64, String>, Result<(), String>) =
                tokio::join!(room, calls);
            calls.and(room)
        };
        let of_room = match &self.networks {
            Some(networks) => networks.change_during(all).await,
            None => all.await,
        };
        self.connections += of_room?;
        Ok(())
    }

    /// What the process holds once nothing is left of the round.
    async fn settled(&self) -> Result<Sample, String> {
        let begun = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tick.tick().await;
            let open = self.stage.open_connections().await? + self.rooms.open_connections().await?;
            if open == 0 {
                break;
            }
            if begun.elapsed() > SETTLE {
                return Err(format!("{open} connections do not close"));
            }
        }
        Ok(Sample::take(self.begun.elapsed(), self.connections, (self.allocated)()))
    }
}

fn joined(
    life: Option<Result<Result<u64, String>, tokio::task::JoinError>>,
) -> Result<u64, String> {
    match life {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => Err(format!("a life has panicked: {error}")),
        None => Ok(0),
    }
}

/// What has grown from the end of the warm-up to the last sample; `None` when there are too few.
///
/// Of what is counted, the least of a few samples is taken at both ends: the stream by which the
/// server was asked may still be there in one of them, or memory that the allocator gives back
/// later, and a leak is in all. What leaks is least in the first of them: it is told by the connections
/// until then.
pub fn growth(samples: &[Sample]) -> Option<Growth> {
    let few = WARM_UP as usize;
    let warm = samples.get(few..2 * few)?;
    let last = samples.get(samples.len() - few..)?;
    Some(Growth::between(&warm.first()?.with_least_of(warm), &last.first()?.with_least_of(last)))
}
