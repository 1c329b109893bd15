//! A loopback with several addresses, so that a side has several candidates.

use std::process::{Command, ExitStatus, Stdio};

use crate::error::Result;

/// Set in the process that runs inside.
const INSIDE: &str = "ORTC_BENCH_ADDRESSES";

/// Most addresses that there are: 127.0.0.1 to 127.0.0.4.
const ADDRESSES: usize = 4;

/// Addresses beyond the first have a label, by which interface filters tell them apart.
const SCRIPT: &str = "ip link set lo up && \
    for n in 2 3 4; do ip address add 127.0.0.$n/8 dev lo label lo:$n || exit 1; done && \
    exec \"$0\" \"$@\"";

/// How many addresses the loopback interface has: 1, or 4 inside.
pub(crate) fn addresses() -> usize {
    if std::env::var_os(INSIDE).is_some() { ADDRESSES } else { 1 }
}

/// The names by which the first `count` addresses are filtered.
pub(crate) fn names(count: usize) -> Vec<String> {
    (1..=count).map(|n| if n == 1 { "lo".into() } else { format!("lo:{n}") }).collect()
}

/// Runs this program again, with the same arguments, in a network namespace of its own with
/// four loopback addresses. `None` when it runs there already, and where the system has no
/// such thing: then there is one address.
///
/// # Errors
/// When this program cannot be started again.
pub(crate) fn run_inside() -> Result<Option<ExitStatus>> {
    if std::env::var_os(INSIDE).is_some() || !is_possible() {
        return Ok(None);
    }
    let program = std::env::current_exe()?;
    let mut inside = unshare();
    inside.args(["sh", "-c", SCRIPT]).arg(program).args(std::env::args_os().skip(1));
    Ok(Some(inside.env(INSIDE, ADDRESSES.to_string()).status()?))
}

/// A user namespace, so that it needs no root.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net"]);
    command
}

fn is_possible() -> bool {
    let mut probe = unshare();
    probe.args(["sh", "-c", SCRIPT, "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}
