//! Fifth of RFC 9293 3.10.7.4: the ACK field, and what it means for window, loss recovery,
//! round-trip time and state.

use super::congestion::{AckSample, Cause};
use super::event::{Drop, Events};
use super::recovery::Phase;
use super::segment::{Flags, Segment};
use super::tcb::{State, Tcb};
use super::time::{Duration, Instant};

impl Tcb {
    pub(super) fn process_ack(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        seq: u64,
    ) -> Result<Events, Drop> {
        let ack = segment.ack.position(self.iss, self.snd.nxt);
        let mut events = Events::NONE;
        if self.state == State::SynReceived {
            if ack != Some(1) {
                self.reset_seq = Some(segment.ack);
                return Err(Drop::AckOfUnsent);
            }
            self.snd.una = 1;
            events |= self.enter_established(now, segment);
        }
        // RFC 5961 section 5.2: an ACK far in the past is as wrong as one of the future.
        let oldest = self.snd.una.saturating_sub(self.snd.max_wnd.into());
        let ack = match ack {
            Some(ack) if ack > self.snd.nxt => {
                self.challenge(now);
                return Err(Drop::AckOfUnsent);
            }
            Some(ack) if ack >= oldest => ack,
            _ => {
                self.challenge(now);
                return Err(Drop::AckTooOld);
            }
        };
        Ok(events | self.on_acceptable_ack(now, segment, seq, ack))
    }

    /// Takes an ACK between the oldest acceptable one and SND.NXT.
    pub(super) fn on_acceptable_ack(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        seq: u64,
        ack: u64,
    ) -> Events {
        if ack < self.snd.una {
            return Events::NONE;
        }
        self.keepalive_probes = 0;
        let wnd = self.snd.scale.bytes(segment.window);
        let window_changed = self.snd.update_window(seq, ack, wnd);
        let reported = self.take_sack_blocks(now, segment, ack);
        let mut events = Events::NONE;
        if ack > self.snd.una {
            events |= self.on_new_ack(now, segment, ack);
        } else if self.snd.flight() > 0 {
            let duplicate = if self.recovery.sack {
                reported > 0
            } else {
                // RFC 5681 section 2: a window update is no duplicate.
                let bare = segment.payload.is_empty() && !segment.flags.contains(Flags::FIN);
                bare && !window_changed
            };
            if duplicate
                && self
                    .recovery
                    .on_dup_ack(self.snd.una, self.send_mss().into())
            {
                self.enter_fast_recovery(now);
            }
        }
        if reported > 0
            && self
                .recovery
                .loss_reported(self.snd.una, self.send_mss().into())
        {
            self.enter_fast_recovery(now);
        }
        if self.snd.flight() == 0 || self.snd.wnd == 0 {
            // The peer answers: however long its window stays shut, it is alive.
            self.retries = 0;
        }
        let probing = self.snd.flight() == 0 && self.timers.retransmit != Instant::NEVER;
        if probing && !self.blocked_by_window() {
            self.rtt.end_backoff();
            self.timers.retransmit = Instant::NEVER;
            self.probe_due = false;
            self.squeeze = false;
        }
        if window_changed || reported > 0 {
            events |= Events::SEND;
        }
        events
    }

    /// Adds the segment's SACK blocks to the scoreboard; says how many bytes of them are news. Blocks
    /// that reach outside what is outstanding are ignored (stale ones and duplicates' reports).
    fn take_sack_blocks(&mut self, now: Instant, segment: &Segment<'_>, ack: u64) -> u64 {
        if !self.recovery.sack || segment.options.sack.is_empty() {
            return 0;
        }
        let mut news = 0;
        for (left, right) in segment.options.sack.as_slice() {
            let left = left.position(self.iss, self.snd.nxt);
            let right = right.position(self.iss, self.snd.nxt);
            if let (Some(left), Some(right)) = (left, right)
                && ack.max(self.snd.una) < left
                && left < right
                && right <= self.snd.nxt
            {
                news += self.recovery.add_block(left..right);
                self.rtt.on_sack(&(left..right), now);
            }
        }
        news
    }

    fn on_new_ack(&mut self, now: Instant, segment: &Segment<'_>, ack: u64) -> Events {
        if self.path.on_ack(ack) {
            self.take_larger_segments();
        }
        let mss = self.send_mss();
        let flight_before = self.snd.flight();
        let acked = ack - self.snd.una;
        let window_limited = self.snd.una < self.window_full_at
            || (self.cc.cwnd() < self.cc.ssthresh()
                && flight_before.saturating_mul(2) >= self.cc.cwnd().into());
        let data_before = self.acked();
        self.snd.una = ack;
        self.retries = 0;
        self.progress_at = now;

        let rtt = match self.rtt.on_ack(ack, now) {
            None => self.sample_echo(now, segment),
            sample => sample,
        };
        let phase = self.recovery.phase();
        let recovered = self.recovery.on_ack(ack, self.snd.nxt, acked, mss.into());
        if recovered && phase == Phase::Fast {
            let flight = clamp_u32(self.snd.flight());
            self.cc.get_mut().on_recovered(now, flight, mss);
        } else if phase != Phase::Fast {
            let sample = AckSample {
                now,
                una: self.snd.una,
                nxt: self.snd.nxt,
                acked: clamp_u32(acked),
                delivered: clamp_u32(acked),
                lost: 0,
                marked: 0,
                flight_before: clamp_u32(flight_before),
                in_flight: clamp_u32(self.pipe()),
                rtt,
                rate: None,
                window_limited: window_limited || phase == Phase::Loss,
                phase: self.recovery.phase(),
            };
            self.cc.get_mut().on_ack(&sample, mss);
        }
        if self.snd.flight() == 0 {
            self.timers.retransmit = Instant::NEVER;
        } else {
            self.arm_retransmit(now);
        }
        let mut events = Events::SEND;
        if self.acked() > data_before {
            events |= Events::WRITABLE;
        }
        if self.fin_sent && ack > self.snd.end {
            events |= self.on_fin_acked(now);
        }
        events
    }

    /// Takes a round-trip sample from the echoed timestamp when no timed segment gives a finer one.
    pub(super) fn sample_echo(&mut self, now: Instant, segment: &Segment<'_>) -> Option<Duration> {
        let (_, echo) = segment.options.timestamps?;
        if self.rtt.is_timing() && !self.recovering() {
            return None;
        }
        let rtt = self.ts.echoed(now, echo)?;
        self.rtt.sample(rtt);
        Some(rtt)
    }

    fn on_fin_acked(&mut self, now: Instant) -> Events {
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                if self.orphan {
                    self.arm_fin_wait2(now);
                }
                Events::NONE
            }
            State::Closing => {
                self.enter_time_wait(now);
                Events::NONE
            }
            State::LastAck => self.enter_closed(),
            _ => Events::NONE,
        }
    }

    fn enter_fast_recovery(&mut self, now: Instant) {
        if self.repeat_probe(now) {
            return;
        }
        let mss = self.send_mss();
        self.cc
            .get_mut()
            .on_congestion(now, Cause::Loss, clamp_u32(self.snd.flight()), mss);
        self.recovery
            .enter_fast(self.snd.una, self.snd.nxt, mss.into());
        self.counters.fast_recoveries = self.counters.fast_recoveries.saturating_add(1);
        self.forget_timed_without_sack();
        self.arm_retransmit(now);
    }

    /// Without SACK, an ACK that jumps over a filled hole says nothing about the last segment's trip.
    pub(super) fn forget_timed_without_sack(&mut self) {
        if !self.recovery.sack {
            self.rtt.forget_timed();
        }
    }
}

pub(super) fn clamp_u32(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
