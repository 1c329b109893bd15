//! What a contestant in this program has counted, and how it is asked.

use std::io::{Lines, Stdin, StdinLock};

use serde_json::{Value, json};

use crate::error::{Failure, Result};
use crate::usage;

/// What a forwarder has counted of itself so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    /// CPU time of its steps, if it times them.
    pub(crate) open_ns: u64,
    pub(crate) seal_ns: u64,
    pub(crate) send_ns: u64,
    /// `runs[n]` messages were handed to the system that had `n + 1` datagrams.
    pub(crate) runs: [u64; 16],
}

impl Counted {
    /// Counts a message.
    pub(crate) fn run(&mut self, datagrams: usize) {
        self.runs[datagrams.clamp(1, self.runs.len()) - 1] += 1;
    }
}

/// What this process is asked, line by line.
pub(crate) struct Asked {
    lines: Lines<StdinLock<'static>>,
}

impl Asked {
    pub(crate) fn new() -> Self {
        Self { lines: Stdin::lines(std::io::stdin()) }
    }

    /// The next line.
    ///
    /// # Errors
    /// When nobody asks any more.
    pub(crate) fn next(&mut self) -> Result<Value> {
        let line = self.lines.next();
        let line = line.ok_or_else(|| Failure::new("nobody is there any more"))??;
        Ok(serde_json::from_str(&line)?)
    }

    /// Answers what this process has used as long as that is what it is asked.
    ///
    /// # Errors
    /// When nobody asks any more, and whatever `counted` says.
    pub(crate) fn answer(&mut self, counted: impl Fn() -> Result<Counted>) -> Result<()> {
        while self.next()?["usage"] == true {
            let Counted { open_ns, seal_ns, send_ns, runs } = counted()?;
            let usage = json!({
                "cpu_ns": usage::cpu_ns(),
                "open_ns": open_ns, "seal_ns": seal_ns, "send_ns": send_ns, "runs": runs,
            });
            println!("{}", json!({ "usage": usage }));
        }
        Ok(())
    }
}
