//! `mtcp-run devices`: the cards that the stack can drive itself, and how to hand one over.

use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::path::Path;

use psio::ixgbe::{CARDS, INTEL};
use psio::numa;

/// The driver under which a card is the stack's.
const VFIO: &str = "vfio-pci";

/// A card.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Card {
    /// Domain, bus, device and function, such as `0000:03:00.0`.
    address: String,
    id: String,
    model: &'static str,
    driver: Option<String>,
    group: Option<Group>,
    /// `None` where the machine has one node, or does not say.
    node: Option<usize>,
    interfaces: Vec<Interface>,
}

/// An IOMMU group: its members have one address space, and one user.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Group {
    number: String,
    /// The other members that are no bridges.
    others: Vec<String>,
}

/// An interface that the kernel has of a card.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Interface {
    name: String,
    state: String,
    /// Mbit/s; `None` without a link.
    speed: Option<u32>,
}

/// What there is below `sysfs` (`/sys`), as text for a person.
///
/// # Errors
/// If the list of PCI devices cannot be read; a machine without PCI has none.
pub fn list(sysfs: &Path) -> io::Result<String> {
    let cards = find(sysfs)?;
    if cards.is_empty() {
        let known: Vec<_> = CARDS.iter().map(|(id, model)| named(id, model)).collect();
        return Ok(format!(
            "This machine has no card that the stack can drive itself: {}.\n\
             Interfaces of the kernel can be shared (--device packet:IF), and a TAP needs no card \
             (--device tap).\n",
            known.join(", ")
        ));
    }
    let texts: Vec<String> = cards.iter().map(ToString::to_string).collect();
    Ok(texts.join("\n"))
}

fn named(id: &str, model: &str) -> String {
    format!("{model} ({}:{})", &INTEL[2..], &id[2..])
}

fn find(sysfs: &Path) -> io::Result<Vec<Card>> {
    let devices = sysfs.join("bus/pci/devices");
    let mut cards = Vec::new();
    for address in names(&devices)? {
        let device = devices.join(&address);
        let id = read(&device.join("device")).unwrap_or_default();
        let known = CARDS.iter().find(|(known, _)| *known == id);
        let (Some((_, model)), Some(INTEL)) = (known, read(&device.join("vendor")).as_deref())
        else {
            continue;
        };
        cards.push(Card {
            driver: link_name(&device.join("driver")),
            group: group(&device, &address),
            node: numa::node_of_card(sysfs, &address),
            interfaces: interfaces(&device.join("net"))?,
            address,
            id,
            model,
        });
    }
    Ok(cards)
}

fn group(device: &Path, address: &str) -> Option<Group> {
    let link = device.join("iommu_group");
    let members = names(&link.join("devices")).ok()?;
    let is_bridge = |member: &String| {
        let class = read(&link.join("devices").join(member).join("class"));
        class.is_some_and(|class| class.starts_with("0x06"))
    };
    let others = members.into_iter().filter(|member| member != address);
    Some(Group {
        number: link_name(&link)?,
        others: others.filter(|member| !is_bridge(member)).collect(),
    })
}

fn interfaces(folder: &Path) -> io::Result<Vec<Interface>> {
    let interface = |name: String| Interface {
        state: read(&folder.join(&name).join("operstate")).unwrap_or_else(|| "unknown".into()),
        speed: read(&folder.join(&name).join("speed")).and_then(|speed| speed.parse().ok()),
        name,
    };
    Ok(names(folder)?.into_iter().map(interface).collect())
}

/// The names in a folder, sorted; none if it does not exist.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into());
    let mut names = entries.map(name).collect::<io::Result<Vec<String>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// A file's text without the end of its line; `None` if it cannot be read, as a speed without a link.
fn read(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    Some(text.trim_end().to_owned())
}

/// The last part of where a link leads.
fn link_name(link: &Path) -> Option<String> {
    let target = fs::read_link(link).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  {}", self.address, named(&self.id, self.model))?;
        let driver = self.driver.as_deref().unwrap_or("none");
        writeln!(f, "  driver       {driver}")?;
        for interface in &self.interfaces {
            writeln!(f, "  interface    {interface}")?;
        }
        match &self.group {
            Some(group) => writeln!(f, "  IOMMU group  {group}")?,
            None => writeln!(f, "  IOMMU group  none")?,
        }
        match self.node {
            Some(node) => writeln!(f, "  NUMA node    {node}")?,
            None => writeln!(f, "  NUMA node    the only one")?,
        }
        if self.driver.as_deref() == Some(VFIO) {
            return writeln!(
                f,
                "  It is the stack's: mtcp-run --device {} PROGRAM\n  To give it back to the kernel:\n{}",
                self.address,
                self.rebinding("")
            );
        }
        if self.group.is_none() {
            return writeln!(
                f,
                "  To hand it over, vfio-pci needs an IOMMU: switch it on in the firmware (VT-d, AMD-Vi), \
                 and\n  on Intel's boot with intel_iommu=on."
            );
        }
        writeln!(
            f,
            "  To hand it over to the stack, as root:\n{}",
            self.handing_over()
        )
    }
}

impl Card {
    fn handing_over(&self) -> String {
        let mut commands = String::new();
        for interface in &self.interfaces {
            // Writing to a String does not fail.
            let _ = writeln!(commands, "    ip link set {} down", interface.name);
        }
        commands.push_str("    modprobe vfio-pci\n");
        commands + &self.rebinding(VFIO)
    }

    /// Commands that bind the card to a driver; the empty name lets the kernel choose.
    fn rebinding(&self, driver: &str) -> String {
        let device = format!("/sys/bus/pci/devices/{}", self.address);
        let mut commands = format!("    echo '{driver}' > {device}/driver_override\n");
        if self.driver.is_some() {
            let _ = writeln!(
                commands,
                "    echo {} > {device}/driver/unbind",
                self.address
            );
        }
        let _ = write!(
            commands,
            "    echo {} > /sys/bus/pci/drivers_probe",
            self.address
        );
        commands
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)?;
        if !self.others.is_empty() {
            let others = self.others.join(", ");
            write!(
                f,
                ", with {others}, which must be handed over or without a driver as well"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.name, self.state)?;
        match self.speed {
            Some(speed) => write!(f, ", {speed} Mbit/s"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
