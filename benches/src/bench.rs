//! What a benchmark is, and what it gives: rows of figures, and the goals beside them.

use serde_json::{Map, Value};

use crate::error::Result;

/// One benchmark: a file of its own, and a row of the table in `main.rs`.
pub(crate) struct Bench {
    /// As it is called on the command line and in the JSON.
    pub(crate) name: &'static str,
    /// Which part of the benchmark it is, where one has several with tables of their own.
    pub(crate) part: &'static str,
    /// What is measured, in a line.
    pub(crate) help: &'static str,
    /// The figures in the order of the table's columns; the table shows no others.
    pub(crate) figures: &'static [Figure],
    /// Measures everybody, in this run, and hands each row to `report` when it is there.
    pub(crate) run: fn(&Options, &mut dyn FnMut(Row)) -> Result<()>,
    /// Called in a process of its own as `ortc-bench contestant NAME ARGS...`: our side of the
    /// benchmark, where what is measured must be alone in its process.
    pub(crate) contestant: Option<Contest>,
}

/// Our side of a benchmark, with its arguments.
pub(crate) type Contest = fn(&[String]) -> Result<()>;

/// What a figure is to be under these parameters, if there is a goal for them.
pub(crate) type Goal = fn(&Map<String, Value>) -> Option<Limit>;

/// What a figure is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// At least that, on a larger machine: this one is too small to judge it.
    NotJudged(f64),
}

impl Limit {
    /// The goal, and whether `value` meets it.
    fn judge(self, value: Option<f64>) -> String {
        let (sign, limit) = match self {
            Self::AtMost(limit) => ("<=", limit),
            Self::AtLeast(limit) | Self::NotJudged(limit) => (">=", limit),
        };
        let verdict = match (self, value) {
            (Self::NotJudged(_), _) => " not judged",
            (_, None) => "",
            (Self::AtMost(_), Some(value)) if value <= limit => " met",
            (Self::AtLeast(_), Some(value)) if value >= limit => " met",
            _ => " NOT met",
        };
        format!("{sign} {}{verdict}", number(limit))
    }
}

/// What is measured of each row.
pub(crate) struct Figure {
    /// The key in the JSON, with its unit.
    pub(crate) key: &'static str,
    /// What that of `ortc` is to be, by the parameters of the row.
    pub(crate) goal: Option<Goal>,
}

/// How benchmarks are run.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// The program with the peers that are not ours; without it only `ortc` is measured.
    pub(crate) peers: Option<String>,
    /// Parts to run; all when empty.
    pub(crate) parts: Vec<String>,
    /// Whom to measure; everybody when empty.
    pub(crate) only: Vec<String>,
    /// Keys of parameters, and what they are to be; the other sets of parameters are left out.
    pub(crate) given: Vec<(String, String)>,
    /// A tenth of the work: to see that it runs, not what it gives.
    pub(crate) quick: bool,
}

impl Options {
    /// Whether somebody is to be measured.
    pub(crate) fn wants(&self, who: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == who)
    }

    /// Whether something is to be measured with these parameters.
    pub(crate) fn wants_with(&self, parameters: &Map<String, Value>) -> bool {
        let has = |(key, value): &(String, String)| {
            parameters.get(key).is_some_and(|it| text(it) == *value)
        };
        self.given.iter().all(has)
    }

    /// `work`, or a tenth of it.
    pub(crate) fn scaled(&self, work: u64) -> u64 {
        if self.quick { (work / 10).max(1) } else { work }
    }
}

/// The figures of one contestant under one set of parameters.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) who: &'static str,
    pub(crate) parameters: Map<String, Value>,
    pub(crate) figures: Map<String, Value>,
}

impl Row {
    /// As it is in the JSON file: one flat object.
    pub(crate) fn to_json(&self, bench: &Bench) -> Value {
        let mut object = Map::new();
        object.insert("bench".into(), bench.name.into());
        if !bench.part.is_empty() {
            object.insert("part".into(), bench.part.into());
        }
        object.insert("who".into(), self.who.into());
        object.extend(self.parameters.clone());
        object.extend(self.figures.clone());
        Value::Object(object)
    }

    fn figure(&self, key: &str) -> Option<f64> {
        self.figures.get(key).and_then(Value::as_f64)
    }
}

/// A table for people: for each set of parameters everybody's figures, in brackets how many
/// times what `ortc` takes, and the goal below.
pub(crate) fn table(bench: &Bench, rows: &[Row]) -> String {
    let mut lines = vec![header(bench)];
    let mut seen: Vec<&Map<String, Value>> = Vec::new();
    for row in rows {
        if seen.contains(&&row.parameters) {
            continue;
        }
        seen.push(&row.parameters);
        let group: Vec<&Row> =
            rows.iter().filter(|other| other.parameters == row.parameters).collect();
        let ours = group.iter().find(|row| row.who == "ortc").copied();
        lines.extend(group.iter().map(|row| cells(bench, row, ours)));
        lines.extend(goals(bench, &row.parameters, ours));
    }
    align(&lines)
}

fn header(bench: &Bench) -> Vec<String> {
    let figures = bench.figures.iter().map(|figure| figure.key.to_owned());
    ["who".to_owned(), "parameters".to_owned()].into_iter().chain(figures).collect()
}

fn parameters(parameters: &Map<String, Value>) -> String {
    let one = |(key, value): (&String, &Value)| format!("{key}={}", text(value));
    parameters.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// A parameter, as it is written on the command line and in the table.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn cells(bench: &Bench, row: &Row, ours: Option<&Row>) -> Vec<String> {
    let mut cells = vec![row.who.to_owned(), parameters(&row.parameters)];
    for figure in bench.figures {
        let Some(value) = row.figure(figure.key) else {
            cells.push("-".into());
            continue;
        };
        let ours = ours.filter(|ours| ours.who != row.who).and_then(|row| row.figure(figure.key));
        cells.push(match ours {
            Some(ours) if ours > 0.0 => format!("{} ({:.1}x)", number(value), value / ours),
            _ => number(value),
        });
    }
    cells
}

/// The line of goals, if there are any, each with whether `ortc` meets it.
fn goals(
    bench: &Bench,
    parameters: &Map<String, Value>,
    ours: Option<&Row>,
) -> Option<Vec<String>> {
    let mut any = false;
    let mut cells = vec!["goal".to_owned(), String::new()];
    for figure in bench.figures {
        let goal = figure.goal.and_then(|goal| goal(parameters));
        any |= goal.is_some();
        let value = ours.and_then(|row| row.figure(figure.key));
        cells.push(goal.map_or(String::new(), |goal| goal.judge(value)));
    }
    any.then_some(cells)
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| lines.iter().filter_map(|l| l.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BENCH: Bench = Bench {
        name: "example",
        part: "",
        help: "",
        figures: &[
            Figure { key: "cost_ms", goal: Some(|_| Some(Limit::AtMost(1.0))) },
            Figure { key: "size_kb", goal: None },
        ],
        run: |_, _| Ok(()),
        contestant: None,
    };

    fn row(who: &'static str, cost: f64) -> Row {
        let object = |value: Value| value.as_object().cloned().unwrap();
        Row {
            who,
            parameters: object(json!({ "burst": 8 })),
            figures: object(json!({ "cost_ms": cost, "size_kb": 10 })),
        }
    }

    #[test]
    fn a_table_has_ratios_to_ortc_and_says_whether_the_goal_is_met() {
        let text = table(&BENCH, &[row("ortc", 0.5), row("other", 1.5)]);
        assert_eq!(
            text,
            "who    parameters      cost_ms      size_kb\n\
             ortc   burst=8            0.50         10.0\n\
             other  burst=8     1.50 (3.0x)  10.0 (1.0x)\n\
             goal               <= 1.00 met\n"
        );
        assert!(table(&BENCH, &[row("ortc", 1.5)]).contains("<= 1.00 NOT met"));
    }

    #[test]
    fn a_goal_is_judged_by_its_kind() {
        for (limit, value, expected) in [
            (Limit::AtMost(2.0), Some(2.0), "<= 2.00 met"),
            (Limit::AtLeast(2.0), Some(1.9), ">= 2.00 NOT met"),
            (Limit::AtLeast(2.0), Some(2.1), ">= 2.00 met"),
            (Limit::NotJudged(1.8), Some(1.0), ">= 1.80 not judged"),
            (Limit::AtMost(2.0), None, "<= 2.00"),
        ] {
            assert_eq!(limit.judge(value), expected);
        }
    }

    #[test]
    fn a_row_is_one_flat_object() {
        let expected = json!({
            "bench": "example", "who": "ortc", "burst": 8, "cost_ms": 0.5, "size_kb": 10,
        });
        assert_eq!(row("ortc", 0.5).to_json(&BENCH), expected);
    }
}
