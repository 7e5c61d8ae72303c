//! Makes a test of each script under tests/scripts, named by family and behaviour.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=../scripts");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let mut tests = String::new();
    for family in entries(&root).into_iter().filter(|path| path.is_dir()) {
        let _ = writeln!(tests, "mod {} {{", identifier(&family));
        for script in entries(&family) {
            if script.extension().is_none_or(|end| end != "pkt") {
                continue;
            }
            let (name, path) = (identifier(&script), script.display());
            let _ = writeln!(tests, "#[test] fn {name}() {{ crate::check({path:?}); }}");
        }
        tests.push_str("}\n");
    }
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("scripts.rs"), tests).expect("the tests are written");
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("tests/scripts can be read");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A file's name as one of Rust's: not a keyword's.
fn identifier(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}
