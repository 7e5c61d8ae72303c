//! Reset, EEPROM and the card's own address (§4.6.3 of the datasheet), and the orderly stop.

use std::time::Duration;

use super::access::{Bus, poll};
use super::regs::*;
use crate::{Error, MacAddr};

/// What the words of the EEPROM must add up to (§6.2).
const EEPROM_SUM: u16 = 0xbaba;

/// Words of the EEPROM's first part, whose last makes the sum come out, and those of them that point
/// to further parts.
const EEPROM_WORDS: u16 = 0x40;
const EEPROM_POINTERS: std::ops::Range<u16> = 3..0xf;

/// What an EEPROM word says where there is nothing.
const EEPROM_NONE: [u16; 2] = [0, 0xffff];

/// Brings the card to its initial state, with all interrupts masked and nothing going on.
///
/// # Errors
/// The card does not answer, or its EEPROM is damaged.
pub fn reset<B: Bus>(bus: &B) -> Result<(), Error> {
    mask_interrupts(bus);
    if let Err(error) = stop_master(bus) {
        // §5.2.5.3.2: what hangs is flushed by resetting twice.
        tracing::info!("{error}");
        reset_once(bus)?;
        bus.set(CTRL, CTRL_GIO_DIS);
    }
    reset_once(bus)?;
    mask_interrupts(bus);
    let step = (Duration::from_millis(1), 1000);
    poll(bus, (EEC, EEC_ARD, EEC_ARD), step, "reading the EEPROM")?;
    let idle = (RDRXCTL, RDRXCTL_DMAIDONE, RDRXCTL_DMAIDONE);
    poll(bus, idle, step, "the start of receive DMA")?;
    check_eeprom(bus)?;
    bus.set(
        CTRL_EXT,
        CTRL_EXT_NS_DIS | CTRL_EXT_RO_DIS | CTRL_EXT_DRV_LOAD,
    );
    Ok(())
}

fn reset_once<B: Bus>(bus: &B) -> Result<(), Error> {
    bus.set(CTRL, CTRL_RST | CTRL_LNK_RST);
    let done = (CTRL, CTRL_RST | CTRL_LNK_RST, 0);
    poll(bus, done, (Duration::from_micros(10), 1000), "the reset")?;
    // §4.6.3.2: registers are not to be touched before.
    bus.pause(Duration::from_millis(10));
    Ok(())
}

/// Stops the card for good: no interrupts, no DMA, and the firmware told that the driver is gone.
pub fn stop<B: Bus>(bus: &B) {
    mask_interrupts(bus);
    bus.clear(RXCTRL, RXCTRL_RXEN);
    bus.clear(DMATXCTL, DMATXCTL_TE);
    if let Err(error) = stop_master(bus) {
        tracing::warn!("{error}");
    }
    bus.clear(CTRL_EXT, CTRL_EXT_DRV_LOAD);
}

fn mask_interrupts<B: Bus>(bus: &B) {
    bus.write(EIMC, EIMC_ALL);
    for register in EIMC_EX.all() {
        bus.write(register, !0);
    }
    // Reading clears what was pending.
    bus.read(EICR);
}

/// Has the card finish the requests to memory that it has begun, and begin none (§5.2.5.3.2).
fn stop_master<B: Bus>(bus: &B) -> Result<(), Error> {
    bus.set(CTRL, CTRL_GIO_DIS);
    let step = (Duration::from_micros(100), 1000);
    poll(bus, (STATUS, STATUS_GIO, 0), step, "the end of DMA")
}

/// The address that the card has from its EEPROM, in the first receive address register.
///
/// # Errors
/// There is none.
pub fn address<B: Bus>(bus: &B) -> Result<MacAddr, Error> {
    let (low, high) = (bus.read(RAL.at(0)), bus.read(RAH.at(0)));
    let [a, b, c, d] = low.to_le_bytes();
    let [e, f, ..] = high.to_le_bytes();
    let mac = MacAddr([a, b, c, d, e, f]);
    if high & RAH_AV == 0 || mac == MacAddr::default() || a & 1 != 0 {
        return Err(Error::Refused {
            name: bus.name().to_owned(),
            reason: format!("its EEPROM has no address for it, but {mac}"),
        });
    }
    Ok(mac)
}

fn check_eeprom<B: Bus>(bus: &B) -> Result<(), Error> {
    if bus.read(EEC) & EEC_PRES == 0 {
        return Err(Error::Refused {
            name: bus.name().to_owned(),
            reason: "it has no EEPROM".to_owned(),
        });
    }
    let mut sum = 0u16;
    for at in 0..EEPROM_WORDS {
        sum = sum.wrapping_add(eeprom_word(bus, at)?);
    }
    for at in EEPROM_POINTERS {
        let part = eeprom_word(bus, at)?;
        if EEPROM_NONE.contains(&part) {
            continue;
        }
        let len = eeprom_word(bus, part)?;
        if EEPROM_NONE.contains(&len) {
            continue;
        }
        for word in 1..=len {
            sum = sum.wrapping_add(eeprom_word(bus, part.wrapping_add(word))?);
        }
    }
    if sum != EEPROM_SUM {
        return Err(Error::Refused {
            name: bus.name().to_owned(),
            reason: format!("its EEPROM is damaged: {sum:#06x} is not {EEPROM_SUM:#06x}"),
        });
    }
    Ok(())
}

/// Reads a word of the EEPROM (§8.2.3.2.2); the address has 14 bits.
fn eeprom_word<B: Bus>(bus: &B, at: u16) -> Result<u16, Error> {
    bus.write(EERD, u32::from(at & 0x3fff) << 2 | EERD_START);
    let done = (EERD, EERD_DONE, EERD_DONE);
    let step = (Duration::from_micros(5), 100_000);
    poll(bus, done, step, "reading a word of the EEPROM")?;
    Ok((bus.read(EERD) >> 16) as u16)
}
