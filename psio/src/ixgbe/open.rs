//! A card by its PCI address.

use super::config::IxgbeConfig;
use super::device::Ixgbe;
use super::pci::{Access, Function, Roots};
use super::uio::UioCard;
use super::vfio::VfioCard;
use crate::{Device, Error};

/// Opens the card at `address`, such as `0000:03:00.0`, through vfio-pci if it is bound to that, else
/// through sysfs, and sets it up.
///
/// # Errors
/// [`Error::Missing`] with what is to be done where a card, permission, the IOMMU or huge pages are
/// missing; else as [`Ixgbe::open`].
pub fn open(address: &str, config: IxgbeConfig) -> Result<Box<dyn Device>, Error> {
    open_at(&Roots::default(), address, config)
}

/// The same, where the kernel shows devices elsewhere.
pub(super) fn open_at(
    roots: &Roots,
    address: &str,
    config: IxgbeConfig,
) -> Result<Box<dyn Device>, Error> {
    config.check()?;
    let function = Function::find(roots, address)?;
    Ok(match function.access()? {
        Access::Vfio { group } => {
            let card = VfioCard::open(roots, &function, &group, config.queues)?;
            Box::new(Ixgbe::open(card, config)?)
        }
        Access::Sysfs => Box::new(Ixgbe::open(UioCard::open(&function)?, config)?),
    })
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
