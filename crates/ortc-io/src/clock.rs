use std::time::Instant;

/// Reads the one clock of the workspace.
///
/// Inside a tokio runtime whose time is paused (`sim::run`) this is virtual time; everywhere
/// else, the media threads included, it is the system's monotonic clock. Cores take the
/// instant as an argument and never call this.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
