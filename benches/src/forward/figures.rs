//! The plots of this benchmark.

use serde_json::Value;

use crate::plot::{Bar, Line, bars, lines};

const WHO: [&str; 5] = ["bare", "bare-plain", "ortc", "str0m", "webrtc-rs"];

/// The plots that `results` have the figures for.
pub(crate) fn plots(results: &[Value]) -> Vec<(&'static str, String)> {
    let results: Vec<&Value> = results.iter().filter(|row| row["bench"] == super::NAME).collect();
    let plots = [
        ("forward-cost.svg", cost(&results)),
        ("forward-subscribers.svg", subscribers(&results)),
        ("forward-delay.svg", delay(&results)),
    ];
    plots.into_iter().filter_map(|(name, plot)| Some((name, plot?))).collect()
}

/// The figure of somebody's row that all of `parameters` hold for.
fn figure(results: &[&Value], who: &str, parameters: &[(&str, Value)], key: &str) -> Option<f64> {
    let row = results
        .iter()
        .find(|row| row["who"] == who && parameters.iter().all(|(key, value)| row[*key] == *value));
    row?[key].as_f64()
}

fn cost(results: &[&Value]) -> Option<String> {
    let mut groups = Vec::new();
    let shapes = [
        ("1,200 bytes, bursts of 8", 1200, 8, Some(1.25)),
        ("1,200 bytes, single packets", 1200, 1, None),
        ("160 bytes, bursts of 8", 160, 8, None),
        ("160 bytes, single packets", 160, 1, Some(1.15)),
    ];
    for (label, payload, burst, goal) in shapes {
        let parameters = [
            ("part", "cost".into()),
            ("subscribers", 50.into()),
            ("payload", payload.into()),
            ("burst", burst.into()),
            ("profile", "gcm128".into()),
        ];
        let of = |who: &str| figure(results, who, &parameters, "ns_per_packet");
        let bare = of(if burst == 1 { "bare-plain" } else { "bare" });
        let bar = |who: &&str| {
            let goal = goal.filter(|_| *who == "ortc").zip(bare).map(|(goal, bare)| goal * bare);
            Some(Bar { who: (*who).to_owned(), value: of(who)?, goal })
        };
        let bars: Vec<_> = WHO.iter().filter_map(bar).collect();
        if !bars.is_empty() {
            groups.push((label.to_owned(), bars));
        }
    }
    let title = "CPU time of a forwarded packet, 50 subscribers";
    (!groups.is_empty()).then(|| bars(title, "ns of CPU for each packet that was sent", &groups))
}

fn subscribers(results: &[&Value]) -> Option<String> {
    let places = [1, 10, 50, 200];
    let line = |who: &&str| {
        let point = |subscribers: u64| {
            let parameters = [
                ("part", "cost".into()),
                ("subscribers", subscribers.into()),
                ("payload", 1200.into()),
                ("burst", 8.into()),
                ("profile", "gcm128".into()),
            ];
            let value = figure(results, who, &parameters, "ns_per_packet")?;
            Some((subscribers as f64, value))
        };
        let points: Vec<_> = places.into_iter().filter_map(point).collect();
        (!points.is_empty()).then(|| Line { who: (*who).to_owned(), points })
    };
    let all: Vec<_> = WHO.iter().filter_map(line).collect();
    let title = "CPU time of a forwarded packet, by subscribers (1,200 bytes, bursts of 8)";
    let places = places.map(|place| place as f64);
    let axes = ("subscribers", "ns of CPU for each packet that was sent");
    (!all.is_empty()).then(|| lines(title, axes, &places, &all))
}

fn delay(results: &[&Value]) -> Option<String> {
    let mut groups = Vec::new();
    for percent in [30, 80] {
        let of = |who: &str, key: &str| {
            let parameters = [("part", "load".into()), ("load_percent", percent.into())];
            figure(results, who, &parameters, key)
        };
        for (key, name) in [("p50_us", "median"), ("p99_us", "99 %"), ("p999_us", "99.9 %")] {
            let judged = percent == 80 && key == "p99_us";
            let bare = of("bare", key).filter(|_| judged);
            let bar = |who: &&str| {
                let goal = bare.filter(|_| *who == "ortc").map(|bare| bare * 1.5);
                Some(Bar { who: (*who).to_owned(), value: of(who, key)?, goal })
            };
            let bars: Vec<_> = WHO.iter().filter_map(bar).collect();
            if !bars.is_empty() {
                groups.push((format!("{percent} % load, {name}"), bars));
            }
        }
    }
    let title = "Delay at a part of the most that each forwards";
    (!groups.is_empty()).then(|| bars(title, "µs from publisher to subscriber", &groups))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_measured_is_not_drawn() {
        let row = json!({
            "bench": "forward", "part": "cost", "who": "ortc", "subscribers": 50,
            "payload": 1200, "burst": 8, "profile": "gcm128", "ns_per_packet": 1_012.0,
        });
        let drawn = plots(&[row]);
        let names: Vec<_> = drawn.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["forward-cost.svg", "forward-subscribers.svg"]);
        assert!(drawn[0].1.contains(">1,012<"), "{}", drawn[0].1);
        assert!(plots(&[]).is_empty());
    }
}
