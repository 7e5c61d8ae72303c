//! Silly windows are avoided at both ends (RFC 9293 3.8.6.2), and avoiding them never stalls: however
//! little is read at a time, data goes on without the probe timer.

use super::link::Rng;
use super::*;

/// A sender with much to say, and a reader with a buffer of some size.
struct Trickle {
    sender: Host,
    reader: Host,
    now: Instant,
    len: u64,
    /// Most bytes read at a time.
    most: u64,
    /// Largest segment that either end sends, timestamps included.
    mss: u64,
    buffer: Option<u32>,
}

impl Trickle {
    fn draw(rng: &mut Rng) -> Trickle {
        let mss = [88, 536, 1460, 8960][rng.below(4) as usize];
        let cfg = TcpConfig {
            mss,
            window_scaling: rng.per_mille(500),
            timestamps: rng.per_mille(500),
            sack: rng.per_mille(500),
            recv_buffer_max: 64 << 10 << rng.below(8),
            ..TcpConfig::default()
        };
        let buffer = match rng.below(4) {
            0 => None,
            1 => Some(u32::from(mss) + rng.below(10) as u32),
            2 => Some(u32::from(mss) * (1 + rng.below(9) as u32)),
            _ => Some(1 + rng.below(200_000) as u32),
        };
        let opts = SocketOptions {
            nodelay: rng.per_mille(500),
            recv_buffer: buffer,
            ..SocketOptions::default()
        };
        let (mut sender, reader) = established_between(
            &cfg,
            &SocketOptions {
                recv_buffer: None,
                ..opts
            },
            &cfg,
            &opts,
        );
        sender.burst = if rng.per_mille(500) { BURST } else { 1 };
        let size = u64::from(buffer.unwrap_or(64 << 10));
        let most = [1 + size / 50, 1 + size / 3, u64::from(mss), u64::MAX];
        Trickle {
            sender,
            reader,
            now: T0 + Duration::from_millis(10),
            len: (size * 4).max(20_000),
            most: most[rng.below(4) as usize],
            mss: mss.into(),
            buffer,
        }
    }

    /// Carries segments until both ends are silent.
    fn exchange(&mut self) {
        for _ in 0..100_000 {
            let data = self.sender.poll(self.now);
            for packet in &data {
                self.check_data(packet);
            }
            let edge = self.reader.edge;
            let acks = self.reader.poll(self.now);
            self.check_edge(edge);
            if data.is_empty() && acks.is_empty() {
                return;
            }
            self.reader.receive_all(self.now, &data);
            self.sender.receive_all(self.now, &acks);
        }
        panic!("the two ends never fall silent");
    }

    /// Less than a segment, and less than half of the largest window, goes out at the end only.
    fn check_data(&self, packet: &Packet) {
        let segment = packet.segment();
        let len = segment.wire_payload() as u64;
        let half = u64::from(self.sender.tcb.snd.max_wnd.div_ceil(2));
        let full = u64::from(self.sender.tcb.send_mss()).min(half);
        let end = segment.seq + segment.payload.len() as u32;
        let last = end == self.sender.tcb.iss.at(self.sender.tcb.snd.end);
        assert!(len == 0 || last || len >= full, "a silly segment of {len}");
    }

    /// The window opens by a segment or half the buffer at least, but for the rounding of its field.
    fn check_edge(&self, before: u64) {
        let opening = self.reader.edge - before;
        let half = u64::from(self.buffer.unwrap_or(u32::MAX)) / 2;
        let unit = 1 << self.reader.tcb.rcv.scale.shift();
        let least = self.mss.min(half).saturating_sub(unit);
        let fine = before == 0 || opening <= unit || opening >= least;
        assert!(fine, "a silly opening of {opening}");
    }

    /// Reads some of what has come; says whether there was anything.
    fn read(&mut self, rng: &mut Rng) -> bool {
        let available = self.reader.tcb.received() - self.reader.read;
        if available == 0 {
            return false;
        }
        self.reader.read += 1 + rng.below(available.min(self.most));
        self.reader.tcb.consumed(self.now, self.reader.read);
        true
    }

    fn run(&mut self, rng: &mut Rng) {
        self.sender.write(self.len);
        loop {
            self.exchange();
            if self.reader.tcb.received() == self.len {
                return;
            }
            self.now += Duration::from_micros(rng.below(200));
            if self.read(rng) {
                continue;
            }
            // All is read: at most an ACK may be late.
            let at = self.reader.tcb.next_deadline();
            let at = at.filter(|at| at.since(self.now) <= Duration::from_millis(40));
            self.now = at.expect("only the probe timer is left");
            self.reader.tcb.on_timer(self.now);
        }
    }
}

#[test]
fn however_little_is_read_the_stream_goes_on_without_the_probe_timer() {
    for seed in 0..2000 {
        let _named = link::Named(seed);
        let mut rng = Rng(seed);
        Trickle::draw(&mut rng).run(&mut rng);
    }
}
