//! ICMP errors about a connection's segments, with RFC 5927's caution against forged ones.

use super::event::{Error, Events};
use super::seq::SeqNum;
use super::tcb::{State, Tcb};
use super::time::Instant;

/// What an ICMP error says about one of our segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpError {
    /// The destination will not take it (RFC 1122 4.2.3.9: protocol or port unreachable).
    Hard(Error),
    /// The destination cannot be reached now (network or host unreachable, time exceeded …).
    Soft(Error),
    /// The path does not take packets of this size (RFC 1191, RFC 8201). `mss` is its MTU less the IP
    /// and TCP headers without options.
    PacketTooBig {
        /// Biggest segment in bytes that the path takes.
        mss: u16,
    },
}

impl Tcb {
    /// An ICMP error came that quotes a segment of ours with sequence number `seq`. One that quotes
    /// nothing outstanding is ignored (RFC 5927 section 4.1).
    ///
    /// While connecting any unreachability ends the attempt, as on Linux; later none does, but it
    /// becomes the error of a connection that times out (RFC 5927 section 5.2, RFC 5461).
    pub fn on_icmp_error(&mut self, now: Instant, kind: IcmpError, seq: SeqNum) -> Events {
        let quoted = seq.position(self.iss, self.snd.nxt);
        // The SYN of a connection that was opened early does not count as outstanding otherwise.
        let first = match self.is_open_early() {
            true => 0,
            false => self.snd.una,
        };
        if !quoted.is_some_and(|at| first <= at && at < self.snd.nxt) {
            return Events::NONE;
        }
        let connecting = matches!(self.state, State::SynSent | State::SynReceived);
        match kind {
            IcmpError::Hard(error) | IcmpError::Soft(error) if connecting => self.fail(error),
            IcmpError::Hard(error) | IcmpError::Soft(error) => {
                self.soft_error = Some(error);
                Events::NONE
            }
            IcmpError::PacketTooBig { mss } => self.on_packet_too_big(now, mss),
        }
    }
}
