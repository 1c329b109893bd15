//! Running other programs, and how a command of ours ends.

use std::process::Command;

/// How a command ends.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// What is wrong and what to do, in a few lines.
    Message(String),
    /// A program that has already said so ended with this code, which becomes ours.
    Exit(u8),
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }
}

/// The cargo that runs us, at the root of the workspace. It keeps nothing for incremental builds,
/// gigabytes of a clean clone that whole runs gain nothing from, unless the caller asks for it.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    const INCREMENTAL: &str = "CARGO_INCREMENTAL";
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(crate::tree::root());
    if std::env::var_os(INCREMENTAL).is_none() {
        command.env(INCREMENTAL, "0");
    }
    command
}

/// Runs a program to its end, its output going where ours goes.
pub(crate) fn execute(command: &mut Command) -> Outcome {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .map_err(|error| Failure::new(format!("`{program}` cannot be started: {error}")))?;
    match status.code() {
        Some(0) => Ok(()),
        // A code over 255 exists on Windows only; a signal leaves none.
        Some(code) => Err(Failure::Exit(u8::try_from(code).unwrap_or(1))),
        None => Err(Failure::new(format!("`{program}` was ended by a signal"))),
    }
}

/// Runs a program to its end and returns what it wrote to its standard output.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| Failure::new(format!("`{program}` cannot be started: {error}")))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("`{program}` failed: {}", complaint.trim())));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Failure::new(format!("the output of `{program}` is not UTF-8")))
}

/// Whether a program can be started and says that all is well.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
