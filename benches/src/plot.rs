//! Plots of the figures, as SVG that reads on a light and on a dark page alike.

use serde_json::Value;

use crate::forward;

/// Every plot that `results` have the figures for: the name of its file, and what it holds.
pub(crate) fn all(results: &[Value]) -> Vec<(&'static str, String)> {
    forward::plots(results)
}

/// One series: whose it is, in which colour, and how its line is drawn.
///
/// The colours are told apart by people who see none of red and green, on white and on black.
struct Look {
    who: &'static str,
    colour: &'static str,
    dashes: &'static str,
}

const LOOKS: [Look; 5] = [
    Look { who: "bare", colour: "#8b949e", dashes: "" },
    Look { who: "bare-plain", colour: "#8b949e", dashes: "6 4" },
    Look { who: "ortc", colour: "#1f78d1", dashes: "" },
    Look { who: "str0m", colour: "#e08214", dashes: "" },
    Look { who: "webrtc-rs", colour: "#b35fa8", dashes: "" },
];

fn look(who: &str) -> &'static Look {
    LOOKS.iter().find(|look| look.who == who).unwrap_or(&LOOKS[0])
}

/// A plot in the making.
struct Drawing {
    body: String,
    height: f64,
}

const WIDTH: f64 = 760.0;
/// Where the axis of values begins and ends.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 690.0;

const STYLE: &str = "<style>\
    text{font:13px system-ui,sans-serif;fill:#24292f}\
    .title{font-size:15px;font-weight:600}.small{font-size:12px}\
    .grid{stroke:#8b949e;stroke-opacity:.35}.axis{stroke:#8b949e}\
    .goal{stroke:#2da44e;stroke-width:2}.goaltext{fill:#1a7f37;font-size:12px}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.goal{stroke:#3fb950}.goaltext{fill:#3fb950}}\
    </style>";

impl Drawing {
    fn new(title: &str) -> Self {
        let mut drawing = Self { body: String::new(), height: 0.0 };
        drawing.text(16.0, 26.0, "title", "start", title);
        drawing
    }

    fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.body.push_str(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>\n"
        ));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.body.push_str(&format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>\n"
        ));
    }

    fn bar(&mut self, y: f64, length: f64, height: f64, who: &str) {
        let Look { colour, dashes, .. } = look(who);
        let fill = if dashes.is_empty() { "1" } else { ".45" };
        self.body.push_str(&format!(
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{height}\" \
             fill=\"{colour}\" fill-opacity=\"{fill}\" stroke=\"{colour}\"/>\n"
        ));
    }

    fn finish(self) -> String {
        let (body, height) = (self.body, self.height);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n{STYLE}\n{body}</svg>\n"
        )
    }
}

/// A bar of a group: whose, how long, and what it is to stay below.
pub(crate) struct Bar {
    pub(crate) who: String,
    pub(crate) value: f64,
    pub(crate) goal: Option<f64>,
}

/// Groups of horizontal bars, with the value at the end of each and its goal across it.
pub(crate) fn bars(title: &str, axis: &str, groups: &[(String, Vec<Bar>)]) -> String {
    let mut drawing = Drawing::new(title);
    let values = groups.iter().flat_map(|(_, bars)| bars);
    let most = values.map(|bar| bar.value.max(bar.goal.unwrap_or(0.0))).fold(0.0, f64::max);
    let (step, steps) = ticks(most);
    let scale = (RIGHT - LEFT) / (step * f64::from(steps));
    let (top, thick, gap) = (46.0, 16.0, 4.0);
    let rows: usize = groups.iter().map(|(_, bars)| bars.len()).sum();
    let bottom = top + rows as f64 * (thick + gap) + groups.len() as f64 * 30.0;
    for n in 0..=steps {
        let x = LEFT + f64::from(n) * step * scale;
        drawing.line((x, top), (x, bottom), "grid");
        drawing.text(x, bottom + 18.0, "small", "middle", &with_commas(f64::from(n) * step));
    }
    drawing.text((LEFT + RIGHT) / 2.0, bottom + 38.0, "small", "middle", axis);
    let mut y = top;
    for (label, bars) in groups {
        drawing.text(16.0, y + 18.0, "", "start", label);
        y += 26.0;
        for Bar { who, value, goal } in bars {
            drawing.text(LEFT - 8.0, y + 13.0, "small", "end", who);
            drawing.bar(y, value * scale, thick, who);
            // Behind the mark of the goal, where that is in the way.
            let end = LEFT + value * scale;
            let mark = goal.map(|goal| LEFT + goal * scale);
            let mark = mark.filter(|mark| (end - 2.0..end + 70.0).contains(mark));
            let end = mark.unwrap_or(end);
            drawing.text(end + 6.0, y + 13.0, "small", "start", &with_commas(value.round()));
            if let Some(goal) = goal {
                let x = LEFT + goal * scale;
                drawing.line((x, y - 3.0), (x, y + thick + 3.0), "goal");
            }
            y += thick + gap;
        }
        y += 4.0;
    }
    let has_goal = groups.iter().flat_map(|(_, bars)| bars).any(|bar| bar.goal.is_some());
    if has_goal {
        drawing.line((WIDTH - 152.0, 14.0), (WIDTH - 152.0, 32.0), "goal");
        drawing.text(WIDTH - 144.0, 27.0, "goaltext", "start", "goal: left of this");
    }
    drawing.height = bottom + 50.0;
    drawing.finish()
}

/// A line of a plot: whose, and its points.
pub(crate) struct Line {
    pub(crate) who: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over an axis that has the same distance from each of `places` to the next.
pub(crate) fn lines(title: &str, axes: (&str, &str), places: &[f64], lines: &[Line]) -> String {
    let mut drawing = Drawing::new(title);
    let (left, right, top, bottom) = (70.0, 600.0, 70.0, 340.0);
    let most = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
    let (step, steps) = ticks(most);
    let y_of = |value: f64| bottom - value / (step * f64::from(steps)) * (bottom - top);
    let x_of = |place: usize| {
        let part = (place as f64 + 0.5) / places.len() as f64;
        left + part * (right - left)
    };
    drawing.text(left - 54.0, top - 18.0, "small", "start", axes.1);
    for n in 0..=steps {
        let value = f64::from(n) * step;
        drawing.line((left, y_of(value)), (right, y_of(value)), "grid");
        drawing.text(left - 8.0, y_of(value) + 4.0, "small", "end", &with_commas(value));
    }
    for (place, value) in places.iter().enumerate() {
        drawing.text(x_of(place), bottom + 18.0, "small", "middle", &with_commas(*value));
    }
    drawing.text((left + right) / 2.0, bottom + 38.0, "small", "middle", axes.0);
    let mut labels: Vec<(f64, &str)> = Vec::new();
    for Line { who, points } in lines {
        let Look { colour, dashes, .. } = look(who);
        let place = |x: f64| places.iter().position(|place| *place == x);
        let at: Vec<(f64, f64)> =
            points.iter().filter_map(|(x, y)| Some((x_of(place(*x)?), y_of(*y)))).collect();
        let path: Vec<_> = at.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        drawing.body.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\" \
             stroke-dasharray=\"{dashes}\"/>\n",
            path.join(" ")
        ));
        for (x, y) in &at {
            let dot =
                format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>\n");
            drawing.body.push_str(&dot);
        }
        if let Some((_, y)) = at.last() {
            labels.push((*y, who));
        }
    }
    // Names stand at the ends of their lines, one below the other where those are close.
    labels.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut below = bottom + 20.0;
    for (y, who) in labels {
        let y = y.min(below - 15.0);
        below = y;
        drawing.text(right - 50.0, y + 4.0, "small", "start", who);
        let Look { colour, dashes, .. } = look(who);
        drawing.body.push_str(&format!(
            "<line x1=\"{}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"{colour}\" \
             stroke-width=\"2.5\" stroke-dasharray=\"{dashes}\"/>\n",
            right + 20.0,
            right + 50.0
        ));
    }
    drawing.height = bottom + 50.0;
    drawing.finish()
}

/// How far marks of an axis are apart, and how many steps there are to `most`.
fn ticks(most: f64) -> (f64, u32) {
    let most = most.max(1.0);
    let magnitude = 10f64.powf((most / 5.0).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * magnitude);
    let step = steps.into_iter().find(|step| most / step <= 6.0).unwrap_or(steps[4]);
    (step, (most / step).ceil() as u32)
}

fn with_commas(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_marks_and_room_for_everything() {
        for (most, expected) in [(930.0, (200.0, 5)), (9_150.0, (2_000.0, 5)), (61.0, (20.0, 4))] {
            assert_eq!(ticks(most), expected);
        }
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [0.0, 930.0, 14_000.0, 1e6].map(with_commas),
            ["0", "930", "14,000", "1,000,000"]
        );
    }

    #[test]
    fn a_plot_of_bars_shows_values_goals_and_names() {
        let bar = Bar { who: "ortc".into(), value: 1_010.4, goal: Some(1_250.0) };
        let svg = bars("Cost", "ns", &[("50 < 200".into(), vec![bar])]);
        for part in
            ["<svg ", "Cost", ">ortc<", ">1,010<", "class=\"goal\"", "50 &lt; 200", "</svg>"]
        {
            assert!(svg.contains(part), "{part} in {svg}");
        }
    }
}
