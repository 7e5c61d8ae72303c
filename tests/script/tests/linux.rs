//! The scripts of standard behaviour over Linux's own TCP, in real time and in a network namespace
//! each: what they say is TCP, and not only ours.

use script::run::Addresses;
use script::script::Script;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Scripts that run at once: they mostly wait.
const AT_ONCE: usize = 8;
/// How far off an event may be, in milliseconds.
const TOLERANCE: u64 = 20;
/// A busy machine delays packets, and Linux measures them: what failed among others is run again by
/// itself, with ever more allowed for it.
const AGAIN: [u64; 5] = [20, 40, 60, 80, 120];

#[test]
fn linux_behaves_as_the_scripts_say() {
    let scripts = scripts();
    assert!(!scripts.is_empty(), "no script speaks of Linux");
    let queue = Mutex::new(scripts.iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = { queue.lock().unwrap().next() } {
                    if check(case, TOLERANCE).is_err() {
                        failed.lock().unwrap().push(case);
                    }
                }
            });
        }
    });
    let again = failed.into_inner().unwrap();
    let failures: Vec<String> = again.into_iter().filter_map(insist).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A script and where it stands.
type Case = (PathBuf, Script);

/// Runs a script until it passes; what is wrong if it never does.
fn insist(case: &Case) -> Option<String> {
    let mut last = None;
    for tolerance in AGAIN {
        match check(case, tolerance) {
            Ok(()) => return None,
            Err(what) => last = Some(what),
        }
    }
    last
}

fn check((path, script): &Case, tolerance: u64) -> Result<(), String> {
    let addresses = Addresses::of(script.is_ipv6());
    script::kernel::run(script, addresses, false, tolerance * 1000)
        .map_err(|failure| format!("{}: {failure}", path.display()))
}

/// All scripts that are not about our stack alone.
fn scripts() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let inside = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten();
    let files = inside(root).flat_map(|family| inside(family.path()));
    let paths = files.map(|file| file.path());
    let scripts = paths.filter(|path| path.extension().is_some_and(|end| end == "pkt"));
    let load = |path: PathBuf| match script::load(&path) {
        Ok(script) => (path, script),
        Err(what) => panic!("{}: {what}", path.display()),
    };
    let cases = scripts.map(load);
    cases.filter(|(_, s)| s.stack_only.is_none()).collect()
}
