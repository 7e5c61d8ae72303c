//! No device: for stacks whose programs talk to each other only. Nothing arrives, and what is sent is
//! dropped and counted, as on a card without a cable.

use std::os::fd::RawFd;

use crate::{
    Capabilities, Device, Error, MAX_FRAME, MacAddr, Queue, QueueStats, RxMeta, TxMeta,
    no_such_queue,
};

/// A device that leads nowhere.
pub struct Unplugged {
    mac: MacAddr,
    mtu: usize,
    /// Of each queue, whether it has been opened.
    opened: Vec<bool>,
}

impl Unplugged {
    /// A device with so many queue pairs; `mtu` is that of the cable that is not there.
    ///
    /// # Errors
    /// The system has no random bytes to give, for the address.
    pub fn new(queues: usize, mtu: usize) -> Result<Unplugged, Error> {
        Ok(Unplugged {
            mac: MacAddr::random_local()?,
            mtu,
            opened: vec![false; queues],
        })
    }
}

impl Device for Unplugged {
    fn name(&self) -> &str {
        "none"
    }

    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: self.mtu,
            tx_checksum: true,
            tx_segmentation: true,
            rx_coalescing: true,
            queues: self.opened.len(),
        }
    }

    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let queues = self.opened.len();
        match self.opened.get_mut(index) {
            Some(opened) if !*opened => *opened = true,
            _ => return Err(no_such_queue("none", index, queues)),
        }
        Ok(Box::new(UnpluggedQueue::default()))
    }
}

#[derive(Default)]
struct UnpluggedQueue {
    /// Room for one frame; taken when the first is built.
    frame: Vec<u8>,
    reserved: Option<usize>,
    committed: usize,
    stats: QueueStats,
}

impl Queue for UnpluggedQueue {
    fn receive(&mut self, _: usize, _: &mut dyn FnMut(&[u8], RxMeta)) -> Result<usize, Error> {
        Ok(0)
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.reserved = None;
        if self.frame.is_empty() {
            self.frame.resize(MAX_FRAME, 0);
        }
        let room = self.frame.get_mut(..len)?;
        self.reserved = Some(len);
        Some(room)
    }

    fn commit(&mut self, len: usize, _: TxMeta) {
        let reserved = self.reserved.take().expect("a frame is reserved");
        assert!(len <= reserved, "{len} bytes of {reserved}");
        self.committed += 1;
        self.stats.tx_dropped += 1;
    }

    fn flush(&mut self) -> Result<usize, Error> {
        Ok(std::mem::take(&mut self.committed))
    }

    fn wait_fd(&self) -> Option<RawFd> {
        None
    }

    fn stats(&self) -> QueueStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_dropped_and_counted_and_nothing_arrives() {
        let mut device = Unplugged::new(2, 1500).unwrap();
        let mut queue = device.open_queue(1).unwrap();
        queue.reserve(MAX_FRAME).unwrap().fill(1);
        queue.commit(60, TxMeta::default());
        assert_eq!(queue.flush().unwrap(), 1);
        let arrived = queue.receive(64, &mut |_, _| panic!("a frame")).unwrap();
        assert_eq!(arrived, 0);
        assert_eq!((queue.stats().tx_frames, queue.stats().tx_dropped), (0, 1));
        assert!(queue.reserve(MAX_FRAME + 1).is_none());
    }

    #[test]
    fn each_queue_opens_once() {
        let mut device = Unplugged::new(1, 1500).unwrap();
        assert!(device.open_queue(0).is_ok());
        for index in [0, 1] {
            assert!(device.open_queue(index).is_err(), "{index}");
        }
    }
}
