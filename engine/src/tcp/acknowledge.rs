//! Fifth of RFC 9293 3.10.7.4: the ACK field, and what it means for window, loss recovery,
//! round-trip time and state.

use super::congestion::AckSample;
use super::event::{Drop, Events};
use super::news::News;
use super::options::MAX_SACK_BLOCKS;
use super::recovery::Phase;
use super::segment::{Flags, Segment};
use super::tcb::{State, Tcb};
use super::time::{Duration, Instant};

/// What an ACK is, as loss recovery sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    /// SND.UNA before it.
    pub(super) una: u64,
    /// It acknowledges something new.
    pub(super) advanced: bool,
    /// It is a duplicate (RFC 5681 section 2).
    pub(super) duplicate: bool,
    /// The timestamp that it echoes.
    pub(super) echo: Option<u32>,
    /// Segments that it newly acknowledges.
    pub(super) acked_segments: u32,
}

/// The connection before an ACK.
struct Before {
    una: u64,
    flight: u64,
    lost: u64,
    held: u32,
    window_limited: bool,
}

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
            let end = self.handshake_end();
            let Some(acked) = ack.filter(|ack| (1..=end).contains(ack)) else {
                self.rare.make().reset_seq = Some(segment.ack);
                return Err(Drop::AckOfUnsent);
            };
            if !self.is_open_early() {
                self.take_syn_ack(segment, acked);
            }
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
        if ack >= self.snd.una {
            self.ack_at = now;
        }
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
        let reports = self.recovery.sack && !segment.options.sack.is_empty();
        if ack < self.snd.una {
            // An old one may still have news of what arrived.
            return if reports {
                self.take_ack(now, segment, ack, true)
            } else {
                Events::NONE
            };
        }
        self.keepalive_probes = 0;
        let wnd = self.snd.scale.bytes(segment.window);
        let window_changed = self.snd.update_window(seq, ack, wnd);
        let mut events = Events::NONE;
        if self.snd.flight() > 0 || reports {
            events |= self.take_ack(now, segment, ack, window_changed);
        }
        if self.snd.flight() == 0 || (self.snd.wnd == 0 && !self.orphan) {
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
        if window_changed {
            events |= Events::SEND;
        }
        events
    }

    /// Takes an ACK while something is outstanding, or with reports of what arrived.
    fn take_ack(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        acknowledged: u64,
        window_changed: bool,
    ) -> Events {
        self.more = false;
        if self.is_orderly(segment, acknowledged) {
            return self.take_orderly_ack(now, segment, acknowledged);
        }
        let before = Before {
            una: self.snd.una,
            flight: self.snd.flight(),
            lost: self.rate.lost,
            held: self.recovery.held,
            window_limited: self.usage.is_limited(self.cc.cwnd(), self.cc.ssthresh()),
        };
        let mut news = News::new(
            now,
            self.recovery.point,
            self.rtt.min_rtt(),
            self.sent.highest_sacked(),
        );
        if self.recovery.sack && !segment.options.sack.is_empty() {
            self.take_sack_blocks(segment, acknowledged, &mut news);
        }
        let segments = self.sent.out.segments;
        let mut events = Events::NONE;
        let advanced = acknowledged > self.snd.una;
        if advanced {
            self.sent.acknowledge(acknowledged, &mut news);
            events |= self.advance(now, acknowledged);
        }
        // RFC 5681 section 2: neither data nor a window update makes a duplicate.
        let bare = segment.payload.is_empty() && !segment.flags.contains(Flags::FIN);
        let ack = Ack {
            una: before.una,
            advanced,
            duplicate: !advanced && bare && !window_changed && !news.dsack,
            echo: segment.options.timestamps.map(|(_, echo)| echo),
            acked_segments: segments - self.sent.out.segments,
        };
        if !advanced && !ack.duplicate && news.delivered == 0 && !news.dsack {
            self.answer_echo(now, segment);
            return events;
        }
        self.learn(now, segment, &before, &ack, &news);
        events | Events::SEND
    }

    /// Draws the consequences of an ACK for the estimates, loss recovery and congestion control.
    fn learn(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        before: &Before,
        ack: &Ack,
        news: &News,
    ) {
        let rtt = self.measure_round_trip(now, segment, ack.advanced, news);
        self.rate.on_delivered(now, news.delivered, news.segments);
        if let Some(latest) = news.latest {
            self.rack.advance(now, latest, news.last);
        }
        let mss = self.send_mss();
        if let Some(low) = news.reordered {
            let high = self.sent.highest_sacked().max(news.highest_sacked);
            self.repair
                .make()
                .reordering
                .on_reordering(low, high, mss.into());
        }
        if let Some(newest) = news.newest
            && let Some(repair) = self.repair.if_any()
        {
            repair
                .reordering
                .adapt(newest.delivered, self.rate.delivered);
        }
        self.judge_probe(now, ack, news);
        self.recover(now, ack, news);

        let (marked, marked_segments) = if self.echoes_mark(segment) {
            (news.delivered, news.segments)
        } else {
            (0, 0)
        };
        if marked_segments > 0 {
            let told = &mut self.repair.count().marked_delivered;
            *told = told.wrapping_add(marked_segments);
        }
        let filled = before.window_limited && marked == 0 && !self.is_reduced();
        let lost = self.rate.lost - before.lost;
        let phase = self.recovery.phase();
        let arrived = self.newly_arrived(before, ack, news);
        let newest = news.newest.as_ref();
        let rate = newest.and_then(|newest| self.rate.measure(now, newest, self.rtt.min_rtt()));
        let sample = AckSample {
            now,
            una: self.snd.una,
            nxt: self.snd.nxt,
            acked: if ack.advanced { clamp_u32(arrived) } else { 0 },
            delivered: clamp_u32(news.delivered),
            lost: clamp_u32(lost),
            marked: clamp_u32(marked),
            flight_before: clamp_u32(before.flight),
            in_flight: clamp_u32(self.pipe()),
            rtt,
            rate,
            window_limited: filled || phase == Phase::Loss,
            phase,
        };
        if news.delivered > 0 {
            self.cc.on_ack(&sample, mss);
        }
        self.answer_echo(now, segment);
        self.reduce_window(arrived, ack.advanced && lost == 0);
        self.rearm_after_ack(now, ack.advanced);
    }

    /// Bytes that arrived as far as the window is concerned: a duplicate ACK of a peer without SACK
    /// stands for a segment, which a later cumulative ACK does not count again.
    fn newly_arrived(&self, before: &Before, ack: &Ack, news: &News) -> u64 {
        let mss = u64::from(self.send_mss());
        if self.recovery.sack {
            return news.delivered;
        }
        if ack.duplicate {
            return mss;
        }
        let announced = u64::from(before.held) * mss;
        news.delivered
            .saturating_sub(announced)
            .max(news.delivered.min(mss))
    }

    /// Adds the segment's SACK blocks to the records. Blocks that reach outside what is outstanding
    /// are ignored.
    fn take_sack_blocks(&mut self, segment: &Segment<'_>, ack: u64, news: &mut News) {
        let blocks = segment.options.sack.as_slice();
        let mut blocks = blocks.iter().map(|(left, right)| {
            let left = left.position(self.iss, self.snd.nxt);
            let right = right.position(self.iss, self.snd.nxt);
            (left.unwrap_or(0), right.unwrap_or(0))
        });
        let mut ranges = [(0, 0); MAX_SACK_BLOCKS];
        for (range, block) in ranges.iter_mut().zip(&mut blocks) {
            *range = block;
        }
        self.take_dsack(&mut ranges, ack, news);
        // In order, so that a block of this segment does not make another look late.
        ranges.sort_unstable();
        for (left, right) in ranges {
            if ack.max(self.snd.una) < left && left < right && right <= self.snd.nxt {
                self.sent.sack(left..right, news);
            }
        }
    }

    /// SND.UNA advances; the records know it.
    pub(super) fn advance(&mut self, now: Instant, ack: u64) -> Events {
        let data_before = self.acked();
        self.snd.una = ack;
        self.forget_records();
        if self.path.on_ack(ack) {
            self.take_larger_segments();
        }
        self.retries = 0;
        self.progress_at = now;
        let mut events = Events::NONE;
        if self.acked() > data_before {
            events |= Events::WRITABLE;
        }
        if self.fin_sent && ack > self.snd.end {
            events |= self.on_fin_acked(now);
        }
        events
    }

    pub(super) fn rearm_after_ack(&mut self, now: Instant, advanced: bool) {
        if self.snd.flight() == 0 {
            if advanced {
                self.timers.retransmit = Instant::NEVER;
            }
        } else if advanced && !self.recovery.waits {
            if self.sent.first().is_some_and(|first| first.sacked) {
                self.arm_for_reneging(now);
            } else if !self.watch_for_tail_loss(now, true) {
                self.arm_retransmit(now);
            }
        }
    }

    /// The round-trip time that the ACK tells; an echoed timestamp does where no segment sent once
    /// gives a finer one.
    pub(super) fn measure_round_trip(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        advanced: bool,
        news: &News,
    ) -> Option<Duration> {
        if let Some((first, last)) = news.round_trips() {
            self.rtt.sample(first);
            self.rtt.note_min(last);
            return Some(last);
        }
        if advanced {
            return self.sample_echo(now, segment);
        }
        None
    }

    /// Takes a round-trip sample from the echoed timestamp.
    pub(super) fn sample_echo(&mut self, now: Instant, segment: &Segment<'_>) -> Option<Duration> {
        let (_, echo) = segment.options.timestamps?;
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
}

pub(super) fn clamp_u32(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
