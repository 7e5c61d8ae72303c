//! Compiling a program, running it in a place of its own, and reading its outcomes.

use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::{Host, LIMIT, Testbed, artifacts};

/// What a program has printed: names of checks and their outcomes, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcomes(Vec<(String, String)>);

impl Outcomes {
    /// Reads lines of the form "NAME: OUTCOME".
    ///
    /// # Errors
    /// The line that has another form, or the name that two checks have.
    pub fn parse(text: &str) -> Result<Outcomes, String> {
        let mut outcomes = Outcomes::default();
        for line in text.lines() {
            let (name, outcome) = line
                .split_once(": ")
                .ok_or_else(|| format!("{line:?} is no outcome"))?;
            if outcomes.get(name).is_some() {
                return Err(format!("{name:?} is the name of two checks"));
            }
            outcomes.0.push((name.to_owned(), outcome.to_owned()));
        }
        Ok(outcomes)
    }

    /// The outcome of a check.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(known, outcome)| (known == name).then_some(outcome))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, outcome)| (&**name, &**outcome))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Compiles a program of the suite as its distribution would: dynamic, optimised, fortified.
///
/// # Panics
/// If the compiler refuses it.
pub fn compile(family: &str, directory: &Path) -> PathBuf {
    let sources = artifacts::workspace().join("tests/conformance/programs");
    let program = directory.join(family);
    let output = Command::new("cc")
        .args(["-O2", "-D_FORTIFY_SOURCE=2", "-Wall", "-Wextra", "-Werror"])
        // To call with bad arguments is what they are for.
        .args(["-Wno-unused-result", "-Wno-nonnull", "-Wno-restrict"])
        .args(["-Wno-stringop-overflow", "-Wno-stringop-overread"])
        .args(["-pthread", "-o"])
        .arg(&program)
        .arg(sources.join(format!("{family}.c")))
        .arg(sources.join("check.c"))
        .output()
        .expect("cc (`cargo xtask setup` installs it)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cc {family}.c: {said}");
    program
}

/// Where a program runs: once on the kernel, once on the stack, with nothing but a loopback in both.
pub struct Places {
    kernel: Testbed,
    stack: Testbed,
}

impl Places {
    /// Two new network namespaces, with Linux's own settings.
    pub fn new() -> Places {
        let places = Places {
            kernel: Testbed::kernel(),
            stack: Testbed::loopback(),
        };
        for bed in [&places.kernel, &places.stack] {
            let namespace = bed.server.namespace();
            namespace.sysctl("net.ipv4.ip_local_port_range", "32768 60999");
            namespace.sysctl("net.ipv4.tcp_tw_reuse", "2");
            namespace.sysctl("net.core.somaxconn", "4096");
        }
        places
    }

    /// What the program's checks give on the kernel.
    ///
    /// # Panics
    /// If the program fails.
    pub fn on_kernel(&self, program: &Path) -> Outcomes {
        run(&self.kernel.server, program)
    }

    /// What they give on the stack.
    ///
    /// # Panics
    /// As [`on_kernel`](Self::on_kernel).
    pub fn on_stack(&self, program: &Path) -> Outcomes {
        run(&self.stack.server, program)
    }
}

impl Default for Places {
    fn default() -> Self {
        Self::new()
    }
}

fn run(host: &Host, program: &Path) -> Outcomes {
    let finished = host.start(program, &[]).finish(LIMIT);
    let outcomes = Outcomes::parse(&finished.stdout);
    assert!(finished.status.success(), "{finished}");
    outcomes.unwrap_or_else(|error| panic!("{error}\n{finished}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_colons_and_is_unique() {
        let outcomes = Outcomes::parse("to ::1: 0\nto ::: EINVAL\n").unwrap();
        assert_eq!(outcomes.get("to ::1"), Some("0"));
        assert_eq!(outcomes.get("to ::"), Some("EINVAL"));
        assert!(Outcomes::parse("a: 1\na: 1\n").is_err());
        assert!(Outcomes::parse("no outcome\n").is_err());
    }
}
