//! Registers of the 82599, by the sections of its datasheet: offsets in bytes from BAR 0, then bits.
//! Every register has 32 bits.

/// A register that there is once to each queue, filter or vector: where the first stands, and how
/// far apart the others are.
#[derive(Clone, Copy)]
pub struct Array {
    first: u32,
    step: u32,
    count: u32,
}

impl Array {
    const fn new(first: u32, step: u32, count: u32) -> Array {
        Array { first, step, count }
    }

    /// The offset of register `index`.
    ///
    /// # Panics
    /// If there are not that many: the write would hit another register.
    pub const fn at(self, index: usize) -> u32 {
        assert!(index < self.count as usize, "there is no such register");
        self.first + self.step * index as u32
    }

    /// The offsets of all of them.
    pub fn all(self) -> impl Iterator<Item = u32> {
        (0..self.count).map(move |index| self.first + self.step * index)
    }
}

// General control, §8.2.3.1
pub const CTRL: u32 = 0x0;
pub const CTRL_GIO_DIS: u32 = 1 << 2;
pub const CTRL_LNK_RST: u32 = 1 << 3;
pub const CTRL_RST: u32 = 1 << 26;
pub const STATUS: u32 = 0x8;
pub const STATUS_GIO: u32 = 1 << 19;
pub const CTRL_EXT: u32 = 0x18;
pub const CTRL_EXT_NS_DIS: u32 = 1 << 16;
pub const CTRL_EXT_RO_DIS: u32 = 1 << 17;
pub const CTRL_EXT_DRV_LOAD: u32 = 1 << 28;

// EEPROM, §8.2.3.2
pub const EEC: u32 = 0x10010;
pub const EEC_PRES: u32 = 1 << 8;
pub const EEC_ARD: u32 = 1 << 9;
pub const EERD: u32 = 0x10014;
pub const EERD_START: u32 = 1;
pub const EERD_DONE: u32 = 1 << 1;

// Interrupts, §8.2.3.5
pub const EICR: u32 = 0x800;
pub const EIAC: u32 = 0x810;
pub const EIMC: u32 = 0x888;
pub const EIMC_ALL: u32 = 0x7fff_ffff;
pub const EIMS_EX: Array = Array::new(0xaa0, 4, 2);
pub const EIMC_EX: Array = Array::new(0xab0, 4, 2);
pub const EIAM_EX: Array = Array::new(0xad0, 4, 2);
pub const GPIE: u32 = 0x898;
pub const GPIE_MSIX: u32 = 1 << 4;
pub const GPIE_OCD: u32 = 1 << 5;
pub const GPIE_EIAME: u32 = 1 << 30;
pub const GPIE_PBA: u32 = 1 << 31;
pub const IVAR: Array = Array::new(0x900, 4, 64);
pub const IVAR_VALID: u32 = 0x80;
const EITR_LOW: Array = Array::new(0x820, 4, 24);
const EITR_HIGH: Array = Array::new(0x12300, 4, 40);
pub const EITR_INTERVAL: u32 = 0xff8;
pub const EITR_CNT_WDIS: u32 = 1 << 31;

/// Moderation of vector `vector`.
pub const fn eitr(vector: usize) -> u32 {
    match vector.checked_sub(24) {
        None => EITR_LOW.at(vector),
        Some(above) => EITR_HIGH.at(above),
    }
}

// Receive filters, §8.2.3.7
pub const FCTRL: u32 = 0x5080;
pub const FCTRL_MPE: u32 = 1 << 8;
pub const FCTRL_UPE: u32 = 1 << 9;
pub const FCTRL_BAM: u32 = 1 << 10;
pub const VLNCTRL: u32 = 0x5088;
pub const VLNCTRL_VFE: u32 = 1 << 30;
pub const RXCSUM: u32 = 0x5000;
pub const RXCSUM_IPPCSE: u32 = 1 << 12;
pub const RXCSUM_PCSD: u32 = 1 << 13;
pub const RFCTL: u32 = 0x5008;
pub const RFCTL_RSC_DIS: u32 = 1 << 5;
pub const RFCTL_NFSW_DIS: u32 = 1 << 6;
pub const RFCTL_NFSR_DIS: u32 = 1 << 7;
pub const MTA: Array = Array::new(0x5200, 4, 128);
pub const VFTA: Array = Array::new(0xa000, 4, 128);
pub const RAL: Array = Array::new(0xa200, 8, 128);
pub const RAH: Array = Array::new(0xa204, 8, 128);
pub const RAH_AV: u32 = 1 << 31;
pub const PSRTYPE: Array = Array::new(0x5480, 4, 16);
pub const PSRTYPE_TCP: u32 = 1 << 4;
pub const PSRTYPE_UDP: u32 = 1 << 5;
pub const PSRTYPE_IPV4: u32 = 1 << 8;
pub const PSRTYPE_IPV6: u32 = 1 << 9;
pub const PSRTYPE_L2: u32 = 1 << 12;

// Receive-side scaling, §8.2.3.7.12
pub const MRQC: u32 = 0x5818;
pub const MRQC_RSS: u32 = 1;
pub const MRQC_TCP4: u32 = 1 << 16;
pub const MRQC_IPV4: u32 = 1 << 17;
pub const MRQC_IPV6: u32 = 1 << 20;
pub const MRQC_TCP6: u32 = 1 << 21;
pub const RETA: Array = Array::new(0x5c00, 4, 32);
pub const RSSRK: Array = Array::new(0x5c80, 4, 10);

// 5-tuple filters, §8.2.3.7.16
pub const SAQF: Array = Array::new(0xe000, 4, 128);
pub const DAQF: Array = Array::new(0xe200, 4, 128);
pub const SDPQF: Array = Array::new(0xe400, 4, 128);
pub const FTQF: Array = Array::new(0xe600, 4, 128);
pub const FTQF_PRIORITY_SHIFT: u32 = 2;
pub const FTQF_IGNORE_SHIFT: u32 = 25;
pub const FTQF_ANY_POOL: u32 = 1 << 30;
pub const FTQF_ENABLE: u32 = 1 << 31;
pub const L34T_IMIR: Array = Array::new(0xe800, 4, 128);
/// Frames of any size, and a bit that is to be one.
pub const L34T_IMIR_BASE: u32 = 0x80000;
pub const L34T_IMIR_QUEUE_SHIFT: u32 = 21;

// Receive DMA, §8.2.3.8
pub const RDBAL: Array = Array::new(0x1000, 0x40, 64);
pub const RDBAH: Array = Array::new(0x1004, 0x40, 64);
pub const RDLEN: Array = Array::new(0x1008, 0x40, 64);
pub const RDH: Array = Array::new(0x1010, 0x40, 64);
const SRRCTL_HIGH: Array = Array::new(0x1014, 0x40, 64);
const SRRCTL_LOW: Array = Array::new(0x2100, 4, 16);
pub const RDT: Array = Array::new(0x1018, 0x40, 64);
pub const RXDCTL: Array = Array::new(0x1028, 0x40, 64);
pub const RXDCTL_ENABLE: u32 = 1 << 25;
pub const RXDCTL_VME: u32 = 1 << 30;
pub const RSCCTL: Array = Array::new(0x102c, 0x40, 64);
pub const RSCCTL_RSCEN: u32 = 1;
pub const RSCCTL_MAXDESC_SHIFT: u32 = 2;
const DCA_RXCTRL_LOW: Array = Array::new(0x2200, 4, 16);
const DCA_RXCTRL_HIGH: Array = Array::new(0x100c, 0x40, 64);
/// Reads as one after a reset and is to be zero.
pub const DCA_RXCTRL_RESERVED: u32 = 1 << 12;
/// Units of 1 KB in bits 0 to 4.
pub const SRRCTL_BSIZEPKT_SHIFT: u32 = 10;
/// Units of 64 bytes from bit 8 on.
pub const SRRCTL_BSIZEHDR_SHIFT: u32 = 8;
pub const SRRCTL_DESCTYPE_ADVANCED: u32 = 1 << 25;
pub const SRRCTL_DROP_EN: u32 = 1 << 28;
pub const RXCTRL: u32 = 0x3000;
pub const RXCTRL_RXEN: u32 = 1;
pub const RDRXCTL: u32 = 0x2f00;
pub const RDRXCTL_CRCSTRIP: u32 = 1 << 1;
pub const RDRXCTL_DMAIDONE: u32 = 1 << 3;
pub const RDRXCTL_RSCFRSTSIZE: u32 = 0x1f << 17;
pub const RDRXCTL_RSCACKC: u32 = 1 << 25;
pub const RDRXCTL_FCOE_WRFIX: u32 = 1 << 26;
pub const RSCDBU: u32 = 0x3028;
pub const RSCDBU_ACKDIS: u32 = 1 << 7;
pub const RXPBSIZE: Array = Array::new(0x3c00, 4, 8);
pub const RXPBSIZE_SHIFT: u32 = 10;
pub const SECRXCTRL: u32 = 0x8d00;
pub const SECRXCTRL_RX_DIS: u32 = 1 << 1;
pub const SECRXSTAT: u32 = 0x8d04;
pub const SECRXSTAT_RDY: u32 = 1;

/// Split and replication control of queue `queue`.
pub const fn srrctl(queue: usize) -> u32 {
    if queue < 16 {
        SRRCTL_LOW.at(queue)
    } else {
        SRRCTL_HIGH.at(queue)
    }
}

/// Direct cache access of receive queue `queue`.
pub const fn dca_rxctrl(queue: usize) -> u32 {
    if queue < 16 {
        DCA_RXCTRL_LOW.at(queue)
    } else {
        DCA_RXCTRL_HIGH.at(queue)
    }
}

// Transmit DMA, §8.2.3.9
pub const DMATXCTL: u32 = 0x4a80;
pub const DMATXCTL_TE: u32 = 1;
pub const RTTDCS: u32 = 0x4900;
pub const RTTDCS_ARBDIS: u32 = 1 << 6;
pub const DTXMXSZRQ: u32 = 0x8100;
pub const DTXMXSZRQ_MAX: u32 = 0xfff;
pub const MTQC: u32 = 0x8120;
pub const TXPBSIZE: Array = Array::new(0xcc00, 4, 8);
pub const TXPBTHRESH: Array = Array::new(0x4950, 4, 8);
pub const TDBAL: Array = Array::new(0x6000, 0x40, 64);
pub const TDBAH: Array = Array::new(0x6004, 0x40, 64);
pub const TDLEN: Array = Array::new(0x6008, 0x40, 64);
pub const TDH: Array = Array::new(0x6010, 0x40, 64);
pub const TDT: Array = Array::new(0x6018, 0x40, 64);
pub const TXDCTL: Array = Array::new(0x6028, 0x40, 64);
pub const TXDCTL_HTHRESH_SHIFT: u32 = 8;
pub const TXDCTL_ENABLE: u32 = 1 << 25;
pub const TDWBAL: Array = Array::new(0x6038, 0x40, 64);
pub const TDWBAH: Array = Array::new(0x603c, 0x40, 64);

// MAC and link, §8.2.3.22
pub const HLREG0: u32 = 0x4240;
pub const HLREG0_TXCRCEN: u32 = 1;
pub const HLREG0_RXCRCSTRP: u32 = 1 << 1;
pub const HLREG0_JUMBOEN: u32 = 1 << 2;
pub const HLREG0_TXPADEN: u32 = 1 << 10;
pub const MAXFRS: u32 = 0x4268;
pub const MAXFRS_SHIFT: u32 = 16;
pub const AUTOC: u32 = 0x42a0;
pub const AUTOC_RESTART: u32 = 1 << 12;
pub const LINKS: u32 = 0x42a4;
pub const LINKS_UP: u32 = 1 << 30;
pub const LINKS_SPEED: u32 = 3 << LINKS_SPEED_SHIFT;
pub const LINKS_SPEED_SHIFT: u32 = 28;

// Statistics, §8.2.3.23: cleared by reading
pub const CRCERRS: u32 = 0x4000;
pub const RLEC: u32 = 0x4040;
pub const RXMPC: Array = Array::new(0x3fa0, 4, 8);
pub const GPRC: u32 = 0x4074;
pub const GPTC: u32 = 0x4080;
pub const GORCL: u32 = 0x4088;
pub const GORCH: u32 = 0x408c;
pub const GOTCL: u32 = 0x4090;
pub const GOTCH: u32 = 0x4094;
pub const TPR: u32 = 0x40d0;
pub const TPT: u32 = 0x40d4;
pub const RQSMR: Array = Array::new(0x2300, 4, 32);
pub const TQSM: Array = Array::new(0x8600, 4, 32);
pub const QPRC: Array = Array::new(0x1030, 0x40, 16);
pub const QPRDC: Array = Array::new(0x1430, 0x40, 16);
pub const QPTC: Array = Array::new(0x6030, 0x40, 16);
