//! `cargo xtask suites`: test suites that others wrote, on the kernel and under mtcp-run with the
//! loopback in the stack. What differs must have a reason.

mod cpython;
mod libuv;
mod memcached;
mod page;
mod redis;
mod side;
mod sources;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::setup;
use crate::shell::{Error, at, build_programs, need_root, target_directory};
use page::{Page, Row};
use side::{Place, Side};

#[derive(Args)]
pub struct Options {
    /// Suites, or parts of them, such as libuv or test_socket; all without.
    names: Vec<String>,
    /// Names the suites and their parts, and runs nothing.
    #[arg(long)]
    list: bool,
    /// Runs nothing, and compares anew what the last runs have left.
    #[arg(long)]
    again: bool,
    /// Leaves docs/suites.md as it is.
    #[arg(long)]
    no_page: bool,
}

/// How each test ended: `ok`, `skipped`, `failed` or what else the suite says; `hung` if it had to be
/// ended.
type Outcomes = BTreeMap<String, String>;

/// A suite, or a part of one, that is run and counted by itself.
struct Part {
    suite: &'static str,
    name: &'static str,
    /// Gets what it needs into its directory.
    prepare: fn(&Place, &str) -> Result<(), Error>,
    run: fn(&Place, &str) -> Result<Outcomes, Error>,
}

impl Part {
    fn is_meant(&self, names: &[String]) -> bool {
        names.is_empty() || names.iter().any(|n| n == self.suite || n == self.name)
    }
}

fn parts() -> Vec<Part> {
    let cpython = cpython::MODULES.iter().map(|&name| Part {
        suite: "cpython",
        name,
        prepare: cpython::prepare,
        run: cpython::run,
    });
    let others = [
        Part {
            suite: "libuv",
            name: "libuv",
            prepare: libuv::prepare,
            run: libuv::run,
        },
        Part {
            suite: "memcached",
            name: "memcached",
            prepare: memcached::prepare,
            run: memcached::run,
        },
        Part {
            suite: "redis",
            name: "redis",
            prepare: redis::prepare,
            run: redis::run,
        },
    ];
    cpython.chain(others).collect()
}

/// Runs the suites, and fails if anything differs without a reason.
pub fn run(options: &Options) -> Result<(), Error> {
    let parts = parts();
    if options.list {
        for part in &parts {
            println!("{} {}", part.suite, part.name);
        }
        return Ok(());
    }
    let unknown = |name: &&String| !parts.iter().any(|p| p.suite == **name || p.name == **name);
    if let Some(name) = options.names.iter().find(unknown) {
        let text = format!("there is no suite {name} (see --list)");
        return Err(Error::Other(text));
    }
    let programs = match options.again {
        true => PathBuf::new(),
        false => provide()?,
    };
    let mut unexplained = 0;
    for part in parts.iter().filter(|part| part.is_meant(&options.names)) {
        let row = match options.again {
            true => compare_again(part)?,
            false => compare(part, &programs)?,
        };
        // Opened each time: somebody may run other parts meanwhile.
        let mut page = Page::open()?;
        unexplained += page.note(part, &row);
        eprintln!("{}", page::describe(&row));
        if !options.no_page {
            page.write()?;
        }
    }
    if unexplained == 0 {
        return Ok(());
    }
    let text = format!(
        "{unexplained} tests differ without a reason in {}",
        page::REASONS
    );
    Err(Error::Other(text))
}

/// Installs and builds what the suites need; the directory of our own programs.
fn provide() -> Result<PathBuf, Error> {
    need_root("running the suites")?;
    setup::provide_for_suites()?;
    build_programs()
}

/// What the last runs of a part have left.
fn compare_again(part: &Part) -> Result<Row, Error> {
    let left = |side| Place::left(side, part.name, Path::new(""));
    let stack = left(Side::Stack);
    Ok(Row {
        kernel: left(Side::Kernel).kept()?,
        stack: stack.kept()?,
        carried: stack.kernel_connections(),
    })
}

/// Runs a part on both sides.
fn compare(part: &Part, programs: &Path) -> Result<Row, Error> {
    let on = |side| -> Result<(Outcomes, Option<u64>), Error> {
        eprintln!("\n== {} on {} ==", part.name, side);
        let place = Place::new(side, part.name, programs)?;
        (part.prepare)(&place, part.name)?;
        let outcomes = (part.run)(&place, part.name)?;
        place.keep(&outcomes)?;
        Ok((outcomes, place.kernel_connections()))
    };
    let (kernel, _) = on(Side::Kernel)?;
    let (stack, carried) = on(Side::Stack)?;
    Ok(Row {
        kernel,
        stack,
        carried,
    })
}

/// Where sources, logs and outcomes lie.
fn directory() -> PathBuf {
    target_directory().join("suites")
}

fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_names_of_their_own() {
        let mut names: Vec<_> = parts().iter().map(|part| part.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_suites_name_means_all_its_parts() {
        let names = ["cpython".to_owned()];
        let meant = parts().into_iter().filter(|part| part.is_meant(&names));
        assert_eq!(meant.count(), cpython::MODULES.len());
    }
}
