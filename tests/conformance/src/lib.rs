//! The conformance suite: programs that know nothing of us print what each of their calls gave, and
//! do so twice, on the kernel's sockets and on ours. The kernel is the oracle: no outcome is written
//! down. Where the two differ and are to differ, `differences.txt` says why.

mod differences;
mod run;

pub use differences::{Differences, FILE as DIFFERENCES};
pub use run::{Outcomes, Places, compile};

/// The programs in `programs/`, and how many checks each makes.
pub const FAMILIES: [(&str, usize); 16] = [
    ("states", 365),
    ("closing", 261),
    ("options", 893),
    ("transfer", 218),
    ("polling", 88),
    ("epolling", 129),
    ("descriptors", 129),
    ("copying", 82),
    ("waiting", 71),
    ("threads", 19),
    ("syscalls", 64),
    ("forking", 153),
    ("executing", 158),
    ("passing", 179),
    ("waking", 39),
    ("signalling", 110),
];

/// What is different on the stack, a line for each check; nothing if all is as on the kernel.
pub fn compare(kernel: &Outcomes, stack: &Outcomes) -> Vec<(String, String)> {
    let missing = || "no outcome".to_owned();
    let mut found = Vec::new();
    for (name, expected) in kernel.iter() {
        let got = stack.get(name).map_or_else(missing, str::to_owned);
        if got != expected {
            let text = format!("{name}: {expected} on the kernel, {got} on the stack");
            found.push((name.to_owned(), text));
        }
    }
    for (name, got) in stack.iter().filter(|(name, _)| kernel.get(name).is_none()) {
        let text = format!("{name}: {got} on the stack only");
        found.push((name.to_owned(), text));
    }
    found
}
