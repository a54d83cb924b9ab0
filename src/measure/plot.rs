//! Plots as SVG text, drawn once for wide pages and once for phones, whose letters would otherwise shrink with the plot.

use super::{
    Ceilings, KernelRow, Point,
    table::{bytes, rate},
};
use std::fmt::Write;

/// Both sizes of one plot; the style sheet shows the one that fits.
pub(super) fn both_sizes(draw: impl Fn(Frame) -> String) -> String {
    let wide = Frame { width: 1000.0, height: 460.0, left: 70.0, bottom: 46.0 };
    let narrow = Frame { width: 350.0, height: 330.0, left: 58.0, bottom: 44.0 };
    format!("<div class=\"wide\">{}</div><div class=\"narrow\">{}</div>", draw(wide), draw(narrow))
}

/// The size of a plot and what its labels need of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    width: f64,
    height: f64,
    left: f64,
    bottom: f64,
}

const TOP: f64 = 14.0;
const RIGHT: f64 = 16.0;

/// Logarithmic axes over a frame.
struct Axes {
    frame: Frame,
    /// Decimal logarithms of the ends.
    x: [f64; 2],
    y: [f64; 2],
}

impl Axes {
    fn x(&self, value: f64) -> f64 {
        let share = (value.log10() - self.x[0]) / (self.x[1] - self.x[0]);
        self.frame.left + share * (self.frame.width - self.frame.left - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value.log10() - self.y[0]) / (self.y[1] - self.y[0]);
        self.frame.height - self.frame.bottom - share * (self.frame.height - self.frame.bottom - TOP)
    }

    /// The picture with its grid, a line for every power of ten.
    fn open(
        &self,
        title: &str,
        x_title: &str,
        x_label: impl Fn(f64) -> String,
        y_label: impl Fn(f64) -> String,
    ) -> String {
        let Frame { width, height, left, bottom } = self.frame;
        let mut out = format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">");
        let (right, floor) = (width - RIGHT, height - bottom);
        for power in self.x[0].ceil() as i32..=self.x[1].floor() as i32 {
            let (value, x) = (10f64.powi(power), self.x(10f64.powi(power)));
            let _ = write!(out, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{floor}\"/>");
            let label = x_label(value);
            let _ = write!(out, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", floor + 17.0);
        }
        for power in self.y[0].ceil() as i32..=self.y[1].floor() as i32 {
            let (value, y) = (10f64.powi(power), self.y(10f64.powi(power)));
            let _ = write!(out, "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
            let label = y_label(value);
            let _ =
                write!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", left - 6.0, y + 4.0);
        }
        let middle = (left + right) / 2.0;
        let _ =
            write!(out, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x_title}</text>", height - 8.0);
        out
    }

    fn line(&self, out: &mut String, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|&(x, y)| format!("{:.1},{:.1}", self.x(x), self.y(y))).collect();
        let _ = write!(out, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
    }
}

/// Ends of a logarithmic axis that shows all values, a fifth of a power of ten around them.
fn ends(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let logs = values.filter(|v| *v > 0.0 && v.is_finite()).map(f64::log10);
    let [least, most] = logs.fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], v| [a.min(v), b.max(v)]);
    if least > most { [0.0, 1.0] } else { [least - 0.2, most + 0.2] }
}

/// A point of the roofline plot: the number it bears, its colour, its row.
pub(super) type Mark<'a> = (usize, usize, &'a KernelRow);

/// Operations a second over operations per byte, with the roofs of the device; larger points take more of the time.
pub(super) fn roofline(frame: Frame, marks: &[Mark<'_>], ceilings: &Ceilings) -> String {
    let place = |row: &KernelRow| {
        let work = row.work?;
        Some((work.operations / work.bytes().max(1) as f64, row.operations_per_s?))
    };
    let points: Vec<_> = marks.iter().filter_map(|&(n, colour, row)| Some((n, colour, row, place(row)?))).collect();
    let Some(bandwidth) = ceilings.copy_bytes_per_s() else { return "<p>No bandwidth was measured.</p>".into() };
    let units = [
        ("f32", &ceilings.f32),
        ("f16", &ceilings.f16),
        ("8-bit dot", &ceilings.dot8),
        ("matrices", &ceilings.cooperative_matrix),
    ];
    let roofs: Vec<(&str, f64)> =
        units.into_iter().filter_map(|(name, ceiling)| Some((name, ceiling.value?))).collect();
    let highest = roofs.iter().map(|roof| roof.1).fold(bandwidth, f64::max);
    let x = ends(points.iter().map(|p| p.3.0).chain([0.1, 2.0 * highest / bandwidth]));
    let y = ends(points.iter().map(|p| p.3.1).chain([highest]));
    let axes = Axes { frame, x, y };
    let operations = |v: f64| rate(v, "op/s").replace(".00", "").replace(".0 ", " ");
    let mut out = axes.open("Roofline", "operations per byte", |v| format!("{v}"), operations);
    let (first, last) = (10f64.powf(x[0]).max(10f64.powf(y[0]) / bandwidth), 10f64.powf(x[1]));
    for (i, (name, roof)) in roofs.iter().enumerate() {
        let ridge = roof / bandwidth;
        let class = if i == 0 { "roof" } else { "minor" };
        let slope = if i == 0 { Some((first, first * bandwidth)) } else { None };
        let line: Vec<_> = slope.into_iter().chain([(ridge, *roof), (last, *roof)]).collect();
        axes.line(&mut out, class, &line);
        // Left of the slope, where no point can be.
        let (x, y) = (axes.x(ridge) - 6.0, axes.y(*roof) - 4.0);
        let _ = write!(
            out,
            "<text class=\"name\" x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{name} {}</text>",
            rate(*roof, "op/s")
        );
    }
    let total: f64 = marks.iter().map(|mark| mark.2.count as f64 * mark.2.timing.median_s).sum();
    let part = |row: &KernelRow| row.count as f64 * row.timing.median_s / total;
    let mut drawn: Vec<[f64; 3]> = Vec::new();
    for (n, colour, row, (intensity, per_s)) in &points {
        let (true_x, y, radius) = (axes.x(*intensity), axes.y(*per_s), 7.0 + 10.0 * part(row).sqrt());
        let covers = |x: f64| drawn.iter().any(|[cx, cy, r]| (cx - x).hypot(cy - y) < r + radius);
        // A point that would cover another steps aside, and a line shows from where.
        let steps = (0..40).map(|step| true_x + 6.0 * step as f64).find(|x| !covers(*x));
        let x = steps.filter(|x| *x < frame.width - RIGHT).unwrap_or(true_x);
        drawn.push([x, y, radius]);
        let title = format!("{} {}: {}", row.label, row.shape, rate(*per_s, "op/s"));
        let _ = write!(
            out,
            "<line class=\"k{colour}\" x1=\"{true_x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <circle class=\"k{colour}\" fill-opacity=\"0.85\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\">\
             <title>{title}</title></circle>\
             <text class=\"mark\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{n}</text>",
            y + 4.0
        );
    }
    out + "</svg>"
}

/// Bandwidth over the size of the working set.
pub(super) fn bandwidth(frame: Frame, ceilings: &Ceilings) -> String {
    let curves = [("copy", 0, &ceilings.copy), ("read", 2, &ceilings.read)];
    let of = |curve: &[Point]| -> Vec<(f64, f64)> {
        curve.iter().filter_map(|p| Some((p.bytes as f64, p.bytes_per_s.value?))).collect()
    };
    let all: Vec<_> = curves.iter().flat_map(|curve| of(curve.2)).collect();
    let frame = Frame { height: frame.height * 0.7, ..frame };
    let axes = Axes {
        frame,
        x: ends(all.iter().map(|p| p.0)),
        y: ends(all.iter().map(|p| p.1).flat_map(|v| [v, v / 3.0, v * 1.5])),
    };
    let size = |v: f64| bytes(2u64.pow(v.log2().round() as u32)).replace(".00", "").replace(".0 ", " ");
    let per_s = |v: f64| rate(v, "B/s").replace(".00", "").replace(".0 ", " ");
    let mut out = axes.open("Bandwidth over size", "working set", size, per_s);
    for (name, colour, curve) in curves {
        let points = of(curve);
        axes.line(&mut out, &format!("curve line{colour}"), &points);
        for (x, y) in &points {
            let _ = write!(
                out,
                "<circle class=\"k{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"><title>{name} {}: {}</title></circle>",
                axes.x(*x),
                axes.y(*y),
                bytes(*x as u64),
                rate(*y, "B/s")
            );
        }
        if let Some((x, y)) = points.last() {
            let lift = if name == "copy" { 16.0 } else { -8.0 };
            let _ = write!(
                out,
                "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name} {}</text>",
                axes.x(*x),
                axes.y(*y) + lift,
                rate(*y, "B/s")
            );
        }
    }
    out + "</svg>"
}
