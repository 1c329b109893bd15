//! `cargo xtask conformance`: holds `docs/conformance.md` against the tree.
//!
//! Every requirement is one row of a table with the columns of [`HEADER`]. A `met` row names
//! at least one test that exists, as `path::name`; an `open` row may already say where it
//! will be met.

use std::collections::BTreeMap;
use std::fs;

use crate::process::{Failure, Outcome};
use crate::tree;

const DOCUMENT: &str = "docs/conformance.md";
const HEADER: &str = "| Id | Requirement | Where | Test | Status |";

/// What stands in a test cell as long as there is no test.
const NONE: &str = "–";

#[derive(Debug, PartialEq, Eq)]
struct Row {
    line: usize,
    section: String,
    id: String,
    requirement: String,
    place: String,
    tests: Vec<String>,
    is_met: bool,
}

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let text = tree::read(DOCUMENT)?;
    match arguments {
        [] => report(&check(&text)?),
        [flag] if flag == "--open" => {
            for row in check(&text)?.iter().filter(|row| !row.is_met) {
                println!("{}  {}  ({})", row.id, row.requirement, row.place);
            }
        }
        [flag, id, tests @ ..] if flag == "--meet" => {
            let text = meet(&text, id, tests)?;
            check(&text)?;
            fs::write(tree::root().join(DOCUMENT), text)
                .map_err(|error| Failure::new(format!("{DOCUMENT}: {error}")))?;
            println!("{id} is met");
        }
        _ => {
            return Err(Failure::new(
                "usage: cargo xtask conformance [--open | --meet ID [PATH::TEST]...]",
            ));
        }
    }
    Ok(())
}

/// Prints how many rows of each section are met.
fn report(rows: &[Row]) {
    let mut sections: Vec<(&str, usize, usize)> = Vec::new();
    for row in rows {
        if sections.last().is_none_or(|(section, ..)| *section != row.section) {
            sections.push((&row.section, 0, 0));
        }
        let (_, met, all) = sections.last_mut().expect("pushed above");
        *met += usize::from(row.is_met);
        *all += 1;
    }
    for (section, met, all) in sections {
        println!("    {met:>3} of {all:>3}  {section}");
    }
    println!("    {:>3} of {:>3}", rows.iter().filter(|row| row.is_met).count(), rows.len());
}

/// Reads the rows and holds them against the tree.
fn check(text: &str) -> Outcome<Vec<Row>> {
    let rows = parse(text).map_err(|findings| Failure::new(findings.join("\n")))?;
    let mut sources = BTreeMap::new();
    let mut findings = Vec::new();
    for row in rows.iter().filter(|row| row.is_met) {
        for name in crates_named(&row.place) {
            if !tree::root().join("crates").join(name).exists() {
                findings.push(format!("{DOCUMENT}:{}: {}: no crate {name}", row.line, row.id));
            }
        }
        for test in &row.tests {
            let Some((path, name)) = test.split_once("::") else { continue };
            let source = sources
                .entry(path.to_owned())
                .or_insert_with(|| fs::read_to_string(tree::root().join(path)).ok());
            let problem = match source {
                None => "there is no such file",
                Some(source) if !has_test(path, source, name) => "there is no such test in it",
                Some(_) => continue,
            };
            findings.push(format!("{DOCUMENT}:{}: {}: {test}: {problem}", row.line, row.id));
        }
    }
    if findings.is_empty() { Ok(rows) } else { Err(Failure::new(findings.join("\n"))) }
}

/// The crates that a cell names, in backquotes.
fn crates_named(place: &str) -> impl Iterator<Item = &str> {
    place.split('`').skip(1).step_by(2).filter(|name| name.starts_with("ortc-"))
}

/// Reads all rows, or says what is wrong with them.
fn parse(text: &str) -> Result<Vec<Row>, Vec<String>> {
    let mut rows: Vec<Row> = Vec::new();
    let mut findings = Vec::new();
    let (mut section, mut in_table) = (String::new(), false);
    for (line, content) in (1..).zip(text.lines()) {
        if let Some(title) = content.strip_prefix("## ") {
            section = title.to_owned();
        }
        if !content.starts_with('|') {
            in_table = false;
        } else if !in_table {
            in_table = true;
            if content != HEADER {
                findings.push(format!("{DOCUMENT}:{line}: a table begins with `{HEADER}`"));
            }
        } else if !content.starts_with("|---") {
            match row(content) {
                Ok(row) if rows.iter().any(|other| other.id == row.id) => {
                    findings.push(format!("{DOCUMENT}:{line}: {} stands here twice", row.id));
                }
                Ok(row) => rows.push(Row { line, section: section.clone(), ..row }),
                Err(problem) => findings.push(format!("{DOCUMENT}:{line}: {problem}")),
            }
        }
    }
    if rows.is_empty() {
        findings.push(format!("{DOCUMENT}: there are no rows"));
    }
    if findings.is_empty() { Ok(rows) } else { Err(findings) }
}

fn row(content: &str) -> Result<Row, String> {
    let cells: Vec<&str> = content.trim_matches('|').split('|').map(str::trim).collect();
    let [id, requirement, place, test, status] = cells[..] else {
        return Err(format!("{} cells instead of 5", cells.len()));
    };
    if !["A-", "B-", "AB-", "C-"].iter().any(|draft| id.starts_with(draft)) || id.contains(' ') {
        return Err(format!("`{id}` is no id: A-…, B-…, AB-… or, for a choice, C-…"));
    }
    if requirement.is_empty() || place.is_empty() {
        return Err(format!("{id}: an empty cell"));
    }
    let tests: Vec<String> = if test == NONE {
        Vec::new()
    } else {
        test.split(',').map(|test| test.trim().trim_matches('`').to_owned()).collect()
    };
    if let Some(test) = tests.iter().find(|test| !test.contains("::")) {
        return Err(format!("{id}: `{test}` is no test: write path::name, or {NONE}"));
    }
    let is_met = match status {
        "met" => true,
        "open" => false,
        _ => return Err(format!("{id}: `{status}` is no status: open or met")),
    };
    if is_met && tests.is_empty() {
        return Err(format!("{id} is met by no test"));
    }
    Ok(Row {
        line: 0,
        section: String::new(),
        id: id.to_owned(),
        requirement: requirement.to_owned(),
        place: place.to_owned(),
        tests,
        is_met,
    })
}

/// Whether `source` has a test of that name: a function marked as a test in Rust, a quoted
/// title elsewhere.
pub(crate) fn has_test(path: &str, source: &str, name: &str) -> bool {
    // A test in a nested module is named by the module too; the function is what counts.
    let name = name.rsplit("::").next().unwrap_or(name);
    if !path.ends_with(".rs") {
        return ['"', '\'', '`'].iter().any(|q| source.contains(&format!("{q}{name}{q}")));
    }
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let is_function = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ").is_some_and(|rest| rest.starts_with(&format!("{name}(")))
    };
    lines.iter().enumerate().any(|(at, line)| {
        is_function(line)
            && lines[..at]
                .iter()
                .rev()
                .take_while(|line| !line.is_empty() && !line.ends_with('}'))
                .any(|line| line.starts_with("#[") && line.contains("test"))
    })
}

/// The document with one row met by `tests`, or by those that it names already.
fn meet(text: &str, id: &str, tests: &[String]) -> Outcome<String> {
    let start = format!("| {id} |");
    if !text.lines().any(|line| line.starts_with(&start)) {
        return Err(Failure::new(format!("{DOCUMENT} has no row {id}")));
    }
    let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
    let lines = text.lines().map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        match cells[..] {
            [id, requirement, place, named, _] if line.starts_with(&start) => {
                let tests = if tests.is_empty() { named.to_owned() } else { tests.join(", ") };
                format!("| {id} | {requirement} | {place} | {tests} | met |\n")
            }
            _ => format!("{line}\n"),
        }
    });
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "## One\n\n| Id | Requirement | Where | Test | Status |\n\
        |---|---|---|---|---|\n";

    fn problems(rows: &str) -> Vec<String> {
        parse(&format!("{TABLE}{rows}")).expect_err("there is something wrong with them")
    }

    #[test]
    fn every_met_row_names_a_test_that_exists() {
        let rows = check(&tree::read(DOCUMENT).unwrap()).unwrap();
        assert!(rows.len() > 100, "{} rows are not both drafts", rows.len());
    }

    #[test]
    fn a_row_is_read_whole() {
        let rows = parse(&format!("{TABLE}| A-x | Does | `a` | `t.rs::b`, c.rs::d | met |\n"));
        let expected = Row {
            line: 5,
            section: "One".into(),
            id: "A-x".into(),
            requirement: "Does".into(),
            place: "`a`".into(),
            tests: vec!["t.rs::b".into(), "c.rs::d".into()],
            is_met: true,
        };
        assert_eq!(rows, Ok(vec![expected]));
    }

    #[test]
    fn a_met_row_names_a_crate_and_a_test_that_exist() {
        let row = |place: &str, test: &str| {
            check(&format!("{TABLE}| A-x | a | {place} | {test} | met |\n")).map(|rows| rows.len())
        };
        let own = "xtask/src/conformance.rs::a_row_is_read_whole";
        let problem = |what: &str| Err(Failure::new(format!("{DOCUMENT}:5: A-x: {what}")));
        assert_eq!(row("`ortc-io` b", own), Ok(1));
        assert_eq!(row("`ortc-none` b", own), problem("no crate ortc-none"));
        assert_eq!(row("b", "x.rs::a"), problem("x.rs::a: there is no such file"));
        let absent = "xtask/src/conformance.rs::row";
        assert_eq!(row("b", absent), problem(&format!("{absent}: there is no such test in it")));
    }

    #[test]
    fn each_way_to_be_wrong_is_named() {
        for (rows, expected) in [
            ("| A-x | a | b | – | done |\n", ":5: A-x: `done` is no status: open or met"),
            ("| A-x | a | b | – | met |\n", ":5: A-x is met by no test"),
            ("| A-x | a | b | c | open |\n", ":5: A-x: `c` is no test: write path::name, or –"),
            ("| A-x | a | b | open |\n", ":5: 4 cells instead of 5"),
            ("| A-x | a |  | – | open |\n", ":5: A-x: an empty cell"),
            (
                "| x | a | b | – | open |\n",
                ":5: `x` is no id: A-…, B-…, AB-… or, for a choice, C-…",
            ),
        ] {
            assert_eq!(problems(rows)[0], format!("{DOCUMENT}{expected}"));
        }
        let twice = "| A-x | a | b | – | open |\n".repeat(2);
        assert_eq!(problems(&twice), [format!("{DOCUMENT}:6: A-x stands here twice")]);
        assert_eq!(parse("").unwrap_err(), [format!("{DOCUMENT}: there are no rows")]);
    }

    #[test]
    fn a_test_is_a_function_that_is_marked_as_one() {
        let source =
            "#[test]\nfn one() {\n}\n\nfn two() {\n}\n\n    #[tokio::test]\n    async fn three() {";
        let found =
            ["one", "two", "three", "tests::one", "on"].map(|name| has_test("a.rs", source, name));
        assert_eq!(found, [true, false, true, true, false]);
        assert!(has_test("a.js", "test('hears it', …)", "hears it"));
    }

    #[test]
    fn meeting_a_row_changes_that_row_only() {
        let text = "| A-x | a | b | – | open |\n| A-xy | a | b | – | open |\n";
        let met = meet(text, "A-x", &["t.rs::n".into()]).unwrap();
        assert_eq!(met, "| A-x | a | b | `t.rs::n` | met |\n| A-xy | a | b | – | open |\n");
        assert_eq!(meet(&met.replace("met", "open"), "A-x", &[]), Ok(met));
        let error = Failure::new("docs/conformance.md has no row A-z");
        assert_eq!(meet(text, "A-z", &["t.rs::n".into()]), Err(error));
    }
}
