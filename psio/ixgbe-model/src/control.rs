//! Reset, EEPROM, and the link.

use std::time::Duration;

use crate::queues::{RxQueue, TxQueue};
use crate::{Card, refuse};

const CTRL: u32 = 0x0;
const CTRL_MASTER_DISABLE: u32 = 1 << 2;
const CTRL_RESET: u32 = 1 << 26 | 1 << 3;
const STATUS: u32 = 0x8;
const STATUS_MASTER: u32 = 1 << 19;
const EERD: u32 = 0x10014;
const SWSM: u32 = 0x10140;
const AUTOC: u32 = 0x42a0;
const AUTOC_RESTART: u32 = 1 << 12;
const LINKS: u32 = 0x42a4;
const SECRXCTRL: u32 = 0x8d00;
const SECRXSTAT: u32 = 0x8d04;
const RAL: u32 = 0xa200;
const RAH: u32 = 0xa204;

/// How long registers must not be touched after a reset.
const RESET_TIME: Duration = Duration::from_millis(10);

/// The cause of a change of the link.
const LINK_CHANGE: u32 = 20;

pub struct Control {
    eeprom: Vec<u16>,
    /// Until when a reset goes on, and how often it is still seen in CTRL.
    reset_until: Option<Duration>,
    reset_reads: usize,
    /// Requests to memory are still under way, for so many readings.
    master_reads: usize,
    /// Resets until such requests no longer hang.
    hangs: usize,
    /// PCI lets the card use memory.
    bus_master: bool,
    /// Until the EEPROM's word is there.
    eeprom_reads: usize,
    /// There is a partner on the wire.
    pub partner: bool,
    /// Steps until the negotiation is done, if it goes on.
    negotiation: Option<usize>,
    pub link: bool,
}

impl Control {
    pub fn new(mac: [u8; 6]) -> Control {
        Control {
            eeprom: eeprom(mac),
            reset_until: None,
            reset_reads: 0,
            master_reads: 0,
            hangs: 0,
            bus_master: false,
            eeprom_reads: 0,
            partner: true,
            negotiation: None,
            link: false,
        }
    }
}

/// An EEPROM whose words, and those of the one further part it has, add up to 0xbaba.
fn eeprom(mac: [u8; 6]) -> Vec<u16> {
    let mut words = vec![0xffff_u16; 0x100];
    words[..0x40].fill(0);
    let (pairs, _) = mac.as_chunks();
    for (word, pair) in words[0x11..].iter_mut().zip(pairs) {
        *word = u16::from_le_bytes(*pair);
    }
    // A part of three words, its length first.
    words[0xb] = 0x80;
    words[0xc] = 0xffff;
    words[0x80..0x84].copy_from_slice(&[3, 0x1234, 0xbeef, 0x0042]);
    let first = words[..0x3f].iter();
    let sum = first
        .chain(&words[0x81..0x84])
        .fold(0u16, |sum, word| sum.wrapping_add(*word));
    words[0x3f] = 0xbaba_u16.wrapping_sub(sum);
    words
}

impl Card {
    /// Spoils a word of the EEPROM.
    pub fn damage_eeprom(&mut self, word: usize) {
        self.control.eeprom[word] ^= 0x0100;
    }

    /// Has requests to memory hang until the card has been reset twice.
    pub fn hang(&mut self) {
        self.control.hangs = 2;
    }

    /// Whether requests to memory hang.
    pub fn hangs(&self) -> bool {
        self.control.hangs > 0
    }

    /// Puts the address from the EEPROM into the first receive address register.
    pub(crate) fn load_eeprom(&mut self) {
        let words: [u16; 3] = std::array::from_fn(|i| self.control.eeprom[0x11 + i]);
        let low = u32::from(words[0]) | u32::from(words[1]) << 16;
        self.file.set(RAL, low);
        self.file.set(RAH, u32::from(words[2]) | 1 << 31);
        self.file.set(STATUS, STATUS_MASTER);
    }

    /// Refuses an access during a reset, but for those by which it is begun and awaited: Linux's driver
    /// flushes its write by reading STATUS.
    pub(crate) fn check_reset(&mut self, offset: u32) {
        let Some(until) = self.control.reset_until else {
            return;
        };
        if self.now >= until {
            self.control.reset_until = None;
        } else if !matches!(offset, CTRL | STATUS) {
            refuse!("register {offset:#x} is touched within 10 ms of a reset");
        }
    }

    pub(crate) fn read_control(&mut self, offset: u32) -> u32 {
        let control = &mut self.control;
        match offset {
            CTRL if control.reset_reads > 0 => {
                control.reset_reads -= 1;
                self.file.get(CTRL) | CTRL_RESET
            }
            STATUS => {
                let stopping = self.file.get(CTRL) & CTRL_MASTER_DISABLE != 0;
                let busy = control.master_reads > 0 || control.hangs > 0;
                control.master_reads = control.master_reads.saturating_sub(1);
                if stopping && !busy { 0 } else { STATUS_MASTER }
            }
            EERD if control.eeprom_reads > 0 => {
                control.eeprom_reads -= 1;
                self.file.get(EERD) & 0xfffc
            }
            LINKS if control.link => 1 << 30 | 3 << 28,
            LINKS => 0,
            SECRXSTAT => u32::from(self.file.get(SECRXCTRL) & 2 != 0 && !self.random.one_in(3)),
            SWSM => {
                let before = self.file.get(SWSM);
                self.file.set(SWSM, before | 1);
                before
            }
            _ => self.file.get(offset),
        }
    }

    pub(crate) fn write_control(&mut self, offset: u32, value: u32) {
        match offset {
            CTRL if value & CTRL_RESET != 0 => self.reset(),
            CTRL => {
                self.control.master_reads = self.random.below(4);
                self.file.set(CTRL, value);
            }
            EERD => {
                let word = self.control.eeprom.get((value >> 2 & 0x3fff) as usize);
                let word = u32::from(*word.unwrap_or(&0xffff));
                self.control.eeprom_reads = self.random.below(3);
                self.file.set(EERD, word << 16 | value & 0xfffc | 2);
            }
            AUTOC => {
                self.file.set(AUTOC, value & !AUTOC_RESTART);
                if value & AUTOC_RESTART != 0 {
                    self.control.negotiation = Some(1 + self.random.below(20));
                    self.change_link(false);
                }
            }
            _ => self.file.set(offset, value),
        }
    }

    /// Resets the card as PCI's function-level reset does, whatever it is doing.
    pub fn reset_function(&mut self) {
        self.control.bus_master = false;
        self.reset();
        self.control.reset_reads = 0;
        self.control.reset_until = None;
    }

    /// All that the card does ends at once, and its registers are as they were.
    fn reset(&mut self) {
        if self.is_master() {
            refuse!("a reset while the card may be using memory: disable the master first");
        }
        self.file.reset();
        self.load_eeprom();
        self.rx.fill_with(RxQueue::default);
        self.tx.fill_with(TxQueue::default);
        self.buffer = Default::default();
        self.counters = Default::default();
        self.carried.end();
        self.director = Default::default();
        self.interrupts.reset();
        self.control.hangs = self.control.hangs.saturating_sub(1);
        self.control.link = false;
        self.control.negotiation = None;
        self.control.reset_reads = self.random.below(4);
        self.control.reset_until = Some(self.now + RESET_TIME);
    }

    /// Plugs the cable in or pulls it out.
    pub fn plug(&mut self, partner: bool) {
        self.control.partner = partner;
        if partner {
            self.control.negotiation = Some(1 + self.random.below(20));
        } else {
            self.control.negotiation = None;
            self.change_link(false);
        }
    }

    fn change_link(&mut self, up: bool) {
        if self.control.link != up {
            self.control.link = up;
            self.raise_other(LINK_CHANGE);
        }
    }

    /// Goes on with the negotiation.
    pub(crate) fn work_link(&mut self) {
        match &mut self.control.negotiation {
            Some(0) => {
                self.control.negotiation = None;
                self.change_link(self.control.partner);
            }
            Some(steps) => *steps -= 1,
            None => {}
        }
    }

    /// Sets what PCI's command register says of the card's use of memory.
    pub fn set_bus_master(&mut self, bus_master: bool) {
        self.control.bus_master = bus_master;
    }

    /// Whether the card may use memory.
    pub(crate) fn is_master(&self) -> bool {
        self.control.bus_master && self.file.get(CTRL) & CTRL_MASTER_DISABLE == 0
    }
}
