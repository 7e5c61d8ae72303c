//! Two devices joined in memory, for tests: what one sends, the other receives.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::segment::segment;
use crate::sys::Bell;
use crate::{
    Capabilities, Device, Error, MAX_FRAME, MacAddr, Queue, QueueStats, RxChecksum, RxMeta, TxMeta,
    no_such_queue,
};

/// How a pair behaves, at both ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PairConfig {
    /// What the devices claim. Without `rx_coalescing`, super-segments arrive cut.
    pub capabilities: Capabilities,
    /// Frames that each direction of each queue holds; a full one lends no more room.
    pub depth: usize,
}

impl PairConfig {
    /// A pair without any offload: 1,500-byte packets, complete checksums.
    pub fn plain() -> PairConfig {
        PairConfig {
            capabilities: Capabilities {
                mtu: 1500,
                tx_checksum: false,
                tx_segmentation: false,
                rx_coalescing: false,
                queues: 1,
            },
            depth: 1024,
        }
    }
}

impl Default for PairConfig {
    /// A pair with every offload, as a virtual wire has them.
    fn default() -> PairConfig {
        let plain = PairConfig::plain();
        PairConfig {
            capabilities: Capabilities {
                tx_checksum: true,
                tx_segmentation: true,
                rx_coalescing: true,
                ..plain.capabilities
            },
            ..plain
        }
    }
}

/// Makes two joined devices.
///
/// # Errors
/// The system has no descriptors left.
pub fn pair(config: PairConfig) -> Result<(PairDevice, PairDevice), Error> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..config.capabilities.queues {
        let (east, west) = (Arc::new(Lane::new()?), Arc::new(Lane::new()?));
        a.push(Some((Arc::clone(&west), Arc::clone(&east))));
        b.push(Some((east, west)));
    }
    let device = |name: &str, last, lanes| PairDevice {
        name: format!("pair:{name}"),
        mac: MacAddr([2, 0, 0, 0, 0, last]),
        config,
        lanes,
    };
    Ok((device("a", 1, a), device("b", 2, b)))
}

/// A frame, and what its receiver is to know of it.
type Frame = (Vec<u8>, RxMeta);

/// One direction of one queue. The bell is readable exactly while frames wait.
struct Lane {
    frames: Mutex<Frames>,
    bell: Bell,
}

/// Frames on their way, and those that have arrived, whose memory serves the next ones.
#[derive(Default)]
struct Frames {
    waiting: VecDeque<Frame>,
    spare: VecDeque<Frame>,
}

impl Lane {
    fn new() -> Result<Lane, Error> {
        Ok(Lane {
            frames: Mutex::default(),
            bell: Bell::new().map_err(Error::io("eventfd"))?,
        })
    }

    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One end of a pair.
pub struct PairDevice {
    name: String,
    mac: MacAddr,
    config: PairConfig,
    /// Receiving and sending lane of each queue not opened yet.
    lanes: Vec<Option<(Arc<Lane>, Arc<Lane>)>>,
}

impl Device for PairDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn capabilities(&self) -> Capabilities {
        self.config.capabilities
    }

    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let queues = self.lanes.len();
        let lanes = self.lanes.get_mut(index).and_then(Option::take);
        let (rx, tx) = lanes.ok_or_else(|| no_such_queue(&self.name, index, queues))?;
        Ok(Box::new(PairQueue {
            config: self.config,
            rx,
            tx,
            arrived: VecDeque::new(),
            frame: vec![0; MAX_FRAME].into(),
            reserved: None,
            room: 0,
            committed: VecDeque::new(),
            spare: VecDeque::new(),
            stats: QueueStats::default(),
        }))
    }
}

struct PairQueue {
    config: PairConfig,
    rx: Arc<Lane>,
    tx: Arc<Lane>,
    /// Frames taken from the lane.
    arrived: VecDeque<Frame>,
    frame: Box<[u8]>,
    reserved: Option<usize>,
    /// Frames that the lane holds besides, at least.
    room: usize,
    committed: VecDeque<Frame>,
    spare: VecDeque<Frame>,
    stats: QueueStats,
}

/// Adds a frame, in memory of an earlier one if there is some.
fn append(frames: &mut VecDeque<Frame>, spare: &mut VecDeque<Frame>, bytes: &[u8], meta: RxMeta) {
    let mut frame = spare.pop_back().unwrap_or_default().0;
    frame.clear();
    frame.extend_from_slice(bytes);
    frames.push_back((frame, meta));
}

impl Queue for PairQueue {
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error> {
        let mut frames = self.rx.frames();
        let taken = budget.min(frames.waiting.len());
        if taken == 0 {
            return Ok(0);
        }
        if taken == frames.waiting.len() {
            std::mem::swap(&mut self.arrived, &mut frames.waiting);
        } else {
            self.arrived.extend(frames.waiting.drain(..taken));
        }
        if frames.waiting.is_empty() {
            self.rx.bell.silence();
        }
        drop(frames);
        for (frame, meta) in &self.arrived {
            self.stats.rx_frames += 1;
            self.stats.rx_bytes += frame.len() as u64;
            sink(frame, *meta);
        }
        self.rx.frames().spare.append(&mut self.arrived);
        Ok(taken)
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = None;
        if self.room == 0 {
            let used = self.committed.len() + self.tx.frames().waiting.len();
            self.room = self.config.depth.saturating_sub(used);
        }
        if len > MAX_FRAME || self.room == 0 {
            return None;
        }
        self.reserved = Some(len);
        Some(&mut self.frame[..len])
    }

    /// # Panics
    /// Also if `meta` asks for an offload that the pair does not claim to have: a stack that does
    /// so is wrong.
    fn commit(&mut self, len: usize, meta: TxMeta) {
        let reserved = self.reserved.take();
        assert!(reserved.is_some_and(|room| len <= room), "nothing reserved");
        let have = self.config.capabilities;
        assert!(
            have.tx_checksum || meta.checksum.is_none(),
            "no checksum offload here"
        );
        assert!(
            have.tx_segmentation || meta.gso.is_none(),
            "no segmentation offload here"
        );
        let frame = &self.frame[..len];
        self.stats.tx_frames += 1;
        self.stats.tx_bytes += len as u64;

        let mut arrival = RxMeta {
            checksum: match meta.checksum {
                Some(_) => RxChecksum::Good,
                None => RxChecksum::Unknown,
            },
            gso_size: 0,
        };
        if let Some(gso) = meta.gso {
            if !have.rx_coalescing {
                let (committed, spare) = (&mut self.committed, &mut self.spare);
                let before = committed.len();
                let cut = segment(frame, gso.size, &mut Vec::new(), &mut |frame| {
                    append(committed, spare, frame, arrival);
                });
                self.room = self.room.saturating_sub(committed.len() - before);
                self.stats.tx_dropped += u64::from(cut.is_err());
                return;
            }
            arrival.gso_size = gso.size;
        }
        append(&mut self.committed, &mut self.spare, frame, arrival);
        self.room = self.room.saturating_sub(1);
    }

    fn flush(&mut self) -> Result<usize, Error> {
        let taken = self.committed.len();
        if taken > 0 {
            let mut frames = self.tx.frames();
            frames.waiting.append(&mut self.committed);
            self.spare.append(&mut frames.spare);
            self.tx.bell.ring();
        }
        Ok(taken)
    }

    fn wait_fd(&self) -> Option<RawFd> {
        Some(self.rx.bell.as_raw_fd())
    }

    fn stats(&self) -> QueueStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::tcp_frame;
    use crate::sys::wait_readable;
    use crate::{ChecksumOffload, Gso, GsoKind};
    use std::time::Duration;

    fn ends(config: PairConfig) -> (Box<dyn Queue>, Box<dyn Queue>) {
        let (mut a, mut b) = pair(config).unwrap();
        (a.open_queue(0).unwrap(), b.open_queue(0).unwrap())
    }

    fn put(queue: &mut dyn Queue, frame: &[u8], meta: TxMeta) {
        queue.reserve(frame.len()).unwrap().copy_from_slice(frame);
        queue.commit(frame.len(), meta);
    }

    fn readable(queue: &dyn Queue) -> bool {
        let fd = queue.wait_fd().unwrap();
        wait_readable([fd], Some(Duration::ZERO)).unwrap()[0]
    }

    const SUPER: TxMeta = TxMeta {
        checksum: Some(ChecksumOffload {
            start: 34,
            offset: 16,
        }),
        gso: Some(Gso {
            kind: GsoKind::TcpV4,
            size: 1000,
            header_len: 66,
        }),
    };

    #[test]
    fn frames_arrive_in_order_with_what_is_known_of_them() {
        let (mut a, mut b) = ends(PairConfig::default());
        put(&mut a, b"plain", TxMeta::default());
        put(&mut a, b"offloaded", TxMeta { gso: None, ..SUPER });
        put(&mut a, b"coalesced", SUPER);
        assert_eq!(b.receive(9, &mut |_, _| panic!("not flushed")).unwrap(), 0);
        assert_eq!(a.flush().unwrap(), 3);
        let mut seen = Vec::new();
        b.receive(9, &mut |frame, meta| seen.push((frame.to_vec(), meta)))
            .unwrap();
        let meta = |checksum, gso_size| RxMeta { checksum, gso_size };
        assert_eq!(
            seen,
            [
                (b"plain".to_vec(), meta(RxChecksum::Unknown, 0)),
                (b"offloaded".to_vec(), meta(RxChecksum::Good, 0)),
                (b"coalesced".to_vec(), meta(RxChecksum::Good, 1000)),
            ]
        );
    }

    #[test]
    fn the_wait_descriptor_is_readable_exactly_while_frames_wait() {
        let (mut a, mut b) = ends(PairConfig::default());
        assert!(!readable(&*b));
        put(&mut a, b"1", TxMeta::default());
        put(&mut a, b"2", TxMeta::default());
        a.flush().unwrap();
        assert!(readable(&*b));
        b.receive(1, &mut |_, _| {}).unwrap();
        assert!(readable(&*b));
        b.receive(1, &mut |_, _| {}).unwrap();
        assert!(!readable(&*b));
    }

    #[test]
    fn a_full_lane_lends_no_room_until_frames_are_taken() {
        let (mut a, mut b) = ends(PairConfig {
            depth: 2,
            ..PairConfig::default()
        });
        put(&mut a, b"1", TxMeta::default());
        put(&mut a, b"2", TxMeta::default());
        assert!(a.reserve(1).is_none());
        a.flush().unwrap();
        assert!(a.reserve(1).is_none());
        b.receive(1, &mut |_, _| {}).unwrap();
        assert!(a.reserve(1).is_some());
    }

    #[test]
    fn without_coalescing_a_super_segment_arrives_cut() {
        let mut config = PairConfig::default();
        config.capabilities.rx_coalescing = false;
        let (mut a, mut b) = ends(config);
        put(&mut a, &tcp_frame(false, 1, 0x10, &[0; 2500]), SUPER);
        a.flush().unwrap();
        let mut sizes = Vec::new();
        b.receive(9, &mut |frame, meta| {
            sizes.push((frame.len(), meta.gso_size))
        })
        .unwrap();
        assert_eq!(sizes, [(1066, 0), (1066, 0), (566, 0)]);
    }

    #[test]
    #[should_panic(expected = "no checksum offload here")]
    fn an_offload_that_was_not_offered_is_refused() {
        let (mut a, _b) = ends(PairConfig::plain());
        put(&mut a, b"frame", TxMeta { gso: None, ..SUPER });
    }

    #[test]
    fn a_queue_opens_once_and_a_wrong_index_says_so() {
        let (mut a, _b) = pair(PairConfig::default()).unwrap();
        let _queue = a.open_queue(0).unwrap();
        let again = a.open_queue(0).err().unwrap().to_string();
        assert!(again.contains("open already"), "{again}");
        let wrong = a.open_queue(1).err().unwrap().to_string();
        assert!(wrong.contains("no queue 1"), "{wrong}");
    }
}
