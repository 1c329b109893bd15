//! What the inputs of the fuzz targets reach: `cargo xtask fuzz --coverage`.
//!
//! The compiler counts regions, and LLVM's own tools read the counts: of its version or a later
//! one, which a distribution's default often is not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::process::{Failure, Outcome, execute, output};
use crate::tree;

/// Ranges of lines that are listed of a file; a file with more is not read by that list.
const MAX_RANGES: usize = 12;

/// The lines of one file: whether each that has code was run.
type Lines = BTreeMap<u32, bool>;

/// Two programs of LLVM.
#[derive(Debug)]
pub(crate) struct Tools {
    profdata: String,
    cov: String,
}

impl Tools {
    /// Finds tools that understand what the compiler writes.
    pub(crate) fn find() -> Outcome<Self> {
        let version = output(Command::new("rustc").arg("-vV"))?;
        let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "));
        let major = llvm.and_then(major).unwrap_or(u32::MAX);
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        let own = format!("{}/lib/rustlib/{host}/bin/", sysroot.trim());
        let places = [(own, String::new()), (String::new(), String::new())];
        let numbered = (major..major.saturating_add(4)).map(|n| (String::new(), format!("-{n}")));
        for (before, after) in places.into_iter().chain(numbered) {
            let named = |tool| format!("{before}{tool}{after}");
            let told = output(Command::new(named("llvm-cov")).arg("--version"));
            let told =
                told.ok().and_then(|text| text.lines().find_map(|line| major_of_tool(line.trim())));
            if told.is_some_and(|version| version >= major) {
                return Ok(Self { profdata: named("llvm-profdata"), cov: named("llvm-cov") });
            }
        }
        Err(Failure::new(format!(
            "coverage is read by LLVM {major} or later: `rustup component add llvm-tools`, or \
             Debian's llvm-{major}"
        )))
    }

    /// Reads what runs of `program` have left in `profiles`: the lines of each file of the tree.
    pub(crate) fn read(&self, program: &Path, profiles: &Path) -> Outcome<BTreeMap<String, Lines>> {
        let merged = profiles.join("merged.profdata");
        let mut merge = Command::new(&self.profdata);
        merge.args(["merge", "--sparse", "--output"]).arg(&merged);
        let raw = std::fs::read_dir(profiles)
            .map_err(|error| Failure::new(format!("{}: {error}", profiles.display())))?;
        let raw = raw.filter_map(|entry| Some(entry.ok()?.path()));
        merge.args(raw.filter(|path| path.extension().is_some_and(|it| it == "profraw")));
        execute(&mut merge)?;
        let mut export = Command::new(&self.cov);
        export.args(["export", "--format=lcov", "--instr-profile"]).arg(&merged).arg(program);
        Ok(lines_of(&output(&mut export)?, &tree::root().to_string_lossy()))
    }
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// The version in `Debian LLVM version 22.1.8`, and in `LLVM version 22.1.2-rust-1.95.0`.
fn major_of_tool(line: &str) -> Option<u32> {
    major(line.split_once("LLVM version ")?.1)
}

/// The lines of the crates' files in an lcov report. A line that stands there twice, as generic
/// code does, was run if any of its copies was.
fn lines_of(report: &str, root: &str) -> BTreeMap<String, Lines> {
    let mut files: BTreeMap<String, Lines> = BTreeMap::new();
    let mut current = None;
    for line in report.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            let inner = path.strip_prefix(root).map(|path| path.trim_start_matches('/'));
            current = inner.filter(|path| path.starts_with("crates/")).map(str::to_owned);
        } else if let (Some(file), Some(data)) = (&current, line.strip_prefix("DA:")) {
            let mut numbers = data.split(',').map(|number| number.parse::<u64>().unwrap_or(0));
            let (line, count) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            let lines = files.entry(file.clone()).or_default();
            *lines.entry(line as u32).or_default() |= count > 0;
        }
    }
    // Where nothing was run, nothing was meant to be.
    files.retain(|_, lines| lines.values().any(|run| *run));
    files
}

/// A table: each file, how much of it was run, and what was not.
pub(crate) fn table(files: &BTreeMap<String, Lines>) -> String {
    let mut table = "| file | lines run | not run |\n|---|---|---|\n".to_owned();
    for (file, lines) in files {
        let run = lines.values().filter(|run| **run).count();
        let share = 100 * run / lines.len();
        let _ = writeln!(table, "| `{file}` | {share} % of {} | {} |", lines.len(), missed(lines));
    }
    table
}

/// The lines that were not run, in ranges, as text.
fn missed(lines: &Lines) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    let mut goes_on = false;
    for (line, run) in lines {
        match ranges.last_mut() {
            Some((_, last)) if !run && goes_on => *last = *line,
            _ if !run => ranges.push((*line, *line)),
            _ => {}
        }
        goes_on = !run;
    }
    let shown = ranges.iter().take(MAX_RANGES).map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}–{last}"),
    });
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if ranges.len() > MAX_RANGES {
        let _ = write!(text, ", and {} more", ranges.len() - MAX_RANGES);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "SF:/tree/crates/a/src/b.rs\nFN:1,x\nDA:1,3\nDA:2,0\nDA:3,0\nDA:7,0\n\
        DA:9,1\nend_of_record\nSF:/tree/crates/a/src/b.rs\nDA:2,1\nend_of_record\n\
        SF:/registry/c/src/lib.rs\nDA:1,1\nend_of_record\n\
        SF:/tree/crates/a/src/unused.rs\nDA:1,0\nend_of_record\n";

    #[test]
    fn lines_of_the_crates_are_read_and_what_was_not_run_is_in_ranges() {
        let files = lines_of(REPORT, "/tree");
        let expected = "| file | lines run | not run |\n|---|---|---|\n\
                        | `crates/a/src/b.rs` | 60 % of 5 | 3–7 |\n";
        assert_eq!(table(&files), expected);
    }

    #[test]
    fn a_long_list_is_cut() {
        let lines = (0..100).map(|line| (line, line % 2 == 0)).collect();
        assert!(missed(&lines).starts_with("1, 3, 5, "));
        assert!(missed(&lines).ends_with(", 23, and 38 more"));
    }

    #[test]
    fn versions_are_told_by_their_tools() {
        assert_eq!(major_of_tool("Debian LLVM version 14.0.6"), Some(14));
        assert_eq!(major_of_tool("LLVM version 22.1.2-rust-1.95.0-stable"), Some(22));
        assert_eq!(major_of_tool("Optimized build."), None);
    }
}
