//! The device between the engine and packetdrill: raw IP on packetdrill's side, Ethernet on the
//! engine's.
//!
//! In the kernel a packet has had its effect when the call that injects it returns. Here a worker
//! takes it, so whoever injects one waits until the worker has nothing left to do
//! ([`Wire::settle`]).

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use psio::segment::fill_checksum;
use psio::{Capabilities, Device, Error, MAX_FRAME, MacAddr, Queue, QueueStats, RxMeta, TxMeta};

/// The stack's station.
const STACK: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// The station of everybody else: also `[[arp]]` in defaults.toml.
pub const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const HEADER: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// Bytes that wait for packetdrill to read them; what comes after is lost, as on a packet socket.
const MAX_WAITING: usize = 64 << 20;
/// Packets that wait for the engine; `send` refuses more.
const MAX_INJECTED: usize = 4096;
/// How long a worker may be busy before nobody waits for it any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// A packet that the stack has sent.
#[derive(Debug)]
pub struct Packet {
    /// IP header and what follows it.
    pub bytes: Vec<u8>,
    /// When, in microseconds since 1970.
    pub time_us: i64,
}

/// packetdrill's end.
pub struct Wire {
    state: Mutex<State>,
    changed: Condvar,
    bell: PipeReader,
    ringer: PipeWriter,
}

#[derive(Default)]
struct State {
    to_stack: VecDeque<Vec<u8>>,
    from_stack: VecDeque<Packet>,
    waiting: usize,
    /// Rest that was asked for: the worker has seen requests up to `seen`, and has come to rest
    /// after those up to `settled`.
    asked: u64,
    seen: u64,
    settled: u64,
    is_rung: bool,
}

impl Wire {
    /// A wire without anything on it.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn new() -> io::Result<Wire> {
        let (bell, ringer) = io::pipe()?;
        Ok(Wire {
            state: Mutex::default(),
            changed: Condvar::new(),
            bell,
            ringer,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, state: &mut State) {
        if !state.is_rung {
            state.is_rung = (&self.ringer).write_all(&[0]).is_ok();
        }
    }

    fn silence(&self, state: &mut State) {
        if state.is_rung {
            state.is_rung = (&self.bell).read_exact(&mut [0]).is_err();
        }
    }

    /// Gives the stack an IP packet, and waits until that has had its effect. False if it is no IP
    /// packet, is longer than one can be, or too many wait.
    pub fn send(&self, packet: &[u8]) -> bool {
        let kind = match packet.first().map(|byte| byte >> 4) {
            Some(4) => IPV4,
            Some(6) => IPV6,
            _ => return false,
        };
        let mut state = self.state();
        if HEADER + packet.len() > MAX_FRAME || state.to_stack.len() >= MAX_INJECTED {
            return false;
        }
        let frame = [&STACK.0[..], &PEER.0, &kind, packet].concat();
        state.to_stack.push_back(frame);
        drop(state);
        self.settle();
        true
    }

    /// Waits at most `patience` for the next packet of the stack.
    pub fn receive(&self, patience: Duration) -> Option<Packet> {
        let none_yet = |state: &mut State| state.from_stack.is_empty();
        let waited = self
            .changed
            .wait_timeout_while(self.state(), patience, none_yet);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let packet = state.from_stack.pop_front()?;
        state.waiting -= packet.bytes.len();
        Some(packet)
    }

    /// Drops what the stack has sent and nobody has read.
    pub fn clear(&self) {
        let mut state = self.state();
        state.from_stack.clear();
        state.waiting = 0;
    }

    /// Waits until the worker has done what it has been told so far: frames and commands.
    pub fn settle(&self) {
        let mut state = self.state();
        state.asked += 1;
        let ticket = state.asked;
        self.ring(&mut state);
        let at_work = |state: &mut State| state.settled < ticket;
        drop(self.changed.wait_timeout_while(state, PATIENCE, at_work));
    }

    fn deliver(&self, frame: &[u8]) {
        let Some((header, packet)) = frame.split_at_checked(HEADER) else {
            return;
        };
        let mut state = self.state();
        let is_ip = header[12..] == IPV4 || header[12..] == IPV6;
        if is_ip && state.waiting + packet.len() <= MAX_WAITING {
            state.waiting += packet.len();
            state.from_stack.push_back(Packet {
                bytes: packet.to_vec(),
                time_us: now_us(),
            });
            self.changed.notify_all();
        }
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_micros() as i64)
}

/// The engine's end. It cuts no super-segments, as packetdrill's TUN: what packetdrill sees are
/// packets of the MTU.
pub struct WireDevice {
    wire: Arc<Wire>,
    mtu: usize,
}

impl WireDevice {
    /// The engine's end of `wire`, for IP packets of `mtu` bytes.
    pub fn new(wire: Arc<Wire>, mtu: usize) -> WireDevice {
        WireDevice { wire, mtu }
    }
}

impl Device for WireDevice {
    fn name(&self) -> &str {
        "packetdrill"
    }

    fn mac(&self) -> MacAddr {
        STACK
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: self.mtu,
            tx_checksum: true,
            tx_segmentation: false,
            rx_coalescing: false,
            queues: 1,
        }
    }

    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
        if index > 0 {
            return Err(Error::Description("packetdrill has one queue".into()));
        }
        Ok(Box::new(WireQueue {
            wire: self.wire.clone(),
            frame: vec![0; MAX_FRAME].into(),
            reserved: None,
            stats: QueueStats::default(),
        }))
    }
}

struct WireQueue {
    wire: Arc<Wire>,
    frame: Box<[u8]>,
    reserved: Option<usize>,
    stats: QueueStats,
}

impl Queue for WireQueue {
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error> {
        let mut state = self.wire.state();
        let count = state.to_stack.len().min(budget);
        let frames: Vec<_> = state.to_stack.drain(..count).collect();
        if state.to_stack.is_empty() {
            self.wire.silence(&mut state);
            state.seen = state.asked;
        }
        drop(state);
        for frame in &frames {
            self.stats.rx_frames += 1;
            self.stats.rx_bytes += frame.len() as u64;
            sink(frame, RxMeta::default());
        }
        Ok(count)
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = (len <= MAX_FRAME).then_some(len);
        self.reserved.map(|len| &mut self.frame[..len])
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        let reserved = self.reserved.take();
        assert!(reserved.is_some_and(|room| len <= room), "nothing reserved");
        let frame = &mut self.frame[..len];
        if meta.checksum.is_some() {
            fill_checksum(frame);
        }
        self.stats.tx_frames += 1;
        self.stats.tx_bytes += len as u64;
        self.wire.deliver(frame);
    }

    fn flush(&mut self) -> Result<usize, Error> {
        Ok(0)
    }

    fn wait_fd(&self) -> Option<RawFd> {
        Some(self.wire.bell.as_raw_fd())
    }

    /// The worker has nothing left to do. Commands are taken after frames in each of its rounds,
    /// so those that were sent before `settle` was called are done as well.
    fn arm(&mut self) -> bool {
        let mut state = self.wire.state();
        if state.seen != state.asked || !state.to_stack.is_empty() {
            return false;
        }
        state.settled = state.seen;
        self.wire.changed.notify_all();
        true
    }

    fn stats(&self) -> QueueStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: [u8; 20] = [
        0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0, 192, 0, 2, 1, 192, 168, 0, 1,
    ];

    fn joined() -> (Arc<Wire>, Box<dyn Queue>) {
        let wire = Arc::new(Wire::new().unwrap());
        let queue = WireDevice::new(wire.clone(), 1500).open_queue(0).unwrap();
        (wire, queue)
    }

    /// A worker that does nothing but take frames, until `count` have come.
    fn take(queue: &mut dyn Queue, count: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while frames.len() < count || !queue.arm() {
            let mut sink = |frame: &[u8], _| frames.push(frame.to_vec());
            queue.receive(1, &mut sink).unwrap();
            std::thread::yield_now();
        }
        frames
    }

    #[test]
    fn a_packet_gets_an_ethernet_header_and_loses_it_on_the_way_back() {
        let (wire, mut queue) = joined();
        std::thread::scope(|scope| {
            scope.spawn(|| assert!(wire.send(&PACKET)));
            let frames = take(&mut *queue, 1);
            assert_eq!(frames[0][..14], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
            assert_eq!(frames[0][14..], PACKET);
            queue.reserve(34).unwrap().copy_from_slice(&frames[0]);
            queue.commit(34, TxMeta::default());
        });
        assert_eq!(wire.receive(Duration::ZERO).unwrap().bytes, PACKET);
    }

    #[test]
    fn whoever_sends_waits_until_the_worker_rests() {
        let (wire, mut queue) = joined();
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| wire.send(&PACKET));
            while wire.state().to_stack.is_empty() {
                std::thread::yield_now();
            }
            let mut taken = 0;
            queue.receive(64, &mut |_, _| taken += 1).unwrap();
            assert_eq!((taken, sender.is_finished()), (1, false));
            take(&mut *queue, 0);
            assert!(sender.join().unwrap());
        });
    }

    #[test]
    fn what_is_no_ip_packet_is_refused_or_dropped() {
        let (wire, mut queue) = joined();
        assert!(!wire.send(&[]));
        assert!(!wire.send(&[0x15; 20]));
        assert!(!wire.send(&[0x45; MAX_FRAME]));
        let mut arp = [0; 42];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        queue.reserve(42).unwrap().copy_from_slice(&arp);
        queue.commit(42, TxMeta::default());
        assert!(wire.receive(Duration::ZERO).is_none());
    }

    #[test]
    fn packets_that_nobody_reads_are_lost_at_the_bound() {
        let (wire, mut queue) = joined();
        let packets = MAX_WAITING / 60_000;
        for _ in 0..packets + 5 {
            let frame = queue.reserve(HEADER + 60_000).unwrap();
            frame[12..14].copy_from_slice(&IPV4);
            queue.commit(HEADER + 60_000, TxMeta::default());
        }
        assert_eq!(wire.state().from_stack.len(), packets);
        wire.clear();
        assert_eq!(wire.state().waiting, 0);
    }
}
