//! A plot of a soak, as SVG that reads on a light and on a dark page alike.

use super::Sample;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 730.0;
/// Of each curve.
const HEIGHT: f64 = 110.0;
const GAP: f64 = 46.0;

const STYLE: &str = "<style>text{font:13px system-ui,sans-serif;fill:#24292f}\
    .title{font-size:15px;font-weight:600}.small{font-size:12px}\
    .grid{stroke:#8b949e;stroke-opacity:.35}.curve{fill:none;stroke:#1f78d1;stroke-width:2}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}}</style>";

/// A curve: its name, and what it shows of a sample.
type Curve = (&'static str, fn(&Sample) -> f64);

const CURVES: [Curve; 4] = [
    ("allocated, kB", |sample| sample.allocated as f64 / 1024.0),
    ("resident memory, MB", |sample| sample.resident_kb as f64 / 1024.0),
    ("file descriptors", |sample| sample.descriptors as f64),
    ("tasks", |sample| sample.tasks as f64),
];

/// Draws what is allocated, memory, descriptors and tasks over the connections that have come and
/// gone, each from zero on.
pub fn plot(samples: &[Sample]) -> String {
    let last = samples.last().map_or(1, |sample| sample.connections.max(1)) as f64;
    let x = |connections: u64| LEFT + connections as f64 / last * (RIGHT - LEFT);
    let mut body = String::from(
        "<text x=\"16\" y=\"26\" class=\"title\">What is left of connections that have closed</text>\n",
    );
    let mut top = 62.0;
    for (name, of) in CURVES {
        let bottom = top + HEIGHT;
        let most = samples.iter().map(of).fold(1.0, f64::max) * 1.15;
        let y = |value: f64| bottom - value / most * HEIGHT;
        body.push_str(&format!(
            "<text x=\"16\" y=\"{:.0}\" class=\"small\">{name}</text>\n",
            top - 8.0
        ));
        for value in [0.0, most / 1.15] {
            let at = y(value);
            body.push_str(&format!(
                "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\" class=\"grid\"/>\n\
                 <text x=\"{:.0}\" y=\"{:.1}\" class=\"small\" text-anchor=\"end\">{value:.0}</text>\n",
                LEFT - 8.0,
                at + 4.0
            ));
        }
        let points: Vec<_> = samples
            .iter()
            .map(|sample| format!("{:.1},{:.1}", x(sample.connections), y(of(sample))))
            .collect();
        body.push_str(&format!("<polyline class=\"curve\" points=\"{}\"/>\n", points.join(" ")));
        top = bottom + GAP;
    }
    let caption = top - GAP + 24.0;
    body.push_str(&format!(
        "<text x=\"{:.0}\" y=\"{caption:.0}\" class=\"small\" text-anchor=\"middle\">connections made \
         and closed, up to {last}</text>\n",
        (LEFT + RIGHT) / 2.0
    ));
    let height = caption + 16.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n{STYLE}\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flat_line_is_flat() {
        let sample = |connections| Sample {
            elapsed: Duration::ZERO,
            connections,
            allocated: 20_480,
            resident_kb: 20_480,
            descriptors: 30,
            threads: 8,
            tasks: 5,
        };
        let svg = plot(&[sample(0), sample(500), sample(1_000)]);
        // 20 kB of the 23 that the axis reaches.
        assert!(svg.contains("points=\"90.0,76.3 410.0,76.3 730.0,76.3\""), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 4);
    }
}
