//! The table, and the files that keep it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::calls::{self, Calls};
use super::instructions::{self, Count};
use super::machine::{Busy, description};
use super::workloads::{Better, IDLE};
use super::{Conditions, Run, Wire, median};
use crate::shell::{Error, at};

/// One line: the runs of one workload over one wire.
pub struct Measurement {
    workload: &'static str,
    unit: &'static str,
    better: Better,
    wire: Wire,
    placement: &'static str,
    goal: Option<f64>,
    kernel: Vec<f64>,
    stack: Vec<f64>,
    ratios: Vec<f64>,
    busy: Option<[Busy; 2]>,
    commands: Option<[[String; 2]; 2]>,
    failure: Option<String>,
}

impl Measurement {
    /// A line without runs, and the ratio that it should reach.
    pub fn new(conditions: &Conditions, goal: Option<f64>) -> Measurement {
        let workload = conditions.workload;
        Measurement {
            workload: workload.name,
            unit: workload.unit,
            better: workload.better,
            wire: conditions.wire,
            placement: conditions.placement.name(),
            goal,
            kernel: Vec::new(),
            stack: Vec::new(),
            ratios: Vec::new(),
            busy: None,
            commands: None,
            failure: None,
        }
    }

    /// Adds a pair.
    pub fn add(&mut self, kernel: Run, stack: Run, ratio: f64) {
        self.kernel.push(kernel.value);
        self.stack.push(stack.value);
        self.ratios.push(ratio);
        self.busy = Some([kernel.busy, stack.busy]);
        self.commands = Some([kernel.commands, stack.commands]);
    }

    /// Says why the line has no (more) pairs.
    pub fn fail(&mut self, error: Error) {
        self.failure = Some(error.to_string());
    }

    fn wire_name(&self) -> &'static str {
        match self.wire {
            Wire::Tap => "TAP",
            Wire::Packet => "packet sockets",
            Wire::Xdp => "AF_XDP",
            Wire::Memory => "memory wire",
        }
    }

    fn verdict(&self) -> String {
        match self.goal {
            _ if self.failure.is_some() => "failed".to_owned(),
            None => String::new(),
            Some(goal) if median(&self.ratios) >= goal => format!("{goal:.1}x: reached"),
            Some(goal) => format!("{goal:.1}x: missed"),
        }
    }

    fn row(&self) -> [String; 8] {
        let least = self.ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self
            .ratios
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let (ratio, figures) = match self.ratios.is_empty() {
            true => (String::new(), [String::new(), String::new()]),
            false => (
                format!("{:.2}x ({least:.2}-{most:.2})", median(&self.ratios)),
                [&self.kernel, &self.stack].map(|values| figure(median(values))),
            ),
        };
        let [kernel, stack] = figures;
        let busy = self
            .busy
            .as_ref()
            .map(|[kernel, stack]| format!("{kernel}; {stack}"));
        [
            format!("{}, {}", self.workload, self.unit),
            self.wire_name().to_owned(),
            self.placement.to_owned(),
            kernel,
            stack,
            ratio,
            self.verdict(),
            busy.unwrap_or_default(),
        ]
    }

    fn to_json(&self) -> Value {
        json!({
            "workload": self.workload,
            "unit": self.unit,
            "more_is_better": self.better == Better::More,
            "wire": self.wire_name(),
            "softirq_placement": self.placement,
            "kernel": self.kernel,
            "stack": self.stack,
            "ratios": self.ratios,
            "median_ratio": if self.ratios.is_empty() { Value::Null } else { json!(median(&self.ratios)) },
            "goal": self.goal,
            "busy_kernel": self.busy.as_ref().map(|[kernel, _]| &kernel.0),
            "busy_stack": self.busy.as_ref().map(|[_, stack]| &stack.0),
            "commands": self.commands,
            "failure": self.failure,
        })
    }
}

/// A figure with as many digits as it deserves.
fn figure(value: f64) -> String {
    if value >= 1000.0 {
        let thousands = (value / 1000.0).floor();
        format!(
            "{thousands:.0},{:03.0}",
            (value - thousands * 1000.0).floor()
        )
    } else {
        format!("{value:.1}")
    }
}

const HEADINGS: [&str; 8] = [
    "workload",
    "wire of the stack",
    "softirqs",
    "kernel (veth)",
    "stack",
    "ratio: median (least-most)",
    "goal",
    "busy cores 0/1: kernel; stack",
];

/// All lines, and the circumstances.
pub struct Report {
    circumstances: Vec<String>,
    lines: Vec<Measurement>,
    /// Bytes of an idle connection, or why there is no figure; `None` if not asked for.
    pub idle: Option<Result<f64, String>>,
    /// Cost of an intercepted call, or why there is no figure; `None` if not asked for.
    pub calls: Option<Result<Calls, String>>,
    /// Instructions of the fast paths, or why there are none; `None` if not asked for.
    pub instructions: Option<Result<Vec<Count>, String>>,
}

impl Report {
    /// A report without lines.
    pub fn new(pairs: usize, seconds: f64, kernel_twice: bool) -> Result<Report, Error> {
        let mut circumstances = description()?;
        circumstances.push(format!(
            "{pairs} pairs (kernel, then stack) of {seconds} s each; server on core 1, client on core 0; \
             cubic on the kernel's side; every figure a median"
        ));
        if kernel_twice {
            circumstances.push(
                "the column \"stack\" is the kernel once more: how far equal runs lie apart"
                    .to_owned(),
            );
        }
        Ok(Report {
            circumstances,
            lines: Vec::new(),
            idle: None,
            calls: None,
            instructions: None,
        })
    }

    /// Adds a line.
    pub fn add(&mut self, line: Measurement) {
        self.lines.push(line);
    }

    fn idle_text(&self) -> Option<String> {
        self.idle.as_ref().map(|idle| match idle {
            Ok(bytes) => {
                let verdict = if *bytes <= 4096.0 { "reached" } else { "missed" };
                format!("{IDLE}: {bytes:.0} bytes in all, engine and segment (goal: at most 4,096; {verdict})")
            }
            Err(error) => format!("{IDLE}: failed: {error}"),
        })
    }

    /// For each workload over TAP, the best placement of the kernel against the stack's best.
    fn best_against_best(&self) -> Vec<String> {
        let mut names: Vec<&str> = self.lines.iter().map(|line| line.workload).collect();
        names.dedup();
        let best = |name: &str, side: fn(&Measurement) -> &Vec<f64>| {
            let lines = self
                .lines
                .iter()
                .filter(|line| line.workload == name && line.wire == Wire::Tap);
            let medians = lines
                .filter(|line| !line.ratios.is_empty())
                .map(|line| (median(side(line)), line.better));
            medians.reduce(|one, other| match one.1 {
                Better::More => (one.0.max(other.0), one.1),
                Better::Less => (one.0.min(other.0), one.1),
            })
        };
        let line = |name: &&str| {
            let (kernel, better) = best(name, |line| &line.kernel)?;
            let (stack, _) = best(name, |line| &line.stack)?;
            let ratio = match better {
                Better::More => stack / kernel,
                Better::Less => kernel / stack,
            };
            Some(format!(
                "{name}: {} against {}: {ratio:.2}x",
                figure(stack),
                figure(kernel)
            ))
        };
        names.iter().filter_map(line).collect()
    }

    /// The table for the terminal and for results.md.
    pub fn table(&self) -> String {
        let rows: Vec<[String; 8]> = self.lines.iter().map(Measurement::row).collect();
        let widths: [usize; 8] = std::array::from_fn(|column| {
            let cells = rows.iter().map(|row| row[column].len());
            cells.chain([HEADINGS[column].len()]).max().unwrap_or(0)
        });
        let format_row = |cells: [&str; 8]| {
            let cells = cells
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
        };
        let mut table = format_row(HEADINGS);
        let rule = widths.map(|width| "-".repeat(width));
        table += &format_row(rule.each_ref().map(String::as_str));
        for row in &rows {
            table += &format_row(row.each_ref().map(String::as_str));
        }
        if let Some(idle) = self.idle_text() {
            table += &format!("\n{idle}\n");
        }
        match &self.calls {
            Some(Ok(calls)) => table += &format!("\n{}\n", calls.text()),
            Some(Err(error)) => table += &format!("\n{}: failed: {error}\n", calls::NAME),
            None => {}
        }
        match &self.instructions {
            Some(Ok(counts)) => table += &format!("\n{}", instructions::table(counts)),
            Some(Err(error)) => table += &format!("\ninstructions: failed: {error}\n"),
            None => {}
        }
        table
    }

    fn to_markdown(&self) -> String {
        let mut text =
            String::from("# The stack against the kernel\n\nWritten by `cargo xtask bench`.\n\n");
        for line in &self.circumstances {
            text += &format!("- {line}\n");
        }
        text += &format!("\n{}", self.table());
        text += "\n## Best placement against best placement, over TAP\n\nStack against kernel.\n\n";
        for line in self.best_against_best() {
            text += &format!("- {line}\n");
        }
        let failures = self
            .lines
            .iter()
            .filter_map(|line| Some((line, line.failure.as_ref()?)));
        for (line, failure) in failures {
            text += &format!(
                "\n## Failed: {} ({})\n\n```\n{failure}\n```\n",
                line.workload,
                line.wire_name()
            );
        }
        text += "\n## Commands\n\n";
        for line in &self.lines {
            let Some([kernel, stack]) = &line.commands else {
                continue;
            };
            text += &format!(
                "{}, {}, {}:\n\n```\n",
                line.workload,
                line.wire_name(),
                line.placement
            );
            for (side, [server, client]) in [("kernel", kernel), ("stack", stack)] {
                text += &format!("{side}: {server}\n{side}: {client}\n");
            }
            text += "```\n\n";
        }
        text
    }

    fn to_json(&self) -> Value {
        let instructions = self.instructions.as_ref().and_then(|i| i.as_ref().ok());
        let calls = self.calls.as_ref().and_then(|calls| calls.as_ref().ok());
        json!({
            "circumstances": self.circumstances,
            "lines": self.lines.iter().map(Measurement::to_json).collect::<Vec<_>>(),
            "idle_connection_bytes": self.idle.as_ref().and_then(|idle| idle.as_ref().ok()),
            "intercepted_call": calls.map(Calls::to_json),
            "instructions": instructions.map(|counts| instructions::to_json(counts)),
        })
    }

    /// Writes results.md, with notes.md of the same directory at its end, and results.json.
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        let markdown = directory.join("results.md");
        // What a person has to say of the figures stays with them.
        let notes = fs::read_to_string(directory.join("notes.md")).unwrap_or_default();
        let text = format!("{}\n{notes}", self.to_markdown());
        fs::write(&markdown, text).map_err(at(markdown))?;
        let json = directory.join("results.json");
        fs::write(&json, format!("{:#}\n", self.to_json())).map_err(at(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_carry_thousands_separators_or_a_decimal() {
        assert_eq!(figure(0.25), "0.2");
        assert_eq!(figure(999.96), "1000.0");
        assert_eq!(figure(1_002.7), "1,002");
        assert_eq!(figure(123_456.0), "123,456");
    }
}
