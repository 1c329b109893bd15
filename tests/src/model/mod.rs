//! Random programs, one for each seed: a few in CI, and many by `cargo xtask model`.

mod shrink;

pub use shrink::shrink;

/// Runs a program for each seed: for the first `few`, or for as many as `cargo xtask model` says.
///
/// `model` is its name in the table of `xtask/src/model.rs`; a seed that fails is told with the
/// command to run it again.
///
/// # Panics
/// When the program does.
pub fn each_seed(model: &str, few: u64, mut program: impl FnMut(u64)) {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let first = number("ORTC_MODEL_FIRST").unwrap_or(0);
    let seeds = number("ORTC_MODEL_SEEDS").unwrap_or(few);
    for seed in first..first.saturating_add(seeds) {
        let running = Running { model, seed };
        program(seed);
        drop(running);
    }
}

/// Says which seed it was if the program does not come back.
struct Running<'a> {
    model: &'a str,
    seed: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { model, seed } = self;
            eprintln!(
                "seed {seed} fails. To run it again: cargo xtask model {model} --seed {seed}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_seeds_are_run_in_their_order() {
        let mut seen = Vec::new();
        each_seed("none", 3, |seed| seen.push(seed));
        assert_eq!(seen, [0, 1, 2]);
    }
}
