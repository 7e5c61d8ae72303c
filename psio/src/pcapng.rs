//! Capture of what crosses a device into a pcapng file (draft-ietf-opsawg-pcapng), as Wireshark
//! reads it.
//!
//! Frames are written as they cross: super-segments whole, and checksums that are left to the
//! device unfinished, just as a capture on a Linux interface with offloads shows them.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError, PcapResult};

use crate::{
    Capabilities, Device, Error, MAX_FRAME, MacAddr, Queue, QueueStats, Rss, RxMeta, TxMeta,
};

/// What is buffered before it goes to the file.
const BUFFER: usize = 1 << 20;

/// How long a frame stays in the buffer at most, while its queue is driven.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Direction of a frame (epb_flags, bits 0 and 1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Received by the stack.
    Inbound = 1,
    /// Sent by the stack.
    Outbound = 2,
}

/// A capture file that any number of devices and queues write to.
///
/// Every frame is in the file when its queue is dropped or goes to sleep, and otherwise within a
/// second. When the file cannot be written, the capture ends with a log line, and the traffic
/// goes on.
#[derive(Clone)]
pub struct CaptureFile(Arc<Mutex<State>>);

struct State {
    /// `None` once writing has failed.
    writer: Option<PcapNgWriter<BufWriter<File>>>,
    interfaces: u32,
    flushed: Instant,
    dirty: bool,
}

impl CaptureFile {
    /// Creates the file, or empties one that exists.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path) -> Result<CaptureFile, Error> {
        let what = || Error::io(format!("create {}", path.display()));
        let file = File::create(path).map_err(what())?;
        let writer = PcapNgWriter::new(BufWriter::with_capacity(BUFFER, file))
            .map_err(|e| what()(io_error(e)))?;
        Ok(CaptureFile(Arc::new(Mutex::new(State {
            writer: Some(writer),
            interfaces: 0,
            flushed: Instant::now(),
            dirty: true,
        }))))
    }

    /// Writes an interface's description; returns its number in the file.
    pub fn add_interface(&self, name: &str) -> u32 {
        self.with(|state| {
            let number = state.interfaces;
            state.interfaces += 1;
            state.write(|writer| {
                writer.write_pcapng_block(InterfaceDescriptionBlock {
                    linktype: DataLink::ETHERNET,
                    // No limit.
                    snaplen: 0,
                    options: vec![
                        InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                        // Timestamps count units of 10^-9 seconds.
                        InterfaceDescriptionOption::IfTsResol(9),
                    ],
                })
            });
            number
        })
    }

    /// Writes a frame that crosses interface `number` now.
    pub fn record(&self, number: u32, direction: Direction, frame: &[u8]) {
        self.with(|state| {
            // Taken under the lock, so that frames stand in the file in their order in time.
            let timestamp = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            state.write(|writer| {
                writer.write_pcapng_block(EnhancedPacketBlock {
                    interface_id: number,
                    timestamp,
                    original_len: frame.len() as u32,
                    data: Cow::Borrowed(frame),
                    options: vec![EnhancedPacketOption::Flags(direction as u32)],
                })
            });
        });
    }

    /// Brings what is buffered to the file.
    pub fn flush(&self) {
        self.with(State::flush);
    }

    fn flush_if_old(&self) {
        self.with(State::flush_if_old);
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn write(
        &mut self,
        block: impl FnOnce(&mut PcapNgWriter<BufWriter<File>>) -> PcapResult<usize>,
    ) {
        if let Some(writer) = &mut self.writer {
            let result = block(writer).map_err(io_error);
            self.dirty = true;
            self.end_on_error(result.map(drop));
            self.flush_if_old();
        }
    }

    fn flush(&mut self) {
        self.flushed = Instant::now();
        if let Some(writer) = &mut self.writer
            && std::mem::take(&mut self.dirty)
        {
            let result = writer.get_mut().flush();
            self.end_on_error(result);
        }
    }

    fn flush_if_old(&mut self) {
        if self.dirty && self.flushed.elapsed() >= FLUSH_EVERY {
            self.flush();
        }
    }

    fn end_on_error(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            tracing::error!(%error, "the capture file cannot be written: the capture ends here");
            // Dropping the buffer would try to write it once more.
            if let Some(writer) = self.writer.take() {
                let _ = writer.into_inner().into_parts();
            }
        }
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// A device of which every queue is captured.
pub struct CaptureDevice<D> {
    inner: D,
    file: CaptureFile,
    interface: u32,
}

impl<D: Device> CaptureDevice<D> {
    /// Wraps a device, under its own name in the file.
    pub fn new(inner: D, file: CaptureFile) -> CaptureDevice<D> {
        let interface = file.add_interface(inner.name());
        CaptureDevice {
            inner,
            file,
            interface,
        }
    }
}

impl<D: Device> Device for CaptureDevice<D> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn mac(&self) -> MacAddr {
        self.inner.mac()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn rss(&self) -> Option<Rss> {
        self.inner.rss()
    }

    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let queue = self.inner.open_queue(index)?;
        Ok(Box::new(Capture::new(
            queue,
            self.file.clone(),
            self.interface,
        )))
    }
}

/// A queue whose frames are captured.
pub struct Capture<Q> {
    inner: Q,
    file: CaptureFile,
    interface: u32,
    /// A frame is built here, since a queue does not show again what is committed to it.
    frame: Box<[u8]>,
    reserved: Option<usize>,
}

impl<Q: Queue> Capture<Q> {
    /// Wraps a queue of the interface `interface` of the file.
    pub fn new(inner: Q, file: CaptureFile, interface: u32) -> Capture<Q> {
        Capture {
            inner,
            file,
            interface,
            frame: vec![0; MAX_FRAME].into(),
            reserved: None,
        }
    }
}

impl<Q> Drop for Capture<Q> {
    fn drop(&mut self) {
        self.file.flush();
    }
}

impl<Q: Queue> Queue for Capture<Q> {
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error> {
        let (file, interface) = (&self.file, self.interface);
        let taken = self.inner.receive(budget, &mut |frame, meta| {
            file.record(interface, Direction::Inbound, frame);
            sink(frame, meta);
        })?;
        if taken == 0 {
            file.flush_if_old();
        }
        Ok(taken)
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = None;
        self.inner.reserve(len)?;
        self.reserved = Some(len);
        self.frame.get_mut(..len)
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        let reserved = self.reserved.take();
        assert!(reserved.is_some_and(|room| len <= room), "nothing reserved");
        let frame = &self.frame[..len];
        // The room is there still: `reserve` found it, and nothing was committed since.
        if let Some(room) = self.inner.reserve(len) {
            room.copy_from_slice(frame);
            self.inner.commit(len, meta);
            self.file.record(self.interface, Direction::Outbound, frame);
        }
    }

    fn flush(&mut self) -> Result<usize, Error> {
        self.inner.flush()
    }

    fn wait_fd(&self) -> Option<RawFd> {
        self.inner.wait_fd()
    }

    fn arm(&mut self) -> bool {
        let sleeps = self.inner.arm();
        if sleeps {
            self.file.flush();
        }
        sleeps
    }

    fn disarm(&mut self, rung: bool) {
        self.inner.disarm(rung);
    }

    fn longest_sleep(&self) -> Option<Duration> {
        self.inner.longest_sleep()
    }

    fn stats(&self) -> QueueStats {
        self.inner.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::{PairConfig, pair};
    use crate::segment::tests::tcp_frame;
    use crate::{ChecksumOffload, Gso, GsoKind};
    use pcap_file::pcapng::{Block, PcapNgReader};

    /// Interface, direction and data of a frame.
    type Captured = (u32, u32, Vec<u8>);

    /// The names of the interfaces, and the frames.
    fn read(path: &Path) -> (Vec<String>, Vec<Captured>) {
        let mut reader = PcapNgReader::new(File::open(path).unwrap()).unwrap();
        let (mut names, mut frames) = (Vec::new(), Vec::new());
        let mut last = Duration::ZERO;
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(block) => {
                    assert_eq!(block.linktype, DataLink::ETHERNET);
                    for option in block.options {
                        match option {
                            InterfaceDescriptionOption::IfName(name) => {
                                names.push(name.to_string());
                            }
                            InterfaceDescriptionOption::IfTsResol(unit) => assert_eq!(unit, 9),
                            _ => {}
                        }
                    }
                }
                Block::EnhancedPacket(block) => {
                    let age = SystemTime::UNIX_EPOCH.elapsed().unwrap() - block.timestamp;
                    assert!(
                        age < Duration::from_secs(3600),
                        "not a time of today: {age:?}"
                    );
                    assert!(block.timestamp >= last);
                    last = block.timestamp;
                    let flags = block.options.iter().find_map(|option| match option {
                        EnhancedPacketOption::Flags(flags) => Some(*flags),
                        _ => None,
                    });
                    assert_eq!(block.original_len as usize, block.data.len());
                    frames.push((block.interface_id, flags.unwrap(), block.data.to_vec()));
                }
                other => panic!("unexpected block {other:?}"),
            }
        }
        (names, frames)
    }

    fn put(queue: &mut dyn Queue, frame: &[u8], meta: TxMeta) {
        queue.reserve(frame.len()).unwrap().copy_from_slice(frame);
        queue.commit(frame.len(), meta);
        queue.flush().unwrap();
    }

    #[test]
    fn a_capture_reads_back_with_interfaces_and_directions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all.pcapng");
        let file = CaptureFile::create(&path).unwrap();
        let (a, b) = pair(PairConfig::default()).unwrap();
        let mut a = CaptureDevice::new(a, file.clone());
        let mut b = CaptureDevice::new(b, file.clone());
        let (mut qa, mut qb) = (a.open_queue(0).unwrap(), b.open_queue(0).unwrap());

        let whole = tcp_frame(false, 1, 0x18, &[7; 60_001]);
        let offload = TxMeta {
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
        put(&mut qa, &whole, offload);
        let mut sizes = Vec::new();
        let mut sink = |frame: &[u8], meta: RxMeta| sizes.push((frame.len(), meta.gso_size));
        qb.receive(9, &mut sink).unwrap();
        assert_eq!(sizes, [(whole.len(), 1448)]);
        put(&mut qb, b"short", TxMeta::default());
        drop((qa, qb));

        let (names, frames) = read(&path);
        assert_eq!(names, ["pair:a", "pair:b"]);
        assert_eq!(
            frames,
            [
                (0, 2, whole.clone()),
                (1, 1, whole),
                (1, 2, b"short".to_vec()),
            ]
        );
    }

    #[test]
    fn all_is_in_the_file_before_the_worker_sleeps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("idle.pcapng");
        let (a, _b) = pair(PairConfig::default()).unwrap();
        let mut a = CaptureDevice::new(a, CaptureFile::create(&path).unwrap());
        let mut queue = a.open_queue(0).unwrap();
        put(&mut queue, b"frame", TxMeta::default());
        assert!(queue.arm());
        assert_eq!(read(&path).1, [(0, 2, b"frame".to_vec())]);
    }

    #[test]
    fn a_file_that_cannot_be_written_does_not_stop_the_traffic() {
        let (a, mut b) = pair(PairConfig {
            depth: 100_000,
            ..PairConfig::default()
        })
        .unwrap();
        let file = CaptureFile::create(Path::new("/dev/full")).unwrap();
        let mut a = CaptureDevice::new(a, file);
        let (mut qa, mut qb) = (a.open_queue(0).unwrap(), b.open_queue(0).unwrap());
        // More than is buffered.
        for _ in 0..40 {
            put(&mut qa, &[0; 60_000], TxMeta::default());
        }
        assert_eq!(qb.receive(100, &mut |_, _| {}).unwrap(), 40);
    }
}
