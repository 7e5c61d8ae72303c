//! Devices by their description: `tap`, `tap:NAME`, `packet:IF`, `xdp:IF`, a PCI address, `wire:PATH`,
//! `none`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::ixgbe::{self, IxgbeConfig};
use crate::none::Unplugged;
use crate::packet::{Packet, PacketConfig};
use crate::tap::{Tap, TapConfig};
use crate::wire::{Wire, WireConfig};
use crate::xdp::{Xdp, XdpConfig};
use crate::{Device, Error, MacAddr};

/// What goes with a description, and what a device of that kind has no use for is left alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenOptions {
    /// Queue pairs, one to each worker.
    pub queues: usize,
    /// Largest IP packet, in bytes.
    pub mtu: usize,
    /// TAP: the kernel's address, and the length of its network's prefix in bits.
    pub host_addr: Option<(Ipv4Addr, u8)>,
    /// TAP: the kernel's IPv6 address, likewise.
    pub host_addr6: Option<(Ipv6Addr, u8)>,
    /// Wire: bytes of each ring, rounded up to a power of two.
    pub ring_bytes: usize,
    /// Wire: the station; a random one without it.
    pub mac: Option<MacAddr>,
    /// Wire: how long a queue watches its ring before the worker may sleep.
    pub spin: Duration,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        let tap = TapConfig::default();
        let wire = WireConfig::default();
        OpenOptions {
            queues: tap.queues,
            mtu: tap.mtu,
            host_addr: tap.host_addr,
            host_addr6: tap.host_addr6,
            ring_bytes: wire.ring_bytes,
            mac: wire.mac,
            spin: wire.spin,
        }
    }
}

/// Opens the device that `description` names: `tap` (the first of `mtcp0`, `mtcp1`, … that is
/// free), `tap:NAME`, `packet:IF` (an interface shared with the kernel), `xdp:IF` (one that the stack has
/// to itself), `wire:PATH` (`wire:@NAME` for a name
/// that is in no file system), a PCI address such as `0000:03:00.0` (an 82599), or `none`.
///
/// # Errors
/// [`Error::Description`], which lists the kinds that there are, or why the device did not open.
pub fn open(description: &str, options: &OpenOptions) -> Result<Box<dyn Device>, Error> {
    let (kind, rest) = match description.split_once(':') {
        Some((kind, rest)) => (kind, Some(rest)),
        None => (description, None),
    };
    match (kind, rest) {
        ("tap", None) => open_tap(None, options),
        ("tap", Some(name)) if !name.is_empty() => open_tap(Some(name.into()), options),
        ("wire", Some(path)) if !path.is_empty() => Ok(Box::new(Wire::open(&WireConfig {
            path: PathBuf::from(path),
            queues: options.queues,
            mtu: options.mtu,
            ring_bytes: options.ring_bytes,
            mac: options.mac,
            spin: options.spin,
        })?)),
        ("packet", Some(interface)) if !interface.is_empty() => {
            Ok(Box::new(Packet::open(&PacketConfig {
                queues: options.queues,
                ..PacketConfig::new(interface)
            })?))
        }
        ("xdp", Some(interface)) if !interface.is_empty() => Ok(Box::new(Xdp::open(&XdpConfig {
            queues: options.queues,
            ..XdpConfig::new(interface)
        })?)),
        ("none", None) => Ok(Box::new(Unplugged::new(options.queues, options.mtu)?)),
        _ if is_pci_address(description) => ixgbe::open(
            description,
            IxgbeConfig {
                queues: options.queues,
                mtu: options.mtu,
                ..IxgbeConfig::default()
            },
        ),
        _ => Err(unsupported(description, "is no device")),
    }
}

fn open_tap(name: Option<String>, options: &OpenOptions) -> Result<Box<dyn Device>, Error> {
    Ok(Box::new(Tap::open(&TapConfig {
        name,
        queues: options.queues,
        mtu: options.mtu,
        host_addr: options.host_addr,
        host_addr6: options.host_addr6,
    })?))
}

fn unsupported(description: &str, why: &str) -> Error {
    Error::Description(format!(
        "device {description:?} {why}; there are: tap, tap:NAME, packet:IF, xdp:IF, wire:PATH, wire:@NAME, none, and PCI addresses"
    ))
}

/// Whether the text looks like `0000:03:00.0` or `03:00.0`.
fn is_pci_address(text: &str) -> bool {
    let hex = |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
    let short = match text.split_once(':') {
        Some((domain, rest)) if hex(domain, 4) => rest,
        _ => text,
    };
    short.split_once(':').is_some_and(|(bus, rest)| {
        rest.split_once('.')
            .is_some_and(|(device, function)| hex(bus, 2) && hex(device, 2) && hex(function, 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(description: &str) -> String {
        match open(description, &OpenOptions::default()) {
            Ok(device) => panic!("{description} opened as {}", device.name()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_unknown_device_is_answered_with_those_that_exist() {
        for description in [
            "", "tun", "packet:", "xdp:", "tap:", "wire", "wire:", "eth0", "file:/x",
        ] {
            let text = error(description);
            assert!(
                text.contains("tap:NAME") && text.contains("wire:PATH"),
                "{text}"
            );
            assert!(text.contains(&format!("{description:?}")), "{text}");
        }
    }

    #[test]
    fn a_pci_address_names_a_card() {
        for description in ["0000:ff:1f.7", "ff:1f.7"] {
            let text = error(description);
            assert!(text.contains("no PCI device 0000:ff:1f.7"), "{text}");
        }
    }

    #[test]
    fn a_wire_opens_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wire");
        let description = format!("wire:{}", path.display());
        let device = open(&description, &OpenOptions::default()).unwrap();
        assert_eq!(device.name(), description);
        assert_eq!(device.capabilities().queues, 1);
    }
}
