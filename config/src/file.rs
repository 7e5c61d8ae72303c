//! The TOML file.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Origin, Warning};
use crate::keys::{KEYS, Key};
use crate::loader::Loader;
use crate::nearest::nearest;
use crate::net::{Ipv4Net, Neighbor, Net, Route, parse_mac};
use crate::net6::{IpNet, Ipv6Net};
use crate::policy::{Decision, Ports, Role, Rule};

/// Tables of the file that may stand more than once, with their keys.
const TABLES: [(&str, &[&str]); 4] = [
    ("route", &["to", "via"]),
    ("neighbor", &["ip", "mac"]),
    ("arp", &["ip", "mac"]),
    ("rule", &["program", "role", "address", "port", "to"]),
];

/// How many entries each of the [`TABLES`] may have in all.
const MAX_ENTRIES: usize = 4096;

/// A file being read: turns offsets into lines.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.as_bytes().iter().take(span.start);
        Origin::File {
            path: self.path.to_owned(),
            line: 1 + before.filter(|byte| **byte == b'\n').count(),
        }
    }
}

pub fn load(loader: &mut Loader, path: &Path, text: &str) -> Result<(), Error> {
    let source = Source { path, text };
    let document = DeTable::parse(text).map_err(|error| Error::Syntax {
        origin: source.origin(error.span().unwrap_or(0..0)),
        message: error.message().replace('\n', ", "),
    })?;
    for (name, value) in in_order(document.get_ref()) {
        let origin = source.origin(name.span());
        let name = name.get_ref().as_ref();
        match value.get_ref() {
            DeValue::Table(table) if is_section(name) => {
                for (inner, value) in in_order(table) {
                    let full = format!("{name}.{}", inner.get_ref());
                    scalar(loader, &full, value.get_ref(), source.origin(inner.span()))?;
                }
            }
            DeValue::Array(entries) if TABLES.iter().any(|(table, _)| *table == name) => {
                for entry in entries.iter() {
                    let at = source.origin(entry.span());
                    match entry.get_ref().as_table() {
                        Some(table) => Entry::new(&source, name, at, table).add_to(loader)?,
                        None => return Err(not_a_table(&at, name, entry.get_ref())),
                    }
                }
            }
            other if TABLES.iter().any(|(table, _)| *table == name) => {
                return Err(not_a_table(&origin, name, other));
            }
            other => scalar(loader, name, other, origin)?,
        }
    }
    Ok(())
}

fn not_a_table(origin: &Origin, name: &str, found: &DeValue<'_>) -> Error {
    let expected = format!("tables, each headed [[{name}]]");
    Error::value(origin, name, &expected, found.type_str())
}

fn is_section(name: &str) -> bool {
    let mut sections = KEYS.iter().filter_map(|key| key.name.split_once('.'));
    sections.any(|(section, _)| section == name)
}

fn scalar(
    loader: &mut Loader,
    name: &str,
    value: &DeValue<'_>,
    origin: Origin,
) -> Result<(), Error> {
    let Some(key) = Key::find(name) else {
        let known = KEYS.iter().map(|key| key.name);
        let known = known.chain(TABLES.iter().map(|(table, _)| *table));
        loader.warnings.push(Warning::UnknownKey {
            origin,
            key: name.to_owned(),
            suggestion: nearest(name, known),
        });
        return Ok(());
    };
    match text(value) {
        Some(text) => loader.assign(key, &text, origin),
        None => Err(Error::value(
            &origin,
            key.name,
            key.expected,
            value.type_str(),
        )),
    }
}

/// One entry of an array of tables. All its errors name the line of the key at fault.
struct Entry<'a> {
    source: &'a Source<'a>,
    name: &'a str,
    origin: Origin,
    table: &'a DeTable<'a>,
}

impl<'a> Entry<'a> {
    fn new(
        source: &'a Source<'a>,
        name: &'a str,
        origin: Origin,
        table: &'a DeTable<'a>,
    ) -> Entry<'a> {
        Entry {
            source,
            name,
            origin,
            table,
        }
    }

    fn add_to(&self, loader: &mut Loader) -> Result<(), Error> {
        self.warn_unknown(loader);
        let settings = &mut loader.settings;
        let (numbered, index) = match self.name {
            "route" => match self.needed("to", EITHER, network)? {
                Network::V6(to) => ("route6", append(&mut settings.routes6, self.route(to)?)),
                Network::V4(to) => ("route", append(&mut settings.routes, self.route(to)?)),
            },
            "rule" => ("rule", append(&mut settings.rules, self.rule()?)),
            _ => match self.needed("ip", EITHER, network)? {
                Network::V6(ip) => {
                    let neighbor = self.neighbor(ip)?;
                    ("neighbor6", append(&mut settings.neighbors6, neighbor))
                }
                Network::V4(ip) => (
                    "neighbor",
                    append(&mut settings.neighbors, self.neighbor(ip)?),
                ),
            },
        };
        if index > MAX_ENTRIES {
            return Err(Error::Syntax {
                origin: self.origin.clone(),
                message: format!("{}: expected at most {MAX_ENTRIES} of them", self.name),
            });
        }
        loader.came_from(self.name, self.origin.clone());
        loader.came_from(&format!("{numbered} {index}"), self.origin.clone());
        Ok(())
    }

    fn route<N: Net>(&self, to: N) -> Result<Route<N>, Error> {
        let via = self.value("via", N::ADDRESS, |v| v.parse().ok())?;
        Ok(Route { to, via })
    }

    fn neighbor<N: Net>(&self, ip: N) -> Result<Neighbor<N>, Error> {
        let expected = "a unicast MAC address such as 02:00:00:00:00:01";
        let mac = self.needed("mac", expected, parse_mac)?;
        Ok(Neighbor { ip, mac })
    }

    fn rule(&self) -> Result<Rule, Error> {
        let role = self.value("role", "listen or connect", Role::parse)?;
        let expected = match role {
            Some(Role::Connect) => "mtcp or kernel",
            _ => "mtcp, kernel or both",
        };
        let to = |v: &str| {
            let to = Decision::parse(v)?;
            (role != Some(Role::Connect) || to != Decision::Both).then_some(to)
        };
        Ok(Rule {
            program: self.value("program", "the file name of a program", program)?,
            role,
            address: self
                .value("address", EITHER, IpNet::parse)?
                .unwrap_or(IpNet::Any),
            ports: self
                .value("port", "ports such as 80,8000-8100", Ports::parse)?
                .unwrap_or_else(Ports::all),
            to: self.needed("to", expected, to)?,
        })
    }

    fn needed<T>(
        &self,
        key: &str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Error> {
        self.value(key, expected, parse)?
            .ok_or_else(|| Error::Missing {
                origin: self.origin.clone(),
                key: format!("{}.{key}", self.name),
                expected,
            })
    }

    fn value<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some((name, value)) = self.table.get_key_value(key) else {
            return Ok(None);
        };
        let text = text(value.get_ref());
        match text.as_deref().map(str::trim).and_then(parse) {
            Some(value) => Ok(Some(value)),
            None => {
                let found = text.unwrap_or_else(|| value.get_ref().type_str().to_owned());
                let full = format!("{}.{key}", self.name);
                let origin = self.source.origin(name.span());
                Err(Error::value(&origin, &full, expected, &found))
            }
        }
    }

    fn warn_unknown(&self, loader: &mut Loader) {
        let known = TABLES.iter().find(|(table, _)| *table == self.name);
        let known = known.map_or(&[][..], |(_, keys)| keys);
        for (name, _) in in_order(self.table) {
            let key: &str = name.get_ref().as_ref();
            if !known.contains(&key) {
                loader.warnings.push(Warning::UnknownKey {
                    origin: self.source.origin(name.span()),
                    key: format!("{}.{key}", self.name),
                    suggestion: nearest(key, known.iter().copied()),
                });
            }
        }
    }
}

const EITHER: &str =
    "an IP address, with a prefix for a network, such as 192.168.0.0/16 or fd00::/8";

/// What a table's entry is about.
enum Network {
    V4(Ipv4Net),
    V6(Ipv6Net),
}

fn network(text: &str) -> Option<Network> {
    let v6 = || Ipv6Net::parse_network(text).map(Network::V6);
    Ipv4Net::parse_network(text).map(Network::V4).or_else(v6)
}

/// Adds to a list; its length then.
fn append<T>(list: &mut Vec<T>, item: T) -> usize {
    list.push(item);
    list.len()
}

fn program(text: &str) -> Option<String> {
    (!text.is_empty() && !text.contains('/')).then(|| text.to_owned())
}

type Item<'t, 'i> = (
    &'t Spanned<std::borrow::Cow<'i, str>>,
    &'t Spanned<DeValue<'i>>,
);

/// The entries of a table as they stand in the file, so that the first error is the first reported.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Item<'t, 'i>> {
    let mut items: Vec<Item<'t, 'i>> = table.iter().collect();
    items.sort_by_key(|(name, _)| name.span().start);
    items
}

/// A value as the environment would write it, so that one parser reads both; an array becomes a
/// list with commas. `None` for tables and dates.
fn text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(s) => Some(s.to_string()),
        DeValue::Integer(n) => {
            let decimal = i64::from_str_radix(n.as_str(), n.radix());
            Some(decimal.map_or_else(|_| n.as_str().to_owned(), |n| n.to_string()))
        }
        DeValue::Float(n) => Some(n.as_str().to_owned()),
        DeValue::Boolean(on) => Some(on.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| match item.get_ref() {
                DeValue::Array(_) => None,
                item => text(item),
            });
            items.collect::<Option<Vec<_>>>().map(|all| all.join(","))
        }
        DeValue::Table(_) | DeValue::Datetime(_) => None,
    }
}
