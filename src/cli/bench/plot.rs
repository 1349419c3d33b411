//! Latency against rate, as a picture.
//!
//! Owns the drawing: SVG, both axes logarithmic, a line for each quantile, a legend. Must not know how the points were measured.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use super::report::LatencyMs;
use crate::cli::output::Failure;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
/// Room for the labels.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;

/// The lines, from the lowest: name, colour, figure.
type Line = (&'static str, &'static str, fn(&LatencyMs) -> f64);
const LINES: [Line; 4] = [
    ("p50", "#1b7837", |latency| latency.p50),
    ("p99", "#2166ac", |latency| latency.p99),
    ("p99.9", "#b35806", |latency| latency.p999),
    ("max", "#999999", |latency| latency.max),
];

/// What was measured at one rate.
pub(super) struct Point {
    /// Records per second.
    pub(super) rate: f64,
    pub(super) latency: LatencyMs,
}

/// A picture to be drawn into a file.
pub(super) struct Plot {
    path: PathBuf,
    file: File,
}

impl Plot {
    /// Makes the file, so that a path that cannot be written is told before anything is measured.
    pub(super) fn create(path: &PathBuf) -> Result<Self, Failure> {
        let made = File::create(path);
        let file = made.map_err(Failure::doing(format!("cannot write {}", path.display())))?;
        Ok(Self {
            path: path.clone(),
            file,
        })
    }

    pub(super) fn draw(mut self, points: &[Point], title: &str) -> Result<(), Failure> {
        let written = self.file.write_all(svg(points, title).as_bytes());
        written.map_err(Failure::doing(format!(
            "cannot write {}",
            self.path.display()
        )))
    }
}

/// One axis: from the step (1, 2, 5, 10, 20, ...) below the least value to the one above the greatest, laid over a stretch of the picture.
struct Axis {
    steps: Vec<f64>,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let values: Vec<f64> = values.filter(|value| *value > 0.0).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = values.iter().copied().fold(0.0, f64::max);
        let mut steps = vec![1.0, 10.0];
        if !values.is_empty() {
            let decades = least.log10().floor() as i32..=greatest.log10().ceil() as i32;
            let all =
                decades.flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power)));
            let all: Vec<f64> = all.collect();
            let first = all.iter().rposition(|step| *step <= least).unwrap_or(0);
            let last = all.iter().position(|step| *step >= greatest);
            // One value alone gets an axis, too.
            let last = last.unwrap_or(all.len() - 1).max(first + 1);
            steps = all[first..=last].to_vec();
        }
        Self { steps, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let (least, greatest) = (
            self.steps[0].log10(),
            self.steps[self.steps.len() - 1].log10(),
        );
        let share = (value.log10() - least) / (greatest - least);
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }
}

fn svg(points: &[Point], title: &str) -> String {
    let across = Axis::new(points.iter().map(|point| point.rate), LEFT, WIDTH - RIGHT);
    let figures = points
        .iter()
        .flat_map(|point| LINES.map(|(_, _, figure)| figure(&point.latency)));
    let up = Axis::new(figures, HEIGHT - BOTTOM, TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"15\">{title}</text>\n"
    );
    let drawn = axes(&mut svg, &across, &up).and_then(|()| lines(&mut svg, points, &across, &up));
    drawn.expect("a string takes every write");
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String, across: &Axis, up: &Axis) -> std::fmt::Result {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for rate in &across.steps {
        let (x, y) = (across.at(*rate), bottom + 18.0);
        writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
            grouped(*rate)
        )?;
    }
    for ms in &up.steps {
        let y = up.at(*ms);
        writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#dddddd\"/>"
        )?;
        let (x, y) = (LEFT - 8.0, y + 4.0);
        writeln!(
            svg,
            "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>",
            grouped(*ms)
        )?;
    }
    let (middle, below) = ((LEFT + right) / 2.0, HEIGHT - 16.0);
    let beside = (TOP + bottom) / 2.0;
    writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">records offered per second</text>\n\
         <text transform=\"translate(18 {beside}) rotate(-90)\" text-anchor=\"middle\">time to the ack, milliseconds</text>"
    )
}

/// A step as people write it: thousands set apart, no more digits behind the point than it has.
fn grouped(step: f64) -> String {
    if step < 1.0 {
        return format!("{}", (step * 1e6).round() / 1e6);
    }
    let digits = format!("{step:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn lines(svg: &mut String, points: &[Point], across: &Axis, up: &Axis) -> std::fmt::Result {
    for (number, (name, colour, figure)) in LINES.into_iter().enumerate() {
        let places: Vec<(f64, f64)> = points
            .iter()
            .map(|point| (across.at(point.rate), up.at(figure(&point.latency))))
            .collect();
        let line: Vec<String> = places
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let line = line.join(" ");
        writeln!(
            svg,
            "<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        )?;
        for (x, y) in &places {
            writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            )?;
        }
        // The legend, in the order of the lines: the greatest on top.
        let (x, y) = (
            WIDTH - RIGHT + 14.0,
            TOP + 14.0 + 20.0 * (LINES.len() - 1 - number) as f64,
        );
        writeln!(
            svg,
            "<path d=\"M{x} {y}h22\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <text x=\"{}\" y=\"{}\">{name}</text>",
            x + 28.0,
            y + 4.0
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(rate: f64, p50: f64, max: f64) -> Point {
        let latency = LatencyMs {
            p50,
            p90: p50,
            p99: max,
            p999: max,
            max,
        };
        Point { rate, latency }
    }

    #[test]
    fn picture_has_a_line_for_each_quantile_and_a_dot_for_each_point() {
        let svg = svg(
            &[point(1000.0, 0.3, 4.0), point(20_000.0, 0.8, 90.0)],
            "a title",
        );
        assert_eq!(svg.matches("<polyline").count(), LINES.len());
        assert_eq!(svg.matches("<circle").count(), 2 * LINES.len());
        assert!(svg.contains("a title") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn picture_of_one_point_or_none_has_no_place_that_is_no_number() {
        for points in [vec![], vec![point(1000.0, 1.0, 1.0)]] {
            let svg = svg(&points, "");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn axis_goes_in_steps_of_one_two_five_and_just_holds_all_values() {
        let axis = |values: &[f64]| Axis::new(values.iter().copied(), 0.0, 300.0).steps;
        assert_eq!(axis(&[3.0, 40.0]), [2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(axis(&[5.0]), [5.0, 10.0]);
        assert_eq!(axis(&[0.3, 1.0]).len(), 3);
    }

    #[test]
    fn equal_ratios_lie_at_equal_distances() {
        let axis = Axis::new([1.0, 1000.0].into_iter(), 0.0, 300.0);
        let places = [1.0, 10.0, 100.0, 1000.0].map(|value| axis.at(value).round());
        assert_eq!(places, [0.0, 100.0, 200.0, 300.0]);
    }

    #[test]
    fn labels_read_as_people_write_them() {
        let labels = [0.02, 0.5, 1.0, 200.0, 5000.0, 1e6].map(grouped);
        assert_eq!(labels, ["0.02", "0.5", "1", "200", "5,000", "1,000,000"]);
    }
}
