//! The size of the receive buffer by the rate at which the application reads: dynamic right-sizing
//! (Fisk and Feng, 2001), with the margins of Linux's `tcp_rcv_space_adjust`.

use super::time::{Duration, Instant};

/// Round trips shorter than this count as this long: a tick of the timestamp clock, and about as
/// fine as a reader is scheduled.
const SHORTEST: Duration = Duration::from_millis(1);

/// Segments that the buffer holds beyond what the rate asks for.
const CUSHION: u64 = 16;

/// How fast the application reads.
#[derive(Clone, Debug)]
pub(super) struct ReadRate {
    /// Round trip as the receiver sees it, in microseconds; 0 is not known.
    rtt: u32,
    /// Timestamp whose echo was measured last.
    echo: u32,
    /// Most bytes that were read in a round trip.
    space: u32,
    /// Where and when the current round trip began.
    read: u64,
    since: Instant,
}

impl ReadRate {
    /// Nothing read yet up to position `read`; `space` bytes in a round trip are no reason to grow.
    pub(super) fn new(now: Instant, read: u64, space: u32) -> Self {
        ReadRate {
            rtt: 0,
            echo: 0,
            space: space.max(1),
            read,
            since: now,
        }
    }

    /// Round trip as the receiver sees it.
    pub(super) fn rtt(&self) -> Option<Duration> {
        (self.rtt > 0).then(|| Duration::from_micros(self.rtt.into()))
    }

    /// Most bytes that were read in a round trip.
    pub(super) fn space(&self) -> u32 {
        self.space
    }

    /// Whether an echo is another one than that measured last.
    pub(super) fn is_new(&self, echo: u32) -> bool {
        echo != self.echo
    }

    /// The first full segment came that echoes our timestamp `echo`, sent a time of `rtt` ago: a round
    /// trip unless the sender had paused, and the only measure where this side sends nothing itself.
    pub(super) fn measure(&mut self, echo: u32, rtt: Duration) {
        self.echo = echo;
        let sample = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
        self.rtt = match self.rtt {
            0 => sample,
            old => old - old / 8 + sample / 8,
        };
    }

    /// The application has read up to `read`. At the end of a round trip in which it read more than
    /// in any before: the buffer, in bytes, with which the sender can go on as fast, or faster while
    /// it speeds up. `srtt` is the round trip as the sender of this side knows it.
    pub(super) fn wanted(
        &mut self,
        now: Instant,
        read: u64,
        srtt: Option<Duration>,
        mss: u32,
    ) -> Option<u32> {
        let rtt = match self.rtt {
            0 => srtt?,
            micros => Duration::from_micros(micros.into()),
        };
        if now.since(self.since) < rtt.max(SHORTEST) {
            return None;
        }
        let copied = read - self.read;
        (self.read, self.since) = (read, now);
        let space = u64::from(self.space);
        if copied <= space {
            return None;
        }
        self.space = u32::try_from(copied).unwrap_or(u32::MAX);
        // Twice, for the round trip that repairing a loss takes; and what the last round trip had
        // over the one before twice more, for a sender in slow start.
        let steady = copied
            .saturating_mul(2)
            .saturating_add(CUSHION * u64::from(mss));
        let growth = steady.saturating_mul(copied - space) / space;
        let wanted = steady.saturating_add(growth.saturating_mul(2));
        Some(u32::try_from(wanted).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;
    const RTT: Option<Duration> = Some(Duration::from_millis(100));

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn rate() -> ReadRate {
        ReadRate::new(Instant::ZERO, 0, 10_000)
    }

    #[test]
    fn only_a_round_trip_with_more_than_before_asks_for_a_buffer() {
        let mut rate = rate();
        assert_eq!(rate.wanted(at(99), 50_000, RTT, MSS), None, "too early");
        assert_eq!(rate.wanted(at(100), 10_000, RTT, MSS), None);
        let steady = 2 * 20_000 + 16_000;
        assert_eq!(
            rate.wanted(at(200), 30_000, RTT, MSS),
            Some(steady + 2 * steady)
        );
        assert_eq!(rate.wanted(at(300), 50_000, RTT, MSS), None, "as before");
    }

    #[test]
    fn a_sender_that_has_stopped_to_speed_up_gets_twice_its_rate() {
        let mut rate = rate();
        rate.wanted(at(100), 100_000, RTT, MSS);
        assert_eq!(
            rate.wanted(at(200), 200_001, RTT, MSS),
            Some(2 * 100_001 + 16_000 + 2 * 2)
        );
    }

    #[test]
    fn a_pure_receiver_measures_the_round_trip_by_echoes() {
        let mut rate = rate();
        rate.measure(1, Duration::from_millis(200));
        assert!(!rate.is_new(1) && rate.is_new(2));
        assert_eq!(
            rate.wanted(at(150), 100_000, Some(Duration::from_millis(1)), MSS),
            None,
            "the handshake's round trip is long past"
        );
        assert!(rate.wanted(at(200), 100_000, None, MSS).is_some());
    }

    #[test]
    fn no_rate_overflows() {
        let mut rate = ReadRate::new(Instant::ZERO, 0, 0);
        assert_eq!(
            rate.wanted(at(1000), u64::MAX, RTT, u32::MAX),
            Some(u32::MAX)
        );
        assert_eq!(rate.wanted(at(2000), u64::MAX, RTT, MSS), None);
    }
}
