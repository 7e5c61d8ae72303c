//! One flow: a sender that never runs out of data, and a receiver that reads at once.

use crate::PAYLOAD;
use engine::tcp::{
    Algorithm, Codepoint, EcnMode, Flags, Instant, NoRoom, Outgoing, RecvStream, Segment, SeqNum,
    Settings, SocketOptions, Tcb, TcpConfig,
};
use std::rc::Rc;

/// Biggest super-segment, in whole segments.
const BURST: usize = 44 * PAYLOAD as usize;
/// Window of the receiver, in bytes: never what limits.
const WINDOW: u32 = 1 << 29;
/// Bytes that the sender has to send.
const ENDLESS: u64 = 1 << 50;

static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// A flow to simulate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowSpec {
    /// Its congestion control.
    pub algorithm: Algorithm,
    /// When it begins, in microseconds.
    pub start: u64,
}

/// Which end of a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum End {
    Sender,
    Receiver,
}

/// A segment on its way; its payload is zeros.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) head: Outgoing,
    pub(crate) seq: SeqNum,
    pub(crate) len: usize,
}

impl Packet {
    pub(crate) fn whole(head: Outgoing) -> Packet {
        let (seq, len) = (head.seq, head.payload_len());
        Packet { head, seq, len }
    }

    /// Segments of it on the wire; one without payload is one as well.
    pub(crate) fn count(&self) -> u64 {
        (self.len as u64)
            .div_ceil(u64::from(self.head.mss).max(1))
            .max(1)
    }

    /// `count` segments of it from the one at `first` on.
    pub(crate) fn part(&self, first: u64, count: u64, marked: bool) -> Packet {
        let mss = usize::from(self.head.mss);
        let from = (first as usize * mss).min(self.len);
        let to = ((first + count) as usize * mss).min(self.len);
        let mut part = self.clone();
        part.seq = SeqNum(self.seq.0.wrapping_add(from as u32));
        part.len = to - from;
        if to < self.len {
            part.head.flags = Flags(part.head.flags.0 & !(Flags::PSH.0 | Flags::FIN.0));
        }
        if marked {
            part.head.ecn = Codepoint::Ce;
        }
        part
    }

    fn segment(&self) -> Segment<'static> {
        let mss = usize::from(self.head.mss);
        Segment {
            src_port: 1,
            dst_port: 2,
            seq: self.seq,
            ack: self.head.ack,
            flags: self.head.flags,
            window: self.head.window,
            urgent: 0,
            options: self.head.options,
            payload: &ZEROS[..self.len],
            ecn: self.head.ecn,
            gso_size: if self.len > mss { self.head.mss } else { 0 },
        }
    }
}

struct Sink;

impl RecvStream for Sink {
    fn store(&mut self, _offset: u64, _data: &[u8]) -> Result<(), NoRoom> {
        Ok(())
    }
}

pub(crate) struct Flow {
    sender: Tcb,
    receiver: Option<Tcb>,
    settings: Rc<Settings>,
}

impl Flow {
    pub(crate) fn new(spec: FlowSpec, number: u32) -> Flow {
        let dctcp = spec.algorithm == Algorithm::Dctcp;
        let cfg = TcpConfig {
            congestion: spec.algorithm,
            ecn: if dctcp { EcnMode::On } else { EcnMode::Off },
            recv_buffer: WINDOW,
            recv_buffer_max: WINDOW,
            ..TcpConfig::default()
        };
        let opts = SocketOptions {
            nodelay: true,
            recv_buffer: Some(WINDOW),
            ..SocketOptions::default()
        };
        let start = Instant::from_micros(spec.start);
        let settings = Settings::new(&cfg, &opts);
        let mut sender = Tcb::connect(start, &settings, SeqNum(number), number);
        sender.written(ENDLESS);
        Flow {
            sender,
            receiver: None,
            settings,
        }
    }

    pub(crate) fn sender(&self) -> &Tcb {
        &self.sender
    }

    /// Bytes that came in order.
    pub(crate) fn received(&self) -> u64 {
        self.receiver.as_ref().map_or(0, Tcb::received)
    }

    fn end(&mut self, end: End) -> Option<&mut Tcb> {
        match end {
            End::Sender => Some(&mut self.sender),
            End::Receiver => self.receiver.as_mut(),
        }
    }

    pub(crate) fn arrive(&mut self, now: Instant, end: End, packet: &Packet) {
        let segment = packet.segment();
        if end == End::Receiver && self.receiver.is_none() {
            let iss = SeqNum(segment.seq.0.wrapping_add(1 << 30));
            let tcb = Tcb::accept(now, &self.settings, iss, 0, &segment);
            self.receiver = Some(tcb);
            return;
        }
        let Some(tcb) = self.end(end) else { return };
        // A segment that is refused is answered, if at all, by what is polled next.
        let _ = tcb.on_segment(now, &segment, &mut Sink);
        if end == End::Receiver {
            let head = tcb.received();
            tcb.consumed(now, head);
        }
    }

    pub(crate) fn expire(&mut self, now: Instant, end: End) {
        if let Some(tcb) = self.end(end) {
            tcb.on_timer(now);
        }
    }

    pub(crate) fn poll(&mut self, now: Instant, end: End) -> Option<Packet> {
        let out = self.end(end)?.poll_transmit(now, BURST)?;
        Some(Packet::whole(out))
    }

    pub(crate) fn deadline(&self, end: End) -> Option<Instant> {
        match end {
            End::Sender => self.sender.next_deadline(),
            End::Receiver => self.receiver.as_ref()?.next_deadline(),
        }
    }
}
