//! The protocol core alone: control blocks, with segments as values.

use engine::tcp::{
    Duration, Flags, Instant, NoRoom, Outgoing, RecvStream, Segment, SeqNum, Settings,
    SocketOptions, Tcb, TcpConfig,
};

/// Payload of a full segment beside timestamps.
const FULL: usize = 1448;

static PAYLOAD: [u8; 1 << 16] = [0; 1 << 16];

/// Takes everything and keeps nothing: what a copy costs is not the core's.
struct Nowhere;

impl RecvStream for Nowhere {
    fn store(&mut self, _offset: u64, _data: &[u8]) -> Result<(), NoRoom> {
        Ok(())
    }
}

/// The segment that `out` becomes on the wire.
fn arrived(out: &Outgoing) -> Segment<'static> {
    let mut bytes = [0; 60];
    out.emit(1, 2, &mut bytes);
    let mut segment = Segment::parse(&bytes[..out.header_len()])
        .map(|header| Segment {
            payload: &[],
            ..header
        })
        .expect("what is emitted parses");
    segment.payload = &PAYLOAD[..out.payload_len()];
    if out.payload_len() > usize::from(out.mss) {
        segment.gso_size = out.mss;
    }
    segment
}

struct End {
    tcb: Tcb,
    written: u64,
}

impl End {
    fn write(&mut self, bytes: u64) {
        self.written += bytes;
        self.tcb.written(self.written);
    }

    fn receive(&mut self, now: Instant, segment: &Segment<'_>) {
        let taken = self.tcb.on_segment(now, segment, &mut Nowhere);
        debug_assert!(taken.is_ok(), "{taken:?}");
        let received = self.tcb.received();
        self.tcb.consumed(now, received);
    }
}

/// Carries segments until neither end has any.
fn settle(now: Instant, a: &mut End, b: &mut End) {
    loop {
        let mut quiet = true;
        while let Some(out) = a.tcb.poll_transmit(now, PAYLOAD.len()) {
            b.receive(now, &arrived(&out));
            quiet = false;
        }
        while let Some(out) = b.tcb.poll_transmit(now, PAYLOAD.len()) {
            a.receive(now, &arrived(&out));
            quiet = false;
        }
        if quiet {
            return;
        }
    }
}

fn connected(now: Instant, number: u32) -> (End, End) {
    let (cfg, options) = (TcpConfig::default(), SocketOptions::default());
    let settings = Settings::new(&cfg, &options);
    let tcb = Tcb::connect(now, &settings, SeqNum(number), 7);
    let mut client = End { tcb, written: 0 };
    let syn = client.tcb.poll_transmit(now, FULL).expect("a SYN");
    let tcb = Tcb::accept(now, &settings, SeqNum(!number), 9, &arrived(&syn));
    let mut server = End { tcb, written: 0 };
    settle(now, &mut client, &mut server);
    (client, server)
}

/// One in-order segment each time, read at once, and what acknowledges it.
pub fn receive_in_order(times: u64) {
    let mut now = Instant::from_millis(1000);
    let (mut client, mut server) = connected(now, 1);
    client.write(1);
    let first = client.tcb.poll_transmit(now, FULL).expect("a segment");
    let mut segment = arrived(&first);
    segment.payload = &PAYLOAD[..FULL];
    for _ in 0..times {
        now += Duration::from_micros(10);
        server.receive(now, &segment);
        while server.tcb.poll_transmit(now, FULL).is_some() {}
        segment.seq = SeqNum(segment.seq.0.wrapping_add(FULL as u32));
    }
}

/// One pure ACK each time, for two segments of a sender that never lacks data and sends
/// super-segments.
pub fn take_acks(times: u64) {
    let mut now = Instant::from_millis(1000);
    let (mut client, mut server) = connected(now, 1);
    client.write(1);
    settle(now, &mut client, &mut server);
    server.tcb.consumed(now, 0);
    server.write(1);
    let reply = server.tcb.poll_transmit(now, FULL).expect("a segment");
    client.receive(now, &arrived(&reply));
    let mut ack = arrived(&reply);
    ack.payload = &[];
    ack.flags = Flags::ACK;
    ack.seq = SeqNum(ack.seq.0.wrapping_add(1));
    ack.window = u16::MAX;
    client.write(FULL as u64 * 2 * (times + 1000));
    for _ in 0..times {
        while client.tcb.poll_transmit(now, PAYLOAD.len()).is_some() {}
        now += Duration::from_micros(10);
        ack.ack = SeqNum(ack.ack.0.wrapping_add(2 * FULL as u32));
        client.receive(now, &ack);
    }
}

/// A handshake, 64 bytes each way, and the close of both ends: once for each end, so what is counted
/// is twice the cost of one side.
pub fn short_connections(times: u64) {
    let mut now = Instant::from_millis(1000);
    for number in 0..times {
        let (mut client, mut server) = connected(now, number as u32);
        now += Duration::from_micros(50);
        client.write(64);
        settle(now, &mut client, &mut server);
        now += Duration::from_micros(50);
        server.write(64);
        server.tcb.close(now);
        settle(now, &mut client, &mut server);
        client.tcb.close(now);
        settle(now, &mut client, &mut server);
    }
}
