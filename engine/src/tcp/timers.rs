//! What happens when time passes: retransmission (RFC 6298 section 5), window probes
//! (RFC 9293 3.8.6.1), keepalive (3.8.4), delayed ACK, cork, FIN-WAIT-2 and TIME-WAIT.

use super::acknowledge::clamp_u32;
use super::event::{Error, Events};
use super::recovery::Watch;
use super::settings::Keepalive;
use super::tcb::{State, Tcb};
use super::time::{Duration, Instant};

/// How much later than the reordering window its timer expires; Linux's TCP_TIMEOUT_MIN.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// Least wait for a peer that seems to have discarded what it reported.
const RENEGING_PATIENCE: Duration = Duration::from_millis(10);

/// Deadlines of one connection; [`Instant::NEVER`] is not armed.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    /// Retransmission while something is in flight, else the window probe.
    pub(super) retransmit: Instant,
    pub(super) delayed_ack: Instant,
    pub(super) cork: Instant,
    pub(super) keepalive: Instant,
    /// End of TIME-WAIT, or of FIN-WAIT-2 after a close.
    pub(super) end: Instant,
}

impl Timers {
    pub(super) const fn new() -> Self {
        const NEVER: Instant = Instant::NEVER;
        Timers {
            retransmit: NEVER,
            delayed_ack: NEVER,
            cork: NEVER,
            keepalive: NEVER,
            end: NEVER,
        }
    }

    fn next(&self) -> Instant {
        let Timers {
            retransmit,
            delayed_ack,
            cork,
            keepalive,
            end,
        } = *self;
        retransmit
            .min(delayed_ack)
            .min(cork)
            .min(keepalive)
            .min(end)
    }
}

/// Disarms a timer if it is due, and says so.
fn expired(timer: &mut Instant, now: Instant) -> bool {
    let due = *timer <= now && *timer != Instant::NEVER;
    if due {
        *timer = Instant::NEVER;
    }
    due
}

impl Tcb {
    /// When [`on_timer`](Self::on_timer) has something to do; `None` if no timer is armed.
    pub fn next_deadline(&self) -> Option<Instant> {
        let next = self.timers.next().min(self.release_at());
        Some(next).filter(|next| *next != Instant::NEVER)
    }

    /// Does what is due at `now`. Calling it early or twice is harmless.
    pub fn on_timer(&mut self, now: Instant) -> Events {
        let mut events = Events::NONE;
        if self.release_at() <= now {
            self.recovery.paced = false;
            events |= Events::SEND;
        }
        if self.timers.next() > now {
            return events;
        }
        if expired(&mut self.timers.delayed_ack, now) {
            self.ack.on_delay_over();
            events |= Events::SEND;
        }
        if expired(&mut self.timers.cork, now) {
            self.rare.make().push_to = self.snd.end;
            events |= Events::SEND;
        }
        if expired(&mut self.timers.keepalive, now) {
            events |= self.on_keepalive(now);
        }
        if expired(&mut self.timers.retransmit, now) {
            events |= match self.state {
                State::Closed => Events::NONE,
                State::SynSent | State::SynReceived => self.on_handshake_timeout(now),
                _ if self.snd.flight() > 0 => self.on_flight_timeout(now),
                _ => self.on_probe_timeout(now),
            };
        }
        if expired(&mut self.timers.end, now) {
            events |= self.enter_closed();
        }
        events
    }

    /// Arms the retransmission timer (or window probe) one timeout from `now`, or for the end of the
    /// user timeout if that comes first.
    pub(super) fn arm_retransmit(&mut self, now: Instant) {
        self.arm(Watch::Timeout, now + self.rtt.rto());
        self.timers.retransmit = self.timers.retransmit.max(now);
    }

    /// Has the timer expire at `at`, or at the end of the user timeout if that comes first.
    pub(super) fn arm(&mut self, watch: Watch, at: Instant) {
        self.recovery.watch = watch;
        self.timers.retransmit = at;
        if let Some(timeout) = self.set.user_timeout {
            let end = self.progress_at + timeout.get();
            if end < at {
                self.recovery.watch = Watch::Timeout;
                self.timers.retransmit = end;
            }
        }
    }

    /// What may only be late has `wait` more time.
    pub(super) fn wait_for_reordered(&mut self, now: Instant, wait: Duration) {
        let wait = (wait + TIMER_SLACK).min(self.rtt.rto());
        self.arm(Watch::Reordering, now + wait);
        self.recovery.waits = true;
    }

    /// The peer no longer acknowledges what it had reported: the rest of the timeout is not waited
    /// for.
    pub(super) fn arm_for_reneging(&mut self, now: Instant) {
        let srtt = self.rtt.srtt().unwrap_or(Duration::ZERO);
        let wait = (srtt / 2).max(RENEGING_PATIENCE).min(self.rtt.rto());
        self.arm(Watch::Timeout, now + wait);
    }

    fn on_flight_timeout(&mut self, now: Instant) -> Events {
        match self.recovery.watch {
            Watch::Timeout => return self.on_retransmission_timeout(now),
            Watch::TailLoss => self.on_tail_loss_timeout(now),
            Watch::Reordering => {
                self.on_reordering_timeout(now);
                let at = self
                    .timeout_of_first(now)
                    .max(now + Duration::from_micros(1));
                self.arm(Watch::Timeout, at);
            }
        }
        Events::SEND
    }

    /// The peer let the user timeout (RFC 5482) pass without acknowledging anything.
    fn user_timeout_over(&self, now: Instant) -> bool {
        let waited = now.since(self.progress_at);
        let timeout = self.set.user_timeout;
        timeout.is_some_and(|timeout| waited >= timeout.get())
    }

    /// Counts a retransmission or probe without answer; says whether it was the last.
    fn give_up(&mut self, now: Instant, limit: u8) -> bool {
        let over = self.retries >= limit || self.user_timeout_over(now);
        self.retries = self.retries.saturating_add(1);
        over
    }

    fn on_handshake_timeout(&mut self, now: Instant) -> Events {
        let limit = match self.state {
            State::SynSent => self.set.syn_retries,
            _ => self.set.synack_retries,
        };
        if self.give_up(now, limit) {
            return self.time_out();
        }
        self.syn_retransmitted = true;
        self.stop_asking_for_ecn();
        self.syn_due = true;
        let counters = self.repair.count();
        counters.retransmits = counters.retransmits.saturating_add(1);
        counters.timeouts = counters.timeouts.saturating_add(1);
        self.rtt.back_off();
        self.arm_retransmit(now);
        Events::SEND
    }

    fn data_retries(&self) -> u8 {
        if self.orphan {
            self.set.orphan_retries
        } else {
            self.set.data_retries
        }
    }

    fn on_retransmission_timeout(&mut self, now: Instant) -> Events {
        let (repeated, timeouts) = (self.retries > 0, self.retries);
        if self.give_up(now, self.data_retries()) {
            return self.time_out();
        }
        if self
            .path
            .on_timeout(now, timeouts, clamp_u32(self.snd.flight()))
        {
            self.update_mss();
        }
        self.enter_loss(now, repeated);
        let counters = self.repair.count();
        counters.timeouts = counters.timeouts.saturating_add(1);
        self.rtt.back_off();
        self.arm_retransmit(now);
        Events::SEND
    }

    /// The window stayed shut, or too narrow for a segment, with nothing in flight.
    fn on_probe_timeout(&mut self, now: Instant) -> Events {
        if !self.blocked_by_window() {
            return Events::SEND;
        }
        // Of an orphan nobody is left to decide how long to wait: answers or not, it ends once probes
        // are as far apart as they get (Linux's tcp_probe_timer).
        let over = self.orphan && self.rtt.is_backed_off_fully();
        if over || self.give_up(now, self.data_retries()) {
            return self.time_out();
        }
        if self.snd.usable() > 0 {
            self.squeeze = true;
        } else {
            self.probe_due = true;
        }
        self.rtt.back_off();
        self.arm_retransmit(now);
        Events::SEND
    }

    /// When the peer was last heard.
    fn heard_at(&self) -> Instant {
        self.ack_at.max(self.ack.data_at())
    }

    /// Arms the keepalive timer, counting from when the peer was last heard.
    pub(super) fn arm_keepalive(&mut self) {
        let open = !matches!(
            self.state,
            State::SynSent | State::SynReceived | State::TimeWait | State::Closed
        );
        self.timers.keepalive = if self.set.keepalive.on && open {
            self.heard_at() + self.set.keepalive.idle.get()
        } else {
            Instant::NEVER
        };
    }

    fn on_keepalive(&mut self, now: Instant) -> Events {
        let Keepalive {
            count,
            idle,
            interval,
            ..
        } = self.set.keepalive;
        let (idle, interval) = (idle.get(), interval.get());
        let silence = now.since(self.heard_at());
        if silence < idle || self.snd.flight() > 0 || self.snd.end > self.snd.nxt {
            // Heard meanwhile, or the retransmission timer watches over the peer.
            self.keepalive_probes = 0;
            self.timers.keepalive = if silence < idle {
                self.heard_at() + idle
            } else {
                now + idle.max(interval)
            };
            return Events::NONE;
        }
        let dead = match self.set.user_timeout {
            Some(timeout) => self.keepalive_probes > 0 && silence >= timeout.get(),
            None => self.keepalive_probes >= count,
        };
        if dead {
            self.rst_due = true;
            return self.time_out();
        }
        self.keepalive_probes = self.keepalive_probes.saturating_add(1);
        self.probe_due = true;
        self.timers.keepalive = now + interval;
        Events::SEND
    }

    /// Ends the connection because the peer did not answer; an ICMP error seen meanwhile is a better
    /// explanation than that.
    fn time_out(&mut self) -> Events {
        self.fail(self.soft_error.unwrap_or(Error::TimedOut))
    }
}
