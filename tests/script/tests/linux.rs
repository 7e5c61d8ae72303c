//! The scripts of standard behaviour over Linux's own TCP, in real time and in a network namespace
//! each: what they say is TCP, and not only ours.

use script::run::Addresses;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Scripts that run at once: they mostly wait.
const AT_ONCE: usize = 12;
/// A busy machine delays packets; the more often, the more is allowed for it. Milliseconds.
const TOLERANCES: [u64; 3] = [20, 40, 80];

#[test]
fn linux_behaves_as_the_scripts_say() {
    let queue = Mutex::new(scripts());
    let failures = Mutex::new(Vec::new());
    let ran = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(path) = { queue.lock().unwrap().pop() } {
                    match check(&path) {
                        Ok(runs) => *ran.lock().unwrap() += usize::from(runs),
                        Err(what) => failures.lock().unwrap().push(what),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let ran = ran.into_inner().unwrap();
    assert!(ran > 0, "no script speaks of Linux");
    println!("{ran} scripts hold for Linux");
}

fn scripts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let inside = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten();
    let files = inside(root).flat_map(|family| inside(family.path()));
    let scripts = files.map(|file| file.path());
    scripts
        .filter(|path| path.extension().is_some_and(|end| end == "pkt"))
        .collect()
}

/// Runs one script; false if it speaks of our stack only.
fn check(path: &Path) -> Result<bool, String> {
    let script = script::load(path).map_err(|what| format!("{}: {what}", path.display()))?;
    if script.stack_only.is_some() {
        return Ok(false);
    }
    let addresses = Addresses::of(script.is_ipv6());
    let mut last = String::new();
    for tolerance in TOLERANCES {
        match script::kernel::run(&script, addresses, false, tolerance * 1000) {
            Ok(()) => return Ok(true),
            Err(failure) => last = format!("{}: {failure}", path.display()),
        }
    }
    Err(last)
}
