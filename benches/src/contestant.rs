//! A contestant in a process of its own, spoken to in lines of JSON.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{self, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use crate::bench::Options;
use crate::error::{Failure, Result};

/// Who can be measured beside `ortc`: what the program of `benches/peers` calls them.
pub(crate) const PEERS: &[&str] = &["str0m", "webrtc-rs"];

/// Who is measured in this program.
pub(crate) const OURS: &[&str] = &["ortc", "ortc-numbered", "ortc-padded", "bare", "bare-plain"];

/// A contestant that runs. It is killed when this is dropped.
pub(crate) struct Contestant {
    _child: Child,
    input: Mutex<ChildStdin>,
}

/// What a contestant says, line by line.
pub(crate) type Output = io::Lines<BufReader<ChildStdout>>;

impl Contestant {
    /// Starts `who` for a benchmark: `ortc` is this program, the others are the peers'.
    ///
    /// # Errors
    /// When there is no such program.
    pub(crate) fn start(
        who: &str,
        bench: &str,
        arguments: &[String],
        options: &Options,
    ) -> Result<(Self, Output)> {
        let mut command = if who == "ortc" {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["contestant", bench]);
            command
        } else {
            let program = options.peers.as_ref();
            let program = program.ok_or_else(|| Failure::new("the peers are not built"))?;
            let mut command = Command::new(program);
            command.args([who, bench]);
            command
        };
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let gone = || Failure::new("a contestant has no pipes");
        let input = Mutex::new(child.stdin.take().ok_or_else(gone)?);
        let output = BufReader::new(child.stdout.take().ok_or_else(gone)?).lines();
        Ok((Self { _child: child, input }, output))
    }

    /// Tells it something.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) async fn send(&self, message: &Value) -> Result<()> {
        write_line(&mut *self.input.lock().await, message).await
    }
}

/// What a contestant says, message by message.
pub(crate) struct Lines {
    who: &'static str,
    output: Output,
}

impl Lines {
    pub(crate) fn new(who: &'static str, output: Output) -> Self {
        Self { who, output }
    }

    /// The next message.
    ///
    /// # Errors
    /// When it has ended, or says that something has failed.
    pub(crate) async fn next(&mut self) -> Result<Value> {
        let who = self.who;
        let line = self.output.next_line().await?;
        let line = line.ok_or_else(|| Failure::new(format!("{who} has ended")))?;
        let message: Value = serde_json::from_str(&line)?;
        match message["failed"].as_str() {
            Some(reason) => Err(Failure::new(format!("{who}: {reason}"))),
            None => Ok(message),
        }
    }
}

/// Writes one message as a line.
pub(crate) async fn write_line(
    output: &mut (impl AsyncWriteExt + Unpin),
    message: &Value,
) -> Result<()> {
    output.write_all(format!("{message}\n").as_bytes()).await?;
    Ok(output.flush().await?)
}
