//! The two sequence spaces of a connection (RFC 9293 section 3.3.1) and their windows.
//!
//! Positions count from the SYN, which is 0; the first byte of the stream is 1.

use core::num::NonZeroU32;

use super::settings::Settings;
use super::time::{Duration, Instant};
use super::tuning::ReadRate;

/// Largest shift count (RFC 7323 section 2.3).
const MAX_SHIFT: u8 = 14;

/// Segments that are offered of any buffer while memory is scarce.
const SCARCE_SEGMENTS: u32 = 4;

/// A position that is never reached.
pub(super) const NO_FIN: u64 = u64::MAX;

/// Shift count between a window in bytes and the field of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct WindowScale(u8);

impl WindowScale {
    pub(super) fn new(shift: u8) -> Self {
        WindowScale(shift.min(MAX_SHIFT))
    }

    /// The smallest scale with which the field can name `bytes`.
    pub(super) fn for_buffer(bytes: u32) -> Self {
        let bits = u32::BITS - bytes.leading_zeros();
        WindowScale(bits.saturating_sub(u16::BITS).min(MAX_SHIFT.into()) as u8)
    }

    pub(super) fn shift(self) -> u8 {
        self.0
    }

    pub(super) fn bytes(self, field: u16) -> u32 {
        u32::from(field) << self.0
    }

    pub(super) fn largest(self) -> u32 {
        self.bytes(u16::MAX)
    }
}

/// The send sequence space.
#[derive(Clone, Debug)]
pub(super) struct SendSpace {
    /// SND.UNA: oldest position not acknowledged.
    pub(super) una: u64,
    /// SND.NXT: next position to send; never goes back, retransmission has its own pointer.
    pub(super) nxt: u64,
    /// End of what the application has written; a FIN takes this position.
    pub(super) end: u64,
    /// SND.WND in bytes.
    pub(super) wnd: u32,
    /// Largest window that the peer ever offered.
    pub(super) max_wnd: u32,
    /// SND.WL1 and SND.WL2: segment that the window was taken from.
    pub(super) wl1: u64,
    pub(super) wl2: u64,
    /// End of the last segment sent that was not a full one (Minshall's variant of Nagle).
    pub(super) small: u64,
    pub(super) scale: WindowScale,
}

impl SendSpace {
    pub(super) fn new() -> Self {
        SendSpace {
            una: 0,
            nxt: 0,
            end: 1,
            wnd: 0,
            max_wnd: 0,
            wl1: 0,
            wl2: 0,
            small: 0,
            scale: WindowScale::default(),
        }
    }

    /// Sequence numbers outstanding.
    pub(super) fn flight(&self) -> u64 {
        self.nxt - self.una
    }

    /// Sequence numbers that the peer's window still takes.
    pub(super) fn usable(&self) -> u64 {
        (self.una + u64::from(self.wnd)).saturating_sub(self.nxt)
    }

    /// Takes the window of an acceptable segment if it is not older than the last one taken
    /// (RFC 9293 3.10.7.4). Says whether the window changed.
    pub(super) fn update_window(&mut self, seq: u64, ack: u64, wnd: u32) -> bool {
        if self.wl1 > seq || (self.wl1 == seq && self.wl2 > ack) {
            return false;
        }
        let changed = self.wnd != wnd;
        self.wnd = wnd;
        self.max_wnd = self.max_wnd.max(wnd);
        self.wl1 = seq;
        self.wl2 = ack;
        changed
    }
}

/// The receive sequence space.
#[derive(Clone, Debug)]
pub(super) struct RecvSpace {
    /// RCV.NXT: next position expected.
    pub(super) nxt: u64,
    /// RCV.NXT + RCV.WND: right edge of the window advertised, which never moves left.
    pub(super) edge: u64,
    /// Position up to which the application has read.
    pub(super) read: u64,
    /// Position of the peer's FIN; [`NO_FIN`] before it was seen.
    pub(super) fin: u64,
    /// Bytes that may wait unread.
    buffer: u32,
    /// Up to where `buffer` grows by itself; equal to it if it was set.
    buffer_max: u32,
    /// Upper bound of the window in bytes.
    clamp: u32,
    pub(super) scale: WindowScale,
    /// Bytes that are offered of the buffer while memory is scarce; the buffer does not grow then.
    scarce: Option<NonZeroU32>,
    pub(super) rate: ReadRate,
}

impl RecvSpace {
    /// The space of a new connection.
    #[inline]
    pub(super) fn opening(now: Instant, set: &Settings) -> Self {
        let (cfg, opts) = (&set.cfg, &set.opts);
        let buffer = opts.recv_buffer.unwrap_or(cfg.recv_buffer);
        let first = u32::from(set.own_mss) * u32::from(set.initial_window);
        let mut rcv = RecvSpace::new(now, buffer, cfg.recv_buffer_max, first);
        if cfg.window_scaling {
            let most = opts.recv_buffer.unwrap_or(cfg.recv_buffer_max).max(buffer);
            let clamp = opts.window_clamp.unwrap_or(u32::MAX);
            rcv.scale = WindowScale::for_buffer(most.min(clamp));
        }
        rcv.set_buffer(opts.recv_buffer, cfg.recv_buffer_max, opts.window_clamp);
        rcv
    }

    /// `first` bytes are what a sender may begin with, and no reason to grow.
    pub(super) fn new(now: Instant, buffer: u32, buffer_max: u32, first: u32) -> Self {
        RecvSpace {
            nxt: 0,
            edge: 0,
            read: 1,
            fin: NO_FIN,
            buffer,
            buffer_max: buffer_max.max(buffer),
            clamp: u32::MAX,
            scale: WindowScale::default(),
            scarce: None,
            rate: ReadRate::new(now, 1, first.min(buffer)),
        }
    }

    /// Bytes that may wait unread, as tuned by now; no less than the window field can name.
    pub(super) fn buffer(&self) -> u32 {
        self.buffer.max(1 << self.scale.0)
    }

    /// Fixes the buffer, or lets it grow by itself again up to `max`.
    pub(super) fn set_buffer(&mut self, fixed: Option<u32>, max: u32, clamp: Option<u32>) {
        match fixed {
            Some(bytes) => (self.buffer, self.buffer_max) = (bytes, bytes),
            None => self.buffer_max = max.max(self.buffer),
        }
        self.clamp = clamp.unwrap_or(u32::MAX);
    }

    /// The peer does not scale windows.
    pub(super) fn disable_scaling(&mut self) {
        self.scale = WindowScale(0);
    }

    /// RCV.WND: what the peer may still send, in bytes.
    pub(super) fn window(&self) -> u64 {
        self.edge.saturating_sub(self.nxt)
    }

    /// Where the right edge could stand: the buffer, as far as the field can name it.
    fn target(&self) -> u64 {
        let offered = self.scarce.map_or(u32::MAX, NonZeroU32::get);
        let least = 1 << self.scale.0;
        let bytes = self.buffer.min(self.clamp).min(offered).max(least);
        (self.read + u64::from(bytes)).min(self.nxt + u64::from(self.scale.largest()))
    }

    /// The window field of a SYN, which is never scaled: whole segments of `mss` bytes, as Linux has
    /// it.
    pub(super) fn advertise_in_syn(&mut self, mss: u32) -> u16 {
        // What came with the peer's SYN (RFC 7413).
        let held = self.nxt.saturating_sub(self.read);
        let offered = self.scarce.map_or(u32::MAX, NonZeroU32::get);
        let bytes = self.buffer.min(self.clamp).min(offered);
        let room = u64::from(bytes).saturating_sub(held);
        let rest = if room > u64::from(mss) {
            room % u64::from(mss)
        } else {
            0
        };
        let field = u16::try_from(room - rest).unwrap_or(u16::MAX);
        self.edge = self.edge.max(self.nxt.max(1) + u64::from(field));
        field
    }

    /// The window field of the next segment. The right edge moves by half the buffer or a segment at
    /// least (RFC 9293 3.8.6.2.2) and never back.
    pub(super) fn advertise(&mut self, mss: u32) -> u16 {
        let target = self.target();
        let step = u64::from(mss.min(self.buffer() / 2));
        let edge = if target >= self.edge + step {
            target
        } else {
            self.edge
        };
        let bytes = edge.saturating_sub(self.nxt);
        let unit = 1u64 << self.scale.0;
        // Rounding down would pull the edge back by less than a unit: round up where the buffer
        // holds it (RFC 7323 section 2.4).
        let up = bytes.div_ceil(unit);
        let fits = self.nxt + up * unit <= target.max(self.edge);
        let field = if fits { up } else { bytes / unit };
        let field = u16::try_from(field).unwrap_or(u16::MAX);
        self.edge = self.edge.max(self.nxt + u64::from(self.scale.bytes(field)));
        field
    }

    /// The application has read up to `read`. Grows the buffer if the rate asks for it. Says whether
    /// the peer should hear of the window now.
    pub(super) fn consumed(
        &mut self,
        now: Instant,
        read: u64,
        rtt: Option<Duration>,
        mss: u32,
    ) -> bool {
        self.read = read;
        self.tune(now, rtt, mss);
        self.target() >= self.edge + self.update_step(mss)
    }

    /// By how much the window has to open before the peer is told without being asked.
    fn update_step(&self, mss: u32) -> u64 {
        let (left, mss) = (self.window(), u64::from(mss));
        let half = u64::from(self.buffer() / 2);
        if left < mss {
            // A sender that avoids silly windows waits for this one.
            half.min(mss).max(1)
        } else {
            half.min(2 * mss).max(left)
        }
    }

    /// Position up to which the application has to read before the peer is told without being asked.
    pub(super) fn update_at(&self, mss: u32) -> u64 {
        let missing = (self.edge + self.update_step(mss)).saturating_sub(self.target());
        self.read + missing
    }

    /// Says whether memory is scarce. While it is, the window opens by no more than a few segments
    /// beyond what was read; what was offered before stays offered.
    pub(super) fn set_scarce(&mut self, scarce: bool, mss: u32) {
        if scarce != self.scarce.is_some() {
            self.scarce = NonZeroU32::new(mss * SCARCE_SEGMENTS).filter(|_| scarce);
        }
    }

    fn tune(&mut self, now: Instant, rtt: Option<Duration>, mss: u32) {
        if self.buffer >= self.buffer_max {
            return;
        }
        if let Some(wanted) = self.rate.wanted(now, self.read, rtt, mss)
            && self.scarce.is_none()
        {
            self.buffer = wanted.min(self.buffer_max).max(self.buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn space(buffer: u32, max: u32) -> RecvSpace {
        let mut rcv = RecvSpace::new(Instant::ZERO, buffer, max, 10 * MSS);
        rcv.scale = WindowScale::for_buffer(max);
        rcv.nxt = 1;
        rcv.advertise_in_syn(MSS);
        rcv
    }

    #[test]
    fn the_scale_is_the_smallest_that_names_the_buffer() {
        assert_eq!(WindowScale::for_buffer(65535).shift(), 0);
        assert_eq!(WindowScale::for_buffer(65536).shift(), 1);
        assert_eq!(WindowScale::for_buffer(6 << 20).shift(), 7);
        assert_eq!(WindowScale::for_buffer(u32::MAX).shift(), MAX_SHIFT);
    }

    #[test]
    fn the_edge_never_moves_back_and_never_passes_the_buffer() {
        let mut rcv = space(64 << 10, 6 << 20);
        let mut edge = rcv.edge;
        for step in 1..2000u64 {
            rcv.nxt = (rcv.nxt + step % 700).min(rcv.edge);
            if step % 3 == 0 {
                let read = rcv.read + (rcv.nxt - rcv.read) / 2;
                rcv.consumed(Instant::ZERO, read, None, MSS);
            }
            rcv.advertise(MSS);
            assert!(rcv.edge >= edge);
            assert!(rcv.edge <= rcv.read + u64::from(rcv.buffer()));
            edge = rcv.edge;
        }
    }

    #[test]
    fn small_openings_do_not_move_the_edge() {
        let mut rcv = space(10_000, 10_000);
        rcv.nxt = rcv.edge;
        rcv.read += 999;
        assert_eq!(rcv.advertise(MSS), 0);
        rcv.read += 1;
        assert_eq!(rcv.advertise(MSS), 1000);
    }

    #[test]
    fn a_closed_window_is_reopened_with_a_segment() {
        let mut rcv = space(10_000, 10_000);
        rcv.nxt = rcv.edge;
        assert!(!rcv.consumed(Instant::ZERO, rcv.read + 999, None, MSS));
        assert!(rcv.consumed(Instant::ZERO, rcv.read + 1, None, MSS));
    }

    #[test]
    fn a_tiny_buffer_reopens_by_half() {
        let mut rcv = space(600, 600);
        rcv.nxt = rcv.edge;
        assert!(!rcv.consumed(Instant::ZERO, rcv.read + 299, None, MSS));
        assert!(rcv.consumed(Instant::ZERO, rcv.read + 1, None, MSS));
    }

    #[test]
    fn the_buffer_grows_with_the_reader_up_to_its_maximum() {
        let mut rcv = space(64 << 10, 200 << 10);
        let rtt = Some(Duration::from_millis(100));
        rcv.nxt += 20_000;
        rcv.consumed(Instant::from_millis(100), rcv.nxt, rtt, MSS);
        assert_eq!(rcv.buffer(), (2 * 20_000 + 16_000) * 3);
        rcv.nxt += 160_000;
        rcv.consumed(Instant::from_millis(200), rcv.nxt, rtt, MSS);
        assert_eq!(rcv.buffer(), 200 << 10);
    }

    #[test]
    fn while_memory_is_scarce_little_is_offered_and_nothing_is_taken_back() {
        let mut rcv = space(64 << 10, 200 << 10);
        rcv.advertise(MSS);
        let edge = rcv.edge;
        rcv.set_scarce(true, MSS);
        rcv.nxt += 40_000;
        let rtt = Some(Duration::from_millis(10));
        rcv.consumed(Instant::from_millis(100), rcv.nxt, rtt, MSS);
        rcv.advertise(MSS);
        assert_eq!((rcv.buffer(), rcv.edge), (64 << 10, edge));
        rcv.nxt = edge;
        assert!(rcv.consumed(Instant::from_millis(200), rcv.nxt, rtt, MSS));
        rcv.advertise(MSS);
        assert_eq!(rcv.edge, edge + 4 * u64::from(MSS));
        rcv.set_scarce(false, MSS);
        rcv.advertise(MSS);
        assert_eq!(rcv.edge, edge + (64 << 10));
    }

    #[test]
    fn an_older_segment_does_not_bring_its_window() {
        let mut snd = SendSpace::new();
        assert!(snd.update_window(10, 5, 1000));
        assert!(!snd.update_window(9, 6, 1));
        assert!(!snd.update_window(10, 4, 1));
        assert_eq!(snd.wnd, 1000);
        assert!(
            !snd.update_window(10, 5, 1000),
            "the same window is no change"
        );
        assert_eq!(snd.max_wnd, 1000);
    }
}
