//! What a connection's driver may ask of it at any time.

use super::event::Error;
use super::tcb::{State, Tcb};
use super::time::Duration;

impl Tcb {
    /// Connection state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Offset before which the send stream is acknowledged and may be freed.
    pub fn acked(&self) -> u64 {
        self.snd.una.min(self.snd.end).saturating_sub(1)
    }

    /// Offset up to which bytes were received in order.
    pub fn received(&self) -> u64 {
        self.data_end() - 1
    }

    /// How far the application has read, as [`consumed`](Self::consumed) was told last.
    pub fn read(&self) -> u64 {
        self.rcv.read - 1
    }

    /// Whether the peer's FIN was received in order: after [`received`](Self::received) comes the end.
    pub fn peer_closed(&self) -> bool {
        self.rcv.nxt > self.rcv.fin
    }

    /// How the connection failed, if it did.
    pub fn error(&self) -> Option<Error> {
        self.error
    }

    /// CLOSED, with nothing left to send: may be freed.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed && !self.rst_due && self.rare.reset_seq.is_none()
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_orphan(&self) -> bool {
        self.orphan
    }

    /// Payload bytes of a full segment now.
    pub fn mss(&self) -> u16 {
        self.mss
    }

    /// Smoothed round-trip time; `None` before the first measurement.
    pub fn srtt(&self) -> Option<Duration> {
        self.rtt.srtt()
    }

    /// Variation of the round-trip time.
    pub fn rttvar(&self) -> Duration {
        self.rtt.rttvar()
    }

    /// Retransmission timeout in force.
    pub fn rto(&self) -> Duration {
        self.rtt.rto()
    }

    /// Congestion window in bytes.
    pub fn cwnd(&self) -> u32 {
        self.cc.cwnd()
    }

    /// Slow start threshold in bytes.
    pub fn ssthresh(&self) -> u32 {
        self.cc.ssthresh()
    }

    /// Segments sent again so far.
    pub fn retransmits(&self) -> u32 {
        self.repair.incidents.retransmits
    }

    /// Sequence numbers sent and not acknowledged.
    pub fn in_flight(&self) -> u64 {
        self.snd.flight()
    }

    /// Bytes of the stream sent at least once.
    pub fn sent_once(&self) -> u64 {
        self.snd.nxt.clamp(1, self.snd.end) - 1
    }

    /// Bytes written and not yet sent.
    pub fn unsent(&self) -> u64 {
        self.snd.end.saturating_sub(self.snd.nxt.max(1))
    }

    /// Receive buffer in bytes, as tuned by now: more than this never waits unread.
    pub fn recv_buffer(&self) -> u32 {
        self.rcv.buffer()
    }

    /// Offset up to which the application has to read before [`consumed`](Self::consumed) makes a
    /// window update due: telling of less is needless, though harmless.
    pub fn window_update_at(&self) -> u64 {
        let update_at = self.rcv.update_at(self.set.own_mss.into()) - 1;
        if self.ack.is_due_on_read() {
            update_at.min(self.received())
        } else {
            update_at
        }
    }

    /// Window offered to the peer: bytes that it may still send.
    pub fn recv_window(&self) -> u64 {
        self.rcv.window()
    }

    /// Whether bytes were received beyond [`received`](Self::received), out of order.
    pub fn has_holes(&self) -> bool {
        !self.rare.assembler.is_empty()
    }
}
