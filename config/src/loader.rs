//! Lays one source of settings over the other and remembers where each value came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;

use crate::error::{Error, Origin, Warning};
use crate::keys::{KEYS, Key, VARIABLES};
use crate::nearest::nearest;
use crate::settings::Settings;
use crate::{PRIVATE_PREFIX, file, mtcp_conf};

/// Settings in the making. Each call overlays what came before it, so the order of the calls is
/// the order of precedence, lowest first.
#[derive(Default)]
pub struct Loader {
    pub(crate) settings: Settings,
    origins: BTreeMap<String, Origin>,
    pub(crate) warnings: Vec<Warning>,
}

/// Settings, where each came from, and what was odd on the way.
#[derive(Debug)]
pub struct Loaded {
    /// The settings in force.
    pub settings: Settings,
    /// What the user should be told.
    pub warnings: Vec<Warning>,
    origins: BTreeMap<String, Origin>,
}

impl Loader {
    /// The defaults.
    pub fn new() -> Loader {
        Loader::default()
    }

    /// The settings so far.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, or has a value that does not fit its key. Unknown keys
    /// are warnings.
    pub fn toml_file(&mut self, path: &Path) -> Result<(), Error> {
        self.toml_text(path, &read(path)?)
    }

    /// Reads the text of a TOML file; `path` is its name in messages.
    ///
    /// # Errors
    /// As [`Loader::toml_file`].
    pub fn toml_text(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        file::load(self, path, text)
    }

    /// Reads mTCP's own `mtcp.conf`, and `config/route.conf` and `config/arp.conf` beside it
    /// (`route.conf` and `arp.conf` if there is no such folder), as far as they exist.
    ///
    /// # Errors
    /// If `path` cannot be read, or a line of the files does not fit. Keys that mean nothing here
    /// are warnings that say so.
    pub fn mtcp_conf(&mut self, path: &Path) -> Result<(), Error> {
        mtcp_conf::load(self, path)
    }

    /// Takes the `MTCP_` variables of an environment. A variable that is set to nothing counts as
    /// not set.
    ///
    /// # Errors
    /// If a value does not fit. Unknown variables are warnings.
    pub fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), Error> {
        let names: Vec<(String, &Key)> = KEYS.iter().map(|key| (key.variable(), key)).collect();
        let mut found: Vec<(String, OsString)> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, value)| name.starts_with("MTCP_") && !value.is_empty())
            .filter(|(name, _)| !name.starts_with(PRIVATE_PREFIX))
            .filter(|(name, _)| !VARIABLES.iter().any(|(known, _)| known == name))
            .collect();
        found.sort();
        for (name, value) in found {
            let Some((_, key)) = names.iter().find(|(known, _)| *known == name) else {
                let known = names.iter().map(|(known, _)| known.as_str());
                let suggestion = nearest(&name, known.chain(VARIABLES.map(|(known, _)| known)));
                self.warnings
                    .push(Warning::UnknownVariable { name, suggestion });
                continue;
            };
            let origin = Origin::Environment(name);
            match value.to_str() {
                Some(value) => self.assign(key, value, origin)?,
                None => {
                    let found = value.to_string_lossy();
                    return Err(Error::value(&origin, key.name, "text in UTF-8", &found));
                }
            }
        }
        Ok(())
    }

    /// Sets one key.
    ///
    /// # Errors
    /// [`Error::UnknownKey`], or [`Error::Value`] if the value does not fit.
    pub fn set(&mut self, key: &str, value: &str, origin: Origin) -> Result<(), Error> {
        match Key::find(key) {
            Some(key) => self.assign(key, value, origin),
            None => Err(Error::UnknownKey {
                origin,
                key: key.to_owned(),
                suggestion: nearest(key, KEYS.iter().map(|k| k.name)),
            }),
        }
    }

    /// Checks that the settings go together.
    ///
    /// # Errors
    /// [`Error::Conflict`] if they do not.
    pub fn finish(mut self) -> Result<Loaded, Error> {
        if self.settings.is_too_narrow() {
            let origin = self.origins.get("mtu").cloned().unwrap_or(Origin::Default);
            let message =
                "below 1280 the stack has no IPv6 (address6 = \"off\" says that it need not)";
            self.note(origin, "mtu", message);
        }
        match self.settings.conflict() {
            Some((key, message)) => Err(Error::Conflict {
                origin: self.origins.get(key).cloned().unwrap_or(Origin::Default),
                key,
                message,
            }),
            None => Ok(Loaded {
                settings: self.settings,
                warnings: self.warnings,
                origins: self.origins,
            }),
        }
    }

    pub(crate) fn assign(&mut self, key: &Key, value: &str, origin: Origin) -> Result<(), Error> {
        key.set(&mut self.settings, value)
            .ok_or_else(|| Error::value(&origin, key.name, key.expected, value))?;
        self.came_from(key.name, origin);
        Ok(())
    }

    pub(crate) fn came_from(&mut self, key: &str, origin: Origin) {
        self.origins.insert(key.to_owned(), origin);
    }

    pub(crate) fn note(&mut self, origin: Origin, key: &str, message: impl Into<String>) {
        self.warnings.push(Warning::Note {
            origin,
            key: key.to_owned(),
            message: message.into(),
        });
    }
}

impl Loaded {
    /// Where the value of `key` (e.g. `tcp.rto_min`) came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// The settings in force, one line each: key, value, origin.
    pub fn report(&self) -> String {
        let mut lines: Vec<(String, String, String)> = KEYS
            .iter()
            .map(|key| {
                let (value, origin) = match key.name {
                    "address6" => self.address6(),
                    _ => (key.get(&self.settings), self.origin(key.name).to_string()),
                };
                (key.name.to_owned(), value, origin)
            })
            .collect();
        let settings = &self.settings;
        let numbered = |name: &str, i: usize, value: String| {
            let name = format!("{name} {}", i + 1);
            let origin = self.origin(&name).to_string();
            (name, value, origin)
        };
        let tables = [
            ("route", texts(&settings.routes)),
            ("route6", texts(&settings.routes6)),
            ("neighbor", texts(&settings.neighbors)),
            ("neighbor6", texts(&settings.neighbors6)),
            ("rule", texts(&settings.rules)),
        ];
        for (name, entries) in tables {
            let entries = entries.into_iter().enumerate();
            lines.extend(entries.map(|(i, value)| numbered(name, i, value)));
        }
        let mut out = String::new();
        for (name, value, origin) in lines {
            let _ = writeln!(out, "{name:<22} = {value:<22} # {origin}");
        }
        out
    }

    /// What `address6` comes to, and why.
    fn address6(&self) -> (String, String) {
        let why = match self.settings.is_too_narrow() {
            true => "mtu is below 1280".to_owned(),
            false => self.origin("address6").to_string(),
        };
        (self.settings.address6_in_force().to_string(), why)
    }
}

pub(crate) fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}
