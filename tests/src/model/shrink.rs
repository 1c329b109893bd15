//! From a program that fails to a short one that does.

use std::mem;

/// Shrinks a program that `fails`: leaves out whatever it fails without, and then puts something
/// `simpler` in the place of what is left, one operation at a time (Zeller, Hildebrandt,
/// "Simplifying and isolating failure-inducing input", 2002).
///
/// `fails` says whether a program fails in the way that is looked for; it is asked `replays` times
/// at the most, so what comes back is as short as that allows. Nothing is left to chance: the same
/// program shrinks to the same one.
pub fn shrink<T: Clone>(
    program: &[T],
    replays: usize,
    simpler: impl Fn(&T) -> Vec<T>,
    mut fails: impl FnMut(&[T]) -> bool,
) -> Vec<T> {
    let mut left = replays;
    let mut fails = |program: &[T]| {
        let may = left > 0;
        left = left.saturating_sub(1);
        may && fails(program)
    };
    let mut program = program.to_vec();
    // What is long first; another round as long as the last one has found anything.
    loop {
        let before = program.len();
        let mut size = program.len().div_ceil(2);
        while size > 0 {
            leave_out(&mut program, size, &mut fails);
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
        let simplified = simplify(&mut program, &simpler, &mut fails);
        if program.len() == before && !simplified {
            return program;
        }
    }
}

/// Leaves out runs of `size` operations that are not needed.
fn leave_out<T: Clone>(program: &mut Vec<T>, size: usize, fails: &mut impl FnMut(&[T]) -> bool) {
    let mut at = 0;
    while at < program.len() {
        let end = (at + size).min(program.len());
        let mut shorter = program.clone();
        shorter.drain(at..end);
        if fails(&shorter) {
            *program = shorter;
        } else {
            at = end;
        }
    }
}

/// Puts what is simpler in the place of single operations; whether that went anywhere.
fn simplify<T: Clone>(
    program: &mut [T],
    simpler: &impl Fn(&T) -> Vec<T>,
    fails: &mut impl FnMut(&[T]) -> bool,
) -> bool {
    let mut found = false;
    for at in 0..program.len() {
        let mut candidates = simpler(&program[at]).into_iter();
        while let Some(candidate) = candidates.next() {
            let before = mem::replace(&mut program[at], candidate);
            if fails(program) {
                // And from there on.
                candidates = simpler(&program[at]).into_iter();
                found = true;
            } else {
                program[at] = before;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 10_000;

    /// Smaller numbers.
    fn smaller(n: &u32) -> Vec<u32> {
        if *n == 0 { vec![] } else { vec![0, n / 2, n - 1] }
    }

    #[test]
    fn nothing_is_left_that_could_be_left_out() {
        let program: Vec<u32> = (0..200).collect();
        // What fails needs two that are far apart, in their order.
        let fails = |program: &[u32]| {
            let first = program.iter().position(|n| *n == 17);
            first.is_some_and(|at| program[at..].contains(&150))
        };
        assert_eq!(shrink(&program, MANY, |_| vec![], fails), [17, 150]);
    }

    #[test]
    fn what_is_left_is_as_simple_as_can_be() {
        let fails = |program: &[u32]| program.iter().sum::<u32>() > 40;
        let shrunk = shrink(&[3, 90, 7, 41, 200], MANY, smaller, fails);
        assert_eq!(shrunk, [41]);
    }

    #[test]
    fn pairs_that_only_fail_together_stay_together() {
        // As many of one kind as of the other, or it is no failure.
        let fails = |program: &[u32]| {
            let odd = program.iter().filter(|n| **n % 2 == 1).count();
            odd >= 2 && odd * 2 == program.len()
        };
        let program: Vec<u32> = (0..64).collect();
        assert_eq!(shrink(&program, MANY, |_| vec![], fails).len(), 4);
    }

    #[test]
    fn it_ends_when_it_may_not_ask_any_more() {
        let asked = std::cell::Cell::new(0);
        let program: Vec<u32> = (0..100).collect();
        let shrunk = shrink(&program, 10, smaller, |program| {
            asked.set(asked.get() + 1);
            program.first() == Some(&0) && program.contains(&99)
        });
        assert_eq!(asked.get(), 10);
        assert!((3..100).contains(&shrunk.len()), "{}", shrunk.len());
    }
}
