//! The setting of packetisation-layer path MTU discovery.

use std::fmt;

/// When TCP finds out by probes how large packets a path carries (RFC 4821).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MtuProbing {
    /// Never: it relies on routers to tell.
    #[default]
    Off,
    /// Once large packets seem to vanish.
    BlackHole,
    /// From the start of each connection.
    Always,
}

impl MtuProbing {
    pub(crate) const EXPECTED: &str = "off, black-hole or always";

    pub(crate) fn parse(text: &str) -> Option<MtuProbing> {
        match text {
            "off" => Some(MtuProbing::Off),
            "black-hole" => Some(MtuProbing::BlackHole),
            "always" => Some(MtuProbing::Always),
            _ => None,
        }
    }
}

impl fmt::Display for MtuProbing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MtuProbing::Off => "off",
            MtuProbing::BlackHole => "black-hole",
            MtuProbing::Always => "always",
        })
    }
}
