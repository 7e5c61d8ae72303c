//! What `mtcp-run` holds, and whether that grows.

use std::fmt;
use std::fs;

/// Kilobytes by which the last third may exceed the middle one: each process that a server starts takes
/// contexts, and how many there are at once is chance.
const CHANCE: u64 = 2048;

/// What it holds at one time, the shared segment included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    kilobytes: u64,
    descriptors: u64,
    threads: u64,
}

impl Footprint {
    /// Of this process.
    pub fn of(pid: u32) -> Footprint {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
        Footprint {
            kilobytes: field(&status, "VmRSS:"),
            descriptors: descriptors.map_or(0, |entries| entries.count() as u64),
            threads: field(&status, "Threads:"),
        }
    }

    /// The mean of some; nothing of none.
    fn mean(all: &[Footprint]) -> Footprint {
        let mean = |part: fn(&Footprint) -> u64| {
            let sum: u64 = all.iter().map(part).sum();
            sum.checked_div(all.len() as u64).unwrap_or(0)
        };
        Footprint {
            kilobytes: mean(|footprint| footprint.kilobytes),
            descriptors: mean(|footprint| footprint.descriptors),
            threads: mean(|footprint| footprint.threads),
        }
    }

    /// Whether it is more than chance that it is larger than before.
    fn has_grown_since(self, before: Footprint) -> bool {
        self.kilobytes > before.kilobytes + CHANCE
            || self.descriptors > before.descriptors + 10
            || self.threads > before.threads
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Footprint {
            kilobytes,
            descriptors,
            threads,
        } = self;
        write!(
            f,
            "{kilobytes} KB, {descriptors} descriptors, {threads} threads"
        )
    }
}

/// What it held, at even intervals from the beginning to the end.
#[derive(Default)]
pub struct History(Vec<Footprint>);

impl History {
    /// Adds what it holds now.
    pub fn add(&mut self, footprint: Footprint) {
        self.0.push(footprint);
    }

    /// Whether it was flat: in the first third tables fill up, and in the last it holds no more than in
    /// the middle one, both on average.
    ///
    /// # Errors
    /// What it held then and later, if that has grown.
    pub fn judge(&self) -> Result<String, String> {
        let third = self.0.len() / 3;
        if third == 0 {
            return Err("too short to say what has grown".to_owned());
        }
        let middle = Footprint::mean(&self.0[third..2 * third]);
        let last = Footprint::mean(&self.0[2 * third..]);
        let text = format!("on average {middle} in the middle third, {last} in the last");
        match last.has_grown_since(middle) {
            true => Err(format!("grown: {text}")),
            false => Ok(text),
        }
    }
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(of: impl Fn(u64) -> Footprint) -> History {
        History((0..180).map(of).collect())
    }

    const LEVEL: Footprint = Footprint {
        kilobytes: 40_000,
        descriptors: 36,
        threads: 3,
    };

    #[test]
    fn what_goes_up_and_down_is_flat() {
        let history = history(|n| Footprint {
            kilobytes: 40_000 + n % 7 * 1000,
            descriptors: 30 + n % 5 * 10,
            ..LEVEL
        });
        assert!(history.judge().is_ok());
    }

    #[test]
    fn what_fills_up_in_the_first_third_is_flat() {
        let history = history(|n| Footprint {
            kilobytes: 40_000 + n.min(60) * 500,
            ..LEVEL
        });
        assert!(history.judge().is_ok());
    }

    #[test]
    fn what_goes_up_all_the_time_has_grown() {
        let growing: [fn(u64) -> Footprint; 3] = [
            |n| Footprint {
                kilobytes: 40_000 + n * 40,
                ..LEVEL
            },
            |n| Footprint {
                descriptors: 36 + n / 5,
                ..LEVEL
            },
            |n| Footprint {
                threads: 3 + n / 60,
                ..LEVEL
            },
        ];
        for of in growing {
            let text = history(of).judge().expect_err("it grows");
            assert!(text.starts_with("grown: on average 4"), "{text}");
        }
    }

    #[test]
    fn of_nothing_nothing_is_said() {
        assert!(History::default().judge().is_err());
    }
}
