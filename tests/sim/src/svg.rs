//! Windows over time as a picture, in plain SVG.

use std::fmt::Write;

/// Width and height of a picture, and its margins, in pixels.
const SIZE: (f64, f64) = (800.0, 300.0);
const MARGIN: (f64, f64) = (64.0, 36.0);
const COLOURS: [&str; 4] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd"];

/// One line: its name, and points in seconds and segments.
pub struct Line<'a> {
    /// What it shows.
    pub name: &'a str,
    /// Its points.
    pub points: &'a [(u64, f64)],
}

/// A picture of lines. A point's first part is in microseconds.
pub fn draw(title: &str, lines: &[Line<'_>]) -> String {
    let points = || lines.iter().flat_map(|line| line.points);
    let span = points().map(|(t, _)| *t).max().unwrap_or(1).max(1) as f64 / 1e6;
    let top = round_up(points().map(|(_, v)| *v).fold(1.0, f64::max));
    let (width, height) = (SIZE.0 - 2.0 * MARGIN.0, SIZE.1 - 2.0 * MARGIN.1);
    let x = |seconds: f64| MARGIN.0 + seconds / span * width;
    let y = |segments: f64| SIZE.1 - MARGIN.1 - segments / top * height;
    let mut svg = String::new();
    let (w, h) = SIZE;
    // Writing into a String cannot fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{w}\" height=\"{h}\" fill=\"white\"/>\n\
         <text x=\"{}\" y=\"20\" font-size=\"13\">{title}</text>\n",
        MARGIN.0
    );
    for step in 0..=4 {
        let part = f64::from(step) / 4.0;
        let (at, value) = (y(top * part), top * part);
        let _ = write!(
            svg,
            "<line x1=\"{}\" y1=\"{at:.1}\" x2=\"{}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>\n",
            MARGIN.0,
            SIZE.0 - MARGIN.0,
            MARGIN.0 - 6.0,
            at + 4.0
        );
        let (at, value) = (x(span * part), span * part);
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{value:.1} s</text>",
            SIZE.1 - MARGIN.1 + 16.0
        );
    }
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let _ = write!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" points=\"");
        for (t, v) in line.points {
            let _ = write!(svg, "{:.1},{:.1} ", x(*t as f64 / 1e6), y(*v));
        }
        let _ = write!(
            svg,
            "\"/>\n<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{}</text>\n",
            SIZE.0 - MARGIN.0 + 4.0,
            MARGIN.1 + 14.0 * index as f64,
            line.name
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// The next of 1, 2, 4, 5, 8, 10, 20 and so on.
fn round_up(value: f64) -> f64 {
    let unit = 10f64.powf(value.max(1.0).log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0];
    let step = steps.iter().find(|step| **step * unit >= value);
    step.unwrap_or(&10.0) * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_holds_its_greatest_value() {
        assert_eq!(round_up(1.0), 1.0);
        assert_eq!(round_up(130.0), 200.0);
        assert_eq!(round_up(850.0), 1000.0);
    }

    #[test]
    fn every_line_is_drawn_with_its_name() {
        let svg = draw(
            "a picture",
            &[Line {
                name: "one",
                points: &[(0, 1.0), (1_000_000, 2.0)],
            }],
        );
        assert_eq!(svg.matches("<polyline").count(), 1);
        assert!(svg.contains(">one</text>") && svg.ends_with("</svg>\n"));
    }
}
