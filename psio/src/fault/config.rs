//! What is to go wrong, and its text form.

use std::str::FromStr;
use std::time::Duration;

use crate::Error;

/// What is to go wrong in one direction. Rates are probabilities for each frame, 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Faults {
    /// Frames that vanish.
    pub loss: f64,
    /// Frames that arrive twice.
    pub duplicate: f64,
    /// Frames in which one bit, anywhere, is wrong. (One bit: the Internet checksum finds it for
    /// certain, where two could cancel out.)
    pub corrupt: f64,
    /// Frames that are held back until [`gap`](Faults::gap) others have passed them.
    pub reorder: f64,
    /// Frames that pass one that is held back.
    pub gap: u32,
    /// Time in flight.
    pub delay: Duration,
    /// Each frame's delay differs from `delay` by a random time up to this, so frames may pass
    /// each other.
    pub jitter: Duration,
    /// Frames in flight at most; more are dropped.
    pub limit: usize,
}

impl Default for Faults {
    /// Nothing goes wrong.
    fn default() -> Faults {
        Faults {
            loss: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            reorder: 0.0,
            gap: 3,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            limit: 10_000,
        }
    }
}

impl Faults {
    /// Whether anything can go wrong.
    pub fn any(&self) -> bool {
        let rates = [self.loss, self.duplicate, self.corrupt, self.reorder];
        rates.iter().any(|&rate| rate > 0.0) || !self.delay.is_zero() || !self.jitter.is_zero()
    }
}

/// What is to go wrong in both directions, and the seed of all that is random in it.
///
/// The text form is a list of `key=value` such as
/// `loss=0.01,reorder=0.05,dup=0.001,corrupt=0.001,delay=2ms,jitter=1ms,seed=42`. Keys: `loss`,
/// `dup`, `corrupt`, `reorder` (0 to 1, or a percentage like `1%`), `gap`, `limit` (frames),
/// `delay`, `jitter` (`us`, `ms` or `s`), `seed`. `rx.` or `tx.` before a key (not `seed`) limits
/// it to one direction, as seen by the stack.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct FaultConfig {
    /// What happens to frames that the stack receives.
    pub receive: Faults,
    /// What happens to frames that the stack sends.
    pub transmit: Faults,
    /// The same seed and the same frames give the same faults.
    pub seed: u64,
}

impl FromStr for FaultConfig {
    type Err = Error;

    fn from_str(text: &str) -> Result<FaultConfig, Error> {
        let mut config = FaultConfig::default();
        if text.trim().is_empty() {
            return Ok(config);
        }
        let mut seen = Vec::new();
        for item in text.split(',').map(str::trim) {
            let (key, value) = item
                .split_once('=')
                .ok_or_else(|| wrong(item, "key=value"))?;
            let (key, value) = (key.trim(), value.trim());
            if seen.contains(&key) {
                return Err(wrong(item, &format!("{key} once")));
            }
            seen.push(key);
            if matches!(key, "rx.seed" | "tx.seed") {
                return Err(wrong(item, "seed without a direction: both have the same"));
            }
            if key == "seed" {
                config.seed = number(item, value)?;
            } else if let Some(key) = key.strip_prefix("rx.") {
                config.receive.set(item, key, value)?;
            } else if let Some(key) = key.strip_prefix("tx.") {
                config.transmit.set(item, key, value)?;
            } else {
                config.receive.set(item, key, value)?;
                config.transmit.set(item, key, value)?;
            }
        }
        Ok(config)
    }
}

impl Faults {
    fn set(&mut self, item: &str, key: &str, value: &str) -> Result<(), Error> {
        match key {
            "loss" => self.loss = rate(item, value)?,
            "dup" => self.duplicate = rate(item, value)?,
            "corrupt" => self.corrupt = rate(item, value)?,
            "reorder" => self.reorder = rate(item, value)?,
            "gap" => self.gap = count(item, value)?,
            "limit" => self.limit = count(item, value)?,
            "delay" => self.delay = duration(item, value)?,
            "jitter" => self.jitter = duration(item, value)?,
            _ => {
                let keys = "one of loss, dup, corrupt, reorder, gap, limit, delay, jitter, seed";
                return Err(wrong(item, keys));
            }
        }
        Ok(())
    }
}

fn wrong(item: &str, expected: &str) -> Error {
    Error::Description(format!("faults: {item:?}: expected {expected}"))
}

fn number<T: FromStr>(item: &str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|_| wrong(item, "a whole number"))
}

fn count<T: FromStr + PartialOrd + From<u8>>(item: &str, value: &str) -> Result<T, Error> {
    let number = value.parse().ok();
    number
        .filter(|n| *n >= T::from(1))
        .ok_or_else(|| wrong(item, "a whole number from 1"))
}

fn rate(item: &str, value: &str) -> Result<f64, Error> {
    let (digits, unit) = match value.strip_suffix('%') {
        Some(digits) => (digits, 100.0),
        None => (value, 1.0),
    };
    digits
        .parse()
        .map(|number: f64| number / unit)
        .ok()
        .filter(|rate| (0.0..=1.0).contains(rate))
        .ok_or_else(|| wrong(item, "a rate from 0 to 1, or 0% to 100%"))
}

fn duration(item: &str, value: &str) -> Result<Duration, Error> {
    // "s" last: the others end in it too.
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    units
        .iter()
        .find_map(|(unit, seconds)| Some((value.strip_suffix(unit)?, seconds)))
        .and_then(|(digits, seconds)| Some(digits.trim().parse::<f64>().ok()? * seconds))
        .filter(|seconds| (0.0..=60.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| {
            wrong(
                item,
                "a time up to 60s with its unit, such as 500us, 2ms or 1s",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_understood_for_both_directions() {
        let config: FaultConfig =
            "loss=0.01,reorder=0.05,dup=0.001,corrupt=25%,delay=2ms,jitter=500us,gap=7,limit=9,seed=42"
                .parse()
                .unwrap();
        let faults = Faults {
            loss: 0.01,
            duplicate: 0.001,
            corrupt: 0.25,
            reorder: 0.05,
            gap: 7,
            delay: Duration::from_millis(2),
            jitter: Duration::from_micros(500),
            limit: 9,
        };
        let want = FaultConfig {
            receive: faults,
            transmit: faults,
            seed: 42,
        };
        assert_eq!(config, want);
        assert!(faults.any());
    }

    #[test]
    fn a_prefix_limits_a_key_to_one_direction() {
        let config: FaultConfig = "rx.loss=0.5, tx.delay=1s".parse().unwrap();
        assert_eq!(config.receive.loss, 0.5);
        assert_eq!(config.receive.delay, Duration::ZERO);
        assert_eq!(config.transmit.loss, 0.0);
        assert_eq!(config.transmit.delay, Duration::from_secs(1));
    }

    #[test]
    fn an_empty_text_is_a_faultless_wire() {
        let config: FaultConfig = "".parse().unwrap();
        assert!(!config.receive.any() && !config.transmit.any());
    }

    #[test]
    fn errors_name_the_item_and_what_was_expected() {
        for (text, item, expected) in [
            ("loss", "loss", "key=value"),
            ("loss=2", "loss=2", "0 to 1"),
            ("loss=NaN", "loss=NaN", "0 to 1"),
            ("loss=-0.1", "loss=-0.1", "0 to 1"),
            ("delay=2", "delay=2", "unit"),
            ("delay=1e30s", "delay=1e30s", "up to 60s"),
            ("gap=x", "gap=x", "whole number"),
            ("seed=1,speed=9", "speed=9", "one of loss"),
            ("rx.seed=9", "rx.seed=9", "seed without a direction"),
            ("loss=0.1,loss=0.2", "loss=0.2", "loss once"),
            ("tx.gap=1, tx.gap=1", "tx.gap=1", "tx.gap once"),
            ("loss=0.1,", "\"\"", "key=value"),
            ("gap=0", "gap=0", "a whole number from 1"),
            ("limit=0", "limit=0", "a whole number from 1"),
        ] {
            let error = text.parse::<FaultConfig>().unwrap_err().to_string();
            assert!(error.contains(item) && error.contains(expected), "{error}");
        }
    }
}
