//! docs/suites.md: how many tests pass on each side, and every test that ends differently.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use testbed::artifacts;

use super::{Outcomes, Part};
use crate::shell::{Error, at};

/// Why tests end differently, one to a line: part, test (or the beginning of its name and `*`), reason.
const KNOWN: &str = include_str!("reasons.txt");
/// Where that is written.
pub const REASONS: &str = "xtask/src/suites/reasons.txt";

/// What came of a part.
pub struct Row {
    pub kernel: Outcomes,
    pub stack: Outcomes,
    /// Connections that the kernel carried while the part ran on the stack.
    pub carried: Option<u64>,
}

fn count(outcomes: &Outcomes, outcome: &str) -> usize {
    outcomes.values().filter(|o| *o == outcome).count()
}

fn end<'a>(outcomes: &'a Outcomes, test: &str) -> &'a str {
    outcomes.get(test).map_or("not run", |outcome| outcome)
}

impl Row {
    /// Tests that end differently, with both ends.
    fn differences(&self) -> Vec<(&str, &str, &str)> {
        let all: BTreeSet<&String> = self.kernel.keys().chain(self.stack.keys()).collect();
        all.into_iter()
            .map(|test| {
                (
                    test.as_str(),
                    end(&self.kernel, test),
                    end(&self.stack, test),
                )
            })
            .filter(|(_, kernel, stack)| kernel != stack)
            .collect()
    }
}

/// What a part gave, for the terminal.
pub fn describe(row: &Row) -> String {
    let side = |name: &str, outcomes: &Outcomes| {
        format!(
            "{name}: {} tests, {} ok, {} skipped",
            outcomes.len(),
            count(outcomes, "ok"),
            count(outcomes, "skipped")
        )
    };
    let mut lines = vec![side("kernel", &row.kernel), side("stack", &row.stack)];
    for (test, kernel, stack) in row.differences() {
        lines.push(format!(
            "  {test}: {kernel} on the kernel, {stack} on the stack"
        ));
    }
    lines.join("\n")
}

/// The reason that is known for a difference, behind the test or the beginning that it stands for.
fn reason<'a>(known: &'a str, part: &str, test: &str) -> Option<(&'a str, &'a str)> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => test.starts_with(beginning),
        None => test == pattern,
    };
    known
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.splitn(3, '\t');
            Some((fields.next()?, fields.next()?, fields.next()?))
        })
        .find(|(of, pattern, _)| *of == part && fits(pattern))
        .map(|(_, pattern, reason)| (pattern, reason))
}

/// The page. Lines of parts that were not run stay as they were.
pub struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    pub fn open() -> Result<Page, Error> {
        let path = artifacts::workspace().join("docs/suites.md");
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        Ok(Page { path, text })
    }

    /// Puts a part's results into both tables. Returns how many differences have no reason.
    pub fn note(&mut self, part: &Part, row: &Row) -> usize {
        let carried = row.carried.map_or("?".to_owned(), |n| n.to_string());
        let counts = format!(
            "| {} | {} | {} | {} | {} | {carried} |",
            part.name,
            row.kernel.len(),
            count(&row.kernel, "ok"),
            count(&row.stack, "ok"),
            count(&row.stack, "skipped"),
        );
        self.text = replaced(&self.text, "counts", part.name, &[counts]);
        let mut unexplained = 0;
        let mut differences: Vec<String> = Vec::new();
        for (test, kernel, stack) in row.differences() {
            let (test, why) = reason(KNOWN, part.name, test).unwrap_or_else(|| {
                unexplained += 1;
                (test, "not known yet")
            });
            let (kernel, stack) = match test.ends_with('*') {
                true => ("", ""),
                false => (kernel, stack),
            };
            let test = test.replace('|', "\\|");
            let line = format!("| {} | {test} | {kernel} | {stack} | {why} |", part.name);
            // Those of one beginning share their reason.
            if differences.last() != Some(&line) {
                differences.push(line);
            }
        }
        self.text = replaced(&self.text, "differences", part.name, &differences);
        unexplained
    }

    pub fn write(&self) -> Result<(), Error> {
        fs::write(&self.path, &self.text).map_err(at(&self.path))
    }
}

/// The text with a part's lines in a table replaced. The table stands between comments that name it and
/// begins with two lines of heading; parts are in alphabetical order.
fn replaced(text: &str, table: &str, part: &str, lines: &[String]) -> String {
    let (begin, end) = (
        format!("<!-- {table}: begin -->\n"),
        format!("<!-- {table}: end -->"),
    );
    let Some((before, rest)) = text.split_once(&begin) else {
        return text.to_owned();
    };
    let Some((body, after)) = rest.split_once(&end) else {
        return text.to_owned();
    };
    let of = |line: &str| {
        line.trim_start_matches("| ")
            .split(" |")
            .next()
            .unwrap_or("")
            .to_owned()
    };
    let mut body: Vec<String> = body.lines().map(str::to_owned).collect();
    let mut rows = body.split_off(body.len().min(2));
    rows.retain(|line| of(line) != part);
    rows.extend(lines.iter().cloned());
    rows.sort_by_key(|line| of(line));
    let table: String = body
        .iter()
        .chain(&rows)
        .map(|line| format!("{line}\n"))
        .collect();
    format!("{before}{begin}{table}{end}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(of: &[(&str, &str)]) -> Outcomes {
        let owned = |(test, outcome): &(&str, &str)| (test.to_string(), outcome.to_string());
        of.iter().map(owned).collect()
    }

    #[test]
    fn what_ends_alike_is_no_difference() {
        let row = Row {
            kernel: outcomes(&[("a", "ok"), ("b", "ok"), ("c", "failed")]),
            stack: outcomes(&[("a", "ok"), ("b", "failed"), ("d", "ok")]),
            carried: None,
        };
        let expected = [
            ("b", "ok", "failed"),
            ("c", "failed", "not run"),
            ("d", "not run", "ok"),
        ];
        assert_eq!(row.differences(), expected);
    }

    #[test]
    fn a_reason_is_for_a_test_or_for_all_that_begin_so() {
        let known = "# part test reason\nx\ta b\tbecause\nx\tc*\tsince\n";
        assert_eq!(reason(known, "x", "a b"), Some(("a b", "because")));
        assert_eq!(reason(known, "x", "cd"), Some(("c*", "since")));
        assert_eq!(reason(known, "x", "a b c"), None);
        assert_eq!(reason(known, "y", "a b"), None);
    }

    #[test]
    fn other_parts_lines_stay() {
        let text =
            "A\n<!-- t: begin -->\n| Part |\n|---|\n| b | 1 |\n| c | 1 |\n<!-- t: end -->\nZ\n";
        let text = replaced(text, "t", "b", &["| b | 2 |".to_owned()]);
        let text = replaced(&text, "t", "a", &["| a | 3 |".to_owned()]);
        let rows = "| Part |\n|---|\n| a | 3 |\n| b | 2 |\n| c | 1 |\n";
        assert_eq!(
            text,
            format!("A\n<!-- t: begin -->\n{rows}<!-- t: end -->\nZ\n")
        );
    }
}
