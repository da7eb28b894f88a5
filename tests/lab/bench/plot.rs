//! A plot of curves over two logarithmic axes, as an SVG that stands alone and is legible on light and on
//! dark ground.

use std::fmt::Write as _;

/// What is plotted. Values must be above zero.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Plot {
    /// Above it.
    pub(crate) title: String,
    /// What the horizontal axis counts, with its unit.
    pub(crate) x: &'static str,
    /// What the vertical axis counts.
    pub(crate) y: &'static str,
    /// A value that is not to be passed, drawn as a dashed line.
    pub(crate) aim: Option<f64>,
    /// At most as many as there are colours; more share them.
    pub(crate) series: Vec<Series>,
}

/// One curve.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Series {
    /// In the legend.
    pub(crate) name: String,
    /// From left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 360.0;
/// Okabe and Ito's, which the colour-blind can tell apart; those that are legible on white and on black.
const COLOURS: [&str; 6] = [
    "#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#56b4e9",
];
/// Grey that is legible on both grounds.
const INK: &str = "#808080";

/// A logarithmic axis between two powers of ten.
#[derive(Clone, Copy, Debug)]
struct Axis {
    low: i32,
    high: i32,
    from: f64,
    to: f64,
}

impl Axis {
    /// One that has room for all values.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let logs: Vec<f64> = values.filter(|it| *it > 0.0).map(f64::log10).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if logs.is_empty() {
            (0.0, 1.0)
        } else {
            (low, high)
        };
        let low = low.floor() as i32;
        Self {
            low,
            high: (high.ceil() as i32).max(low + 1),
            from,
            to,
        }
    }

    /// Where a value is.
    fn at(self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    /// Values that get a line, and whether they get a number.
    fn ticks(self) -> impl Iterator<Item = (f64, bool)> {
        (self.low..=self.high).flat_map(move |power| {
            let of = move |times: u32| (f64::from(times) * 10f64.powi(power), times == 1);
            (1..10).map(of).take(if power == self.high { 1 } else { 9 })
        })
    }
}

impl Plot {
    /// Draws it.
    pub(crate) fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Axis::over(points().map(|point| point.0), LEFT, RIGHT);
        let heights = points().map(|point| point.1).chain(self.aim);
        let y = Axis::over(heights, BOTTOM, TOP);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             font-family=\"sans-serif\" font-size=\"13\" fill=\"{INK}\">\n<title>{}</title>\n",
            escaped(&self.title)
        );
        text(&mut out, (LEFT, TOP - 22.0), "start", &self.title);
        for (value, has_number) in x.ticks() {
            let at = x.at(value);
            line(&mut out, (at, TOP), (at, BOTTOM), has_number);
            if has_number {
                text(&mut out, (at, BOTTOM + 20.0), "middle", &number(value));
            }
        }
        for (value, has_number) in y.ticks() {
            let at = y.at(value);
            line(&mut out, (LEFT, at), (RIGHT, at), has_number);
            if has_number {
                text(&mut out, (LEFT - 8.0, at + 4.0), "end", &number(value));
            }
        }
        let middle = f64::midpoint(TOP, BOTTOM);
        text(
            &mut out,
            (f64::midpoint(LEFT, RIGHT), BOTTOM + 44.0),
            "middle",
            self.x,
        );
        let _ = writeln!(out, "<g transform=\"translate(20 {middle}) rotate(-90)\">");
        text(&mut out, (0.0, 0.0), "middle", self.y);
        out.push_str("</g>\n");
        if let Some(aim) = self.aim {
            let at = y.at(aim);
            let _ = writeln!(
                out,
                "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"{INK}\" stroke-width=\"2\" stroke-dasharray=\"7 5\"/>"
            );
            let legend = legend_at(self.series.len());
            let from = RIGHT + 16.0;
            let _ = writeln!(
                out,
                "<path d=\"M{from} {legend}h24\" stroke=\"{INK}\" stroke-width=\"2\" stroke-dasharray=\"7 5\"/>"
            );
            let words = format!("aim for p99: {}", number(aim));
            text(&mut out, (RIGHT + 48.0, legend + 4.0), "start", &words);
        }
        for (index, series) in self.series.iter().enumerate() {
            series.draw(&mut out, index, x, y);
        }
        out.push_str("</svg>\n");
        out
    }
}

impl Series {
    fn draw(&self, out: &mut String, index: usize, x: Axis, y: Axis) {
        let colour = COLOURS[index % COLOURS.len()];
        let at: Vec<_> = (self.points.iter())
            .filter(|point| point.0 > 0.0 && point.1 > 0.0)
            .map(|point| (x.at(point.0), y.at(point.1)))
            .collect();
        let path: Vec<_> = at.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for ((x, y), point) in at.iter().zip(&self.points) {
            let _ = writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"><title>{}: {}</title></circle>",
                escaped(&self.name),
                number(point.1)
            );
        }
        let legend = legend_at(index);
        let _ = writeln!(
            out,
            "<path d=\"M{} {legend}h24\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            RIGHT + 16.0
        );
        text(out, (RIGHT + 48.0, legend + 4.0), "start", &self.name);
    }
}

/// Where a line of the legend is.
fn legend_at(index: usize) -> f64 {
    TOP + 10.0 + 22.0 * index as f64
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), is_strong: bool) {
    let opacity = if is_strong { 0.6 } else { 0.18 };
    let _ = writeln!(
        out,
        "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"{INK}\" stroke-opacity=\"{opacity}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(out: &mut String, at: (f64, f64), anchor: &str, words: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
        at.0,
        at.1,
        escaped(words)
    );
}

/// As few digits as tell it.
fn number(value: f64) -> String {
    if value >= 1000.0 && (value / 1000.0).fract() == 0.0 {
        return format!("{},000", value / 1000.0);
    }
    let digits = format!("{value:.3}");
    digits
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_spans_whole_decades_and_places_values_by_their_logarithm() {
        let axis = Axis::over([1_000.0, 50_000.0].into_iter(), 0.0, 100.0);
        assert_eq!((axis.low, axis.high), (3, 5));
        assert!((axis.at(10_000.0) - 50.0).abs() < 1e-9);
        let numbered = axis.ticks().filter(|tick| tick.1).map(|tick| tick.0);
        assert_eq!(numbered.collect::<Vec<_>>(), [1e3, 1e4, 1e5]);
        assert_eq!(axis.ticks().count(), 19);
    }

    #[test]
    fn a_plot_has_a_point_for_each_value_and_nothing_that_breaks_the_document() {
        let series = |name: &str| Series {
            name: name.to_owned(),
            points: vec![(1e3, 0.5), (5e4, 3.0)],
        };
        let plot = Plot {
            title: "a < b & c".to_owned(),
            x: "x",
            y: "y",
            aim: Some(5.0),
            series: vec![series("p50"), series("p99")],
        };
        let svg = plot.svg();
        assert_eq!(svg.matches("<circle").count(), 4);
        assert_eq!(
            svg.matches("stroke-dasharray").count(),
            2,
            "the aim, and in the legend"
        );
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("a &lt; b &amp; c") && !svg.contains("a < b"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn numbers_have_the_digits_that_tell_them() {
        let told = [0.1, 1.0, 2.345_67, 10_000.0].map(number);
        assert_eq!(told, ["0.1", "1", "2.346", "10,000"]);
    }
}
