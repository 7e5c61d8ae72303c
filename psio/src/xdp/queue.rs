//! One queue of the interface.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use super::Redirect;
use super::frames::Frames;
use super::socket::XdpSocket;
use super::watch::Changes;
use crate::sys::AnyReadable;
use crate::{Error, Queue, QueueStats, RxMeta, TxMeta, interface};

pub struct XdpQueue {
    pub name: String,
    pub interface: u32,
    pub socket: XdpSocket,
    pub frames: Frames,
    pub changes: Changes,
    /// The socket, and notices of changes to interfaces.
    pub readable: AnyReadable,
    /// The interface was found removed when the worker was about to sleep.
    pub gone: bool,
    /// Whether the driver sends by itself what it was told of once.
    pub zero_copy: bool,
    pub stats: QueueStats,
    /// The interface runs the program as long as there is a queue.
    pub _redirect: Arc<Redirect>,
}

impl XdpQueue {
    /// Has the kernel send what was published; whether the interface has no room for the rest.
    fn push_out(&mut self) -> Result<bool, Error> {
        let mut waiting = self.frames.to_be_told();
        while waiting > 0 {
            let error = match self.socket.wake_sender() {
                Ok(()) => return Ok(false),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => {}
                // The frame is lost, those behind it may yet go.
                Some(libc::EBUSY) => self.stats.tx_dropped += 1,
                _ if !interface::exists(self.interface) => {
                    return Err(Error::Gone(self.name.clone()));
                }
                // Down, or being set up anew: a change that wakes the worker will follow.
                Some(libc::ENETDOWN | libc::ENXIO) => return Ok(false),
                _ => return Err(Error::io(format!("send to {}", self.name))(error)),
            }
            let left = self.frames.to_be_told();
            if left >= waiting {
                return Ok(true);
            }
            waiting = left;
        }
        Ok(false)
    }
}

impl Queue for XdpQueue {
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error> {
        if self.gone {
            return Err(Error::Gone(self.name.clone()));
        }
        let mut shown = 0;
        let mut bytes = 0;
        for _ in 0..budget {
            let show = |frame: &[u8]| {
                bytes += frame.len() as u64;
                sink(frame, RxMeta::default());
            };
            match self.frames.receive(show) {
                None => break,
                Some(true) => shown += 1,
                Some(false) => self.stats.rx_dropped += 1,
            }
        }
        self.stats.rx_frames += shown as u64;
        self.stats.rx_bytes += bytes;
        if shown > 0 && self.frames.refill() {
            // An error comes back when something is sent, or the interface is gone.
            let _ = self.socket.wake_receiver();
        }
        Ok(shown)
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.frames.reserve(len)
    }

    fn commit(&mut self, len: usize, _: TxMeta) {
        self.frames.commit(len);
        self.stats.tx_bytes += len as u64;
    }

    fn flush(&mut self) -> Result<usize, Error> {
        let taken = self.frames.publish();
        self.stats.tx_frames += taken as u64;
        self.push_out()?;
        self.frames.take_back();
        Ok(taken)
    }

    fn wait_fd(&self) -> Option<RawFd> {
        Some(self.readable.as_raw_fd())
    }

    fn arm(&mut self) -> bool {
        self.gone = self.changes.take() && !interface::exists(self.interface);
        if self.frames.refill() {
            let _ = self.socket.wake_receiver();
        }
        // What the interface had no room for is offered again: nobody says when there is some.
        let stuck = !self.zero_copy && self.push_out().unwrap_or(false);
        !self.gone && !stuck && self.frames.is_quiet()
    }

    fn stats(&self) -> QueueStats {
        let mut stats = self.stats;
        if let Some(kernel) = self.socket.statistics() {
            stats.rx_dropped += kernel.rx_dropped + kernel.rx_ring_full + kernel.rx_invalid_descs;
            stats.tx_dropped += kernel.tx_invalid_descs;
        }
        stats
    }
}
