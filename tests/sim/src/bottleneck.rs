//! The bottleneck: a link of a capacity, a queue in front of it that drops at its tail and may mark
//! what meets a long queue, and a delay behind it. Also losses that no queue explains.

use crate::PACKET;
use crate::rng::Rng;

/// What the bottleneck is like.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bottleneck {
    /// Bits a second, IP and TCP headers counted.
    pub capacity: u64,
    /// Round-trip time of an empty path, in microseconds; half of it lies behind the bottleneck, and
    /// half on the way back, which is as fast as need be.
    pub rtt: u64,
    /// How much longer the way back may take, at random, in microseconds; a flow's packets keep their
    /// order.
    pub jitter: u64,
    /// Bytes that fit into the queue.
    pub queue: u64,
    /// Queue in bytes from which packets that can be are marked (the K of RFC 8257).
    pub mark_at: Option<u64>,
    /// Losses besides those of the queue.
    pub loss: Loss,
}

/// Losses at random.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Loss {
    /// Probability that a packet is lost.
    pub probability: f64,
    /// What makes them the same each time.
    pub seed: u64,
}

impl Bottleneck {
    /// A path of `capacity` bits a second and `rtt` microseconds, without random losses, whose queue
    /// holds one bandwidth-delay product.
    pub fn new(capacity: u64, rtt: u64) -> Self {
        let path = Bottleneck {
            capacity,
            rtt,
            jitter: 0,
            queue: 0,
            mark_at: None,
            loss: Loss {
                probability: 0.0,
                seed: 1,
            },
        };
        Bottleneck {
            queue: path.bdp(),
            ..path
        }
    }

    /// The bandwidth-delay product in bytes.
    pub fn bdp(&self) -> u64 {
        self.capacity / 8 * self.rtt / 1_000_000
    }

    pub(crate) fn nanos_for(&self, bytes: u64) -> u64 {
        (u128::from(bytes) * 8_000_000_000 / u128::from(self.capacity.max(1))) as u64
    }

    fn bytes_in(&self, nanos: u64) -> u64 {
        (u128::from(nanos) * u128::from(self.capacity) / 8_000_000_000) as u64
    }
}

/// Packets of one burst that share a fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// The first of them, by its place in the burst, and how many they are.
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// They are marked.
    pub(crate) marked: bool,
    /// When the last of them has left the bottleneck, in nanoseconds.
    pub(crate) left: u64,
}

/// The bottleneck at work.
pub(crate) struct Link {
    path: Bottleneck,
    /// When all that is queued has left, in nanoseconds.
    free_at: u64,
    rng: Rng,
    /// Packets until the next random loss.
    until_loss: u64,
    pub(crate) dropped: u64,
    pub(crate) marked: u64,
    pub(crate) longest: u64,
}

impl Link {
    pub(crate) fn new(path: Bottleneck) -> Self {
        let mut rng = Rng::new(path.loss.seed);
        let until_loss = rng.successes(path.loss.probability);
        Link {
            path,
            free_at: 0,
            rng,
            until_loss,
            dropped: 0,
            marked: 0,
            longest: 0,
        }
    }

    /// Bytes that wait at `now`.
    pub(crate) fn queued(&self, now: u64) -> u64 {
        self.path.bytes_in(self.free_at.saturating_sub(now))
    }

    /// Takes a burst of `count` full packets; gives what gets through, in runs of one fate.
    pub(crate) fn take(&mut self, now: u64, count: u64, markable: bool, out: &mut Vec<Run>) {
        let mut waiting = self.queued(now);
        self.longest = self.longest.max(waiting);
        self.free_at = self.free_at.max(now);
        for place in 0..count {
            if self.until_loss == 0 {
                self.until_loss = self.rng.successes(self.path.loss.probability);
                self.dropped += 1;
                continue;
            }
            self.until_loss -= 1;
            if waiting + PACKET > self.path.queue {
                self.dropped += 1;
                continue;
            }
            let marked = markable && self.path.mark_at.is_some_and(|k| waiting >= k);
            waiting += PACKET;
            self.free_at += self.path.nanos_for(PACKET);
            self.marked += u64::from(marked);
            match out.last_mut() {
                Some(run) if run.first + run.count == place && run.marked == marked => {
                    run.count += 1;
                    run.left = self.free_at;
                }
                _ => out.push(Run {
                    first: place,
                    count: 1,
                    marked,
                    left: self.free_at,
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> Bottleneck {
        // A packet takes 1 ms.
        Bottleneck {
            queue: 10 * PACKET,
            ..Bottleneck::new(12_000_000, 20_000)
        }
    }

    fn take(link: &mut Link, now: u64, count: u64) -> Vec<Run> {
        let mut runs = Vec::new();
        link.take(now, count, true, &mut runs);
        runs
    }

    #[test]
    fn packets_leave_one_after_the_other() {
        let mut link = Link::new(path());
        assert_eq!(take(&mut link, 0, 3)[0].left, 3_000_000);
        assert_eq!(take(&mut link, 1_000_000, 1)[0].left, 4_000_000);
        assert_eq!(take(&mut link, 9_000_000, 1)[0].left, 10_000_000);
    }

    #[test]
    fn what_does_not_fit_into_the_queue_is_dropped_at_its_tail() {
        let mut link = Link::new(path());
        let runs = take(&mut link, 0, 15);
        assert_eq!((runs.len(), runs[0].count), (1, 10));
        assert_eq!(link.dropped, 5);
    }

    #[test]
    fn what_meets_a_long_queue_is_marked() {
        let mut link = Link::new(Bottleneck {
            mark_at: Some(4 * PACKET),
            ..path()
        });
        let runs = take(&mut link, 0, 6);
        let fates: Vec<_> = runs.iter().map(|r| (r.count, r.marked)).collect();
        assert_eq!(fates, [(4, false), (2, true)]);
    }

    #[test]
    fn random_losses_are_as_many_as_asked_for() {
        let mut link = Link::new(Bottleneck {
            queue: u64::MAX,
            loss: Loss {
                probability: 0.01,
                seed: 7,
            },
            ..path()
        });
        take(&mut link, 0, 1_000_000);
        assert!((9_500..10_500).contains(&link.dropped), "{}", link.dropped);
    }
}
