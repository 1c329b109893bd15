//! `cargo xtask tidy`: house rules that neither rustc nor clippy knows.
//!
//! It is a test too, so that a breach shows in any `cargo test`.

use std::path::Path;

use crate::conformance::has_test;
use crate::metadata::{self, Package};
use crate::process::{Failure, Outcome};
use crate::tree::{self, SourceFile};

/// Longest source file, without the test module at its end. Past 400 lines a file is asked
/// whether it holds one idea; past this it is not asked any more.
const MAX_LINES: usize = 800;

/// The only crate that may contain `unsafe`: system calls that have no safe wrapper.
const MAY_BE_UNSAFE: &str = "ortc-io";

/// This file, which has to spell what it forbids.
const OWN_PATH: &str = "xtask/src/tidy.rs";

/// What is left undone or switched off is not merged.
const UNFINISHED: &[&str] =
    &["#[ignore", "todo!(", "unimplemented!(", "FIXME", "XXX", "HACK", "dbg!("];

/// A test that sleeps is slow where it passes and fails where it is slow.
const SLEEPS: &[&str] = &["thread::sleep(", "time::sleep(", "sleep_until("];

/// What stands in a file of tests, or in the `mod.rs` beside it, that runs in virtual time:
/// there tokio's sleep lets time pass and waits for nothing.
const VIRTUAL_TIME: &[&str] =
    &["sim::run", "ortc_io::sim", "start_paused = true", "start_paused(true)", "time::pause()"];

/// What no public item is named for: there is no SDP in any API, and nobody is the offerer.
const NOT_OURS: &[&str] = &["sdp", "offer", "answer"];

/// Where the wall clock is read: for RTCP's timestamps, once, and to date statistics. Nothing else
/// may depend on a clock that people set.
const WALL_CLOCK: &[&str] =
    &["crates/ortc-forward/src/clock.rs", "crates/ortc-api/src/stats/report.rs"];

/// Roots of absolute paths that exist on somebody's machine only.
const MACHINE_ROOTS: &[&str] = &["/home/", "/root/", "/Users/", "/tmp/"];

pub(crate) fn run(_: &[String]) -> Outcome {
    let findings = findings()?;
    if findings.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("the tree is not tidy:\n{}", findings.join("\n"))))
}

fn findings() -> Outcome<Vec<String>> {
    let files = tree::files(&["rs", "js", "mjs", "ts", "html", "css", "md", "toml", "sh"])?;
    let root = tree::root();
    let mut findings: Vec<String> = files
        .iter()
        .filter(|file| file.path != OWN_PATH)
        .flat_map(|file| {
            let exists = |path: &str| root.join(path).exists();
            [
                length(file),
                unfinished(file),
                sleeps(file, runs_in_virtual_time(file, &files)),
                unexplained_allows(file),
                machine_paths(file),
                missing_documents(file, exists),
                missing_tests(file, |path| tree::read(path).ok()),
                wall_clocks(file),
                session_descriptions(file),
            ]
            .concat()
        })
        .collect();
    let packages = metadata::workspace()?.packages;
    findings.extend(imports(&tree::read("ARCHITECTURE.md")?, &packages));
    for package in packages.iter().filter(|package| is_library_crate(package)) {
        findings.extend(unsafe_code(package, &files));
    }
    Ok(findings)
}

fn is_source(file: &SourceFile) -> bool {
    [".rs", ".js", ".mjs", ".ts"].iter().any(|end| file.path.ends_with(end))
}

fn length(file: &SourceFile) -> Vec<String> {
    let lines: Vec<&str> = file.text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    });
    let length = tests.unwrap_or(lines.len());
    if !is_source(file) || length <= MAX_LINES {
        return Vec::new();
    }
    vec![format!("{}: {length} lines; split it by idea at {MAX_LINES}", file.path)]
}

fn unfinished(file: &SourceFile) -> Vec<String> {
    if is_source(file) { containing(file, UNFINISHED, "is not merged") } else { Vec::new() }
}

fn sleeps(file: &SourceFile, virtual_time: bool) -> Vec<String> {
    if !file.path.split('/').any(|part| part == "tests") || !is_source(file) {
        return Vec::new();
    }
    let words = if virtual_time { &SLEEPS[..1] } else { SLEEPS };
    containing(file, words, "stands in for an event; wait for the event, or pause the clock")
}

fn runs_in_virtual_time(file: &SourceFile, files: &[SourceFile]) -> bool {
    let directory = file.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let module = format!("{directory}/mod.rs");
    let says_so = |text: &str| VIRTUAL_TIME.iter().any(|word| text.contains(word));
    says_so(&file.text)
        // The vocabulary of the tests of the whole composition, which all run under `sim::run`.
        || file.path == "tests/src/lib.rs"
        || files.iter().any(|other| other.path == module && says_so(&other.text))
}

/// Lines of code that contain one of `words`.
fn containing(file: &SourceFile, words: &[&str], verdict: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for word in words.iter().filter(|word| line.contains(*word)) {
            findings.push(format!("{}:{number}: `{word}` {verdict}", file.path));
        }
    }
    findings
}

fn unexplained_allows(file: &SourceFile) -> Vec<String> {
    if !file.path.ends_with(".rs") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for start in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
        for (at, _) in file.text.match_indices(start) {
            let attribute = file.text[at..].split(")]").next().unwrap_or_default();
            if !attribute.contains("reason") {
                let number = file.text[..at].matches('\n').count() + 1;
                findings.push(format!("{}:{number}: `{start}…)]` has no reason", file.path));
            }
        }
    }
    findings
}

fn machine_paths(file: &SourceFile) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for root in MACHINE_ROOTS {
            // In the middle of a longer path it is something else.
            let begins_there = line.match_indices(root).any(|(at, _)| {
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "/._-$}".contains(c))
            });
            if begins_there {
                findings.push(format!("{}:{number}: a path of one machine, {root}", file.path));
            }
        }
    }
    findings
}

/// Documents that are referred to and are not in the tree.
fn missing_documents(file: &SourceFile, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let directory = file.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-:".contains(c);
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for word in line.split(|c| !is_path(c)) {
            let word = word.trim_end_matches(['.', ':']);
            if !word.ends_with(".md") || word.contains(':') || word == ".md" {
                continue;
            }
            if !exists(word) && !exists(&format!("{directory}/{word}")) {
                findings.push(format!("{}:{number}: there is no {word}", file.path));
            }
        }
    }
    findings
}

/// Tests that a document names, as `path::name`, and that are not there.
fn missing_tests(file: &SourceFile, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for word in line.split('`').skip(1).step_by(2) {
            let Some((path, name)) = word.split_once("::") else { continue };
            let is_file = path.contains('/') && path.ends_with(".rs");
            if is_file && !read(path).is_some_and(|source| has_test(path, &source, name)) {
                findings.push(format!("{}:{number}: there is no test {word}", file.path));
            }
        }
    }
    findings
}

/// Code of the crates that reads the wall clock.
fn wall_clocks(file: &SourceFile) -> Vec<String> {
    let is_code = file.path.starts_with("crates/") && file.path.contains("/src/");
    if !is_code || WALL_CLOCK.contains(&file.path.as_str()) {
        return Vec::new();
    }
    containing(file, &["SystemTime::now("], "reads a clock that jumps; use `ortc_io::now`")
}

/// Public items of the crates whose names speak of session descriptions.
fn session_descriptions(file: &SourceFile) -> Vec<String> {
    if !file.path.starts_with("crates/") || !file.path.contains("/src/") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        let Some(item) = line.trim_start().strip_prefix("pub ") else { continue };
        // The item, or the field, up to what its type or its arguments are.
        let name = item.split(['(', '{', ':', '<', '=', ';']).next().unwrap_or_default();
        for word in NOT_OURS.iter().filter(|word| words(name).any(|other| other == **word)) {
            findings.push(format!("{}:{number}: `{word}` in a public API", file.path));
        }
    }
    findings
}

/// The words of a name in any of Rust's cases, in lower case.
fn words(name: &str) -> impl Iterator<Item = String> {
    let mut spaced = String::new();
    let mut last = ' ';
    for character in name.chars() {
        if character.is_uppercase() && last.is_lowercase() {
            spaced.push(' ');
        }
        spaced.push(if character == '_' { ' ' } else { character.to_ascii_lowercase() });
        last = character;
    }
    spaced.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn is_library_crate(package: &Package) -> bool {
    Path::new(&package.manifest).starts_with(tree::root().join("crates"))
}

/// Holds what crates import against the table of crates in ARCHITECTURE.md.
fn imports(architecture: &str, packages: &[Package]) -> Vec<String> {
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| is_library_crate(package)) {
        let name = &package.name;
        let row = architecture.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let Some(allowed) = row.and_then(may_import) else {
            findings.push(format!("{name} is not in the table of crates in ARCHITECTURE.md"));
            continue;
        };
        let mut breaches: Vec<&str> = package
            .dependencies
            .iter()
            .map(String::as_str)
            .filter(|dependency| packages.iter().any(|package| package.name == *dependency))
            .filter(|dependency| dependency != name && !allowed.contains(dependency))
            .collect();
        breaches.dedup();
        for dependency in breaches {
            findings.push(format!("{name} imports {dependency}, against ARCHITECTURE.md"));
        }
    }
    findings
}

/// The names in the last cell of a table row.
fn may_import(row: &str) -> Option<Vec<&str>> {
    let cell = row.trim_end().strip_suffix('|')?.rsplit('|').next()?;
    Some(cell.split('`').skip(1).step_by(2).collect())
}

fn unsafe_code(package: &Package, files: &[SourceFile]) -> Vec<String> {
    if package.name == MAY_BE_UNSAFE {
        return Vec::new();
    }
    let roots = ["lib.rs", "main.rs"].map(|file| format!("crates/{}/src/{file}", package.name));
    files
        .iter()
        .filter(|file| roots.contains(&file.path))
        .filter(|file| !file.text.contains("#![forbid(unsafe_code)]"))
        .map(|file| format!("{}: lacks `#![forbid(unsafe_code)]`", file.path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.into(), text: text.into() }
    }

    #[test]
    fn the_tree_is_tidy() {
        assert_eq!(findings(), Ok(Vec::new()));
    }

    #[test]
    fn a_long_file_is_found_and_its_test_module_is_not_counted() {
        let code = "x\n".repeat(MAX_LINES);
        let tests = format!("{code}#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert_eq!(length(&file("a.rs", &tests)), [""; 0]);
        assert_eq!(
            length(&file("a.rs", &format!("{code}x\n"))),
            ["a.rs: 801 lines; split it by idea at 800"]
        );
        assert_eq!(length(&file("a.md", &format!("{code}x\n"))), [""; 0]);
    }

    #[test]
    fn what_is_unfinished_is_found_with_its_line() {
        let source = file("a.rs", "fn a() {\n    todo!()\n}\n");
        assert_eq!(unfinished(&source), ["a.rs:2: `todo!(` is not merged"]);
    }

    #[test]
    fn sleeping_is_found_in_tests_that_run_in_real_time() {
        let text = "tokio::time::sleep(d).await;\nstd::thread::sleep(d);\n";
        let test = file("crates/a/tests/b.rs", text);
        assert_eq!((sleeps(&test, false).len(), sleeps(&test, true).len()), (2, 1));
        assert_eq!(sleeps(&file("crates/a/src/b.rs", text), false), [""; 0]);
    }

    #[test]
    fn virtual_time_is_said_in_the_file_or_in_its_module() {
        let own = file("crates/a/tests/b.rs", "sim::run(1, ||");
        let module = file("crates/a/src/tests/mod.rs", "#[tokio::test(start_paused = true)]");
        let beside = file("crates/a/src/tests/c.rs", "");
        let real = file("crates/a/tests/d.rs", "");
        let files = [own, module, beside, real];
        let found: Vec<bool> =
            files.iter().map(|file| runs_in_virtual_time(file, &files)).collect();
        assert_eq!(found, [true, true, true, false]);
    }

    #[test]
    fn an_allow_without_a_reason_is_found() {
        let text = "\n#[allow(dead_code)]\n#[expect(dead_code, reason = \"why\")]\n";
        let expected = ["a.rs:2: `#[allow(…)]` has no reason"];
        assert_eq!(unexplained_allows(&file("a.rs", text)), expected);
    }

    #[test]
    fn a_path_of_one_machine_is_found_and_a_part_of_another_path_is_not() {
        let text = "see `/home/me/x`\nhttps://example.org/home/x\n";
        assert_eq!(machine_paths(&file("a.md", text)), ["a.md:1: a path of one machine, /home/"]);
    }

    #[test]
    fn a_document_that_does_not_exist_is_found() {
        let text = "See [b](b.md), `c.md` and https://example.org/d.md.\n";
        let findings = missing_documents(&file("docs/a.md", text), |path| path == "docs/b.md");
        assert_eq!(findings, ["docs/a.md:1: there is no c.md"]);
    }

    #[test]
    fn a_test_that_a_document_names_and_that_is_not_there_is_found() {
        let text = "`a/b.rs::there`, `a/b.rs::gone`, `a/c.rs::x` and `Self::x`\n";
        let read = |path: &str| (path == "a/b.rs").then(|| "#[test]\nfn there() {}\n".to_owned());
        let found = missing_tests(&file("docs/a.md", text), read);
        let expected = ["a/b.rs::gone", "a/c.rs::x"];
        assert_eq!(found, expected.map(|test| format!("docs/a.md:1: there is no test {test}")));
    }

    #[test]
    fn a_look_at_the_wall_clock_is_found() {
        let text = "let now = SystemTime::now();\n";
        assert_eq!(wall_clocks(&file("crates/a/src/b.rs", text)).len(), 1);
        assert_eq!(wall_clocks(&file(WALL_CLOCK[0], text)), [""; 0]);
    }

    #[test]
    fn a_session_description_in_a_public_api_is_found() {
        let text = "pub fn create_offer(&self) {}\npub struct RemoteSdp;\npub(crate) fn offered() {}\n\
                    fn answer() {}\npub fn offered(answer: u8) {}\npub sdp: String,\n";
        let found = session_descriptions(&file("crates/a/src/b.rs", text));
        assert_eq!(
            found,
            [
                "crates/a/src/b.rs:1: `offer` in a public API",
                "crates/a/src/b.rs:2: `sdp` in a public API",
                "crates/a/src/b.rs:6: `sdp` in a public API",
            ]
        );
        assert_eq!(session_descriptions(&file("crates/a/tests/b.rs", text)), [""; 0]);
    }

    #[test]
    fn an_import_against_the_table_is_found() {
        let manifest = |name: &str| {
            tree::root().join("crates").join(name).join("Cargo.toml").display().to_string()
        };
        let package = |name: &str, dependencies: &[&str]| Package {
            name: name.into(),
            version: String::new(),
            license: None,
            source: None,
            manifest: manifest(name),
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
            examples: Vec::new(),
        };
        let table = "| `a` | x | – |\n| `b` | x | `a` |\n";
        let packages = [
            package("a", &["b", "b", "serde"]),
            package("b", &["a", "b"]),
            package("c", &["serde"]),
        ];
        assert_eq!(
            imports(table, &packages),
            [
                "a imports b, against ARCHITECTURE.md",
                "c is not in the table of crates in ARCHITECTURE.md",
            ]
        );
    }
}
