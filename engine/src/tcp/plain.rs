//! The short way out: new data as far as the windows take it, or a pure ACK, while nothing is lost,
//! marked, held out of order or paced. Few questions decide then. What leaves, and what is noted of it,
//! is the same by the long way (`output.rs`).

use super::ecn::Codepoint;
use super::header::Next;
use super::input::predicts;
use super::options::Options;
use super::output::{Piece, tail_of};
use super::recovery::Phase;
use super::segment::{Flags, Outgoing};
use super::tcb::{State, Tcb};
use super::time::Instant;

/// The long way is to be taken: nothing is noted yet that it would not note as well.
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
        let waits = self.snd.end > nxt || self.fin_due();
        let piece = match waits {
            true => self.plain_piece(now, max_payload)?,
            false => None,
        };
        self.recovery.paced = false;
        let next = match piece {
            Some(piece) => {
                self.note_new_data(now, piece.range.clone(), piece.cut);
                self.with_data(now, &piece)
            }
            None if self.ack.due => self.without_data(nxt, Flags::ACK),
            None => {
                self.note_application_limit();
                self.note_limit(now);
                return Ok(None);
            }
        };
        Ok(Some(self.plain_segment(now, next)))
    }

    /// Gives a segment its header, which tells of nothing but what came in order.
    #[inline(always)]
    fn plain_segment(&mut self, now: Instant, next: Next) -> Outgoing {
        self.traffic.on_sent(next.payload_len(), next.mss.into());
        self.ack.on_sent(self.rcv.nxt);
        self.timers.delayed_ack = Instant::NEVER;
        Outgoing {
            seq: self.iss.at(next.at),
            ack: self.irs.at(self.rcv.nxt),
            flags: next.flags,
            window: self.rcv.advertise(self.set.own_mss.into()),
            urgent: 0,
            ecn: Codepoint::NotEct,
            options: Options {
                timestamps: self.ts.option(now),
                ..Options::default()
            },
            payload: next.payload,
            mss: next.mss,
        }
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

    /// As much of what waits as may go now, and the FIN behind it.
    #[inline(always)]
    fn plain_piece(&mut self, now: Instant, max_payload: u64) -> Result<Option<Piece>, Unusual> {
        let idle = self.snd.flight() == 0;
        if self.fin_sent || (idle && self.was_silent(now)) {
            return Err(Unusual);
        }
        let nxt = self.snd.nxt;
        let cut = u64::from(self.send_mss()).min(max_payload).max(1);
        let most = match max_payload <= self.mss.into() {
            true => cut,
            false => max_payload,
        };
        let (waiting, usable) = (self.snd.end - nxt, self.snd.usable());
        let room = usable.min(self.congestion_room());
        if waiting > room && usable > room {
            self.note_usage(true);
        }
        let mut len = waiting.min(room).min(most);
        let tail = tail_of(len, cut);
        if len < waiting || !self.may_send_tail(now, len, tail) {
            len -= tail;
        }
        let fin = self.fin_wanted && len == waiting && usable > len;
        match len + u64::from(fin) {
            // A window that is shut has to be asked about.
            0 if idle || self.squeeze => Err(Unusual),
            0 => Ok(None),
            len => Ok(Some(Piece {
                range: nxt..nxt + len,
                cut,
            })),
        }
    }
}
