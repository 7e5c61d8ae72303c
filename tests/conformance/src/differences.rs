//! Where the stack is to differ from the kernel, and why.

use std::fmt::Write;
use std::fs;

use testbed::artifacts;

/// The file that lists the differences, in the workspace.
pub const FILE: &str = "tests/conformance/differences.txt";

/// The listed differences: reasons, each with its checks ("FAMILY, NAME").
pub struct Differences(Vec<(String, Vec<String>)>);

impl Differences {
    /// Reads the list of the workspace.
    ///
    /// # Panics
    /// If it cannot be read, or is malformed.
    pub fn load() -> Differences {
        let path = artifacts::workspace().join(FILE);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Differences::parse(&text).unwrap_or_else(|error| panic!("{FILE}: {error}"))
    }

    /// Reads a list: a reason on a line of its own, and below it, indented, the checks that differ
    /// for it. Lines that begin with `#` are comments.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Differences, String> {
        let mut list: Vec<(String, Vec<String>)> = Vec::new();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        for line in lines.filter(|line| !line.trim().is_empty()) {
            match (line.strip_prefix("  "), list.last_mut()) {
                (None, _) => list.push((line.to_owned(), Vec::new())),
                (Some(check), Some((_, checks))) => checks.push(check.to_owned()),
                (Some(check), None) => return Err(format!("{check:?} has no reason")),
            }
        }
        match list.iter().find(|(_, checks)| checks.is_empty()) {
            Some((reason, _)) => Err(format!("{reason:?} has no check")),
            None => Ok(Differences(list)),
        }
    }

    /// The names of a family's checks that are to differ.
    pub fn of<'a>(&'a self, family: &'a str) -> impl Iterator<Item = &'a str> {
        let checks = self.0.iter().flat_map(|(_, checks)| checks);
        checks.filter_map(move |check| check.strip_prefix(family)?.strip_prefix(", "))
    }

    /// The families that are named.
    pub fn families(&self) -> impl Iterator<Item = &str> {
        let checks = self.0.iter().flat_map(|(_, checks)| checks);
        checks.map(|check| check.split(", ").next().unwrap_or_default())
    }

    /// A table for the page on compatibility: reasons, and how many checks show them.
    pub fn table(&self) -> String {
        let mut table = String::from("| Difference | For example | Checks |\n|---|---|---|\n");
        for (reason, checks) in &self.0 {
            let example = checks.first().map_or("", |check| check);
            let _ = writeln!(table, "| {reason} | {example} | {} |", checks.len());
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_which_checks_of_a_family_differ() {
        let text = "# Comment.\nOne reason.\n  a, x\n  ab, y\n\nAnother.\n  a, z, w\n";
        let list = Differences::parse(text).unwrap();
        assert_eq!(list.of("a").collect::<Vec<_>>(), ["x", "z, w"]);
        assert_eq!(list.families().collect::<Vec<_>>(), ["a", "ab", "a"]);
        assert!(list.table().contains("| One reason. | a, x | 2 |"));
    }

    #[test]
    fn a_reason_without_checks_and_a_check_without_reason_are_refused() {
        assert!(Differences::parse("A reason.\nAnother.\n  a, x\n").is_err());
        assert!(Differences::parse("  a, x\n").is_err());
        assert!(Differences::parse("A reason.\n").is_err());
    }
}
