//! Pictures of what results.json holds, as SVG.

use std::path::Path;

use plotters::coord::combinators::IntoLogRange;
use plotters::prelude::*;
use serde_json::Value;

use crate::shell::Error;

/// Pixels of a picture.
const SIZE: (u32, u32) = (860, 480);

const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1b, 0x6c, 0xa8),
    RGBColor(0xc8, 0x3e, 0x3e),
    RGBColor(0x2e, 0x8b, 0x57),
    RGBColor(0xd9, 0x8e, 0x04),
    RGBColor(0x7a, 0x4f, 0xa3),
    RGBColor(0x55, 0x55, 0x55),
];

/// One picture: curves over an axis; both axes are logarithmic.
#[derive(Debug, PartialEq)]
struct Picture {
    file: &'static str,
    title: String,
    along: String,
    unit: String,
    curves: Vec<(String, Vec<(f64, f64)>)>,
}

/// Draws what the results have the figures for; answers the files' names.
pub fn draw(results: &Value, directory: &Path) -> Result<Vec<&'static str>, Error> {
    let pictures = [
        sweep(results, 0, "connections.svg"),
        sweep(results, 1, "throughput.svg"),
        distribution(results),
        crowd(results),
    ];
    let mut files = Vec::new();
    for picture in pictures.into_iter().flatten() {
        let path = directory.join(picture.file);
        let text = picture
            .svg()
            .map_err(|error| Error::Other(format!("{}: {error}", path.display())))?;
        std::fs::write(&path, text).map_err(crate::shell::at(&path))?;
        files.push(picture.file);
    }
    Ok(files)
}

/// The points of a list of pairs that a logarithmic axis can show.
fn points(value: &Value) -> Vec<(f64, f64)> {
    let pairs = value.as_array().into_iter().flatten();
    let points = pairs.filter_map(|pair| Some((pair.get(0)?.as_f64()?, pair.get(1)?.as_f64()?)));
    points.filter(|(x, y)| *x > 0.0 && *y > 0.0).collect()
}

fn text(value: &Value, name: &str) -> Option<String> {
    Some(value.get(name)?.as_str()?.to_owned())
}

/// The sweep at this place.
fn sweep(results: &Value, place: usize, file: &'static str) -> Option<Picture> {
    let sweep = results.get("sweeps")?.get(place)?;
    let curves = sweep.get("curves")?.as_array()?.iter();
    let curves =
        curves.filter_map(|curve| Some((text(curve, "name")?, points(curve.get("points")?))));
    Picture {
        file,
        title: text(sweep, "title")?,
        along: text(sweep, "along")?,
        unit: text(sweep, "unit")?,
        curves: curves.collect(),
    }
    .with_points()
}

/// How round trips are spread, of whoever was measured: the share of them that took longer.
fn distribution(results: &Value) -> Option<Picture> {
    let mut curves: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for row in results.get("lines")?.as_array()? {
        let steered = text(row, "softirq_placement").as_deref() != Some("as it falls");
        let workload = text(row, "workload")?;
        if steered || !workload.starts_with("round trip, 64 B, one connection") {
            continue;
        }
        let peer = match workload.contains("spinning") && text(row, "against")?.contains("kernel") {
            true => format!("{}, spinning", text(row, "against")?),
            false => text(row, "against")?,
        };
        let stack = format!("stack, {}", text(row, "wire")?);
        for (name, key) in [
            (peer, "distribution_us_peer"),
            (stack, "distribution_us_stack"),
        ] {
            if curves.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let shares = row.get(key).map(points).unwrap_or_default();
            let longer = |(share, time): (f64, f64)| (time, 100.0 - share);
            curves.push((name, shares.into_iter().map(longer).collect()));
        }
    }
    Picture {
        file: "latency.svg",
        title: "round trips of 64 B on one connection".to_owned(),
        along: "microseconds".to_owned(),
        unit: "% that take longer".to_owned(),
        curves,
    }
    .with_points()
}

/// What idle connections cost the active ones.
fn crowd(results: &Value) -> Option<Picture> {
    let mut curves = vec![
        ("without them".to_owned(), Vec::new()),
        ("with them".to_owned(), Vec::new()),
    ];
    for cost in results.get("cost_of_idle_connections")?.as_array()? {
        let idle = cost.get("idle")?.as_f64()?;
        let pairs = points(cost.get("p50_us_without_and_with")?);
        if pairs.is_empty() {
            continue;
        }
        let of = |side: fn(&(f64, f64)) -> f64| {
            super::median(&pairs.iter().map(side).collect::<Vec<_>>())
        };
        curves[0].1.push((idle, of(|pair| pair.0)));
        curves[1].1.push((idle, of(|pair| pair.1)));
    }
    Picture {
        file: "idle.svg",
        title: "round trips of 64 active connections beside idle ones".to_owned(),
        along: "idle connections".to_owned(),
        unit: "p50, us".to_owned(),
        curves,
    }
    .with_points()
}

impl Picture {
    /// Itself without empty curves, if any are left.
    fn with_points(mut self) -> Option<Picture> {
        self.curves.retain(|(_, points)| !points.is_empty());
        (!self.curves.is_empty()).then_some(self)
    }

    /// The least and the greatest, with a margin, of one coordinate.
    fn range(&self, of: fn(&(f64, f64)) -> f64) -> std::ops::Range<f64> {
        let values = self
            .curves
            .iter()
            .flat_map(|(_, points)| points.iter().map(of));
        let (least, most) = values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        least / 1.3..most * 1.3
    }

    fn svg(&self) -> Result<String, Box<dyn std::error::Error>> {
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            root.fill(&WHITE)?;
            let (x, y) = (self.range(|point| point.0), self.range(|point| point.1));
            let mut chart = ChartBuilder::on(&root)
                .caption(&self.title, ("sans-serif", 20))
                .margin(12)
                .x_label_area_size(44)
                .y_label_area_size(84)
                .build_cartesian_2d(x.log_scale(), y.log_scale())?;
            chart
                .configure_mesh()
                .label_style(("sans-serif", 16))
                .light_line_style(TRANSPARENT)
                .x_desc(&self.along)
                .y_desc(&self.unit)
                .x_label_formatter(&|value| label(*value))
                .y_label_formatter(&|value| label(*value))
                .draw()?;
            for ((name, points), colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
                let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
                chart
                    .draw_series(line.point_size(3))?
                    .label(name)
                    .legend(|(x, y)| {
                        PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                    });
            }
            chart
                .configure_series_labels()
                .label_font(("sans-serif", 16))
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3))
                .draw()?;
            root.present()?;
        }
        Ok(svg)
    }
}

/// A number of an axis.
fn label(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value => format!("{}", (value * 1e4).round() / 1e4),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sweep_becomes_a_picture_with_a_curve_for_each_who_has_points() {
        let results = json!({ "sweeps": [{
            "title": "short", "along": "at once", "unit": "1/s",
            "curves": [
                { "name": "a", "points": [[1, 10.0], [8, 0.0], [64, 40.0]] },
                { "name": "b", "points": [] },
            ],
        }] });
        let picture = sweep(&results, 0, "x.svg").unwrap();
        assert_eq!(
            picture.curves,
            [("a".to_owned(), vec![(1.0, 10.0), (64.0, 40.0)])]
        );
        let svg = picture.svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(
            svg.contains("at once") && svg.contains("<polyline"),
            "{svg}"
        );
        assert!(sweep(&results, 1, "x.svg").is_none());
    }

    #[test]
    fn a_distribution_shows_how_many_round_trips_take_longer() {
        let row = |workload, wire| {
            json!({
                "workload": workload, "wire": wire, "against": "kernel, veth",
                "softirq_placement": "as it falls",
                "distribution_us_peer": [[50.0, 20.0], [99.0, 40.0]],
                "distribution_us_stack": [[50.0, 5.0]],
            })
        };
        let results = json!({ "lines": [
            row("round trip, 64 B, one connection, p50", "TAP"),
            row("redis", "TAP"),
            row("round trip, 64 B, one connection, p50", "memory wire"),
        ] });
        let picture = distribution(&results).unwrap();
        let names: Vec<&str> = picture
            .curves
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["kernel, veth", "stack, TAP", "stack, memory wire"]);
        assert_eq!(picture.curves[0].1, [(20.0, 50.0), (40.0, 1.0)]);
    }

    #[test]
    fn results_of_a_part_make_no_picture() {
        let directory = std::env::temp_dir();
        let drawn = draw(&json!({ "lines": [], "sweeps": [] }), &directory);
        assert!(drawn.unwrap().is_empty());
    }
}
