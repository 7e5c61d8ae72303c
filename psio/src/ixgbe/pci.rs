//! A card as the kernel shows it in /sys/bus/pci, and whether it may be driven from here.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::numa::node_in;

/// Intel's number, as sysfs writes it.
pub const INTEL: &str = "0x8086";

/// The cards that this driver drives: Intel's number for each, as sysfs writes it, and a name.
pub const CARDS: [(&str, &str); 2] = [
    ("0x10fb", "82599 10 Gbit/s SFP+"),
    ("0x10f7", "82599 10 Gbit/s KX4"),
];

/// Where the kernel shows devices; another place in tests.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots {
            sys: "/sys".into(),
            dev: "/dev".into(),
        }
    }
}

/// How a card can be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// Through vfio-pci, as a member of an IOMMU group.
    Vfio {
        /// The group's number.
        group: String,
    },
    /// Through what sysfs shows of it, while uio or no driver at all holds it.
    Sysfs,
}

/// A PCI function that is a card of ours.
#[derive(Clone, Debug)]
pub struct Function {
    /// Domain, bus, device and function, such as `0000:03:00.0`.
    pub address: String,
    folder: PathBuf,
}

/// An error for what a machine lacks.
pub fn missing(what: impl Into<String>, remedy: impl Into<String>) -> Error {
    Error::Missing {
        what: what.into(),
        remedy: remedy.into(),
    }
}

impl Function {
    /// Looks a card up by its address; without a domain, 0000 is meant.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none, or it is none of ours.
    pub fn find(roots: &Roots, address: &str) -> Result<Function, Error> {
        let address = match address.matches(':').count() {
            1 => format!("0000:{address}"),
            _ => address.to_owned(),
        }
        .to_ascii_lowercase();
        let folder = roots.sys.join("bus/pci/devices").join(&address);
        let hint = "`mtcp-run devices` lists the cards that there are";
        if !folder.is_dir() {
            return Err(missing(format!("there is no PCI device {address}"), hint));
        }
        let function = Function { address, folder };
        let (vendor, device) = (function.text("vendor"), function.text("device"));
        if vendor != INTEL || CARDS.iter().all(|(card, _)| *card != device) {
            let what = format!(
                "{} is {vendor}:{device}, and not an 82599",
                function.address
            );
            return Err(missing(what, hint));
        }
        Ok(function)
    }

    /// A file of the function's folder.
    fn text(&self, name: &str) -> String {
        let text = fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        text.trim_end().to_owned()
    }

    /// The last part of where a link leads, if it is there.
    fn link(&self, name: &str) -> Option<String> {
        let target = fs::read_link(self.folder.join(name)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// The NUMA node that the card is on, where there are several.
    pub fn node(&self) -> Option<usize> {
        node_in(&self.folder)
    }

    /// How the card can be reached.
    ///
    /// # Errors
    /// [`Error::Missing`] while a driver of the kernel holds it.
    pub fn access(&self) -> Result<Access, Error> {
        let driver = self.link("driver");
        match (driver.as_deref(), self.link("iommu_group")) {
            (Some("vfio-pci"), Some(group)) => Ok(Access::Vfio { group }),
            (Some("vfio-pci"), None) => Err(missing(
                format!("{} has no IOMMU group", self.address),
                "switch the IOMMU on (intel_iommu=on on the kernel's command line), or bind the card \
                 to uio_pci_generic",
            )),
            (None | Some("uio_pci_generic" | "igb_uio"), _) => Ok(Access::Sysfs),
            (Some(driver), _) => Err(missing(
                format!("{} is driven by the kernel's {driver}", self.address),
                format!(
                    "hand it over, which takes its interface away: echo vfio-pci > {0}/driver_override; \
                     echo {1} > {0}/driver/unbind; echo {1} > /sys/bus/pci/drivers_probe",
                    self.folder.display(),
                    self.address
                ),
            )),
        }
    }

    /// Other members of the card's IOMMU group that a driver of the kernel holds: while there are any,
    /// the group cannot be used.
    pub fn strangers(&self) -> Vec<String> {
        let members = fs::read_dir(self.folder.join("iommu_group/devices"));
        let members = members.into_iter().flatten().flatten();
        let driver = |folder: &Path| {
            let driver = fs::read_link(folder.join("driver")).ok()?;
            Some(driver.file_name()?.to_string_lossy().into_owned())
        };
        let mut strangers = Vec::new();
        for member in members {
            let name = member.file_name().to_string_lossy().into_owned();
            let driver = driver(&member.path());
            let harmless = [None, Some("vfio-pci"), Some("pcieport"), Some("pci-stub")];
            if name != self.address && !harmless.contains(&driver.as_deref()) {
                strangers.push(format!("{name} ({})", driver.unwrap_or_default()));
            }
        }
        strangers.sort();
        strangers
    }

    /// Opens a file of the function's folder for reading and writing.
    ///
    /// # Errors
    /// [`Error::Missing`] without permission, else what the system says.
    pub fn open(&self, name: &str) -> Result<File, Error> {
        open(&self.folder.join(name))
    }
}

/// Opens a file for reading and writing.
///
/// # Errors
/// [`Error::Missing`] without permission or if it does not exist, else what the system says.
pub fn open(path: &Path) -> Result<File, Error> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let path = path.display();
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => missing(
            format!("{path} may not be opened"),
            "run as root, or give the file to the user who runs this",
        ),
        io::ErrorKind::NotFound => missing(
            format!("there is no {path}"),
            "load the driver that makes it: modprobe vfio-pci",
        ),
        io::ErrorKind::ResourceBusy => missing(
            format!("{path} is in use"),
            "end the program that has it open",
        ),
        _ => Error::io(format!("open {path}"))(error),
    })
}
