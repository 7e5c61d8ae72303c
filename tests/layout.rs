//! Who may import whom (docs/architecture.md), what the protocol core may know, and where unsafe
//! code may stand. The compiler enforces the rest: `unsafe_code` is denied for the workspace.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each product crate, and the crates of this workspace that it may depend on.
const RULES: [(&str, &[&str]); 7] = [
    ("launcher", &["config", "context", "engine", "psio"]),
    ("engine", &["context", "psio"]),
    ("preload", &["config", "context", "fdmap"]),
    ("fdmap", &["context"]),
    ("psio", &[]),
    ("config", &[]),
    ("context", &[]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names under a table of a manifest, e.g. `[dependencies]`.
fn names_in(manifest: &str, table: &str) -> BTreeSet<String> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != table)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['=', '.', ' ']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// The crates of the workspace, by the folders that it lists.
fn members() -> BTreeSet<String> {
    let manifest = read(&root().join("Cargo.toml"));
    let list = manifest
        .split_once("members = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(list, _)| list)
        .expect("the workspace lists its members");
    list.split([',', '\n'])
        .map(|name| name.trim().trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// All Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("a folder's entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The lines of a file that are neither comments nor its tests, with their numbers. Tests stand in
/// a module at the file's end, or in files of their own.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = read(path);
    let lines: Vec<&str> = text.lines().collect();
    let opens_tests = |i: usize| {
        lines[i].trim() == "#[cfg(test)]"
            && lines[i + 1..]
                .iter()
                .find(|line| !line.trim_start().starts_with("#["))
                .is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    };
    let end = (0..lines.len())
        .find(|i| opens_tests(*i))
        .unwrap_or(lines.len());
    lines[..end]
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(i, line)| (i + 1, (*line).to_owned()))
        .collect()
}

/// Whether a file holds nothing but tests.
fn is_test_file(path: &Path) -> bool {
    let named = |part: &std::ffi::OsStr| {
        let name = part.to_string_lossy();
        name == "tests" || name == "testing.rs" || name.ends_with("tests.rs")
    };
    path.iter().any(named)
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    let members = members();
    for (name, allowed) in RULES {
        let manifest = read(&root().join(name).join("Cargo.toml"));
        for line in manifest.lines().filter(|line| line.starts_with('[')) {
            let plain = [
                "[dependencies]",
                "[dev-dependencies]",
                "[build-dependencies]",
            ];
            assert!(
                !line.contains("dependencies") || plain.contains(&line.trim()),
                "{name}/Cargo.toml: {line}: write dependencies in the plain tables"
            );
        }
        for table in ["[dependencies]", "[build-dependencies]"] {
            for dependency in names_in(&manifest, table).intersection(&members) {
                assert!(
                    allowed.contains(&dependency.as_str()),
                    "{name} must not depend on {dependency}"
                );
            }
        }
    }
}

#[test]
fn every_crate_is_under_the_workspaces_lints() {
    let manifest = read(&root().join("Cargo.toml"));
    for lint in [
        "unsafe_code = \"deny\"",
        "undocumented_unsafe_blocks = \"deny\"",
    ] {
        assert!(manifest.contains(lint), "the workspace has {lint}");
    }
    for name in members() {
        let manifest = read(&root().join(&name).join("Cargo.toml"));
        assert!(
            names_in(&manifest, "[lints]").contains("workspace"),
            "{name}/Cargo.toml: [lints] workspace = true"
        );
    }
}

#[test]
fn the_protocol_core_knows_no_clock_no_descriptor_and_no_other_module() {
    let mut looked_at = 0;
    for path in sources(&root().join("engine/src/tcp")) {
        if is_test_file(&path) {
            continue;
        }
        looked_at += 1;
        for (number, line) in code(&path) {
            let place = format!("{}:{number}: {line}", path.display());
            let words: BTreeSet<&str> = line
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .collect();
            assert!(!words.contains("unsafe"), "{place}: no unsafe code here");
            // Whatever lives in core or alloc is named by them.
            assert!(!line.contains("std::"), "{place}: only core and alloc");
            for foreign in ["libc", "context", "psio", "tracing"] {
                let path = format!("{foreign}::");
                let used = line.match_indices(&path).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                });
                assert!(!used, "{place}: nothing of {foreign}");
            }
            for rest in line.split("crate::").skip(1) {
                assert!(rest.starts_with("tcp"), "{place}: only its own siblings");
            }
        }
    }
    assert!(looked_at > 10, "engine/src/tcp has moved");
}

/// A module made for unsafe code says so at its top; nowhere else is it allowed item by item.
#[test]
fn unsafe_code_stands_in_modules_made_for_it() {
    let mut modules = 0;
    for name in members() {
        for path in sources(&root().join(&name)) {
            if is_test_file(&path) {
                continue;
            }
            for (number, line) in code(&path) {
                let line = line.trim();
                modules += usize::from(line == "#![allow(unsafe_code)]");
                let lifted = [
                    "allow(unsafe_code",
                    "expect(unsafe_code",
                    "warn(unsafe_code",
                ]
                .iter()
                .any(|lift| line.contains(lift));
                assert!(
                    !lifted || line == "#![allow(unsafe_code)]",
                    "{}:{number}: {line}",
                    path.display()
                );
            }
        }
    }
    assert!(modules > 5, "the modules made for unsafe code have moved");
}
