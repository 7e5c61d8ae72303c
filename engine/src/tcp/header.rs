//! What leaves, once it is decided: flags, options and window of its header.

use core::ops::Range;

use super::ecn::Codepoint;
use super::options::{MAX_SACK_BLOCKS, Options, SackBlocks, TIMESTAMPS_LEN};
use super::output::Piece;
use super::segment::{Flags, Outgoing};
use super::seq::SeqNum;
use super::tcb::{State, Tcb};
use super::time::Instant;

/// SACK blocks that fit beside timestamps.
const BLOCKS_BESIDE_TIMESTAMPS: usize = 3;

/// A segment before it has a header.
pub(super) struct Next {
    /// Its position.
    pub(super) at: u64,
    pub(super) flags: Flags,
    pub(super) urgent: u16,
    pub(super) ecn: Codepoint,
    /// Its payload, as offsets in the send stream.
    pub(super) payload: Range<u64>,
    pub(super) mss: u16,
}

impl Next {
    pub(super) fn payload_len(&self) -> usize {
        (self.payload.end - self.payload.start) as usize
    }
}

impl Tcb {
    pub(super) fn without_data(&self, at: u64, flags: Flags) -> Next {
        Next {
            at,
            flags,
            urgent: 0,
            ecn: Codepoint::NotEct,
            payload: 0..0,
            mss: self.mss,
        }
    }

    /// The segment that a piece leaves in.
    #[inline]
    pub(super) fn with_data(&mut self, now: Instant, Piece { range, cut }: &Piece) -> Next {
        let data_end = range.end.min(self.snd.end);
        let mut flags = Flags::ACK;
        if range.end > self.snd.end {
            flags |= Flags::FIN;
        }
        // As Linux does, a super-segment is pushed.
        let last = data_end == self.snd.end || self.ends_record(data_end);
        let ends = last && data_end > range.start;
        if ends || data_end.saturating_sub(range.start) > *cut {
            flags |= Flags::PSH;
        }
        if data_end > range.start {
            self.ack.on_data_sent(now, self.set.delayed_ack.get());
            self.sent_at = now;
        }
        Next {
            at: range.start,
            flags,
            urgent: 0,
            ecn: Codepoint::NotEct,
            payload: range.start - 1..data_end.max(range.start) - 1,
            mss: *cut as u16,
        }
    }

    /// Builds a segment and notes that it carries the current ACK and window. SND.NXT was `nxt`
    /// before it.
    pub(super) fn segment(&mut self, now: Instant, mut next: Next, nxt: u64) -> Outgoing {
        self.put_ecn(&mut next, nxt);
        self.traffic.on_sent(next.payload_len(), next.mss.into());
        let sack = self.sack_blocks(next.flags);
        self.ack.on_sent(self.rcv.nxt);
        if let Some(rare) = self.rare.if_any() {
            rare.duplicate = None;
        }
        self.timers.delayed_ack = Instant::NEVER;
        self.with_header(now, next, sack)
    }

    /// An ACK that leaves those that are due for later.
    pub(super) fn plain_ack(&mut self, now: Instant) -> Outgoing {
        let next = self.without_data(self.snd.nxt, Flags::ACK);
        let sack = self.sack_blocks(next.flags);
        self.with_header(now, next, sack)
    }

    fn with_header(&mut self, now: Instant, mut next: Next, sack: SackBlocks) -> Outgoing {
        self.mark_urgent(&mut next);
        Outgoing {
            seq: self.iss.at(next.at),
            ack: self.irs.at(self.rcv.nxt),
            flags: next.flags,
            window: self.rcv.advertise(self.set.own_mss.into()),
            urgent: next.urgent,
            ecn: next.ecn,
            options: Options {
                timestamps: self.ts.option(now),
                sack,
                ..Options::default()
            },
            payload: next.payload,
            mss: next.mss,
        }
    }

    /// A RST that answers an ACK which no SYN of ours explains.
    pub(super) fn bare_reset(&self, seq: SeqNum) -> Outgoing {
        Outgoing {
            seq,
            ack: SeqNum(0),
            flags: Flags::RST,
            window: 0,
            urgent: 0,
            ecn: Codepoint::NotEct,
            options: Options::default(),
            payload: 0..0,
            mss: self.mss,
        }
    }

    pub(super) fn next_syn(&mut self, now: Instant) -> Option<Outgoing> {
        let answer = self.state == State::SynReceived;
        let due = self.syn_due || (answer && self.ack.due);
        if !due {
            self.note_limit(now);
            return None;
        }
        let options = self.syn_options(now);
        let (window, data) = self.on_syn_sent(now);
        let mut syn = Outgoing {
            seq: self.iss,
            ack: SeqNum(0),
            flags: Flags::SYN,
            window,
            urgent: 0,
            ecn: Codepoint::NotEct,
            options,
            payload: 0..u64::from(data),
            // A SYN is never cut.
            mss: self.mss.max(data),
        };
        if answer {
            syn.flags |= Flags::ACK;
            syn.ack = self.irs.at(self.rcv.nxt);
        }
        self.put_ecn_into_syn(&mut syn);
        Some(syn)
    }

    /// A SYN or SYN-ACK goes out: says what window it offers, and how much data rides in it.
    pub(super) fn on_syn_sent(&mut self, now: Instant) -> (u16, u16) {
        self.syn_due = false;
        let window = self.rcv.advertise_in_syn(self.first_segment());
        let data = self.data_in_syn();
        if self.timers.retransmit == Instant::NEVER {
            self.sent_at = now;
            self.arm_retransmit(now);
        }
        if self.state == State::SynReceived {
            self.ack.on_sent(self.rcv.nxt);
        }
        self.traffic.on_sent(data.into(), data.into());
        (window, data)
    }

    /// Payload of the peer's full segments, as far as a SYN can know.
    pub(super) fn first_segment(&self) -> u32 {
        let stamped = self.ts.on && self.state == State::SynReceived;
        let stamps = if stamped { TIMESTAMPS_LEN as u32 } else { 0 };
        u32::from(self.set.own_mss).saturating_sub(stamps).max(1)
    }

    /// Whether segments carry SACK blocks now.
    fn reports(&self) -> bool {
        self.recovery.sack && (self.rare.duplicate.is_some() || !self.rare.assembler.is_empty())
    }

    /// Bytes that SACK blocks take in a segment.
    pub(super) fn blocks_len(&self) -> usize {
        let sack = self.sack_blocks(Flags::ACK);
        if sack.is_empty() {
            return 0;
        }
        let options = Options {
            sack,
            ..Options::default()
        };
        options.len()
    }

    #[inline]
    fn sack_blocks(&self, flags: Flags) -> SackBlocks {
        if self.reports() && !flags.contains(Flags::RST) {
            self.report()
        } else {
            SackBlocks::default()
        }
    }

    /// What is held out of order, or came twice, as far as there is room for it.
    #[cold]
    fn report(&self) -> SackBlocks {
        let most = if self.ts.on {
            BLOCKS_BESIDE_TIMESTAMPS
        } else {
            MAX_SACK_BLOCKS
        };
        let mut blocks = SackBlocks::default();
        let duplicate = self.rare.duplicate.clone();
        // A FIN that came behind data is part of its block.
        let fin = self.rcv.fin;
        let held = self.rare.assembler.most_recent(most);
        let held = held.map(|range| range.start..range.end + u64::from(range.end == fin));
        for range in duplicate.into_iter().chain(held).take(most) {
            blocks.push(self.irs.at(range.start), self.irs.at(range.end));
        }
        blocks
    }
}
