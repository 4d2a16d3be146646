//! Time over number of tasks as an SVG picture.

use super::report::Report;
use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 48.0;
const COLOURS: [&str; 5] = ["#c0392b", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b"];

/// One line of the picture: its name, and milliseconds at numbers of tasks.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

/// The picture of one workload, measured with several numbers of tasks; both axes are logarithmic.
pub fn picture(reports: &[Report], row: usize) -> String {
    let series = series(reports, row);
    let all = || series.iter().flat_map(|s| s.points.iter().copied());
    let decades = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        (low.log10().floor(), high.log10().ceil())
    };
    let (x_low, x_high) = all().fold((f64::MAX, f64::MIN), |(low, high), p| (low.min(p.0), high.max(p.0)));
    let (x_low, x_high) = (x_low.log10(), (x_high * 1.05).log10().max(x_low.log10() + 0.1));
    let (y_low, y_high) = decades(&mut all().map(|p| p.1));
    let x = |v: f64| LEFT + (v.log10() - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| HEIGHT - BOTTOM - (v.log10() - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM);

    let mut svg = String::new();
    let _ = writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="{LEFT}" y="22" font-size="15">{}, milliseconds over number of tasks</text>"##,
        reports[0].rows[row].workload.asked()
    );
    let mut decade = y_low;
    while decade <= y_high {
        let (at, value) = (y(10f64.powf(decade)), 10f64.powf(decade));
        let (right, label) = (WIDTH - RIGHT, LEFT - 8.0);
        let _ = writeln!(
            svg,
            r##"<path d="M{LEFT} {at:.1}H{right}" stroke="#dddddd"/><text x="{label}" y="{:.1}" text-anchor="end">{value}</text>"##,
            at + 4.0
        );
        decade += 1.0;
    }
    for (tasks, _) in &series[0].points {
        let at = x(*tasks);
        let _ = writeln!(
            svg,
            r##"<path d="M{at:.1} {TOP}V{:.1}" stroke="#eeeeee"/><text x="{at:.1}" y="{:.1}" text-anchor="middle">{tasks}</text>"##,
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 18.0
        );
    }
    for (s, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let path: Vec<String> = s.points.iter().map(|p| format!("{:.1} {:.1}", x(p.0), y(p.1))).collect();
        let _ = writeln!(
            svg,
            r##"<path d="M{}" fill="none" stroke="{colour}" stroke-width="2"/>"##,
            path.join("L")
        );
        for p in &s.points {
            let _ =
                writeln!(svg, r##"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"##, x(p.0), y(p.1));
        }
        if let Some(last) = s.points.last() {
            let at = (x(last.0) + 8.0, y(last.1) + 4.0);
            let _ =
                writeln!(svg, r##"<text x="{:.1}" y="{:.1}" fill="{colour}">{}</text>"##, at.0, at.1, s.name);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn series(reports: &[Report], row: usize) -> Vec<Series> {
    let first = &reports[0];
    let names = std::iter::once(format!("/proc: {}", first.rows[row].workload.read()));
    let names = names.chain(first.contenders.iter().cloned());
    names
        .enumerate()
        .map(|(at, name)| {
            let point = |report: &Report| {
                let row = &report.rows[row];
                (row.tasks as f64, row.medians[at].as_secs_f64() * 1e3)
            };
            Series { name, points: reports.iter().map(point).collect() }
        })
        .collect()
}
