//! `--so_flags`: settings of mtcp-run, and what concerns this library alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Loader, Origin, Settings};

const DEFAULTS: &str = include_str!("defaults.toml");

/// Keys of mtcp-run that mean nothing here.
const WITHOUT_EFFECT: [&str; 13] = [
    "device",
    "queues",
    "host_address",
    "pcap",
    "faults",
    "engine_cores",
    "workers",
    "app_cores",
    "spin_us",
    "drain",
    "loopback",
    "log",
    "stats",
];

/// What `--so_flags` says.
#[derive(Clone, PartialEq, Debug)]
pub struct Flags {
    /// The stack's settings.
    pub settings: Settings,
    /// The preload library, if it was named.
    pub preload: Option<PathBuf>,
    /// How long packetdrill waits for a packet before it is told that none came.
    pub receive_timeout: Duration,
}

/// Why the flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that is none, or has no such value.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Not of the form `key=value`.
    #[error("--so_flags: expected key=value, found {0:?}")]
    Form(String),
    /// A setting that this library does not use.
    #[error("--so_flags: {0} has no effect here")]
    WithoutEffect(String),
    /// The time to wait is no number of seconds.
    #[error("--so_flags: receive_timeout: expected seconds from 1 to 3600, found {0:?}")]
    Timeout(String),
}

impl Flags {
    /// Reads flags of the form `key=value`, with commas or spaces between them, over the defaults.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn parse(text: &str) -> Result<Flags, Error> {
        let mut loader = Loader::new();
        loader.toml_text(Path::new("defaults.toml"), DEFAULTS)?;
        let mut preload = None;
        let mut receive_timeout = Duration::from_secs(130);
        let separators = |c: char| c == ',' || c.is_whitespace();
        for flag in text.split(separators).filter(|flag| !flag.is_empty()) {
            let pair = flag.split_once('=');
            let (key, value) = pair.ok_or_else(|| Error::Form(flag.to_owned()))?;
            match key {
                "preload" => preload = Some(PathBuf::from(value)),
                "receive_timeout" => {
                    let seconds = value.parse().ok().filter(|s| (1..=3600).contains(s));
                    let bad = || Error::Timeout(value.to_owned());
                    receive_timeout = Duration::from_secs(seconds.ok_or_else(bad)?);
                }
                _ if WITHOUT_EFFECT.contains(&key) => {
                    return Err(Error::WithoutEffect(key.to_owned()));
                }
                _ => loader.set(key, value, Origin::CommandLine("--so_flags".to_owned()))?,
            }
        }
        Ok(Flags {
            settings: loader.finish()?.settings,
            preload,
            receive_timeout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_what_scripts_expect() {
        let flags = Flags::parse("").unwrap();
        let settings = &flags.settings;
        assert_eq!(settings.address.to_string(), "192.168.0.1/16");
        assert_eq!(settings.recv_buffer_max(), 15 << 20);
        assert_eq!(settings.tcp.rto_min, Duration::from_millis(200));
        assert_eq!(settings.tcp.delayed_ack, Duration::from_millis(40));
        assert_eq!((settings.mtu, settings.neighbors.len()), (1500, 1));
    }

    #[test]
    fn flags_set_what_mtcp_run_can_be_told() {
        let flags = Flags::parse("mtu=9000, tcp.delayed_ack=10ms preload=/x.so,receive_timeout=2");
        let flags = flags.unwrap();
        assert_eq!(flags.settings.mtu, 9000);
        assert_eq!(flags.settings.tcp.delayed_ack, Duration::from_millis(10));
        assert_eq!(flags.preload, Some("/x.so".into()));
        assert_eq!(flags.receive_timeout, Duration::from_secs(2));
    }

    #[test]
    fn a_flag_that_cannot_be_obeyed_is_an_error() {
        for (text, part) in [
            ("mtu", "expected key=value"),
            ("mtu=12", "mtu"),
            ("nonsense=1", "nonsense"),
            ("device=tap:x", "no effect"),
            ("receive_timeout=0", "seconds"),
        ] {
            let message = Flags::parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn settings_without_effect_are_settings() {
        for key in WITHOUT_EFFECT {
            assert!(config::Key::find(key).is_some(), "{key}");
        }
    }
}
