//! Replays every input of the corpora, so that a finding stays fixed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ortc_fuzz::TARGETS;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn inputs(name: &str) -> Vec<PathBuf> {
    let directory = corpus().join(name);
    let entries = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}: add an input", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_input_of_the_corpora_holds() {
    for target in TARGETS {
        let paths = inputs(target.name);
        assert!(!paths.is_empty(), "{} has no input", target.name);
        for path in paths {
            // Seen when it panics.
            eprintln!("{}", path.display());
            (target.run)(&fs::read(&path).unwrap());
        }
    }
}

#[test]
fn there_is_a_corpus_for_each_target_and_no_other() {
    let directories = fs::read_dir(corpus()).unwrap();
    let names: BTreeSet<_> =
        directories.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let targets: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names, targets);
}

#[test]
fn inputs_that_are_cut_or_changed_hold_as_well() {
    for target in TARGETS {
        for path in inputs(target.name) {
            let input = fs::read(&path).unwrap();
            eprintln!("{}", path.display());
            for at in (0..input.len()).step_by(input.len() / 64 + 1) {
                (target.run)(&input[..at]);
                let mut changed = input.clone();
                changed[at] ^= 1 << (at % 8);
                (target.run)(&changed);
            }
        }
    }
}
