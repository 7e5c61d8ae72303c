//! The register file: which registers there are, what they hold after a reset, and what an access to
//! each of them sets off.

use std::collections::BTreeSet;

use crate::{Card, refuse};

/// Bytes of BAR 0 that hold registers.
const BYTES: usize = 0x20000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Unknown,
    /// Read and written.
    Plain,
    /// Only read.
    Status,
    /// Only read, which clears it.
    Counter,
}

/// First offset, distance, number, content after a reset, kind.
type Row = (u32, u32, u32, u32, Kind);

const PLAIN: Kind = Kind::Plain;
const STATUS: Kind = Kind::Status;
const COUNTER: Kind = Kind::Counter;

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // CTRL, STATUS, CTRL_EXT, ESDP, EODSDP, LEDCTL
    (0x00000, 4, 1, 0, PLAIN), (0x00008, 4, 1, 0, STATUS), (0x00018, 4, 1, 0, PLAIN),
    (0x00020, 4, 1, 0, PLAIN), (0x00028, 4, 1, 0, PLAIN), (0x00200, 4, 1, 0, PLAIN),
    // EEC (2^(6+2) words), EERD, SWSM, FWSM, GSSR
    (0x10010, 4, 1, 0x1300, PLAIN), (0x10014, 4, 1, 0, PLAIN), (0x10140, 4, 1, 0, PLAIN),
    (0x10148, 4, 1, 0x8000, STATUS), (0x10160, 4, 1, 0, PLAIN),
    // EICR, EICS, EIAC, EIMS, EIMC, EIAM, GPIE, and those for 64 vectors
    (0x00800, 4, 1, 0, PLAIN), (0x00808, 4, 1, 0, PLAIN), (0x00810, 4, 1, 0, PLAIN),
    (0x00880, 4, 1, 0, PLAIN), (0x00888, 4, 1, 0, PLAIN), (0x00890, 4, 1, 0, PLAIN),
    (0x00898, 4, 1, 0, PLAIN), (0x00a90, 4, 2, 0, PLAIN), (0x00aa0, 4, 2, 0, PLAIN),
    (0x00ab0, 4, 2, 0, PLAIN), (0x00ad0, 4, 2, 0, PLAIN),
    // EITR, IVAR, IVAR_MISC
    (0x00820, 4, 24, 0, PLAIN), (0x12300, 4, 40, 0, PLAIN), (0x00900, 4, 64, 0, PLAIN),
    (0x00a00, 4, 1, 0, PLAIN),
    // Receive queues: RDBAL, RDBAH, RDLEN, DCA_RXCTRL, RDH, SRRCTL, RDT, RXDCTL, RSCCTL
    (0x01000, 0x40, 64, 0, PLAIN), (0x01004, 0x40, 64, 0, PLAIN), (0x01008, 0x40, 64, 0, PLAIN),
    (0x0100c, 0x40, 64, 0x1000, PLAIN), (0x01010, 0x40, 64, 0, PLAIN),
    (0x01014, 0x40, 64, 0x402, PLAIN), (0x01018, 0x40, 64, 0, PLAIN),
    (0x01028, 0x40, 64, 0, PLAIN), (0x0102c, 0x40, 64, 0, PLAIN),
    // Their other places for the first sixteen: SRRCTL, DCA_RXCTRL
    (0x02100, 4, 16, 0, PLAIN), (0x02200, 4, 16, 0, PLAIN),
    // RXCTRL, RDRXCTL, RSCDBU, RXPBSIZE, SECRXCTRL, SECRXSTAT
    (0x03000, 4, 1, 0, PLAIN), (0x02f00, 4, 1, 0x1100_0008 | 0x10 << 17, PLAIN),
    (0x03028, 4, 1, 0, PLAIN), (0x03c00, 4, 1, 512 << 10, PLAIN), (0x03c04, 4, 7, 0, PLAIN),
    (0x08d00, 4, 1, 0, PLAIN), (0x08d04, 4, 1, 0, STATUS),
    // RXCSUM, RFCTL, MTA, RAL and RAH in both places, PSRTYPE, VFTA, FCTRL, VLNCTRL
    (0x05000, 4, 1, 0, PLAIN), (0x05008, 4, 1, 0, PLAIN), (0x05200, 4, 128, 0, PLAIN),
    (0x05400, 4, 32, 0, PLAIN), (0x0a200, 4, 256, 0, PLAIN), (0x05480, 4, 16, 0, PLAIN),
    (0x0a000, 4, 128, 0, PLAIN), (0x05080, 4, 1, 0, PLAIN), (0x05088, 4, 1, 0x8100, PLAIN),
    // MRQC, RETA, RSSRK
    (0x05818, 4, 1, 0, PLAIN), (0x05c00, 4, 32, 0, PLAIN), (0x05c80, 4, 10, 0, PLAIN),
    // SAQF, DAQF, SDPQF, FTQF, L34T_IMIR
    (0x0e000, 4, 128, 0, PLAIN), (0x0e200, 4, 128, 0, PLAIN), (0x0e400, 4, 128, 0, PLAIN),
    (0x0e600, 4, 128, 0, PLAIN), (0x0e800, 4, 128, 0, PLAIN),
    // FDIRCTRL, FDIRSIPv6 to FDIRCMD, FDIRFREE and the masks, FDIRLEN to FDIRMISS, the keys, FDIRM
    (0x0ee00, 4, 1, 0, PLAIN), (0x0ee0c, 4, 9, 0, PLAIN), (0x0ee38, 4, 5, 0, PLAIN),
    (0x0ee4c, 4, 5, 0, COUNTER), (0x0ee68, 4, 3, 0, PLAIN),
    // Transmit queues: TDBAL, TDBAH, TDLEN, DCA_TXCTRL, TDH, TDT, TXDCTL, TDWBAL, TDWBAH
    (0x06000, 0x40, 64, 0, PLAIN), (0x06004, 0x40, 64, 0, PLAIN), (0x06008, 0x40, 64, 0, PLAIN),
    (0x0600c, 0x40, 64, 0, PLAIN), (0x06010, 0x40, 64, 0, PLAIN), (0x06018, 0x40, 64, 0, PLAIN),
    (0x06028, 0x40, 64, 0, PLAIN), (0x06038, 0x40, 64, 0, PLAIN), (0x0603c, 0x40, 64, 0, PLAIN),
    // DMATXCTL, RTTDCS, DTXMXSZRQ, MTQC, TXPBSIZE, TXPBTHRESH
    (0x04a80, 4, 1, 0x8100_0000, PLAIN), (0x04900, 4, 1, 0, PLAIN), (0x08100, 4, 1, 0x10, PLAIN),
    (0x08120, 4, 1, 0, PLAIN), (0x0cc00, 4, 1, 160 << 10, PLAIN), (0x0cc04, 4, 7, 0, PLAIN),
    (0x04950, 4, 8, 0, PLAIN),
    // HLREG0, MAXFRS, AUTOC, LINKS, AUTOC2, ANLP1
    (0x04240, 4, 1, 0x403, PLAIN), (0x04268, 4, 1, 1518 << 16, PLAIN),
    (0x042a0, 4, 1, 3 << 13, PLAIN), (0x042a4, 4, 1, 0, STATUS), (0x042a8, 4, 1, 0, PLAIN),
    (0x042b0, 4, 1, 0x10000, STATUS),
    // Counters: CRCERRS, RLEC, RXMPC, GPRC, GPTC, GORC, GOTC, TPR, TPT; RQSMR, TQSM
    (0x04000, 4, 1, 0, COUNTER), (0x04040, 4, 1, 0, COUNTER), (0x03fa0, 4, 8, 0, COUNTER),
    (0x04074, 4, 1, 0, COUNTER), (0x04080, 4, 1, 0, COUNTER), (0x04088, 4, 4, 0, COUNTER),
    (0x040d0, 4, 2, 0, COUNTER), (0x02300, 4, 32, 0, PLAIN), (0x08600, 4, 32, 0, PLAIN),
    // Of queues: QPRC, QBRC, QPRDC, QPTC, QBTC
    (0x01030, 0x40, 16, 0, COUNTER), (0x01034, 0x40, 16, 0, COUNTER),
    (0x01038, 0x40, 16, 0, COUNTER), (0x01430, 0x40, 16, 0, COUNTER),
    (0x06030, 0x40, 16, 0, COUNTER), (0x08700, 4, 32, 0, COUNTER),
];

/// What the registers hold.
pub struct File {
    values: Vec<u32>,
    kinds: Vec<Kind>,
    /// Registers that the model does not know hold what is written to them.
    pub tolerant: bool,
    /// Those that were touched.
    pub unknown: BTreeSet<u32>,
}

impl File {
    pub fn new() -> File {
        let mut file = File {
            values: vec![0; BYTES / 4],
            kinds: vec![Kind::Unknown; BYTES / 4],
            tolerant: false,
            unknown: BTreeSet::new(),
        };
        for &(first, step, count, _, kind) in TABLE {
            for index in 0..count {
                file.kinds[(first + step * index) as usize / 4] = kind;
            }
        }
        file.reset();
        file
    }

    /// Gives every register what it holds after a reset.
    pub fn reset(&mut self) {
        for &(first, step, count, value, _) in TABLE {
            for index in 0..count {
                self.set(first + step * index, value);
            }
        }
        for offset in self.unknown.clone() {
            self.set(offset, 0);
        }
    }

    pub fn get(&self, offset: u32) -> u32 {
        self.values[offset as usize / 4]
    }

    pub fn set(&mut self, offset: u32, value: u32) {
        self.values[offset as usize / 4] = value;
    }

    /// What the register at an offset is; refused if there is none.
    fn kind(&mut self, offset: u32) -> Kind {
        let at = offset as usize;
        match self.kinds.get(at / 4) {
            Some(kind) if at.is_multiple_of(4) && *kind != Kind::Unknown => *kind,
            _ if self.tolerant && at < BYTES && at.is_multiple_of(4) => {
                self.unknown.insert(offset);
                Kind::Plain
            }
            _ => refuse!("there is no register at {offset:#x}"),
        }
    }

    /// The first of two places at which some registers are reached.
    fn place(offset: u32) -> u32 {
        match offset {
            0x2100..0x2140 => 0x1014 + (offset - 0x2100) / 4 * 0x40,
            0x2200..0x2240 => 0x100c + (offset - 0x2200) / 4 * 0x40,
            0x5400..0x5480 => 0xa200 + (offset - 0x5400),
            _ => offset,
        }
    }
}

/// The queue that a register of a page of queues belongs to, and the register's place within.
fn of_queue(offset: u32, page: u32) -> Option<(usize, u32)> {
    let at = offset.checked_sub(page).filter(|at| *at < 0x1000)?;
    Some(((at / 0x40) as usize, at % 0x40))
}

impl Card {
    /// From now on the card puts up with what drivers of the whole card do and silicon forgives: registers
    /// that the model does not know hold what is written to them, a receive descriptor may still say
    /// "done" when it is handed over, interrupts may be enabled before MSI-X is, and reserved bits need
    /// not be as they should unless the card coalesces.
    pub fn set_tolerant(&mut self) {
        self.file.tolerant = true;
    }

    /// The registers that the model does not know and that were touched all the same.
    pub fn unknown_registers(&self) -> Vec<u32> {
        self.file.unknown.iter().copied().collect()
    }

    /// The driver reads a register.
    pub fn read(&mut self, offset: u32) -> u32 {
        let kind = self.file.kind(offset);
        self.check_reset(offset);
        let offset = File::place(offset);
        if kind == Kind::Counter {
            return self.read_counter(offset);
        }
        if let Some((queue, register)) = of_queue(offset, 0x1000) {
            return self.read_rx_queue(queue, register, offset);
        }
        if let Some((queue, register)) = of_queue(offset, 0x6000) {
            return self.read_tx_queue(queue, register, offset);
        }
        match offset {
            0x0 | 0x8 | 0x10014 | 0x42a4 | 0x8d04 | 0x10140 => self.read_control(offset),
            0x800 | 0x808 | 0x880 | 0xaa0 | 0xaa4 => self.read_interrupts(offset),
            0xee00..0xee80 => self.read_director(offset),
            _ => self.file.get(offset),
        }
    }

    /// The driver writes a register.
    pub fn write(&mut self, offset: u32, value: u32) {
        if self.file.kind(offset) != Kind::Plain {
            refuse!("the register at {offset:#x} cannot be written");
        }
        self.check_reset(offset);
        let offset = File::place(offset);
        if let Some((queue, register)) = of_queue(offset, 0x1000) {
            return self.write_rx_queue(queue, register, offset, value);
        }
        if let Some((queue, register)) = of_queue(offset, 0x6000) {
            return self.write_tx_queue(queue, register, offset, value);
        }
        match offset {
            0x0 | 0x10014 | 0x42a0 | 0x8d00 => self.write_control(offset, value),
            0x800..0x8a0 | 0xa90..0xae0 => self.write_interrupts(offset, value),
            0xee00..0xee80 => self.write_director(offset, value),
            _ => self.file.set(offset, value),
        }
    }
}
