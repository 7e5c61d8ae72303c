//! The tables of docs/compatibility.md are made from the code: this test fails where they differ,
//! and writes them anew if it is run with `MTCP_WRITE_DOCS=1` in the environment.

use crate::interpose::{Symbol, symbols};
use crate::socket::options::table::{ROWS, Row};
use std::fmt::Write as _;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compatibility.md");

#[test]
fn the_tables_of_the_compatibility_page_are_those_of_the_code() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let fresh = with_table(&page, "functions", &functions());
    let fresh = with_table(&fresh, "options", &options());
    if std::env::var_os("MTCP_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &fresh).unwrap();
    }
    let page = std::fs::read_to_string(PAGE).unwrap();
    assert!(
        page == fresh,
        "docs/compatibility.md is not up to date: MTCP_WRITE_DOCS=1 cargo test -p preload \
         compatibility_page"
    );
}

/// The page with what stands between the two marks of this name replaced.
fn with_table(page: &str, name: &str, table: &str) -> String {
    let (begin, end) = (
        format!("<!-- {name}: begin -->\n"),
        format!("<!-- {name}: end -->"),
    );
    let (before, rest) = page
        .split_once(&begin)
        .expect("a mark where the table begins");
    let (_, after) = rest.split_once(&end).expect("a mark where the table ends");
    format!("{before}{begin}{table}{end}{after}")
}

fn functions() -> String {
    let naked = super::NAKED.iter().flat_map(|rows| rows.iter());
    let mut rows: Vec<&Symbol> = symbols().chain(naked).collect();
    rows.sort_by_key(|row| {
        (
            order(row.family),
            row.name.trim_start_matches('_'),
            row.name,
        )
    });
    let mut text = "| Function | On a socket of the stack |\n|---|---|\n".to_owned();
    let mut family = "";
    for row in rows {
        if row.family != family {
            family = row.family;
            writeln!(text, "| **{family}** | |").unwrap();
        }
        let behaviour = row.behaviour.replace('\n', " ").replace('|', "\\|");
        writeln!(text, "| `{}` | {behaviour} |", row.name).unwrap();
    }
    text
}

fn order(family: &str) -> usize {
    let families = [
        "sockets",
        "io",
        "readiness",
        "options",
        "descriptors",
        "files",
        "processes",
    ];
    families
        .iter()
        .position(|known| *known == family)
        .unwrap_or(families.len())
}

fn options() -> String {
    let mut text =
        "| Option | Get | Set | Effect | Where it differs from Linux |\n|---|---|---|---|---|\n"
            .to_owned();
    let (has, has_not): (Vec<&Row>, Vec<&Row>) =
        ROWS.iter().partition(|row| row.effect != "not there");
    for row in has {
        let get = if row.can_get() {
            "yes"
        } else {
            "`ENOPROTOOPT`"
        };
        let (name, set, effect, differs) = (row.name, row.setting(), row.effect, row.differs);
        writeln!(text, "| `{name}` | {get} | {set} | {effect} | {differs} |").unwrap();
    }
    let names: Vec<String> = has_not
        .iter()
        .map(|row| format!("`{}`", row.name))
        .collect();
    let names = names.join(", ");
    writeln!(
        text,
        "\nNot there, so that all but switching them off fails: {names}."
    )
    .unwrap();
    text
}
