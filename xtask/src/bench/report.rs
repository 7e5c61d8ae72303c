//! The table, and the files that keep it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::calls::{self, Calls};
use super::crowd::Cost;
use super::handover::{self, HandOver};
use super::idle::{self, Memory};
use super::instructions::{self, Count};
use super::machine::{Busy, description};
use super::measure::{Conditions, Run, ratio};
use super::sweeps::Sweep;
use super::workloads::{Better, Line, Peer, Placement, Wire};
use super::{median, pictures};
use crate::shell::{Error, at};

/// One row: a figure of the runs of one workload over one wire.
pub struct Measurement {
    name: String,
    unit: &'static str,
    better: Better,
    line: Line,
    goal: Option<f64>,
    goal_best: Option<f64>,
    bound: Option<f64>,
    /// Whether the commands belong here: to the first row of each line.
    first: bool,
    peer: Vec<f64>,
    stack: Vec<f64>,
    ratios: Vec<f64>,
    busy: Option<[Busy; 2]>,
    commands: Option<[Vec<String>; 2]>,
    distributions: Option<[Value; 2]>,
    failure: Option<String>,
}

impl Measurement {
    /// A row without runs, for the figure of this name; goals are the first figure's.
    pub fn new(conditions: &Conditions, figure: &str, first: bool) -> Measurement {
        let Conditions { workload, line, .. } = conditions;
        let goals = first && !conditions.kernel_twice;
        Measurement {
            name: format!("{}{figure}", workload.name),
            unit: workload.kind.unit(),
            better: workload.better(),
            line: *line,
            goal: line.goal.filter(|_| goals),
            goal_best: workload.goal_best.filter(|_| goals),
            bound: line.bound.filter(|_| goals),
            first,
            peer: Vec::new(),
            stack: Vec::new(),
            ratios: Vec::new(),
            busy: None,
            commands: None,
            distributions: None,
            failure: None,
        }
    }

    /// Adds the figure at this place of a pair.
    pub fn add(&mut self, peer: &Run, stack: &Run, place: usize) {
        let (one, other) = (peer.values[place], stack.values[place]);
        self.peer.push(one);
        self.stack.push(other);
        self.ratios.push(ratio(self.better, other, one));
        self.busy = Some([peer.busy.clone(), stack.busy.clone()]);
        self.commands = Some([peer.commands.clone(), stack.commands.clone()]);
        let distributions = peer.distributions_with(stack);
        self.distributions = distributions.filter(|_| self.first);
    }

    /// Says why the row has no (more) pairs.
    pub fn fail(&mut self, error: &Error) {
        self.failure = Some(error.to_string());
    }

    /// Whether it is one of those whose placements are compared: each end on a core of its own.
    fn is_of_veth_alone(&self) -> bool {
        let Line {
            peer, placement, ..
        } = self.line;
        peer == Peer::Veth && placement != Placement::TwoWorkers && !self.ratios.is_empty()
    }

    /// What was to be reached, and whether it was. Against the kernel with both ends on the stack, the
    /// kernel's best placement counts.
    fn verdict(&self, kernels_best: Option<f64>) -> String {
        if self.failure.is_some() {
            return "failed".to_owned();
        }
        let stack = median(&self.stack);
        let mut verdicts = Vec::new();
        if let Some(goal) = self.goal {
            let best = kernels_best
                .filter(|_| self.line.wire == Wire::Memory && self.line.peer == Peer::Veth);
            let reached = best.map_or(median(&self.ratios), |best| ratio(self.better, stack, best));
            let of_best = best.map(|_| format!(" ({reached:.2}x of its best)"));
            verdicts.push(format!(
                "{goal:.1}x: {}{}",
                verdict(reached >= goal),
                of_best.unwrap_or_default()
            ));
        }
        if let Some(bound) = self.bound {
            let (sign, reached) = match self.better {
                Better::More => ("at least", stack >= bound),
                Better::Less => ("at most", stack <= bound),
            };
            verdicts.push(format!(
                "{sign} {bound} {}: {}",
                self.unit,
                verdict(reached)
            ));
        }
        verdicts.join("; ")
    }

    fn row(&self, kernels_best: Option<f64>) -> [String; COLUMNS] {
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
                [&self.peer, &self.stack].map(|values| figure(median(values))),
            ),
        };
        let [peer, stack] = figures;
        let busy = self
            .busy
            .as_ref()
            .map(|[peer, stack]| format!("{peer}; {stack}"));
        [
            format!("{}, {}", self.name, self.unit),
            self.line.wire.name().to_owned(),
            self.line.placement.name().to_owned(),
            self.line.peer.name().to_owned(),
            peer,
            stack,
            ratio,
            self.verdict(kernels_best),
            busy.unwrap_or_default(),
        ]
    }

    fn to_json(&self) -> Value {
        json!({
            "workload": self.name,
            "unit": self.unit,
            "more_is_better": self.better == Better::More,
            "wire": self.line.wire.name(),
            "softirq_placement": self.line.placement.name(),
            "against": self.line.peer.name(),
            "peer": self.peer,
            "stack": self.stack,
            "ratios": self.ratios,
            "median_ratio": if self.ratios.is_empty() { Value::Null } else { json!(median(&self.ratios)) },
            "goal": self.goal,
            "goal_figure": self.bound,
            "busy_peer": self.busy.as_ref().map(|[peer, _]| &peer.0),
            "busy_stack": self.busy.as_ref().map(|[_, stack]| &stack.0),
            "commands": self.commands,
            "distribution_us_peer": self.distributions.as_ref().map(|[peer, _]| peer),
            "distribution_us_stack": self.distributions.as_ref().map(|[_, stack]| stack),
            "failure": self.failure,
        })
    }
}

fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "missed" }
}

/// A figure with as many digits as it deserves.
fn figure(value: f64) -> String {
    if value < 1000.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.floor());
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join(",")
}

const COLUMNS: usize = 9;

const HEADINGS: [&str; COLUMNS] = [
    "workload",
    "wire of the stack",
    "softirqs",
    "against",
    "its figure",
    "stack",
    "ratio: median (least-most)",
    "goal",
    "busy cores 0/1: the other; stack",
];

/// All lines, and the circumstances.
pub struct Report {
    circumstances: Vec<String>,
    lines: Vec<Measurement>,
    /// Memory of an idle connection, or why there is no figure; `None` if not asked for.
    pub idle: Option<Result<Memory, String>>,
    /// What idle connections cost the active ones.
    pub crowds: Vec<Cost>,
    /// Figures along an axis.
    pub sweeps: Vec<Sweep>,
    /// Cost of an intercepted call, or why there is no figure; `None` if not asked for.
    pub calls: Option<Result<Calls, String>>,
    /// What a change of threads costs.
    pub hand_over: Option<Result<HandOver, String>>,
    /// Instructions of the fast paths, or why there are none; `None` if not asked for.
    pub instructions: Option<Result<Vec<Count>, String>>,
}

impl Report {
    /// A report without lines.
    pub fn new(pairs: usize, seconds: f64, kernel_twice: bool) -> Result<Report, Error> {
        let mut circumstances = description()?;
        circumstances.push(format!(
            "{pairs} pairs (the other, then the stack) of {seconds} s each; server on core 1, client on core 0; \
             cubic on the kernel's side; every figure a median"
        ));
        if kernel_twice {
            circumstances.push(
                "the column \"stack\" is the other once more: how far equal runs lie apart"
                    .to_owned(),
            );
        }
        Ok(Report {
            circumstances,
            lines: Vec::new(),
            idle: None,
            crowds: Vec::new(),
            sweeps: Vec::new(),
            calls: None,
            hand_over: None,
            instructions: None,
        })
    }

    /// Adds the rows of a line.
    pub fn add(&mut self, rows: Vec<Measurement>) {
        self.lines.extend(rows);
    }

    /// The best median of one side among the rows of this name that are measured against veth.
    fn best(&self, name: &str, over: &[Wire], side: fn(&Measurement) -> &Vec<f64>) -> Option<f64> {
        let rows = self.lines.iter().filter(|row| {
            row.name == name && row.is_of_veth_alone() && over.contains(&row.line.wire)
        });
        let medians = rows.map(|row| (median(side(row)), row.better));
        let best = medians.reduce(|one, other| match one.1 {
            Better::More => (one.0.max(other.0), one.1),
            Better::Less => (one.0.min(other.0), one.1),
        });
        best.map(|(best, _)| best)
    }

    fn kernels_best(&self, name: &str) -> Option<f64> {
        let wires = [Wire::Tap, Wire::Packet, Wire::Xdp, Wire::Memory];
        self.best(name, &wires, |row| &row.peer)
    }

    /// For each workload over TAP, the best placement of the kernel against the stack's best.
    fn best_against_best(&self) -> Vec<String> {
        let placed = self.lines.iter().filter(|row| row.is_of_veth_alone());
        let over_tap = placed.filter(|row| row.line.wire == Wire::Tap);
        let mut rows: Vec<&Measurement> = over_tap.collect();
        rows.dedup_by(|one, other| one.name == other.name);
        let text = |row: &&Measurement| {
            let kernel = self.best(&row.name, &[Wire::Tap], |row| &row.peer)?;
            let stack = self.best(&row.name, &[Wire::Tap], |row| &row.stack)?;
            let ratio = ratio(row.better, stack, kernel);
            let goal = row.goal_best.map_or(String::new(), |goal| {
                format!(" (goal {goal:.1}x: {})", verdict(ratio >= goal))
            });
            let (stack, kernel) = (figure(stack), figure(kernel));
            let Measurement { name, unit, .. } = row;
            Some(format!(
                "{name}, {unit}: {stack} against {kernel}: {ratio:.2}x{goal}"
            ))
        };
        rows.iter().filter_map(text).collect()
    }

    /// The table for the terminal and for results.md.
    pub fn table(&self) -> String {
        let rows: Vec<[String; COLUMNS]> = self
            .lines
            .iter()
            .map(|row| row.row(self.kernels_best(&row.name)))
            .collect();
        let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
            let cells = rows.iter().map(|row| row[column].len());
            cells.chain([HEADINGS[column].len()]).max().unwrap_or(0)
        });
        let format_row = |cells: [&str; COLUMNS]| {
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
        match &self.idle {
            Some(Ok(memory)) => table += &format!("\n{}\n", memory.text()),
            Some(Err(error)) => table += &format!("\n{}: failed: {error}\n", idle::NAME),
            None => {}
        }
        for cost in &self.crowds {
            table += &format!("\n{}\n", cost.text());
        }
        for sweep in &self.sweeps {
            table += &format!("\n{}", sweep.table());
        }
        match &self.calls {
            Some(Ok(calls)) => table += &format!("\n{}\n", calls.text()),
            Some(Err(error)) => table += &format!("\n{}: failed: {error}\n", calls::NAME),
            None => {}
        }
        match &self.hand_over {
            Some(Ok(hand_over)) => table += &format!("\n{}\n", hand_over.text()),
            Some(Err(error)) => table += &format!("\n{}: failed: {error}\n", handover::NAME),
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
        let mut text = String::from(
            "# The stack against the kernel and others\n\nWritten by `cargo xtask bench`.\n\n",
        );
        for line in &self.circumstances {
            text += &format!("- {line}\n");
        }
        text += &format!("\n{}", self.table());
        text += "\n## Best placement against best placement, over TAP\n\nStack against kernel.\n\n";
        for line in self.best_against_best() {
            text += &format!("- {line}\n");
        }
        let title = |row: &Measurement| {
            let Line {
                wire,
                placement,
                peer,
                ..
            } = row.line;
            let (wire, placement) = (wire.name(), placement.name());
            format!("{}, {wire}, {placement}, against {}", row.name, peer.name())
        };
        let lines = self.lines.iter().filter(|row| row.first);
        for row in lines.clone() {
            if let Some(failure) = &row.failure {
                let title = title(row);
                text += &format!("\n## Failed: {title}\n\n```\n{failure}\n```\n");
            }
        }
        text += "\n## Commands\n\n";
        for row in lines {
            let Some([peer, stack]) = &row.commands else {
                continue;
            };
            text += &format!("{}:\n\n```\n", title(row));
            for (side, commands) in [(row.line.peer.name(), peer), ("stack", stack)] {
                for command in commands {
                    text += &format!("{side}: {command}\n");
                }
            }
            text += "```\n\n";
        }
        text
    }

    fn to_json(&self) -> Value {
        let instructions = self.instructions.as_ref().and_then(|i| i.as_ref().ok());
        let idle = self.idle.as_ref().and_then(|idle| idle.as_ref().ok());
        let calls = self.calls.as_ref().and_then(|calls| calls.as_ref().ok());
        let hand_over = self.hand_over.as_ref().and_then(|h| h.as_ref().ok());
        json!({
            "circumstances": self.circumstances,
            "lines": self.lines.iter().map(Measurement::to_json).collect::<Vec<_>>(),
            "idle_connection": idle.map(Memory::to_json),
            "cost_of_idle_connections": self.crowds.iter().map(Cost::to_json).collect::<Vec<_>>(),
            "sweeps": self.sweeps.iter().map(Sweep::to_json).collect::<Vec<_>>(),
            "intercepted_call": calls.map(Calls::to_json),
            "hand_over": hand_over.map(HandOver::to_json),
            "instructions": instructions.map(|counts| instructions::to_json(counts)),
        })
    }

    /// Writes results.json, its pictures, and results.md with notes.md of the same directory at its end.
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        let results = self.to_json();
        let json = directory.join("results.json");
        fs::write(&json, format!("{results:#}\n")).map_err(at(json))?;
        let pictures = pictures::draw(&results, directory)?;
        let pictures = pictures.iter().map(|file| format!("![{file}]({file})\n\n"));
        let markdown = directory.join("results.md");
        // What a person has to say of the figures stays with them.
        let notes = fs::read_to_string(directory.join("notes.md")).unwrap_or_default();
        let text = format!(
            "{}\n{}{notes}",
            self.to_markdown(),
            pictures.collect::<String>()
        );
        fs::write(&markdown, text).map_err(at(markdown))
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
        assert_eq!(figure(1_267_326.5), "1,267,326");
    }
}
