//! Checksum and segmentation offloads for a device which has none.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::segment::{Cut, complete_checksum};
use crate::{
    Capabilities, Device, Error, MAX_FRAME, MacAddr, Queue, QueueStats, Rss, RxMeta, TxMeta,
};

/// A device whose queues have the offloads that `D` lacks, done in software.
pub struct OffloadDevice<D>(D);

impl<D: Device> OffloadDevice<D> {
    /// Wraps a device.
    pub fn new(device: D) -> OffloadDevice<D> {
        OffloadDevice(device)
    }
}

impl<D: Device> Device for OffloadDevice<D> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn mac(&self) -> MacAddr {
        self.0.mac()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            tx_checksum: true,
            tx_segmentation: true,
            ..self.0.capabilities()
        }
    }

    fn rss(&self) -> Option<Rss> {
        self.0.rss()
    }

    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let have = self.0.capabilities();
        let queue = self.0.open_queue(index)?;
        if have.tx_checksum && have.tx_segmentation {
            return Ok(queue);
        }
        Ok(Box::new(Offload::new(queue, have)))
    }
}

/// A queue that fills in checksums and cuts super-segments before it hands frames on.
pub struct Offload<Q> {
    inner: Q,
    have: Capabilities,
    frame: Box<[u8]>,
    reserved: Option<usize>,
    /// Segments for which `inner` had no room: those of one super-segment at most.
    waiting: VecDeque<Box<[u8]>>,
    dropped: u64,
}

impl<Q: Queue> Offload<Q> {
    /// Wraps a queue of a device with the capabilities `have`.
    pub fn new(inner: Q, have: Capabilities) -> Offload<Q> {
        Offload {
            inner,
            have,
            frame: vec![0; MAX_FRAME].into(),
            reserved: None,
            waiting: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Moves waiting segments on; true if none is left.
    fn drain(&mut self) -> bool {
        while let Some(frame) = self.waiting.front() {
            if !send(&mut self.inner, frame, TxMeta::default()) {
                return false;
            }
            self.waiting.pop_front();
        }
        true
    }
}

/// Room in a queue, flushed if need be; `None` if that does not help.
fn room<Q: Queue>(queue: &mut Q, len: usize) -> Option<&mut [u8]> {
    if queue.reserve(len).is_none() {
        // An error will come back from the caller's own flush.
        let _ = queue.flush();
    }
    queue.reserve(len)
}

/// Copies a frame into the queue; false if that is full even after a flush.
pub(crate) fn send<Q: Queue>(queue: &mut Q, frame: &[u8], meta: TxMeta) -> bool {
    let Some(room) = room(queue, frame.len()) else {
        return false;
    };
    room.copy_from_slice(frame);
    queue.commit(frame.len(), meta);
    true
}

/// Cuts a super-segment into the queue; the frames for which there is no room wait.
fn send_cut<Q: Queue>(queue: &mut Q, cut: &Cut<'_>, waiting: &mut VecDeque<Box<[u8]>>) {
    for index in 0..cut.frames() {
        let len = cut.frame_len(index);
        let room = if waiting.is_empty() {
            room(queue, len)
        } else {
            None
        };
        match room {
            Some(room) => {
                cut.write(index, room);
                queue.commit(len, TxMeta::default());
            }
            None => {
                let mut frame: Box<[u8]> = vec![0; len].into();
                cut.write(index, &mut frame);
                waiting.push_back(frame);
            }
        }
    }
}

impl<Q: Queue> Queue for Offload<Q> {
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error> {
        self.inner.receive(budget, sink)
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = None;
        let fits = len.min(self.have.mtu + 14);
        if len > MAX_FRAME || !self.drain() || self.inner.reserve(fits).is_none() {
            return None;
        }
        self.reserved = Some(len);
        Some(&mut self.frame[..len])
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        let reserved = self.reserved.take();
        assert!(reserved.is_some_and(|room| len <= room), "nothing reserved");
        let frame = &mut self.frame[..len];
        // A device that cuts but does not sum would send the segments with wrong checksums.
        let cuts = self.have.tx_segmentation && self.have.tx_checksum;
        if let Some(gso) = meta.gso
            && !cuts
        {
            match Cut::new(frame, gso.size) {
                Ok(cut) => send_cut(&mut self.inner, &cut, &mut self.waiting),
                Err(_) => self.dropped += 1,
            }
            return;
        }
        let mut meta = meta;
        if !self.have.tx_checksum
            && let Some(offload) = meta.checksum.take()
            && !complete_checksum(frame, offload)
        {
            self.dropped += 1;
            return;
        }
        if !send(&mut self.inner, frame, meta) {
            self.dropped += 1;
        }
    }

    fn flush(&mut self) -> Result<usize, Error> {
        self.drain();
        self.inner.flush()
    }

    fn wait_fd(&self) -> Option<RawFd> {
        self.inner.wait_fd()
    }

    fn arm(&mut self) -> bool {
        if !self.waiting.is_empty() && self.drain() {
            // An error will come back from the caller's own flush.
            let _ = self.inner.flush();
        }
        self.inner.arm()
    }

    fn disarm(&mut self, rung: bool) {
        self.inner.disarm(rung);
    }

    fn longest_sleep(&self) -> Option<Duration> {
        self.inner.longest_sleep()
    }

    fn stats(&self) -> QueueStats {
        let mut stats = self.inner.stats();
        stats.tx_dropped += self.dropped;
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::{PairConfig, pair};
    use crate::segment::tests::tcp_frame;
    use crate::segment::verify_checksum;
    use crate::{ChecksumOffload, Gso, GsoKind, RxChecksum};

    const SUPER: TxMeta = TxMeta {
        checksum: Some(ChecksumOffload {
            start: 34,
            offset: 16,
        }),
        gso: Some(Gso {
            kind: GsoKind::TcpV4,
            size: 1448,
            header_len: 66,
        }),
    };

    /// An `Offload` over a plain queue of `depth` frames, and the other end.
    fn ends(depth: usize) -> (Box<dyn Queue>, Box<dyn Queue>) {
        let (a, mut b) = pair(PairConfig {
            depth,
            ..PairConfig::plain()
        })
        .unwrap();
        let mut a = OffloadDevice::new(a);
        assert!(a.capabilities().tx_checksum && a.capabilities().tx_segmentation);
        (a.open_queue(0).unwrap(), b.open_queue(0).unwrap())
    }

    fn received(queue: &mut dyn Queue) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        queue
            .receive(1000, &mut |frame, meta| {
                assert_eq!(
                    meta,
                    RxMeta {
                        checksum: RxChecksum::Unknown,
                        gso_size: 0
                    }
                );
                frames.push(frame.to_vec());
            })
            .unwrap();
        frames
    }

    fn put(queue: &mut dyn Queue, frame: &[u8], meta: TxMeta) {
        queue.reserve(frame.len()).unwrap().copy_from_slice(frame);
        queue.commit(frame.len(), meta);
    }

    #[test]
    fn a_super_segment_arrives_as_frames_that_fit_the_wire() {
        let (mut near, mut far) = ends(100);
        put(&mut near, &tcp_frame(false, 1, 0x18, &[5; 10_000]), SUPER);
        near.flush().unwrap();
        let frames = received(&mut far);
        assert_eq!(frames.len(), 7);
        for frame in frames {
            assert!(frame.len() <= 1514);
            assert_eq!(verify_checksum(&frame), Some(true));
        }
    }

    #[test]
    fn a_left_out_checksum_is_filled_in() {
        let (mut near, mut far) = ends(100);
        let want = tcp_frame(false, 1, 0x18, b"hello");
        let mut frame = want.clone();
        // The pseudo-header: 10.77.0.1, 10.77.0.2, protocol 6, length 37.
        let pseudo: u16 = 0x0a4d + 0x0001 + 0x0a4d + 0x0002 + 6 + 37;
        frame[50..52].copy_from_slice(&pseudo.to_be_bytes());
        put(&mut near, &frame, TxMeta { gso: None, ..SUPER });
        near.flush().unwrap();
        assert_eq!(received(&mut far), [want]);
    }

    #[test]
    fn segments_wait_for_room_and_keep_their_order() {
        let (mut near, mut far) = ends(3);
        put(&mut near, &tcp_frame(false, 0, 0x10, &[5; 10_000]), SUPER);
        near.flush().unwrap();
        assert!(
            near.reserve(60).is_none(),
            "the rest of the super-segment goes first"
        );
        let mut next = 0;
        while next < 10_000 {
            let frames = received(&mut far);
            assert!(!frames.is_empty(), "stuck at {next}");
            for frame in frames {
                assert_eq!(frame[38..42], u32::to_be_bytes(next));
                next += frame.len() as u32 - 66;
            }
            near.flush().unwrap();
        }
        assert!(near.reserve(60).is_some());
    }

    #[test]
    fn what_cannot_be_cut_is_dropped_and_counted() {
        let (mut near, mut far) = ends(3);
        put(&mut near, &[0; 3000], SUPER);
        let outside = ChecksumOffload {
            start: 34,
            offset: 60_000,
        };
        put(
            &mut near,
            &[0; 60],
            TxMeta {
                checksum: Some(outside),
                gso: None,
            },
        );
        near.flush().unwrap();
        assert!(received(&mut far).is_empty());
        assert_eq!(near.stats().tx_dropped, 2);
    }
}
