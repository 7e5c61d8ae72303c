//! The ready sets of threads that poll.
//!
//! A set remembers what it watches from call to call, so that a loop over the same descriptors
//! sends no commands. The sets belong to the process: a thread starts to look for a free one at a
//! place that its id decides, and so finds its own again.

use crate::errno::Result;
use crate::readiness::channel::Channel;
use crate::readiness::guarded::{Guarded, Held};
use crate::readiness::stack::{SocketId, Stack};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Threads that can sleep in poll on several sockets at a time; more of them nap.
const SETS: usize = 64;

/// Watches beyond this number, and beyond twice those in use, are taken back.
const KEPT: usize = 64;

/// The ready sets of a process.
pub struct PollSets([Guarded<PollSet>; SETS]);

/// A ready set for poll.
pub struct PollSet {
    channel: Option<Channel>,
    watches: HashMap<u32, Watch, BuildHasherDefault<NumberHasher>>,
    cookie: u32,
    round: u32,
}

struct Watch {
    generation: u16,
    cookie: u32,
    /// The last call that was about this socket.
    round: u32,
}

/// Spreads socket numbers, which the engine hands out and no peer can choose.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32((*byte).into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl PollSets {
    /// None of them in use.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> PollSets {
        PollSets([const { Guarded::new(PollSet::new()) }; SETS])
    }

    /// A set for the length of one sleep of thread `tid`; `None` if all are in use.
    pub fn take(&self, tid: u32) -> Option<Held<'_, PollSet>> {
        let mut places = (0..SETS).map(|i| (tid as usize).wrapping_add(i) % SETS);
        places.find_map(|place| self.0[place].try_lock(tid))
    }
}

impl PollSet {
    /// One that watches nothing.
    const fn new() -> PollSet {
        PollSet {
            channel: None,
            watches: HashMap::with_hasher(BuildHasherDefault::new()),
            cookie: 0,
            round: 0,
        }
    }

    /// Makes the set watch `sockets`, and takes the edges that have come so far.
    ///
    /// # Errors
    /// As [`Channel::open`].
    pub fn watch(
        &mut self,
        stack: &impl Stack,
        sockets: impl ExactSizeIterator<Item = SocketId>,
    ) -> Result<Channel> {
        let channel = self.attach(stack)?;
        self.round = self.round.wrapping_add(1);
        let in_use = sockets.len();
        for SocketId { index, generation } in sockets {
            let known = self.watches.get_mut(&index);
            if let Some(watch) = known.filter(|watch| watch.generation == generation) {
                watch.round = self.round;
                continue;
            }
            self.cookie = self.cookie.wrapping_add(1);
            let watch = Watch {
                generation,
                cookie: self.cookie,
                round: self.round,
            };
            // The engine has dropped the watch of an earlier life of the record.
            self.watches.insert(index, watch);
            channel.watch(stack, SocketId { index, generation }, self.cookie, false);
        }
        if self.watches.len() > KEPT + 2 * in_use {
            self.prune(stack, channel);
        }
        self.take_edges(stack, channel);
        Ok(channel)
    }

    fn attach(&mut self, stack: &impl Stack) -> Result<Channel> {
        if let Some(channel) = self.channel.filter(|channel| channel.is_own(stack)) {
            return Ok(channel);
        }
        let channel = Channel::open(stack)?;
        if let Some(parents) = self.channel.replace(channel) {
            parents.abandon();
        }
        self.watches.clear();
        Ok(channel)
    }

    fn prune(&mut self, stack: &impl Stack, channel: Channel) {
        let round = self.round;
        self.watches.retain(|index, watch| {
            if watch.round != round {
                unwatch(stack, channel, *index, watch);
            }
            watch.round == round
        });
    }

    /// What an edge is about is read from the sockets' records. An edge of a socket that this call
    /// is not about takes back its watch.
    fn take_edges(&mut self, stack: &impl Stack, channel: Channel) {
        let (round, watches) = (self.round, &mut self.watches);
        channel.take(stack, |event| {
            if let Some(watch) = watches.get(&event.socket)
                && watch.cookie == event.cookie
                && watch.round != round
            {
                unwatch(stack, channel, event.socket, watch);
                watches.remove(&event.socket);
            }
        });
    }
}

fn unwatch(stack: &impl Stack, channel: Channel, index: u32, watch: &Watch) {
    let generation = watch.generation;
    channel.unwatch(stack, SocketId { index, generation }, watch.cookie);
}
