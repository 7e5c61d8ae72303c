//! When to acknowledge (RFC 9293 3.8.6.3, RFC 5681 section 4.2): at once at the start and while data
//! is out of order, then every second segment, else after a short delay.

use super::time::{Duration, Instant};

/// Least guess of the peer's segment size, in bytes.
const MIN_SEGMENT: u32 = 536;

/// State of the acknowledgement policy of one connection.
#[derive(Clone, Debug)]
pub(super) struct AckPolicy {
    /// An ACK has to go out.
    pub(super) due: bool,
    /// Duplicate ACKs owed to a peer that counts them because it has no SACK.
    owed: u8,
    /// Data has come since the handshake: before, nothing is delayed.
    begun: bool,
    /// The dialogue alternates: an ACK will likely ride on an answer.
    interactive: bool,
    /// An ACK that was due at once waits for a moment, for an answer to ride on.
    put_off: bool,
    /// Segments that are still acknowledged at once.
    quick: u8,
    /// What `quick` is refilled to.
    quick_limit: u8,
    /// Segments that were not full since the last ACK, 2 meaning more than one.
    small: u8,
    /// The ACK that waits goes out once the application has read everything.
    on_read: bool,
    /// Largest segment seen from the peer, in bytes.
    segment: u32,
    /// RCV.NXT in the last segment sent: Last.ACK.sent of RFC 7323.
    pub(super) last_sent: u64,
    /// When data last came in order; before there was any, when the handshake was over.
    data_at: Instant,
}

/// What arriving data asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// An ACK now.
    Now,
    /// An ACK now, unless an answer is worth waiting for a moment.
    Soon,
    /// An ACK after the delay, unless one goes out before.
    Later,
}

impl AckPolicy {
    pub(super) fn new(now: Instant, quick_acks: u8) -> Self {
        AckPolicy {
            due: false,
            owed: 0,
            begun: false,
            interactive: false,
            put_off: false,
            quick: quick_acks,
            quick_limit: quick_acks,
            small: 0,
            on_read: false,
            segment: MIN_SEGMENT,
            last_sent: 0,
            data_at: now,
        }
    }

    /// Whether `len` bytes of payload are a full segment, as far as the peer has shown its size.
    pub(super) fn is_full(&self, len: usize) -> bool {
        len as u64 >= u64::from(self.segment)
    }

    /// Largest segment seen from the peer, in bytes.
    pub(super) fn segment(&self) -> u32 {
        self.segment
    }

    /// When data last came in order; before there was any, when the handshake was over.
    pub(super) fn data_at(&self) -> Instant {
        self.data_at
    }

    /// The handshake is over.
    pub(super) fn on_established(&mut self, now: Instant) {
        self.data_at = now;
    }

    /// In-order data came, in wire segments of `segment` bytes at most `mss`; RCV.NXT is now `nxt`.
    pub(super) fn on_data(
        &mut self,
        now: Instant,
        nxt: u64,
        segment: usize,
        mss: u32,
        rto: Duration,
    ) -> Answer {
        let segment = u32::try_from(segment).unwrap_or(u32::MAX).min(mss);
        self.segment = self.segment.min(mss).max(segment);
        if now.since(self.data_at) > rto {
            // The sender begins again with a small window: help it to open it.
            self.quick = self.quick_limit;
        }
        self.data_at = now;
        self.begun = true;
        if segment < self.segment {
            self.small = (self.small + 1).min(2);
        }
        if nxt - self.last_sent.min(nxt) > u64::from(self.segment) {
            return Answer::Now;
        }
        if self.quick > 0 && !self.interactive {
            return Answer::Soon;
        }
        // As Linux's `tcp_cleanup_rbuf`: a sender of small segments may wait for the ACK with the next
        // (Nagle), and an answer that could carry it has not come.
        self.on_read = self.small > u8::from(self.interactive);
        Answer::Later
    }

    /// Whether the ACK that waits is due once the application has read everything.
    pub(super) fn is_due_on_read(&self) -> bool {
        self.on_read
    }

    /// Data is missing or came twice: the sender needs to know, now and for the next segments.
    pub(super) fn on_disorder(&mut self) {
        self.due = true;
        self.interactive = false;
        self.quick = self.quick_limit;
    }

    /// `segments` came out of order from a peer without SACK, which waits for as many duplicate ACKs
    /// (RFC 5681 section 4.2), however few bursts they came in.
    pub(super) fn owe_duplicates(&mut self, segments: usize) {
        let segments = u8::try_from(segments).unwrap_or(u8::MAX);
        self.owed = self.owed.saturating_add(segments);
    }

    /// A segment with ACK = `nxt` goes out, with data or without.
    pub(super) fn on_sent(&mut self, nxt: u64) {
        if self.due && self.last_sent != nxt {
            self.quick = self.quick.saturating_sub(1);
        }
        self.owed = if self.last_sent == nxt {
            self.owed.saturating_sub(1)
        } else {
            0
        };
        self.due = self.owed > 0;
        (self.small, self.on_read, self.put_off) = (0, false, false);
        self.last_sent = nxt;
    }

    /// An ACK is due at once, and waits for a moment.
    pub(super) fn put_off(&mut self) {
        self.put_off = true;
    }

    /// Whether such an ACK waits.
    pub(super) fn is_put_off(&self) -> bool {
        self.put_off
    }

    /// Data goes out: soon after data came, this is a dialogue.
    pub(super) fn on_data_sent(&mut self, now: Instant, delay: Duration) {
        if self.last_sent > 1 && now.since(self.data_at) < delay {
            self.interactive = true;
        }
    }

    /// What came rode in the SYN (RFC 7413), which had its answer.
    pub(super) fn on_syn_data(&mut self) {
        self.begun = false;
    }

    /// The peer has finished: says whether the ACK of that may wait for an answer.
    pub(super) fn on_fin(&mut self) -> bool {
        self.interactive = true;
        self.begun
    }

    /// The delay ran out: no answer came that the ACK could have ridden on.
    pub(super) fn on_delay_over(&mut self) {
        self.due = true;
        self.interactive = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;
    const RTO: Duration = Duration::from_millis(200);
    const DELAY: Duration = Duration::from_millis(40);

    fn settled() -> AckPolicy {
        let mut policy = AckPolicy::new(Instant::ZERO, 0);
        policy.segment = MSS;
        policy.on_sent(1);
        policy
    }

    #[test]
    fn every_second_full_segment_is_acknowledged() {
        let mut policy = settled();
        assert_eq!(
            policy.on_data(Instant::ZERO, 1001, 1000, MSS, RTO),
            Answer::Later
        );
        assert_eq!(
            policy.on_data(Instant::ZERO, 2001, 1000, MSS, RTO),
            Answer::Now
        );
    }

    #[test]
    fn a_super_segment_counts_as_its_parts() {
        let mut policy = settled();
        assert_eq!(
            policy.on_data(Instant::ZERO, 20_001, 1000, MSS, RTO),
            Answer::Now
        );
    }

    #[test]
    fn the_first_segments_are_acknowledged_at_once() {
        let mut policy = AckPolicy::new(Instant::ZERO, 2);
        policy.on_sent(1);
        for n in 1..=2u64 {
            assert_eq!(
                policy.on_data(Instant::ZERO, 1 + n, 1, MSS, RTO),
                Answer::Soon
            );
            policy.due = true;
            policy.on_sent(1 + n);
        }
        assert_eq!(policy.on_data(Instant::ZERO, 4, 1, MSS, RTO), Answer::Later);
    }

    #[test]
    fn a_dialogue_waits_for_the_answer_to_carry_the_ack() {
        let mut policy = AckPolicy::new(Instant::ZERO, 16);
        policy.on_sent(1);
        policy.on_data(Instant::ZERO, 2, 1, MSS, RTO);
        policy.on_sent(2);
        policy.on_data_sent(Instant::from_millis(1), DELAY);
        assert_eq!(
            policy.on_data(Instant::from_millis(2), 3, 1, MSS, RTO),
            Answer::Later
        );
        policy.on_delay_over();
        policy.on_sent(3);
        assert_eq!(
            policy.on_data(Instant::from_millis(50), 4, 1, MSS, RTO),
            Answer::Soon
        );
    }
}
