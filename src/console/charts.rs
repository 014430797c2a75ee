//! Charts as SVG, drawn here: they need no script, and say in words what they show.
//!
//! Decides: scales and shapes. Colours are classes of the style sheet, so that they follow dark and light.

use maud::{Markup, html};

use super::shapes::dollars;

const WIDTH: f64 = 760.0;
/// Left of the plot: labels of the scale.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
/// Below the plot: names.
const BELOW: f64 = 30.0;

/// A coordinate, with a tenth of a pixel.
fn px(value: f64) -> String {
    format!("{value:.1}")
}

fn drawing(name: &str, says: &str, height: f64, content: &Markup) -> Markup {
    html! {
        svg class="chart" viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(format!("{name}. {says}")) {
            (content)
        }
    }
}

/// A scale of amounts, with some of its lines; it holds zero.
struct Scale {
    low: f64,
    high: f64,
    height: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>, height: f64) -> Scale {
        let (low, high) = values.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        Scale { low, high: if high > low { high } else { low + 1.0 }, height }
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (self.high - value) / (self.high - self.low) * (self.height - TOP - BELOW)
    }

    fn grid(&self) -> Markup {
        let lines = (0..=4).map(|n| self.low + (self.high - self.low) * f64::from(n) / 4.0);
        html! {
            @for value in lines {
                line class="grid" x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(self.y(value))) y2=(px(self.y(value))) {}
                text class="scale" x=(px(LEFT - 6.0)) y=(px(self.y(value) + 4.0)) text-anchor="end" { (dollars(value)) }
            }
        }
    }
}

/// The middle of the n-th of `of` places side by side, and the width of one.
fn place(n: usize, of: usize) -> (f64, f64) {
    let width = (WIDTH - LEFT - RIGHT) / of.max(1) as f64;
    (LEFT + width * (n as f64 + 0.5), width)
}

/// Names below the plot: at most about ten of them.
fn names<'a>(height: f64, all: impl ExactSizeIterator<Item = &'a str>) -> Markup {
    let (count, each) = (all.len(), all.len().div_ceil(10).max(1));
    html! {
        @for (n, name) in all.enumerate() {
            @if n % each == 0 { text class="scale" x=(px(place(n, count).0)) y=(px(height - 10.0)) text-anchor="middle" { (name) } }
        }
    }
}

/// A line over time.
pub(crate) struct Line<'a> {
    pub name: &'a str,
    pub class: &'static str,
    pub values: Vec<f64>,
}

/// Lines over the same days.
pub(crate) fn lines(name: &str, says: &str, days: &[&str], lines: &[Line<'_>]) -> Markup {
    let height = 240.0;
    let scale = Scale::of(lines.iter().flat_map(|line| line.values.iter().copied()), height);
    let points = |line: &Line<'_>| {
        let at = |(n, value): (usize, &f64)| format!("{},{}", px(place(n, days.len()).0), px(scale.y(*value)));
        line.values.iter().enumerate().map(at).collect::<Vec<_>>().join(" ")
    };
    let content = html! {
        (scale.grid())
        (names(height, days.iter().copied()))
        @for line in lines { polyline class={ "line " (line.class) } points=(points(line)) {} }
    };
    html! {
        (drawing(name, says, height, &content))
        ul class="legend" { @for line in lines { li class=(line.class) { (line.name) } } }
    }
}

/// A bridge from one amount to another: each step begins where the one before ended.
pub(crate) fn bridge(name: &str, says: &str, from: (&str, f64), steps: &[(String, f64)], to: (&str, f64)) -> Markup {
    let height = 280.0;
    let mut at = from.1;
    let mut bars = vec![(from.0, 0.0, from.1, "whole")];
    for (step, usd) in steps {
        bars.push((step.as_str(), at, at + usd, if *usd >= 0.0 { "more" } else { "less" }));
        at += usd;
    }
    bars.push((to.0, 0.0, to.1, "whole"));
    let scale = Scale::of(bars.iter().flat_map(|bar| [bar.1, bar.2]), height);
    let content = html! {
        (scale.grid())
        @for (n, (label, begin, end, class)) in bars.iter().enumerate() {
            @let (middle, width) = place(n, bars.len());
            @let (top, bottom) = (scale.y(begin.max(*end)), scale.y(begin.min(*end)));
            rect class={ "bar " (class) } x=(px(middle - width * 0.38)) width=(px(width * 0.76)) y=(px(top)) height=(px((bottom - top).max(1.0))) {}
            text class="amount" x=(px(middle)) y=(px((top - 3.0).max(9.0))) text-anchor="middle" { (dollars(end - begin)) }
            text class="scale" x=(px(middle)) y=(px(height - if n % 2 == 0 { 16.0 } else { 4.0 })) text-anchor="middle" { (label) }
        }
    };
    drawing(name, says, height, &content)
}

/// A range: four of five outcomes are to lie in it.
pub(crate) struct Spread {
    pub name: String,
    pub low: f64,
    pub middle: f64,
    pub high: f64,
}

/// Ranges side by side, with their middles, and a plan as a line where there is one.
pub(crate) fn ranges(name: &str, says: &str, spreads: &[Spread], plan: Option<f64>) -> Markup {
    let height = 240.0;
    let scale = Scale::of(spreads.iter().flat_map(|s| [s.low, s.high]).chain(plan), height);
    let content = html! {
        (scale.grid())
        (names(height, spreads.iter().map(|spread| spread.name.as_str())))
        @for (n, spread) in spreads.iter().enumerate() {
            @let (middle, width) = place(n, spreads.len());
            rect class="range" x=(px(middle - width * 0.2)) width=(px(width * 0.4)) y=(px(scale.y(spread.high)))
                height=(px((scale.y(spread.low) - scale.y(spread.high)).max(1.0))) {}
            line class="middle" x1=(px(middle - width * 0.2)) x2=(px(middle + width * 0.2)) y1=(px(scale.y(spread.middle))) y2=(px(scale.y(spread.middle))) {}
            text class="amount" x=(px(middle)) y=(px((scale.y(spread.high) - 4.0).max(9.0))) text-anchor="middle" { (dollars(spread.middle)) }
        }
        @if let Some(plan) = plan { line class="plan" x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(scale.y(plan))) y2=(px(scale.y(plan))) {} }
    };
    drawing(name, says, height, &content)
}

/// A share of a whole as a bar.
pub(crate) fn share(name: &str, part: f64) -> Markup {
    let part = part.clamp(0.0, 1.0) * 100.0;
    html! {
        svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=(format!("{name}: {part:.0} %")) {
            rect class="rest" x="0" y="0" width="100" height="8" {}
            rect class="part" x="0" y="0" width=(px(part)) height="8" {}
        }
    }
}

/// A step of a race against a deadline, in milliseconds since its start.
pub(crate) struct Step {
    pub name: &'static str,
    /// Measured; `None` while it is awaited.
    pub reached: Option<f64>,
    /// When it is reached as a rule.
    pub usual: Option<f64>,
}

/// Steps against a deadline: filled up to where they are, hollow where they are expected, and the deadline as a line.
pub(crate) fn race(name: &str, says: &str, steps: &[Step], now: f64, deadline: Option<f64>) -> Markup {
    let row = 26.0;
    let height = TOP + row * steps.len() as f64 + BELOW;
    let ends = steps.iter().flat_map(|step| [step.reached, step.usual]).flatten().chain(deadline);
    let whole = ends.fold(now.max(1_000.0), f64::max) * 1.05;
    let (left, right) = (150.0, 20.0);
    let x = |ms: f64| left + ms.clamp(0.0, whole) / whole * (WIDTH - left - right);
    let content = html! {
        @for (n, step) in steps.iter().enumerate() {
            @let y = TOP + row * n as f64;
            text class="scale" x=(px(left - 8.0)) y=(px(y + 15.0)) text-anchor="end" { (step.name) }
            @if let (None, Some(usual)) = (step.reached, step.usual) {
                rect class="expected" x=(px(left)) width=(px((x(usual) - left).max(1.0))) y=(px(y + 4.0)) height="14" {}
            }
            rect class={ "bar " (if step.reached.is_some() { "reached" } else { "awaited" }) } x=(px(left))
                width=(px((x(step.reached.unwrap_or(now)) - left).max(2.0))) y=(px(y + 4.0)) height="14" {}
            @if let (Some(_), Some(usual)) = (step.reached, step.usual) {
                line class="usual" x1=(px(x(usual))) x2=(px(x(usual))) y1=(px(y + 1.0)) y2=(px(y + 21.0)) {}
            }
        }
        line class="now" x1=(px(x(now))) x2=(px(x(now))) y1=(px(TOP)) y2=(px(height - BELOW)) {}
        text class="scale" x=(px(x(now))) y=(px(height - 16.0)) text-anchor="middle" { "now" }
        @if let Some(deadline) = deadline {
            line class="deadline" x1=(px(x(deadline))) x2=(px(x(deadline))) y1="0" y2=(px(height - BELOW)) {}
            text class="scale" x=(px(x(deadline))) y=(px(height - 4.0)) text-anchor="end" { "EC2 takes it" }
        }
    };
    drawing(name, says, height, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_ends_where_its_steps_lead_and_names_are_escaped() {
        let steps = [("volume".to_owned(), 20.0), ("<b>".to_owned(), -5.0)];
        let drawn = bridge("June to July", "$15 more", ("June", 100.0), &steps, ("July", 115.0)).into_string();
        assert_eq!(drawn.matches("<rect").count(), 4);
        assert!(drawn.contains("&lt;b&gt;") && !drawn.contains("<b>"), "{drawn}");
        assert!(drawn.contains(">$20.00<") && drawn.contains(">-$5.00<") && drawn.contains(">$115.00<"), "{drawn}");
        assert!(!drawn.contains("style="), "no inline style: the policy forbids it");
    }

    #[test]
    fn nothing_to_draw_and_amounts_below_zero_are_no_fault() {
        let empty = lines("Nothing", "", &[], &[Line { name: "none", class: "a", values: Vec::new() }]).into_string();
        let below = ranges("Credit", "", &[Spread { name: "July".into(), low: -3.0, middle: -2.0, high: -1.0 }], None).into_string();
        for drawn in [empty, below] {
            assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        }
    }
}
