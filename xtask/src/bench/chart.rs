//! Charts as SVG: a group of bars a row, on a logarithmic axis around the host.

use super::results::Results;
use super::rows::{Goal, Unit};
use std::fmt::Write as _;

/// Lengths in pixels.
const LEFT: f64 = 300.0;
const WIDTH: f64 = 560.0;
const TOP: f64 = 60.0;
const BAR: f64 = 7.0;
const GAP: f64 = 6.0;

/// The axis goes from 1/100 to 1,000 times the host.
const DECADES: (i32, i32) = (-2, 3);

const COLOURS: [&str; 5] = ["#8d6e63", "#5c8fb8", "#9a7fb8", "#b0b0b0", "#e0a030"];

/// Time and CPU time an operation by the host's: name of the file and chart.
pub(super) fn all(results: &Results) -> [(&'static str, String); 2] {
    let title = |what: &str| format!("{what} an operation, by the bare host's (less is better)");
    [
        ("time.svg", draw(results, &title("Time"), Results::ratio)),
        ("cpu.svg", draw(results, &title("CPU time"), Results::cpu_ratio)),
    ]
}

type Value = fn(&Results, usize, usize) -> Option<f64>;

fn draw(results: &Results, title: &str, value: Value) -> String {
    let runtimes: Vec<usize> = (1..results.runtimes.len()).collect();
    let is_time = |row: &usize| results.rows.get(*row).is_some_and(|row| row.unit == Unit::Nanoseconds);
    let rows: Vec<usize> = (0..results.rows.len()).filter(is_time).collect();
    let group = runtimes.len() as f64 * BAR + GAP;
    let height = TOP + rows.len() as f64 * group;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        LEFT + WIDTH + 20.0,
        height + 20.0
    );
    text(&mut out, (10.0, 18.0), "start", title);
    legend(&mut out, results, &runtimes);
    axis(&mut out, height);
    for (place, row) in rows.iter().enumerate() {
        let top = TOP + place as f64 * group;
        let Some(of) = results.rows.get(*row) else { continue };
        text(&mut out, (LEFT - 6.0, top + group / 2.0), "end", &of.name);
        for (place, runtime) in runtimes.iter().enumerate() {
            bar(&mut out, top + place as f64 * BAR, colour(results.ours(), *runtime), value(results, *row, *runtime));
        }
        if let Goal::Ratio(goal) = of.goal {
            line(&mut out, x(goal), (top - 1.0, top + group - GAP + 1.0), "black");
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Where a ratio lies; what is off the axis lies at its end.
fn x(ratio: f64) -> f64 {
    let (low, high) = (f64::from(DECADES.0), f64::from(DECADES.1));
    LEFT + (ratio.log10().clamp(low, high) - low) / (high - low) * WIDTH
}

fn axis(out: &mut String, height: f64) {
    for decade in DECADES.0..=DECADES.1 {
        let at = x(10f64.powi(decade));
        line(out, at, (TOP - 8.0, height), if decade == 0 { "#666" } else { "#ddd" });
        let label = if decade < 0 { format!("1/{}", 10f64.powi(-decade)) } else { 10f64.powi(decade).to_string() };
        text(out, (at, TOP - 12.0), "middle", &label);
    }
}

fn legend(out: &mut String, results: &Results, runtimes: &[usize]) {
    for (place, runtime) in runtimes.iter().enumerate() {
        let left = LEFT + place as f64 * 90.0;
        let _ = writeln!(
            out,
            "<rect x=\"{left}\" y=\"24\" width=\"10\" height=\"10\" fill=\"{}\"/>",
            colour(results.ours(), *runtime)
        );
        text(out, (left + 14.0, 33.0), "start", results.runtimes.get(*runtime).map_or("", String::as_str));
    }
    text(out, (10.0, 33.0), "start", "a black line: the goal of ours");
}

/// Ours has one colour, however many others there are.
fn colour(ours: usize, runtime: usize) -> &'static str {
    if runtime == ours { "#2e8b57" } else { COLOURS[runtime % COLOURS.len()] }
}

fn bar(out: &mut String, top: f64, colour: &str, ratio: Option<f64>) {
    let Some(ratio) = ratio.filter(|ratio| *ratio > 0.0) else { return };
    let (from, to) = (x(1.0).min(x(ratio)), x(1.0).max(x(ratio)));
    let (width, height) = ((to - from).max(1.0), BAR - 1.0);
    let _ = writeln!(
        out,
        "<rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\">\
         <title>{ratio:.3}</title></rect>"
    );
}

fn line(out: &mut String, at: f64, (from, to): (f64, f64), colour: &str) {
    let _ = writeln!(out, "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{from:.1}\" y2=\"{to:.1}\" stroke=\"{colour}\"/>");
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::{Kind, Row};
    use crate::bench::run::Sample;

    #[test]
    fn a_bar_goes_from_the_host_to_the_ratio() {
        let mut out = String::new();
        bar(&mut out, 0.0, "red", Some(0.1));
        let decade = WIDTH / f64::from(DECADES.1 - DECADES.0);
        let expected = format!("<rect x=\"{:.1}\" y=\"0.0\" width=\"{decade:.1}\"", x(0.1));
        assert!(out.starts_with(&expected), "{out}");
    }

    #[test]
    fn what_is_off_the_axis_lies_at_its_end() {
        assert_eq!([x(1e-9), x(1e9)], [LEFT, LEFT + WIDTH]);
    }

    #[test]
    fn a_chart_has_a_bar_a_row_and_runtime() {
        let row = Row::new("a<b", Goal::Ratio(0.5), Kind::Whole(&["true"]));
        let mut results = Results::new(vec![row], ["host", "runc", "ours"].map(str::to_owned).into());
        for (runtime, value) in [100.0, 110.0, 50.0].into_iter().enumerate() {
            results.add(0, runtime, Ok(Sample { value, cpu_ns: None }));
        }
        let svg = draw(&results, "times", Results::ratio);
        assert_eq!(svg.matches("<title>").count(), 2, "{svg}");
        assert!(svg.contains("a&lt;b") && svg.trim_end().ends_with("</svg>"), "{svg}");
    }
}
