//! Each family of checks, on the kernel and on the stack.

use std::collections::BTreeSet;
use std::fs;

use conformance::{DIFFERENCES, Differences, FAMILIES, Places, compare, compile};
use testbed::artifacts;

/// Runs a family's program twice. A difference that is not listed fails, and so does a listed one that
/// is not there any more.
fn is_as_on_the_kernel(family: &str) {
    let (_, checks) = FAMILIES
        .iter()
        .find(|(name, _)| *name == family)
        .expect("a family of the suite");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = compile(family, directory.path());
    let places = Places::new();
    let kernel = places.on_kernel(&program);
    assert_eq!(kernel.len(), *checks, "checks of {family} in FAMILIES");
    let found = compare(&kernel, &places.on_stack(&program));
    let list = Differences::load();
    let listed: BTreeSet<&str> = list.of(family).collect();
    let names: BTreeSet<&str> = found.iter().map(|(name, _)| &**name).collect();
    let unlisted: Vec<&str> = found
        .iter()
        .filter(|(name, _)| !listed.contains(&**name))
        .map(|(_, text)| &**text)
        .collect();
    let vanished: Vec<&&str> = listed.difference(&names).collect();
    assert!(
        unlisted.is_empty() && vanished.is_empty(),
        "{family}: {} differences that {DIFFERENCES} does not list:\n{}\n\n{} listed ones that are \
         none any more:\n{vanished:#?}",
        unlisted.len(),
        unlisted.join("\n"),
        vanished.len(),
    );
}

macro_rules! families {
    ($($family:ident),+) => {
        $(
            #[test]
            fn $family() {
                is_as_on_the_kernel(stringify!($family));
            }
        )+

        #[test]
        fn every_family_has_a_test() {
            let tested = [$(stringify!($family)),+];
            assert_eq!(tested[..], FAMILIES.map(|(name, _)| name)[..]);
        }
    };
}

families!(
    states,
    closing,
    options,
    transfer,
    polling,
    epolling,
    descriptors,
    copying,
    waiting,
    threads,
    syscalls,
    forking,
    executing,
    passing,
    waking,
    signalling
);

#[test]
fn differences_are_listed_of_families_that_there_are() {
    for family in Differences::load().families() {
        assert!(FAMILIES.iter().any(|(name, _)| *name == family), "{family}");
    }
}

/// `UPDATE_DOCS=1 cargo test -p conformance page` writes it anew.
#[test]
fn the_compatibility_page_has_the_differences() {
    const BEGIN: &str = "<!-- conformance: begin -->\n";
    const END: &str = "<!-- conformance: end -->";
    let path = artifacts::workspace().join("docs/compatibility.md");
    let page = fs::read_to_string(&path).expect("the page");
    let (before, rest) = page.split_once(BEGIN).expect("the table's beginning");
    let (table, after) = rest.split_once(END).expect("the table's end");
    let checks: usize = FAMILIES.iter().map(|(_, checks)| checks).sum();
    let families = FAMILIES.len();
    let list = Differences::load().table();
    let expected = format!("{checks} checks in {families} families.\n\n{list}");
    if table != expected && std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).expect("the page");
        return;
    }
    assert!(table == expected, "out of date: set UPDATE_DOCS=1");
}
