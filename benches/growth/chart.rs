//! The figures as a drawing that is readable on light and on dark pages.

use std::fmt::Write;

use super::Point;

/// One panel of the drawing.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 56.0;
const GAP: f64 = 80.0;

const STYLE: &str = "
  text { font: 12px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 13px; }
  .axis { fill: #59636e; }
  .grid { stroke: #d1d9e0; stroke-width: 1; }
  .limit { stroke: #9a6700; stroke-dasharray: 5 4; }
  path { fill: none; stroke-width: 2; }
  .a { stroke: #0969da; } circle.a, text.a { fill: #0969da; stroke: none; }
  .b { stroke: #1a7f37; } circle.b, text.b { fill: #1a7f37; stroke: none; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .axis { fill: #9198a1; }
    .grid { stroke: #3d444d; }
    .limit { stroke: #d29922; }
    .a { stroke: #4493f8; } circle.a, text.a { fill: #4493f8; }
    .b { stroke: #3fb950; } circle.b, text.b { fill: #3fb950; }
  }";

/// What one panel shows over the number of services.
struct Panel<'a> {
    title: &'a str,
    unit: &'a str,
    /// Upper end of the axis.
    top: f64,
    /// A budget to draw.
    limit: Option<(f64, &'a str)>,
    lines: [Line<'a>; 2],
}

/// A label, a class of the style, and values by services.
type Line<'a> = (&'a str, &'a str, Vec<(f64, f64)>);

/// Both panels: the cost of a change, and the memory of an endpoint.
pub(super) fn svg(points: &[Point]) -> String {
    let series = |endpoints: usize, of: fn(&Point) -> f64| -> Vec<(f64, f64)> {
        let own = points.iter().filter(|p| p.endpoints == endpoints);
        own.map(|p| (super::ratio(p.services, 1), of(p))).collect()
    };
    let panels = [
        Panel {
            title: "One endpoint change, applied and published",
            unit: "µs",
            top: 50.0,
            limit: None,
            lines: [
                ("30 endpoints a service", "a", series(30, |p| p.slice)),
                ("10 endpoints a service", "b", series(10, |p| p.slice)),
            ],
        },
        Panel {
            title: "Resident memory per endpoint",
            unit: "bytes",
            top: 1_600.0,
            limit: Some((1_024.0, "budget: 1 KiB")),
            lines: [
                ("30 endpoints a service", "a", series(30, |p| p.resident)),
                ("10 endpoints a service", "b", series(10, |p| p.resident)),
            ],
        },
    ];
    let width = 2.0 * (LEFT + WIDTH) + GAP;
    let height = TOP + HEIGHT + 70.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"Cost and memory over the number of services\">\n<style>{STYLE}\n</style>\n"
    );
    for (at, panel) in (0_u8..).zip(&panels) {
        let left = LEFT + f64::from(at) * (LEFT + WIDTH + GAP / 2.0);
        draw(&mut out, left, panel);
    }
    out.push_str("</svg>\n");
    out
}

/// Services from 1,000 to 100,000, each ten times as wide as the last.
fn across(left: f64, services: f64) -> f64 {
    left + WIDTH * (services.log10() - 3.0) / 2.0
}

fn draw(out: &mut String, left: f64, panel: &Panel<'_>) {
    let up = |value: f64| TOP + HEIGHT * (1.0 - value.min(panel.top) / panel.top);
    let _ = writeln!(
        out,
        "<text class=\"title\" x=\"{left}\" y=\"{}\">{}</text>",
        TOP - 34.0,
        panel.title
    );
    for step in 0..=4 {
        let value = panel.top * f64::from(step) / 4.0;
        let (y, right) = (up(value), left + WIDTH);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
             <text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            left - 6.0,
            y + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        left - 6.0,
        TOP - 12.0,
        panel.unit
    );
    let bottom = TOP + HEIGHT + 18.0;
    for (services, label) in [
        (1_000.0, "1,000 services"),
        (10_000.0, "10,000"),
        (100_000.0, "100,000"),
    ] {
        let x = across(left, services);
        let _ = writeln!(
            out,
            "<text class=\"axis\" x=\"{x:.1}\" y=\"{bottom:.1}\" text-anchor=\"middle\">{label}</text>"
        );
    }
    if let Some((value, label)) = panel.limit {
        let (y, right) = (up(value), left + WIDTH);
        let _ = writeln!(
            out,
            "<line class=\"limit\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
             <text class=\"axis\" x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            y - 5.0
        );
    }
    for (row, (label, class, points)) in (0_u8..).zip(&panel.lines) {
        line(out, left, (class, points), up);
        let x = left + 8.0 + 200.0 * f64::from(row);
        let y = TOP + HEIGHT + 44.0;
        let _ = writeln!(
            out,
            "<circle class=\"{class}\" cx=\"{x}\" cy=\"{:.1}\" r=\"4\"/>\
             <text x=\"{:.1}\" y=\"{y:.1}\">{label}</text>",
            y - 4.0,
            x + 10.0
        );
    }
}

fn line(
    out: &mut String,
    left: f64,
    (class, points): (&str, &[(f64, f64)]),
    up: impl Fn(f64) -> f64,
) {
    let spots: Vec<_> = points
        .iter()
        .map(|(services, value)| (across(left, *services), up(*value), *value))
        .collect();
    let path: Vec<_> = spots
        .iter()
        .map(|(x, y, _)| format!("{x:.1} {y:.1}"))
        .collect();
    let _ = writeln!(out, "<path class=\"{class}\" d=\"M{}\"/>", path.join(" L"));
    for (x, y, value) in spots {
        let _ = writeln!(
            out,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>\
             <text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.0}</text>",
            y - 9.0
        );
    }
}
