//! Fewer workers than a device has queues: each worker has several of them as one.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use crate::sys::AnyReadable;
use crate::{
    Capabilities, Device, Error, MacAddr, Queue, QueueStats, Rss, RxMeta, TxMeta, no_such_queue,
};

/// A device whose queues are shared out evenly, neighbours together: some devices number their queues
/// in the order in which they are opened.
pub struct BundleDevice<D> {
    inner: D,
    bundles: usize,
}

impl<D: Device> BundleDevice<D> {
    /// Shares out all queues of a device; a bundle for which there is none cannot be opened.
    pub fn new(inner: D, bundles: usize) -> BundleDevice<D> {
        BundleDevice { inner, bundles }
    }

    /// How many bundles there are, and which of them each queue belongs to.
    fn shares(&self) -> (usize, impl Fn(usize) -> usize + use<D>) {
        let queues = self.inner.capabilities().queues;
        let bundles = self.bundles.min(queues);
        (bundles, move |queue| queue * bundles / queues)
    }
}

impl<D: Device> Device for BundleDevice<D> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn mac(&self) -> MacAddr {
        self.inner.mac()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            queues: self.shares().0,
            ..self.inner.capabilities()
        }
    }

    fn rss(&self) -> Option<Rss> {
        let (_, bundle_of) = self.shares();
        let of_queues = self.inner.rss()?;
        // No number grows.
        let table = of_queues
            .table()
            .map(|queue| bundle_of(queue.into()) as u16);
        Some(Rss::with_table(*of_queues.key(), table))
    }

    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let (bundles, bundle_of) = self.shares();
        if index >= bundles {
            return Err(no_such_queue(self.name(), index, bundles));
        }
        let queues = 0..self.inner.capabilities().queues;
        let members = queues.filter(|queue| bundle_of(*queue) == index);
        let members = members.map(|member| self.inner.open_queue(member));
        Ok(Box::new(Bundle::new(members.collect::<Result<_, _>>()?)?))
    }
}

/// Several queues as one. What is received comes from all in turn; what is sent goes by the first.
struct Bundle {
    members: Vec<Box<dyn Queue>>,
    /// The member that is looked at first.
    first: usize,
    /// `None` if a member must be polled.
    readable: Option<AnyReadable>,
}

impl Bundle {
    fn new(members: Vec<Box<dyn Queue>>) -> Result<Bundle, Error> {
        let fds: Option<Vec<RawFd>> = members.iter().map(|member| member.wait_fd()).collect();
        let readable = fds.map(|fds| AnyReadable::new(&fds)).transpose();
        Ok(Bundle {
            readable: readable.map_err(Error::io("epoll"))?,
            members,
            first: 0,
        })
    }
}

impl Queue for Bundle {
    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&[u8], RxMeta),
    ) -> Result<usize, Error> {
        let (before, after) = self.members.split_at_mut(self.first);
        let mut shown = 0;
        for member in after.iter_mut().chain(before) {
            shown += member.receive(budget - shown, sink)?;
        }
        self.first = (self.first + 1) % self.members.len();
        Ok(shown)
    }

    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.members[0].reserve(len)
    }

    fn commit(&mut self, len: usize, meta: TxMeta) {
        self.members[0].commit(len, meta);
    }

    fn flush(&mut self) -> Result<usize, Error> {
        self.members.iter_mut().map(|member| member.flush()).sum()
    }

    fn wait_fd(&self) -> Option<RawFd> {
        self.readable.as_ref().map(AsRawFd::as_raw_fd)
    }

    fn arm(&mut self) -> bool {
        let is_quiet = self.members.iter_mut().all(|member| member.arm());
        if !is_quiet {
            self.disarm(true);
        }
        is_quiet
    }

    fn disarm(&mut self, rung: bool) {
        let members = self.members.iter_mut();
        members.for_each(|member| member.disarm(rung));
    }

    fn longest_sleep(&self) -> Option<Duration> {
        let members = self.members.iter();
        members.filter_map(|member| member.longest_sleep()).min()
    }

    fn stats(&self) -> QueueStats {
        let add = |sum: QueueStats, one: QueueStats| QueueStats {
            rx_frames: sum.rx_frames + one.rx_frames,
            rx_bytes: sum.rx_bytes + one.rx_bytes,
            rx_dropped: sum.rx_dropped + one.rx_dropped,
            tx_frames: sum.tx_frames + one.tx_frames,
            tx_bytes: sum.tx_bytes + one.tx_bytes,
            tx_dropped: sum.tx_dropped + one.tx_dropped,
        };
        let members = self.members.iter().map(|member| member.stats());
        members.fold(QueueStats::default(), add)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::offload::send;
    use crate::pair::{PairConfig, pair};
    use crate::rss::MICROSOFT_KEY;

    type Queues = Vec<Box<dyn Queue>>;

    /// Two bundles over five queues, and the five at the other end.
    fn two_over_five() -> (Queues, Queues) {
        let mut config = PairConfig::plain();
        config.capabilities.queues = 5;
        let (near, mut far) = pair(config).unwrap();
        let mut near = BundleDevice::new(near, 2);
        assert_eq!(near.capabilities().queues, 2);
        assert!(near.open_queue(2).is_err());
        let bundles = (0..2).map(|index| near.open_queue(index).unwrap());
        let queues = (0..5).map(|index| far.open_queue(index).unwrap());
        (bundles.collect(), queues.collect())
    }

    fn put(queue: &mut Box<dyn Queue>, frame: &[u8]) {
        assert!(send(queue, frame, TxMeta::default()));
        queue.flush().unwrap();
    }

    fn take(queue: &mut Box<dyn Queue>, budget: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        let mut sink = |frame: &[u8], _| taken.push(frame[0]);
        let shown = queue.receive(budget, &mut sink).unwrap();
        assert_eq!(shown, taken.len());
        taken
    }

    #[test]
    fn each_bundle_receives_from_its_queues_and_sends_by_the_first() {
        let (mut bundles, mut far) = two_over_five();
        for (number, queue) in far.iter_mut().enumerate() {
            put(queue, &[number as u8; 60]);
        }
        assert_eq!(take(&mut bundles[0], 64), [0, 1, 2]);
        assert_eq!(take(&mut bundles[1], 64), [3, 4]);
        for (bundle, first) in bundles.iter_mut().zip([0, 3]) {
            put(bundle, &[7; 60]);
            assert_eq!(take(&mut far[first], 64), [7]);
            assert_eq!(bundle.stats().tx_frames, 1);
        }
        assert_eq!(bundles[0].stats().rx_frames, 3);
        assert_eq!(bundles[0].stats().rx_bytes, 180);
    }

    #[test]
    fn a_busy_queue_does_not_keep_the_others_waiting() {
        let (mut bundles, mut far) = two_over_five();
        for _ in 0..10 {
            put(&mut far[0], &[0; 60]);
        }
        for number in [1, 2] {
            put(&mut far[number], &[number as u8; 60]);
        }
        let taken: Vec<_> = (0..3).flat_map(|_| take(&mut bundles[0], 2)).collect();
        assert!(taken.contains(&1) && taken.contains(&2), "{taken:?}");
    }

    #[test]
    fn a_frame_on_any_of_its_queues_wakes_a_worker() {
        let (mut bundles, mut far) = two_over_five();
        let bundle = &mut bundles[0];
        let is_readable = |bundle: &dyn Queue| {
            let fds = [bundle.wait_fd().unwrap()];
            crate::sys::wait_readable(fds, Some(Duration::ZERO)).unwrap()[0]
        };
        assert!(bundle.arm());
        assert!(!is_readable(&**bundle));
        put(&mut far[2], &[2; 60]);
        assert!(is_readable(&**bundle));
        bundle.disarm(true);
        assert_eq!(take(bundle, 64), [2]);
        assert!(!is_readable(&**bundle));
    }

    /// A device of five queues whose hash is known.
    struct Five(crate::pair::PairDevice);

    impl Device for Five {
        fn name(&self) -> &str {
            self.0.name()
        }

        fn mac(&self) -> MacAddr {
            self.0.mac()
        }

        fn capabilities(&self) -> Capabilities {
            self.0.capabilities()
        }

        fn rss(&self) -> Option<Rss> {
            Some(Rss::new(MICROSOFT_KEY, 5))
        }

        fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
            self.0.open_queue(index)
        }
    }

    #[test]
    fn the_hash_names_the_bundle_that_has_the_queue() {
        let mut config = PairConfig::plain();
        config.capabilities.queues = 5;
        let five = Five(pair(config).unwrap().0);
        let (of_queues, of_bundles) = (five.rss().unwrap(), BundleDevice::new(five, 2).rss());
        let of_bundles = of_bundles.unwrap();
        assert_eq!(of_bundles.key(), of_queues.key());
        for (queue, bundle) in of_queues.table().iter().zip(of_bundles.table()) {
            assert_eq!(*bundle, u16::from(*queue > 2));
        }
    }

    /// A queue to which frames come while its worker goes to sleep, or none.
    struct Arming {
        frames_come: bool,
        is_armed: Arc<AtomicBool>,
    }

    impl Queue for Arming {
        fn receive(&mut self, _: usize, _: &mut dyn FnMut(&[u8], RxMeta)) -> Result<usize, Error> {
            Ok(0)
        }

        fn reserve(&mut self, _: usize) -> Option<&mut [u8]> {
            None
        }

        fn commit(&mut self, _: usize, _: TxMeta) {}

        fn flush(&mut self) -> Result<usize, Error> {
            Ok(0)
        }

        fn wait_fd(&self) -> Option<RawFd> {
            None
        }

        fn arm(&mut self) -> bool {
            self.is_armed.store(true, Ordering::Relaxed);
            !self.frames_come
        }

        fn disarm(&mut self, _: bool) {
            self.is_armed.store(false, Ordering::Relaxed);
        }

        fn stats(&self) -> QueueStats {
            QueueStats::default()
        }
    }

    #[test]
    fn a_worker_stays_awake_while_frames_come_to_one_of_its_queues() {
        let armed = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
        let member = |(is_armed, frames_come): (&Arc<AtomicBool>, bool)| {
            let is_armed = Arc::clone(is_armed);
            Box::new(Arming {
                frames_come,
                is_armed,
            }) as Box<dyn Queue>
        };
        let members = armed.iter().zip([false, true, false]).map(member);
        let mut bundle = Bundle::new(members.collect()).unwrap();
        assert!(!bundle.arm());
        assert!(armed.iter().all(|armed| !armed.load(Ordering::Relaxed)));
        assert_eq!(bundle.wait_fd(), None);
    }
}
