//! The short way out: new data as far as the windows take it, or a pure ACK, while nothing is lost,
//! marked, held out of order or paced. Few questions decide then. What leaves, and what is noted of it,
//! is the same by the long way (`output.rs`).

use super::ecn::Codepoint;
use super::input::predicts;
use super::options::Options;
use super::output::tail_of;
use super::recovery::Phase;
use super::segment::{Flags, Outgoing};
use super::tcb::{State, Tcb};
use super::time::Instant;

/// The long way is to be taken; nothing has changed.
pub(super) struct Unusual;

impl Tcb {
    /// The next segment, or `None` if nothing may leave now.
    #[inline(always)]
    pub(super) fn next_plain(
        &mut self,
        now: Instant,
        max_payload: u64,
    ) -> Result<Option<Outgoing>, Unusual> {
        if !self.is_plain(now) {
            return Err(Unusual);
        }
        let nxt = self.snd.nxt;
        let (mut flags, mut payload, mut mss) = (Flags::ACK, 0..0, self.mss);
        let (mut len, mut fin, mut cut) = (0, false, 0);
        if self.snd.end > nxt || self.fin_due() {
            cut = u64::from(self.send_mss()).min(max_payload).max(1);
            len = self.plain_len(now, max_payload, cut)?;
            fin = self.fin_wanted && nxt + len == self.snd.end && self.snd.usable() > len;
            let blocked = len == 0 && !fin;
            if blocked && (self.snd.flight() == 0 || self.squeeze) {
                return Err(Unusual);
            }
        }
        self.recovery.paced = false;
        if len > 0 || fin {
            let end = nxt + len;
            self.note_new_data(now, nxt..end + u64::from(fin), cut);
            if fin {
                flags |= Flags::FIN;
            }
            if len > 0 {
                if end == self.snd.end || len > cut {
                    flags |= Flags::PSH;
                }
                self.ack.on_data_sent(now, self.set.delayed_ack.get());
                self.sent_at = now;
            }
            (payload, mss) = (nxt - 1..end - 1, cut as u16);
        } else if !self.ack.due {
            self.note_application_limit();
            self.note_limit(now);
            return Ok(None);
        }
        self.traffic.on_sent(len as usize, mss.into());
        self.ack.on_sent(self.rcv.nxt);
        self.timers.delayed_ack = Instant::NEVER;
        Ok(Some(Outgoing {
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
        }))
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

    /// Bytes of what waits that may go now.
    #[inline(always)]
    fn plain_len(&mut self, now: Instant, max_payload: u64, cut: u64) -> Result<u64, Unusual> {
        if self.fin_sent || (self.snd.flight() == 0 && self.was_silent(now)) {
            return Err(Unusual);
        }
        let most = match max_payload <= self.mss.into() {
            true => cut,
            false => max_payload,
        };
        let waiting = self.snd.end - self.snd.nxt;
        let usable = self.snd.usable();
        let room = usable.min(self.congestion_room());
        if waiting > room && usable > room {
            self.note_usage(true);
        }
        let len = waiting.min(room).min(most);
        let tail = tail_of(len, cut);
        let whole = len == waiting && self.may_send_tail(now, len, tail);
        Ok(if whole { len } else { len - tail })
    }
}
