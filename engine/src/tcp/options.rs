//! TCP options: MSS (RFC 9293), window scale and timestamps (RFC 7323), SACK (RFC 2018),
//! Fast Open (RFC 7413).

use super::fast_open::Cookie;
use super::segment::ParseError;
use super::seq::SeqNum;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
const FAST_OPEN: u8 = 34;

/// Bytes that the timestamps option takes in every segment, padding included.
pub const TIMESTAMPS_LEN: usize = 12;

/// Most SACK blocks that fit into the option space.
pub const MAX_SACK_BLOCKS: usize = 4;

/// Up to four SACK blocks, each `[left, right)`, held inline.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SackBlocks {
    blocks: [(SeqNum, SeqNum); MAX_SACK_BLOCKS],
    len: u8,
}

impl SackBlocks {
    /// Adds a block; says whether there was room for it.
    pub fn push(&mut self, left: SeqNum, right: SeqNum) -> bool {
        let Some(slot) = self.blocks.get_mut(usize::from(self.len)) else {
            return false;
        };
        *slot = (left, right);
        self.len += 1;
        true
    }

    /// The blocks in the order of the option.
    pub fn as_slice(&self) -> &[(SeqNum, SeqNum)] {
        &self.blocks[..usize::from(self.len)]
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl core::fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let pairs = self.as_slice().iter().map(|(l, r)| (l.0, r.0));
        f.debug_list().entries(pairs).finish()
    }
}

/// The options of a segment that this stack knows. Unknown ones are skipped (RFC 9293 MUST-6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Maximum segment size; meaningful in a SYN.
    pub mss: Option<u16>,
    /// Window scale shift count as sent; meaningful in a SYN.
    pub window_scale: Option<u8>,
    /// SACK permitted; meaningful in a SYN.
    pub sack_permitted: bool,
    /// Timestamp value and echo reply.
    pub timestamps: Option<(u32, u32)>,
    /// SACK blocks.
    pub sack: SackBlocks,
    /// Fast Open cookie, or the wish for one; meaningful in a SYN.
    pub fast_open: Option<Cookie>,
}

impl Options {
    /// Reads the options of a header, `bytes` being all of its option space.
    ///
    /// A known option of a wrong length is skipped like an unknown one.
    ///
    /// # Errors
    /// A length that is 0 or 1 or reaches past the header.
    pub fn parse(bytes: &[u8]) -> Result<Options, ParseError> {
        let mut options = Options::default();
        options.read(bytes)?;
        Ok(options)
    }

    /// The same into options of which none is set yet.
    #[inline]
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        // What most segments carry, as RFC 7323 appendix A has it.
        if let [NOP, NOP, TIMESTAMPS, 10, a, b, c, d, e, f, g, h] = *bytes {
            self.timestamps = Some(stamps_of([a, b, c, d, e, f, g, h]));
            return Ok(());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.read_each(bytes)
    }

    fn read_each(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        // What the SYNs of Linux and of this stack carry.
        if let Some(([MSS, 4, hi, lo, SACK_PERMITTED, 2, TIMESTAMPS, 10], rest)) =
            bytes.split_first_chunk()
            && let [a, b, c, d, e, f, g, h, NOP, WINDOW_SCALE, 3, shift] = *rest
        {
            self.mss = Some(u16::from_be_bytes([*hi, *lo]));
            self.window_scale = Some(shift);
            self.sack_permitted = true;
            self.timestamps = Some(stamps_of([a, b, c, d, e, f, g, h]));
            return Ok(());
        }
        let mut rest = bytes;
        while let [kind, after_kind @ ..] = rest {
            match *kind {
                END => break,
                NOP => {
                    rest = after_kind;
                    continue;
                }
                _ => {}
            }
            let Some(&len) = after_kind.first() else {
                return Err(ParseError::OptionOverrun);
            };
            if len < 2 {
                return Err(ParseError::OptionLength);
            }
            let Some((option, next)) = rest.split_at_checked(usize::from(len)) else {
                return Err(ParseError::OptionOverrun);
            };
            self.take(*kind, &option[2..]);
            rest = next;
        }
        Ok(())
    }

    fn take(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (MSS, &[hi, lo]) => self.mss = Some(u16::from_be_bytes([hi, lo])),
            (WINDOW_SCALE, &[shift]) => self.window_scale = Some(shift),
            (SACK_PERMITTED, []) => self.sack_permitted = true,
            (TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                self.timestamps = Some(stamps_of([a, b, c, d, e, f, g, h]));
            }
            (FAST_OPEN, cookie) => self.fast_open = Cookie::new(cookie),
            (SACK, blocks) if blocks.len() % 8 == 0 => {
                for block in blocks.chunks_exact(8) {
                    self.sack.push(be_seq(&block[..4]), be_seq(&block[4..]));
                }
            }
            _ => {}
        }
    }

    /// Bytes that [`emit`](Self::emit) writes, a multiple of four and at most 40.
    #[inline]
    pub fn len(&self) -> usize {
        if self.only_timestamps().is_some() {
            return TIMESTAMPS_LEN;
        }
        let len = self.len_beside_sack();
        len + self.sack_len(len)
    }

    /// The timestamps, if there is no other option.
    #[inline]
    fn only_timestamps(&self) -> Option<(u32, u32)> {
        let others = self.mss.is_some()
            || self.window_scale.is_some()
            || self.sack_permitted
            || !self.sack.is_empty()
            || self.fast_open.is_some();
        self.timestamps.filter(|_| !others)
    }

    fn len_beside_sack(&self) -> usize {
        let mut len = 0;
        if self.mss.is_some() {
            len += 4;
        }
        if self.timestamps.is_some() {
            len += TIMESTAMPS_LEN;
        } else if self.sack_permitted {
            len += 4;
        }
        if self.window_scale.is_some() {
            len += 4;
        }
        if let Some(cookie) = &self.fast_open {
            len += (2 + cookie.as_slice().len()).next_multiple_of(4);
        }
        len
    }

    /// Whether no option is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As many SACK blocks as fit behind `before` bytes of other options.
    fn sack_fitting(&self, before: usize) -> &[(SeqNum, SeqNum)] {
        let room = 40usize.saturating_sub(before + 4) / 8;
        let blocks = self.sack.as_slice();
        &blocks[..blocks.len().min(room)]
    }

    fn sack_len(&self, before: usize) -> usize {
        if self.sack.is_empty() {
            return 0;
        }
        match self.sack_fitting(before).len() {
            0 => 0,
            blocks => 4 + 8 * blocks,
        }
    }

    /// Writes the options, each aligned to four bytes, to the start of `out` and says how many bytes
    /// it wrote: [`len`](Self::len). SACK blocks that do not fit are left out.
    ///
    /// # Panics
    /// If `out` is shorter than [`len`](Self::len).
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> usize {
        if let Some(stamps) = self.only_timestamps()
            && let Some(out) = out.first_chunk_mut()
        {
            *out = timestamps_option([NOP, NOP], stamps);
            return TIMESTAMPS_LEN;
        }
        self.emit_each(out)
    }

    /// What the SYNs of this stack carry, where nothing is switched off.
    fn of_common_syn(&self) -> Option<[u8; 20]> {
        if !self.sack_permitted || !self.sack.is_empty() || self.fast_open.is_some() {
            return None;
        }
        let [hi, lo] = self.mss?.to_be_bytes();
        let stamps = timestamps_option([SACK_PERMITTED, 2], self.timestamps?);
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&[MSS, 4, hi, lo]);
        bytes[4..16].copy_from_slice(&stamps);
        bytes[16..].copy_from_slice(&[NOP, WINDOW_SCALE, 3, self.window_scale?]);
        Some(bytes)
    }

    fn emit_each(&self, out: &mut [u8]) -> usize {
        if let Some(bytes) = self.of_common_syn() {
            out[..bytes.len()].copy_from_slice(&bytes);
            return bytes.len();
        }
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        if let Some(mss) = self.mss {
            let [hi, lo] = mss.to_be_bytes();
            put(&[MSS, 4, hi, lo]);
        }
        let sack_permitted = self.sack_permitted.then_some([SACK_PERMITTED, 2]);
        if let Some(stamps) = self.timestamps {
            put(&timestamps_option(
                sack_permitted.unwrap_or([NOP, NOP]),
                stamps,
            ));
        } else if let Some(option) = sack_permitted {
            put(&[NOP, NOP]);
            put(&option);
        }
        if let Some(shift) = self.window_scale {
            put(&[NOP, WINDOW_SCALE, 3, shift]);
        }
        if let Some(cookie) = &self.fast_open {
            let cookie = cookie.as_slice();
            put(&[FAST_OPEN, 2 + cookie.len() as u8]);
            put(cookie);
            // Lengths are even.
            if (2 + cookie.len()) % 4 != 0 {
                put(&[NOP, NOP]);
            }
        }
        let blocks = self.sack_fitting(self.len_beside_sack());
        if !blocks.is_empty() {
            put(&[NOP, NOP, SACK, 2 + 8 * blocks.len() as u8]);
            for (left, right) in blocks {
                put(&left.0.to_be_bytes());
                put(&right.0.to_be_bytes());
            }
        }
        at
    }
}

/// Value and echo reply.
#[inline]
fn stamps_of([a, b, c, d, e, f, g, h]: [u8; 8]) -> (u32, u32) {
    let value = u32::from_be_bytes([a, b, c, d]);
    let echo = u32::from_be_bytes([e, f, g, h]);
    (value, echo)
}

/// The timestamps option behind two bytes of others.
fn timestamps_option([first, second]: [u8; 2], (value, echo): (u32, u32)) -> [u8; TIMESTAMPS_LEN] {
    let [a, b, c, d] = value.to_be_bytes();
    let [e, f, g, h] = echo.to_be_bytes();
    [first, second, TIMESTAMPS, 10, a, b, c, d, e, f, g, h]
}

fn be_seq(bytes: &[u8]) -> SeqNum {
    SeqNum(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(options: Options) {
        let mut bytes = [0xee; 40];
        let len = options.emit(&mut bytes);
        assert_eq!(len, options.len());
        assert_eq!(len % 4, 0);
        assert_eq!(Options::parse(&bytes[..len]), Ok(options));
    }

    #[test]
    fn every_combination_survives_a_round_trip() {
        for bits in 0..16 {
            let mut options = Options {
                mss: (bits & 1 != 0).then_some(1460),
                window_scale: (bits & 2 != 0).then_some(7),
                sack_permitted: bits & 4 != 0,
                timestamps: (bits & 8 != 0).then_some((0x0102_0304, 0xa0b0_c0d0)),
                sack: SackBlocks::default(),
                fast_open: None,
            };
            round_trip(options);
            for cookie in [b"".as_slice(), b"abcd", b"abcdef", b"0123456789abcdef"] {
                let fast_open = Cookie::new(cookie);
                round_trip(Options {
                    fast_open,
                    ..options
                });
            }
            options.sack.push(SeqNum(1), SeqNum(u32::MAX));
            round_trip(options);
        }
    }

    #[test]
    fn timestamps_leave_room_for_three_sack_blocks() {
        let mut options = Options {
            timestamps: Some((1, 2)),
            ..Options::default()
        };
        for n in 0..4 {
            assert!(options.sack.push(SeqNum(10 * n), SeqNum(10 * n + 5)));
        }
        assert!(
            !options.sack.push(SeqNum(90), SeqNum(95)),
            "a fifth block has no place"
        );
        let mut bytes = [0; 40];
        let len = options.emit(&mut bytes);
        assert_eq!(len, 40);
        assert_eq!(Options::parse(&bytes).unwrap().sack.as_slice().len(), 3);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        assert_eq!(
            Options::parse(&[MSS, 0, 0, 0]),
            Err(ParseError::OptionLength)
        );
        assert_eq!(
            Options::parse(&[99, 1, 0, 0]),
            Err(ParseError::OptionLength)
        );
        assert_eq!(
            Options::parse(&[NOP, NOP, MSS, 4]),
            Err(ParseError::OptionOverrun)
        );
        assert_eq!(
            Options::parse(&[NOP, NOP, NOP, MSS]),
            Err(ParseError::OptionOverrun)
        );
    }

    #[test]
    fn unknown_and_misshapen_options_are_skipped() {
        let bytes = [
            254,
            4,
            1,
            2,
            MSS,
            3,
            9,
            WINDOW_SCALE,
            3,
            5,
            SACK,
            5,
            1,
            2,
            3,
            END,
            MSS,
            0,
        ];
        let options = Options::parse(&bytes).unwrap();
        assert_eq!(
            options,
            Options {
                window_scale: Some(5),
                ..Options::default()
            }
        );
    }
}
