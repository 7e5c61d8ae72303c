//! The core driven as a whole: a fake clock, a fake wire, real segments in bytes.

mod capacity;
mod close;
mod dsack;
mod ecn;
mod flow;
mod handshake;
mod info;
mod link;
mod loss;
mod pmtu;
mod rack;
mod random;
mod robustness;
mod silly_window;
mod timers;
mod timestamps;
mod tlp;
mod undo;
mod urgent;

use super::*;
use core::cell::Cell;

thread_local! {
    /// Whether the common segments take their short cuts.
    pub(super) static PREDICTS: Cell<bool> = const { Cell::new(true) };
}

/// Biggest super-segment in these tests.
const BURST: usize = 64_000;

/// A segment on the wire, as bytes.
#[derive(Clone, Debug)]
struct Packet {
    bytes: Vec<u8>,
    gso_size: u16,
    ecn: Codepoint,
}

impl Packet {
    fn segment(&self) -> Segment<'_> {
        let mut segment = Segment::parse(&self.bytes).expect("what we emit parses");
        segment.gso_size = self.gso_size;
        segment.ecn = self.ecn;
        segment
    }
}

/// The byte that stands at an offset of every test stream.
fn pattern(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// A receive stream that checks what is stored: inside the room, and the pattern's bytes.
#[derive(Default)]
struct Stream {
    /// Offset after the last byte that may be stored.
    limit: u64,
    /// Offset of the first byte that may be stored.
    from: u64,
    /// Whether stores are refused.
    full: bool,
    stored: u64,
}

impl RecvStream for Stream {
    fn store(&mut self, offset: u64, data: &[u8]) -> Result<(), NoRoom> {
        if self.full {
            return Err(NoRoom);
        }
        let end = offset + data.len() as u64;
        assert!(offset >= self.from, "byte {offset} was delivered before");
        assert!(
            end <= self.limit,
            "byte {end} is beyond the buffer, {}",
            self.limit
        );
        for (at, byte) in (offset..).zip(data) {
            assert_eq!(*byte, pattern(at), "wrong byte at offset {at}");
        }
        self.stored += data.len() as u64;
        Ok(())
    }
}

/// One end: a control block and its application.
struct Host {
    tcb: Tcb,
    rx: Stream,
    written: u64,
    read: u64,
    events: Events,
    drops: Vec<Drop>,
    /// Right edge of the window as seen on the wire, relative to the first ACK.
    edge: u64,
    burst: usize,
    /// The smallest segment size so far.
    least: u32,
    received: u32,
    polled: u32,
}

impl Tcb {
    fn set_options(&mut self, now: Instant, opts: &SocketOptions) {
        let settings = Settings::new(&self.set.cfg, opts);
        self.change_settings(now, &settings);
    }
}

impl Host {
    fn new(tcb: Tcb) -> Host {
        Host {
            tcb,
            rx: Stream::default(),
            written: 0,
            read: 0,
            events: Events::NONE,
            drops: Vec::new(),
            edge: 0,
            burst: 1,
            least: u32::MAX,
            received: 0,
            polled: 0,
        }
    }

    fn connect(now: Instant, cfg: &TcpConfig, opts: &SocketOptions) -> Host {
        Host::new(Tcb::connect(
            now,
            &Settings::new(cfg, opts),
            SeqNum(0xffff_f000),
            0x8000_0000,
        ))
    }

    fn accept(now: Instant, cfg: &TcpConfig, opts: &SocketOptions, syn: &Packet) -> Host {
        Host::new(Tcb::accept(
            now,
            &Settings::new(cfg, opts),
            SeqNum(0x7fff_ff00),
            99,
            &syn.segment(),
        ))
    }

    fn write(&mut self, len: u64) {
        self.written += len;
        self.tcb.written(self.written);
    }

    /// Reads all that came in order.
    fn read_all(&mut self, now: Instant) {
        self.read = self.tcb.received();
        self.tcb.consumed(now, self.read);
    }

    /// The next segment. The short way out leads to the same one as the long way, which is looked at every
    /// so often.
    fn next(&mut self, now: Instant, max_payload: usize) -> Option<Outgoing> {
        self.polled += 1;
        if self.polled.is_multiple_of(61) {
            let [short, long] = [true, false].map(|predicts| {
                let mut tcb = self.tcb.clone();
                PREDICTS.set(predicts);
                let out = tcb.poll_transmit(now, max_payload);
                format!("{out:?} {tcb:?}")
            });
            PREDICTS.set(true);
            assert_eq!(short, long);
        }
        self.tcb.poll_transmit(now, max_payload)
    }

    /// All that is to be sent now, each super-segment cut unless `burst` allows it.
    fn poll(&mut self, now: Instant) -> Vec<Packet> {
        let mut packets = Vec::new();
        let max_payload = self.burst.max(self.tcb.mss().into());
        let largest = max_payload.max(self.tcb.largest_segment().into());
        while let Some(out) = self.next(now, max_payload) {
            assert!(out.payload_len() <= largest);
            assert!(
                out.payload.end <= self.written,
                "only what was written is sent"
            );
            self.check_window(&out);
            let mut bytes = vec![0; out.header_len()];
            out.emit(1, 2, &mut bytes);
            bytes.extend(out.payload.clone().map(pattern));
            let big = out.payload_len() > usize::from(out.mss);
            let one = max_payload == usize::from(self.tcb.mss());
            assert!(!(big && one), "a super-segment that nobody asked for");
            packets.push(Packet {
                bytes,
                gso_size: if big { out.mss } else { 0 },
                ecn: out.ecn,
            });
            assert!(packets.len() < 10_000, "endless transmission");
        }
        self.check_records();
        packets
    }

    /// The window that the peer sees shrinks by less than the scale's rounding.
    fn check_window(&mut self, out: &Outgoing) {
        if out.flags.contains(Flags::ACK) && !out.flags.intersects(Flags::SYN | Flags::RST) {
            let edge = self.tcb.rcv.nxt + u64::from(self.tcb.rcv.scale.bytes(out.window));
            assert!(
                edge + (1 << self.tcb.rcv.scale.shift()) > self.edge,
                "the window shrank"
            );
            self.edge = self.edge.max(edge);
        }
    }

    fn receive(&mut self, now: Instant, packet: &Packet) -> Result<Events, Drop> {
        self.rx.from = self.tcb.received();
        self.rx.limit = self.read + u64::from(self.tcb.recv_buffer());
        self.check_prediction(now, packet);
        let before = (self.tcb.snd.una, self.tcb.rcv.nxt, self.tcb.rcv.edge);
        let result = self.tcb.on_segment(now, &packet.segment(), &mut self.rx);
        self.check_invariants(before);
        match result {
            Ok(events) => self.events |= events,
            Err(drop) => self.drops.push(drop),
        }
        result
    }

    /// The short cuts of the common segments lead where the long way does. Every so often, as it takes
    /// a while.
    fn check_prediction(&mut self, now: Instant, packet: &Packet) {
        self.received += 1;
        if !self.received.is_multiple_of(13) {
            return;
        }
        let [short, long] = [true, false].map(|predicts| {
            let mut tcb = self.tcb.clone();
            PREDICTS.set(predicts);
            let result = tcb.on_segment(now, &packet.segment(), &mut self.rx);
            // Linux, too, notes less on its fast path.
            tcb.ack_at = now;
            format!("{result:?} {tcb:?}")
        });
        PREDICTS.set(true);
        assert_eq!(short, long);
    }

    fn check_invariants(&mut self, (una, nxt, edge): (u64, u64, u64)) {
        let tcb = &self.tcb;
        assert!(una <= tcb.snd.una && tcb.snd.una <= tcb.snd.nxt);
        assert!(tcb.snd.nxt <= tcb.snd.end + 1);
        assert!(nxt <= tcb.rcv.nxt && edge <= tcb.rcv.edge);
        assert!(tcb.cwnd() >= 1 && tcb.mss() >= 1);
        self.check_records();
        if tcb.snd.max_wnd > 0 {
            // Segments may grow with the peer's window, but the window of one of them does not.
            self.least = self.least.min(tcb.send_mss());
            let (cwnd, least) = (tcb.cwnd(), self.least);
            assert!(
                cwnd >= least,
                "the window, {cwnd}, holds a segment, {least}"
            );
        }
    }

    /// What counts as in flight follows from the records of what was sent, which lack the SYN.
    fn check_records(&self) {
        let (una, nxt) = (self.tcb.snd.una.max(1), self.tcb.snd.nxt);
        self.tcb.sent.check(una, nxt.max(una));
    }

    fn receive_all(&mut self, now: Instant, packets: &[Packet]) {
        for packet in packets {
            let _ = self.receive(now, packet);
        }
    }

    /// Lets the next timer expire; says when that was.
    fn expire(&mut self) -> Instant {
        let at = self.tcb.next_deadline().expect("a timer is armed");
        self.events |= self.tcb.on_timer(at);
        self.check_records();
        at
    }

    fn state(&self) -> State {
        self.tcb.state()
    }

    /// A segment from the peer as this end would accept it next.
    fn peer_segment(&self) -> Crafted {
        let tcb = &self.tcb;
        Crafted {
            seq: tcb.irs.at(tcb.rcv.nxt),
            ack: tcb.iss.at(tcb.snd.nxt),
            flags: Flags::ACK,
            window: 0xffff,
            options: Options::default(),
            payload: Vec::new(),
        }
    }
}

/// A segment made by hand.
#[derive(Clone)]
struct Crafted {
    seq: SeqNum,
    ack: SeqNum,
    flags: Flags,
    window: u16,
    options: Options,
    payload: Vec<u8>,
}

impl Crafted {
    fn packet(&self) -> Packet {
        let out = Outgoing {
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: self.window,
            urgent: 0,
            ecn: Codepoint::NotEct,
            options: self.options,
            payload: 0..0,
            mss: 0,
        };
        let mut bytes = vec![0; out.header_len()];
        out.emit(2, 1, &mut bytes);
        bytes.extend(&self.payload);
        Packet {
            bytes,
            gso_size: 0,
            ecn: Codepoint::NotEct,
        }
    }

    /// Payload of `len` bytes of the pattern that begin at `offset` of the stream.
    fn carrying(mut self, offset: u64, len: u64) -> Crafted {
        self.payload = (offset..offset + len).map(pattern).collect();
        self
    }
}

/// A configuration without the options that need negotiation, for segments made by hand.
fn plain() -> TcpConfig {
    TcpConfig {
        window_scaling: false,
        timestamps: false,
        sack: false,
        ..TcpConfig::default()
    }
}

const T0: Instant = Instant::from_millis(1_000_000);

fn after(millis: u64) -> Instant {
    T0 + Duration::from_millis(millis)
}

/// A connection, established at `T0` with a round trip of 10 ms, nothing under way.
fn established(cfg: &TcpConfig, opts: &SocketOptions) -> (Host, Host) {
    established_between(cfg, opts, cfg, opts)
}

fn established_between(
    client_cfg: &TcpConfig,
    client_opts: &SocketOptions,
    server_cfg: &TcpConfig,
    server_opts: &SocketOptions,
) -> (Host, Host) {
    let start = T0 - Duration::from_millis(10);
    let mut client = Host::connect(start, client_cfg, client_opts);
    let syn = client.poll(start);
    let mut server = Host::accept(
        T0 - Duration::from_millis(5),
        server_cfg,
        server_opts,
        &syn[0],
    );
    let syn_ack = server.poll(T0 - Duration::from_millis(5));
    client.receive_all(T0, &syn_ack);
    let ack = client.poll(T0);
    server.receive_all(T0 + Duration::from_millis(5), &ack);
    assert_eq!(
        (client.state(), server.state()),
        (State::Established, State::Established)
    );
    assert!(client.events.contains(Events::CONNECTED) && server.events.contains(Events::CONNECTED));
    client.events = Events::NONE;
    server.events = Events::NONE;
    (client, server)
}

/// Carries segments both ways at one instant until neither end has any.
fn settle(now: Instant, a: &mut Host, b: &mut Host) {
    for _ in 0..10_000 {
        let (to_b, to_a) = (a.poll(now), b.poll(now));
        if to_a.is_empty() && to_b.is_empty() {
            return;
        }
        b.receive_all(now, &to_b);
        a.receive_all(now, &to_a);
    }
    panic!("the two ends never fall silent");
}
