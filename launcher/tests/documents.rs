//! The documents keep step with the code.
//!
//! What stands in them between `<!-- generated: NAME -->` and `<!-- end -->` is made from the settings;
//! `UPDATE_DOCS=1 cargo test -p launcher --test documents` writes it anew.

mod common;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use common::{mtcp_run, output, text};
use config::{KEYS, Section, Settings, VARIABLES};

const DOCUMENTS: [&str; 7] = [
    "README.md",
    "docs/architecture.md",
    "docs/configuration.md",
    "docs/congestion.md",
    "docs/life-of-a-packet.md",
    "docs/packetdrill.md",
    "docs/rfc.md",
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(document: &str) -> String {
    fs::read_to_string(workspace().join(document)).unwrap_or_else(|e| panic!("{document}: {e}"))
}

/// Checks the part of that name in a document, or writes it.
fn check_part(document: &str, name: &str, expected: &str) {
    let begin = format!("<!-- generated: {name} -->\n");
    let content = read(document);
    let (before, rest) = content.split_once(&begin).expect("the part's beginning");
    let (part, after) = rest.split_once("<!-- end -->").expect("the part's end");
    if part == expected {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let updated = format!("{before}{begin}{expected}<!-- end -->{after}");
        fs::write(workspace().join(document), updated).expect("the document can be written");
    } else {
        panic!("{document}: \"{name}\" is out of date: run this test with UPDATE_DOCS=1");
    }
}

/// Words in backquotes.
fn code_spans(content: &str) -> impl Iterator<Item = &str> {
    content.split('`').skip(1).step_by(2)
}

#[test]
fn the_configuration_page_has_the_reference() {
    let expected = format!("```toml\n{}```\n", config::reference());
    check_part("docs/configuration.md", "reference", &expected);
}

#[test]
fn the_readme_has_every_variable() {
    let defaults = Settings::default();
    let mut table = String::from("| variable | default | meaning |\n|---|---|---|\n");
    let mut keys: Vec<_> = KEYS.iter().collect();
    keys.sort_by_key(|key| (key.section != Section::Cores, key.section));
    for key in keys {
        let brief = key.doc.split(". ").next().unwrap_or(key.doc);
        let (variable, value) = (key.variable(), key.get(&defaults));
        let brief = brief.trim_end_matches('.');
        let _ = writeln!(table, "| `{variable}` | {value} | {brief} |");
    }
    for (variable, doc) in VARIABLES {
        let doc = doc.trim_end_matches('.');
        let _ = writeln!(table, "| `{variable}` | | {doc} |");
    }
    check_part("README.md", "variables", &table);
}

/// A span such as `engine/src/worker/mod.rs` names a file, and `engine/src/worker/mod.rs::round`
/// something in it.
#[test]
fn files_and_names_that_are_cited_exist() {
    let mut missing = Vec::new();
    for document in DOCUMENTS {
        let content = read(document);
        for span in code_spans(&content) {
            let (file, name) = span.split_once("::").unwrap_or((span, ""));
            let names_a_file = file.ends_with(".rs") || file.ends_with(".pkt");
            if !names_a_file || file.contains(['*', ' ']) {
                continue;
            }
            let found = fs::read_to_string(workspace().join(file)).is_ok_and(|source| {
                let mut words = source.split(|c: char| !c.is_alphanumeric() && c != '_');
                name.is_empty() || words.any(|word| word == name)
            });
            if !found {
                missing.push(format!("{document}: {span}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn options_in_the_examples_exist() {
    let help = text(&output(&mut mtcp_run(&["--help"])).stdout);
    let known: BTreeSet<&str> = help
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| word.starts_with("--"))
        .collect();
    let content = read("README.md");
    let mut examples = 0;
    for (_, call) in content.lines().filter_map(|l| l.split_once("mtcp-run --")) {
        let call = format!("--{call}");
        let words = call.split_whitespace().take_while(|word| *word != "--");
        for option in words.filter(|word| word.starts_with("--")) {
            let option = option.trim_matches(|c: char| !c.is_ascii_lowercase() && c != '-');
            assert!(known.contains(option), "{option} in {call:?}");
            examples += 1;
        }
    }
    assert!(examples > 0, "the README has examples");
}

#[test]
fn links_lead_to_files() {
    let mut broken = Vec::new();
    for document in DOCUMENTS {
        let path = workspace().join(document);
        let folder = path.parent().expect("a document is in a folder");
        for rest in read(document).split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if !target.contains("://") && !folder.join(target).exists() {
                broken.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
