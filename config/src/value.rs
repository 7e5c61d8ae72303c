//! How single values are written: sizes, durations, core lists, switches.

use std::time::Duration;

/// The highest core number that can be named (the kernel's usual `CONFIG_NR_CPUS` bound).
const MAX_CORE: usize = 8191;

const SIZES: [(char, u64); 4] = [
    ('T', 1 << 40),
    ('G', 1 << 30),
    ('M', 1 << 20),
    ('K', 1 << 10),
];

/// Units from the largest to the smallest, in nanoseconds.
const TIMES: [(&str, u64); 5] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// A number of bytes: digits, then nothing, `K`, `M`, `G` or `T` (powers of 1024).
pub fn size(text: &str) -> Option<u64> {
    let last = text.chars().next_back()?.to_ascii_uppercase();
    match SIZES.iter().find(|(letter, _)| *letter == last) {
        Some((_, factor)) => digits(&text[..text.len() - 1])?.checked_mul(*factor),
        None => digits(text),
    }
}

/// A size within bounds, both included.
pub fn size_within(text: &str, bounds: std::ops::RangeInclusive<u64>) -> Option<u64> {
    size(text).filter(|n| bounds.contains(n))
}

/// The shortest way to write `bytes` so that [`size`] reads it back.
pub fn size_text(bytes: u64) -> String {
    for (letter, factor) in SIZES {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{letter}", bytes / factor);
        }
    }
    bytes.to_string()
}

/// A duration: digits and a unit (`us`, `ms`, `s`, `m`, `h`), or a plain 0.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let (_, factor) = TIMES.iter().find(|(name, _)| *name == unit)?;
    digits(number)?
        .checked_mul(*factor)
        .map(Duration::from_nanos)
}

/// The shortest way to write `duration` so that [`duration`] reads it back.
pub fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (unit, factor) in TIMES {
        let factor = u128::from(factor);
        if nanos >= factor && nanos.is_multiple_of(factor) {
            return format!("{}{unit}", nanos / factor);
        }
    }
    "0".to_owned()
}

/// A whole number within bounds, both included.
pub fn number<T>(text: &str, bounds: std::ops::RangeInclusive<T>) -> Option<T>
where
    T: std::str::FromStr + PartialOrd,
{
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|n| bounds.contains(n))
}

/// A list of cores: `1,3-5`; `auto` is the empty list. No core may be named twice.
pub fn cores(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    if text == "auto" {
        return Some(cores);
    }
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let first = number(first.trim(), 0..=MAX_CORE)?;
        let last = number(last.trim(), first..=MAX_CORE)?;
        for core in first..=last {
            if cores.contains(&core) {
                return None;
            }
            cores.push(core);
        }
    }
    Some(cores)
}

/// A core list as [`cores`] reads it, runs drawn together.
pub fn cores_text(cores: &[usize]) -> String {
    if cores.is_empty() {
        return "auto".to_owned();
    }
    cores
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| match run {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        })
        .collect::<Vec<_>>()
        .join(",")
}

/// A switch.
pub fn switch(text: &str) -> Option<bool> {
    match text {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// A switch as [`switch`] reads it.
pub fn switch_text(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

/// `none` or something that `parse` reads.
pub fn optional<T>(text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    match text {
        "none" => Some(None),
        _ => parse(text).map(Some),
    }
}

/// `none`, or the value as it displays.
pub fn optional_text<T: ToString>(value: &Option<T>) -> String {
    value
        .as_ref()
        .map_or_else(|| "none".to_owned(), T::to_string)
}

fn digits(text: &str) -> Option<u64> {
    number(text, 0..=u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size("0"), Some(0));
        assert_eq!(size("1500"), Some(1500));
        assert_eq!(size("64K"), Some(65_536));
        assert_eq!(size("1g"), Some(1 << 30));
        for wrong in [
            "",
            "K",
            "1.5G",
            "-1",
            "+1",
            "1KB",
            "1 G",
            "99999999999T",
            "1µ",
        ] {
            assert_eq!(size(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("0"), Some(Duration::ZERO));
        assert_eq!(duration("50us"), Some(Duration::from_micros(50)));
        assert_eq!(duration("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(duration("2h"), Some(Duration::from_secs(7200)));
        for wrong in ["", "5", "s", "1.5s", "-1s", "1 s", "1d", "99999999999999h"] {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn core_lists_take_numbers_and_ranges() {
        assert_eq!(cores("auto"), Some(vec![]));
        assert_eq!(cores("1"), Some(vec![1]));
        assert_eq!(cores("1,3-5"), Some(vec![1, 3, 4, 5]));
        assert_eq!(cores("4, 2"), Some(vec![4, 2]));
        for wrong in [
            "",
            ",",
            "1,",
            "5-3",
            "1,1",
            "1-3,2",
            "-1",
            "x",
            "0-99999999999",
        ] {
            assert_eq!(cores(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for n in [0, 1, 1023, 1024, 1536, 1 << 20, 3 << 30, u64::MAX] {
            assert_eq!(size(&size_text(n)), Some(n));
        }
        for micros in [0, 1, 999, 1000, 1_500_000, 60_000_000, 7_200_000_000] {
            let d = Duration::from_micros(micros);
            assert_eq!(duration(&duration_text(d)), Some(d));
        }
        for list in [vec![], vec![0], vec![1, 3, 4, 5], vec![7, 2, 3]] {
            assert_eq!(cores(&cores_text(&list)), Some(list));
        }
    }
}
