//! Settings: TOML file, environment and mTCP's own formats.
//!
//! A [`Loader`] lays one source over the other, from the lowest precedence to the highest:
//! defaults, the TOML file, mTCP's own files, the environment, the command line. What comes out is
//! [`Loaded`]: the [`Settings`], where each of them came from, and what was odd on the way.
//! Every single-valued setting is one entry of [`KEYS`], so that the file, the environment, the
//! command line, the reference text and `mtcp-run --check` cannot disagree.
//!
//! [`Policy`] decides which calls the stack serves, and [`ClientSettings`] carries that policy to
//! the preload library as bytes.

mod choice;
mod client;
mod conflict;
mod device;
mod error;
mod file;
mod keys;
mod loader;
mod mtcp_conf;
mod mtu_probing;
mod nearest;
mod net;
mod net6;
mod obstacle;
mod policy;
mod settings;
mod value;

pub use choice::{Congestion, Ecn, HostAddress, Loopback, SynCookies, TimeWaitReuse, Trace};
pub use client::{ClientSettings, ClientTcp, DecodeError};
pub use device::Device;
pub use error::{Error, Origin, Warning};
pub use keys::{KEYS, Key, Section, VARIABLES, reference};
pub use loader::{Loaded, Loader};
pub use mtu_probing::MtuProbing;
pub use net::{Ipv4Net, Neighbor, Net, ParseError, Route};
pub use net6::{Address6, IpNet, Ipv6Net};
pub use obstacle::{Obstacle, obstacle};
pub use policy::{Decision, Policy, Ports, Reason, Role, Rule};
pub use settings::{Settings, TcpSettings, fastopen};

/// Variables whose names begin so are set by `mtcp-run` for the program that it starts; they are
/// not settings and nobody is warned about them.
pub const PRIVATE_PREFIX: &str = "MTCP_STACK_";

/// The file that is read when none is named, if it exists.
pub const SYSTEM_FILE: &str = "/etc/mtcp.toml";
