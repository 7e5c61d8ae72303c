//! Which packet device the stack drives.

use std::fmt;

/// A packet device, written as `psio` reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Device {
    /// A TAP interface that `mtcp-run` makes: `tap`, or `tap:NAME` for a name of one's own.
    Tap(Option<String>),
    /// A shared-memory wire to another stack, met at a path, or at a name without a file: `wire:PATH`,
    /// `wire:@NAME`.
    Wire(String),
    /// A kernel interface through AF_PACKET rings: `packet:IF`.
    Packet(String),
    /// A kernel interface through AF_XDP rings: `xdp:IF`.
    Xdp(String),
    /// None: the stack's programs talk to each other only.
    None,
    /// A network card driven from user space, by its PCI address, e.g. `0000:03:00.0`.
    Pci(String),
}

impl Device {
    /// What [`Device::parse`] takes.
    pub(crate) const EXPECTED: &'static str = "tap, tap:NAME, wire:PATH, wire:@NAME, packet:IF, xdp:IF, a PCI address such as 0000:03:00.0, or none";

    pub(crate) fn parse(text: &str) -> Option<Device> {
        if text == "tap" {
            return Some(Device::Tap(None));
        }
        if text == "none" {
            return Some(Device::None);
        }
        if is_pci_address(text) {
            return Some(Device::Pci(text.to_ascii_lowercase()));
        }
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "tap" if is_interface_name(rest) => Some(Device::Tap(Some(rest.to_owned()))),
            "wire" if !rest.is_empty() => Some(Device::Wire(rest.to_owned())),
            "packet" if is_interface_name(rest) => Some(Device::Packet(rest.to_owned())),
            "xdp" if is_interface_name(rest) => Some(Device::Xdp(rest.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Tap(None) => f.write_str("tap"),
            Device::Tap(Some(name)) => write!(f, "tap:{name}"),
            Device::Wire(path) => write!(f, "wire:{path}"),
            Device::Packet(name) => write!(f, "packet:{name}"),
            Device::Xdp(name) => write!(f, "xdp:{name}"),
            Device::None => f.write_str("none"),
            Device::Pci(address) => f.write_str(address),
        }
    }
}

/// What the kernel takes for an interface's name (`dev_valid_name`): 1 to 15 bytes.
fn is_interface_name(name: &str) -> bool {
    let fits = (1..=15).contains(&name.len()) && name != "." && name != "..";
    fits && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

/// `[domain:]bus:device.function`, as lspci prints it.
fn is_pci_address(text: &str) -> bool {
    let hexadecimal = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let Some((rest, function)) = text.rsplit_once('.') else {
        return false;
    };
    let mut parts = rest.rsplit(':');
    let device = parts.next().is_some_and(|p| hexadecimal(p, 2));
    let bus = parts.next().is_some_and(|p| hexadecimal(p, 2));
    let domain = parts.next().is_none_or(|p| hexadecimal(p, 4));
    let is_function = matches!(function.as_bytes(), [b'0'..=b'7']);
    is_function && device && bus && domain && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_reads_and_writes_itself() {
        for text in [
            "tap",
            "tap:mtcp0",
            "wire:/tmp/w",
            "wire:@abstract:1",
            "packet:eth0",
            "xdp:eth0",
            "none",
            "0000:03:00.0",
            "03:00.1",
        ] {
            let device = Device::parse(text).unwrap_or_else(|| panic!("{text:?} is a device"));
            assert_eq!(device.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for text in [
            "",
            "eth0",
            "tap:",
            "tap:a-name-that-is-too-long",
            "tap:a b",
            "tap:a/b",
            "wire:",
            "wire",
            "none:",
            "usb:1",
            "0000:03:00.8",
            "03:00",
            "1:0000:03:00.0",
        ] {
            assert_eq!(Device::parse(text), None, "{text:?}");
        }
    }
}
