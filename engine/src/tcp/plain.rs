//! The short way out: new data that the windows take as it is, or a pure ACK, while nothing is lost,
//! marked, held out of order or paced. Few questions decide then. What leaves, and what is noted of it,
//! is the same by the long way (`output.rs`).

use super::ecn::Codepoint;
use super::input::predicts;
use super::options::Options;
use super::recovery::Phase;
use super::segment::{Flags, Outgoing};
use super::tcb::{State, Tcb};
use super::time::Instant;

impl Tcb {
    /// The next segment, where the short way leads to one; otherwise nothing has changed.
    #[inline(always)]
    pub(super) fn next_plain(&mut self, now: Instant, max_payload: u64) -> Option<Outgoing> {
        if !self.is_plain(now) {
            return None;
        }
        let nxt = self.snd.nxt;
        let (mut flags, mut payload, mut mss) = (Flags::ACK, 0..0, self.mss);
        if self.snd.end > nxt || self.fin_due() {
            let cut = u64::from(self.send_mss()).min(max_payload).max(1);
            let len = self.plain_len(now, max_payload, cut)?;
            let fin = self.fin_wanted && self.snd.usable() > len;
            if fin {
                flags |= Flags::FIN;
            }
            self.note_new_data(now, nxt..nxt + len + u64::from(fin), cut);
            if len > 0 {
                flags |= Flags::PSH;
                self.ack.on_data_sent(now, self.set.delayed_ack.get());
                self.sent_at = now;
            }
            (payload, mss) = (nxt - 1..nxt - 1 + len, cut as u16);
        } else if !self.ack.due {
            return None;
        }
        self.recovery.paced = false;
        let len = (payload.end - payload.start) as usize;
        self.traffic.on_sent(len, mss.into());
        self.ack.on_sent(self.rcv.nxt);
        self.timers.delayed_ack = Instant::NEVER;
        Some(Outgoing {
            seq: self.iss.at(nxt),
            ack: self.irs.at(self.rcv.nxt),
            flags,
            window: self.rcv.advertise(self.set.own_mss.into()),
            urgent: 0,
            ecn: Codepoint::NotEct,
            options: Options {
                timestamps: self.ts.option(now),
                ..Options::default()
            },
            payload,
            mss,
        })
    }

    #[inline(always)]
    fn is_plain(&self, now: Instant) -> bool {
        let open = !matches!(
            self.state,
            State::SynSent | State::SynReceived | State::Closed
        );
        let recovery = &self.recovery;
        predicts()
            && open
            && self.rare.is_calm()
            && self.sent.is_plain()
            && recovery.phase == Phase::Open
            && recovery.held == 0
            && !recovery.tail_probe_due
            && !recovery.new_data_first
            && !self.probe_due
            && !self.rst_wanted
            && !self.ecn.on
            && self.path.is_settled(now)
            && self.cc.pacing_rate().is_none()
    }

    /// Bytes that wait, if all of them, and a FIN where it is all that waits, may go at once and in one
    /// piece.
    #[inline(always)]
    fn plain_len(&mut self, now: Instant, max_payload: u64, cut: u64) -> Option<u64> {
        let waiting = self.snd.end - self.snd.nxt;
        let usable = self.snd.usable();
        if self.fin_sent || (self.snd.flight() == 0 && self.was_silent(now)) {
            return None;
        }
        if waiting == 0 {
            return (usable > 0).then_some(0);
        }
        let most = match max_payload <= self.mss.into() {
            true => cut,
            false => max_payload,
        };
        let fits = waiting <= most && waiting <= usable && waiting <= self.congestion_room();
        (fits && self.may_send_tail(now, waiting, waiting % cut)).then_some(waiting)
    }
}
