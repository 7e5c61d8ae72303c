//! A path of large capacity and delay: one flow fills it, whatever its buffers began with.

use super::*;

use std::collections::VecDeque;

/// A receive stream that takes everything.
struct Sink;

impl RecvStream for Sink {
    fn store(&mut self, _: u64, _: &[u8]) -> Result<(), NoRoom> {
        Ok(())
    }
}

/// A header that arrives at some time, with as much payload as it says.
struct Arrival {
    at: Instant,
    header: Vec<u8>,
    payload: usize,
    gso_size: u16,
}

/// One direction: frames leave one after the other at `rate` bits a second and arrive `delay` later.
struct Pipe {
    rate: u64,
    delay: Duration,
    free_at: Instant,
    under_way: VecDeque<Arrival>,
}

impl Pipe {
    fn new(rate: u64, delay: Duration) -> Pipe {
        Pipe {
            rate,
            delay,
            free_at: Instant::ZERO,
            under_way: VecDeque::new(),
        }
    }

    fn send(&mut self, now: Instant, out: &Outgoing) {
        let mut header = vec![0; out.header_len()];
        out.emit(1, 2, &mut header);
        let payload = out.payload_len();
        let bits = 8 * (payload + header.len()) as u64;
        self.free_at = self.free_at.max(now) + Duration::from_micros(bits * 1_000_000 / self.rate);
        self.under_way.push_back(Arrival {
            at: self.free_at + self.delay,
            header,
            payload,
            gso_size: if payload > usize::from(out.mss) {
                out.mss
            } else {
                0
            },
        });
    }

    fn deliver(&mut self, now: Instant, to: &mut Tcb, zeros: &[u8]) {
        while self
            .under_way
            .front()
            .is_some_and(|arrival| arrival.at <= now)
        {
            let Some(arrival) = self.under_way.pop_front() else {
                return;
            };
            let mut segment = Segment::parse(&arrival.header).expect("what we emit parses");
            segment.payload = &zeros[..arrival.payload];
            segment.gso_size = arrival.gso_size;
            let _ = to.on_segment(now, &segment, &mut Sink);
        }
    }
}

/// Bytes that a reader at once gets in the last second of `seconds`.
fn goodput(cfg: &TcpConfig, rate: u64, delay: Duration, seconds: u64) -> u64 {
    let opts = SocketOptions::default();
    let (client, server) = established(cfg, &opts);
    let mut ends = [client.tcb, server.tcb];
    let mut pipes = [Pipe::new(rate, delay), Pipe::new(rate, delay)];
    let zeros = vec![0; BURST];
    let (end, mut now) = (T0 + Duration::from_secs(seconds), T0);
    let (last_second, mut before) = (T0 + Duration::from_secs(seconds - 1), 0);
    ends[0].written(u64::MAX / 4);
    while now < end {
        for from in [0, 1] {
            while let Some(out) = ends[from].poll_transmit(now, BURST) {
                pipes[from].send(now, &out);
            }
        }
        let arrivals = pipes.iter().filter_map(|pipe| pipe.under_way.front());
        let timers = ends.iter().filter_map(Tcb::next_deadline);
        let next = arrivals.map(|arrival| arrival.at).chain(timers).min();
        now = next.expect("there is always a timer").max(now);
        for to in [0, 1] {
            pipes[1 - to].deliver(now, &mut ends[to], &zeros);
            ends[to].on_timer(now);
        }
        let received = ends[1].received();
        ends[1].consumed(now, received);
        if now < last_second {
            before = received;
        }
    }
    ends[1].received() - before
}

#[test]
fn one_flow_fills_ten_gigabits_at_fifty_milliseconds() {
    let cfg = TcpConfig {
        recv_buffer_max: 64 << 20,
        ..TcpConfig::default()
    };
    let bytes = goodput(&cfg, 10_000_000_000, Duration::from_millis(25), 4);
    assert!(
        bytes > 1_250_000_000 / 100 * 92,
        "{bytes} bytes in a second"
    );
}

#[test]
fn the_receive_buffer_bounds_what_is_under_way() {
    let cfg = TcpConfig::default();
    let bytes = goodput(&cfg, 10_000_000_000, Duration::from_millis(25), 4);
    // 6 MB in each of twenty round trips.
    let bound = u64::from(cfg.recv_buffer_max) * 20;
    assert!(
        bytes > bound / 100 * 92 && bytes <= bound,
        "{bytes} bytes in a second"
    );
}
