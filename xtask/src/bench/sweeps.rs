//! Figures along an axis, for the pictures: each contender at each point, in turns.

use serde_json::{Value, json};
use testbed::Testbed;

use super::kind::Kind;
use super::measure::{Run, on_bed, on_smoltcp, on_stack};
use super::median;
use super::workloads::{Placement, Wire};
use crate::shell::{Error, attempt};

/// The name by which `--only` selects them.
pub const NAME: &str = "sweeps";

/// Runs of each contender at each point.
const ROUNDS: usize = 3;

/// Seconds of each of them.
const SECONDS: f64 = 0.5;

/// Who takes part.
#[derive(Clone, Copy)]
enum Contender {
    Kernel,
    Tap,
    Memory,
    Smoltcp,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Contender::Kernel => "kernel, veth",
            Contender::Tap => "stack, TAP, the kernel's client",
            Contender::Memory => "stack, memory wire",
            Contender::Smoltcp => "smoltcp, memory wire",
        }
    }

    fn run(self, kind: &Kind) -> Result<Run, Error> {
        let as_it_falls = Placement::AsItFalls;
        match self {
            Contender::Kernel => on_bed(kind, Testbed::kernel(), as_it_falls, SECONDS),
            Contender::Tap => on_stack(kind, Wire::Tap, as_it_falls, SECONDS),
            Contender::Memory => on_stack(kind, Wire::Memory, as_it_falls, SECONDS),
            Contender::Smoltcp => on_smoltcp(kind, SECONDS),
        }
    }
}

/// A load that is made at several points.
struct Axis {
    title: &'static str,
    /// What the points are.
    along: &'static str,
    points: &'static [usize],
    load: fn(usize) -> Kind,
    contenders: &'static [Contender],
}

const AXES: [Axis; 2] = [
    Axis {
        title: "short connections of 64 B",
        along: "connections at once",
        points: &[1, 8, 64, 256, 1024],
        load: |connections| Kind::Short {
            size: 64,
            messages: 1,
            connections,
        },
        contenders: &[
            Contender::Kernel,
            Contender::Tap,
            Contender::Memory,
            Contender::Smoltcp,
        ],
    },
    Axis {
        title: "throughput of messages and their echoes, 16 connections",
        along: "bytes of a message",
        points: &[64, 512, 4096, 32_768, 262_144],
        load: |size| Kind::Messages { size },
        contenders: &[Contender::Kernel, Contender::Tap, Contender::Memory],
    },
];

/// Medians of one contender along an axis.
#[derive(Clone, Debug, PartialEq)]
struct Curve {
    name: &'static str,
    points: Vec<(usize, f64)>,
    failures: Vec<String>,
}

/// What was measured along one axis.
pub struct Sweep {
    title: &'static str,
    along: &'static str,
    unit: &'static str,
    curves: Vec<Curve>,
}

/// Measures them all.
pub fn measure() -> Vec<Sweep> {
    AXES.iter().map(sweep).collect()
}

fn sweep(axis: &Axis) -> Sweep {
    let curve = |contender: &Contender| Curve {
        name: contender.name(),
        points: Vec::new(),
        failures: Vec::new(),
    };
    let mut curves: Vec<Curve> = axis.contenders.iter().map(curve).collect();
    for (place, &point) in axis.points.iter().enumerate() {
        let kind = (axis.load)(point);
        let mut values = vec![Vec::new(); curves.len()];
        for _ in 0..ROUNDS {
            for ((contender, curve), values) in
                axis.contenders.iter().zip(&mut curves).zip(&mut values)
            {
                match attempt(|| contender.run(&kind)) {
                    Ok(run) => values.push(run.values[0]),
                    Err(error) => curve.failures.push(format!("{point}: {error}")),
                }
            }
        }
        let (count, points) = (place + 1, axis.points.len());
        eprintln!(
            "  {}, {point} {} ({count}/{points})",
            axis.title, axis.along
        );
        for (curve, values) in curves.iter_mut().zip(&values) {
            if !values.is_empty() {
                eprintln!("    {}: {:.2} {}", curve.name, median(values), kind.unit());
                curve.points.push((point, median(values)));
            }
        }
    }
    Sweep {
        title: axis.title,
        along: axis.along,
        unit: (axis.load)(axis.points[0]).unit(),
        curves,
    }
}

impl Sweep {
    /// A Markdown table: a row for each contender.
    pub fn table(&self) -> String {
        let mut points: Vec<usize> = self.curves.iter().flat_map(Curve::at).collect();
        points.sort_unstable();
        points.dedup();
        let heads: Vec<String> = points.iter().map(usize::to_string).collect();
        let mut text = format!("{}, {}; {}:\n\n", self.title, self.unit, self.along);
        text += &format!("| | {} |\n|---|", heads.join(" | "));
        text += &"---|".repeat(points.len());
        for curve in &self.curves {
            let value = |point: &usize| curve.points.iter().find(|(at, _)| at == point);
            let cell = |point| value(point).map_or("failed".to_owned(), |(_, y)| format!("{y:.2}"));
            let cells: Vec<String> = points.iter().map(cell).collect();
            text += &format!("\n| {} | {} |", curve.name, cells.join(" | "));
        }
        text += "\n";
        for failure in self.curves.iter().flat_map(|curve| &curve.failures) {
            text += &format!("\n```\n{failure}\n```\n");
        }
        text
    }

    /// The same for results.json.
    pub fn to_json(&self) -> Value {
        let curve = |curve: &Curve| json!({ "name": curve.name, "points": curve.points });
        json!({
            "title": self.title,
            "along": self.along,
            "unit": self.unit,
            "curves": self.curves.iter().map(curve).collect::<Vec<_>>(),
        })
    }
}

impl Curve {
    fn at(&self) -> Vec<usize> {
        self.points.iter().map(|(at, _)| *at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_that_could_not_be_measured_is_said_to_have_failed() {
        let curve = |name, points: &[(usize, f64)]| Curve {
            name,
            points: points.to_vec(),
            failures: Vec::new(),
        };
        let sweep = Sweep {
            title: "t",
            along: "at once",
            unit: "u",
            curves: vec![curve("a", &[(1, 2.0), (8, 4.0)]), curve("b", &[(8, 3.0)])],
        };
        let table = sweep.table();
        assert!(table.contains("| | 1 | 8 |"), "{table}");
        assert!(table.contains("| b | failed | 3.00 |"), "{table}");
    }
}
