//! Debian's source packages, which have the suites that no binary package has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{directory, make_directory};
use crate::shell::{Error, at, run};

/// Where apt keeps the sources that it knows of.
const APT: &str = "/etc/apt";

/// The unpacked source of a package, as Debian builds it.
pub fn fetch(package: &str) -> Result<PathBuf, Error> {
    let root = directory().join("sources");
    if let Some(found) = unpacked(&root, package) {
        return Ok(found);
    }
    let lists = root.join("apt");
    let own = lists.join("sources.list.d");
    make_directory(&own)?;
    make_directory(&lists.join("lists/partial"))?;
    write_source_lists(&own)?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        let set = |key: &str, value: &Path| format!("-oDir::{key}={}", value.display());
        command
            .arg(set("Etc::SourceList", Path::new("/dev/null")))
            .arg(set("Etc::SourceParts", &own))
            .arg(set("State::lists", &lists.join("lists")))
            .arg("-q")
            .args(arguments)
            .current_dir(&root);
        run(&mut command)
    };
    apt(&["update"])?;
    apt(&["source", package])?;
    unpacked(&root, package)
        .ok_or_else(|| Error::Other(format!("apt-get source {package} has left no directory")))
}

fn unpacked(root: &Path, package: &str) -> Option<PathBuf> {
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_dir() && name.starts_with(&format!("{package}-"))
    };
    let entries = fs::read_dir(root).ok()?.flatten();
    entries.map(|entry| entry.path()).find(is_it)
}

/// Copies the machine's own package sources, source packages instead of binary ones.
fn write_source_lists(own: &Path) -> Result<(), Error> {
    let parts = Path::new(APT).join("sources.list.d");
    let mut files = vec![Path::new(APT).join("sources.list")];
    files.extend(
        fs::read_dir(&parts)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    for file in files {
        let is_list = file
            .extension()
            .is_some_and(|e| e == "list" || e == "sources");
        let (true, Ok(text)) = (is_list, fs::read_to_string(&file)) else {
            continue;
        };
        let copy = own.join(file.file_name().unwrap_or_default());
        fs::write(&copy, of_sources(&text)).map_err(at(copy))?;
    }
    Ok(())
}

/// A list of binary packages as one of source packages, in either of apt's formats.
fn of_sources(list: &str) -> String {
    let line = |line: &str| match line {
        "Types: deb" | "Types: deb deb-src" => "Types: deb-src\n".to_owned(),
        line => match line.strip_prefix("deb ") {
            Some(rest) => format!("deb-src {rest}\n"),
            None => format!("{line}\n"),
        },
    };
    list.lines().map(line).collect()
}

/// A copy of a source for one side, made anew.
pub fn copy(source: &Path, to: &Path) -> Result<(), Error> {
    if to.exists() {
        fs::remove_dir_all(to).map_err(at(to))?;
    }
    run(Command::new("cp").arg("-a").args([source, to]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_lists_are_turned_to_source_packages() {
        assert_eq!(
            of_sources("Types: deb\nURIs: x"),
            "Types: deb-src\nURIs: x\n"
        );
        assert_eq!(of_sources("# a\ndeb x y z"), "# a\ndeb-src x y z\n");
    }
}
