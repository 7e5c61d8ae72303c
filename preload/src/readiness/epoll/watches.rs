//! The watches of one epoll instance: found by descriptor and socket, by the cookie of an edge, or
//! in the order of the ready list.

use super::heads::Heads;
use crate::errno::{Errno, Result};
use crate::readiness::level::Seen;
use crate::readiness::stack::SocketId;
use std::os::fd::RawFd;

/// Most watches of one instance, so that a place fits into the low bits of a cookie.
pub const MOST: usize = 1 << INDEX_BITS;

const INDEX_BITS: u32 = 20;
const NONE: u32 = u32::MAX;

/// One descriptor of an epoll instance.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The number under which the socket was added.
    pub fd: RawFd,
    /// The socket.
    pub socket: SocketId,
    /// Events asked for, and the flags of epoll_ctl(2).
    pub events: u32,
    /// The program's data.
    pub data: u64,
    /// False after `EPOLL_CTL_DEL`, until the next edge: the engine still watches, and adding the
    /// descriptor again costs nothing.
    pub active: bool,
    /// The kernel's epoll watches the same number, behind which a kernel socket listens, too.
    pub both: bool,
    /// What the last edge showed.
    pub seen: Seen,
}

struct Slot {
    /// `None` while the place is free.
    watch: Option<Watch>,
    /// Changes with each use of the place.
    generation: u32,
    /// The next watch of the same socket, or the next free place.
    next: u32,
    /// Neighbours in the ready list.
    ready: Option<(u32, u32)>,
}

/// All watches of one epoll instance.
pub struct Watches {
    slots: Vec<Slot>,
    free: u32,
    /// The first watch of each record.
    by_socket: Heads,
    first_ready: u32,
    last_ready: u32,
    ready: usize,
    active: usize,
}

impl Watches {
    /// None.
    pub const fn new() -> Watches {
        Watches {
            slots: Vec::new(),
            free: NONE,
            by_socket: Heads::new(),
            first_ready: NONE,
            last_ready: NONE,
            ready: 0,
            active: 0,
        }
    }

    /// Watches that the program sees.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Adds a watch and returns its place.
    ///
    /// # Errors
    /// `ENOSPC` at [`MOST`] watches.
    #[inline]
    pub fn insert(&mut self, watch: Watch) -> Result<u32> {
        let index = if self.free != NONE {
            let index = self.free;
            self.free = self.slots[index as usize].next;
            index
        } else if self.slots.len() < MOST {
            self.slots.push(Slot {
                watch: None,
                generation: 0,
                next: NONE,
                ready: None,
            });
            self.slots.len() as u32 - 1
        } else {
            return Err(Errno(libc::ENOSPC));
        };
        let next = self.by_socket.replace(watch.socket.index, index);
        self.active += usize::from(watch.active);
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.next = next;
        slot.watch = Some(watch);
        Ok(index)
    }

    /// Removes the watch at a place.
    #[inline]
    pub fn remove(&mut self, index: u32) -> Option<Watch> {
        self.unready(index);
        let slot = self.slots.get_mut(index as usize)?;
        let watch = slot.watch.take()?;
        let after = std::mem::replace(&mut slot.next, self.free);
        self.free = index;
        self.active -= usize::from(watch.active);
        self.unchain(watch.socket.index, index, after);
        Some(watch)
    }

    fn unchain(&mut self, socket: u32, index: u32, after: u32) {
        let first = self.by_socket.get(socket);
        if first == index {
            self.by_socket.replace(socket, after);
            return;
        }
        let mut at = first;
        while let Some(slot) = self.slots.get_mut(at as usize) {
            if slot.next == index {
                slot.next = after;
                return;
            }
            at = slot.next;
        }
    }

    /// Hides a watch from the program, or shows it again.
    pub fn set_active(&mut self, index: u32, active: bool) {
        if let Some(watch) = self.get_mut(index) {
            let before = std::mem::replace(&mut watch.active, active);
            self.active = self.active - usize::from(before) + usize::from(active);
            if !active {
                self.unready(index);
            }
        }
    }

    /// The watch at a place.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&Watch> {
        self.slots.get(index as usize)?.watch.as_ref()
    }

    /// The watch at a place, to be changed.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Watch> {
        self.slots.get_mut(index as usize)?.watch.as_mut()
    }

    /// The place of a watch of the record `socket`, in any of its lives.
    #[inline]
    pub fn first_of(&self, socket: u32) -> Option<u32> {
        Some(self.by_socket.get(socket)).filter(|index| *index != NONE)
    }

    /// The places of all watches of the record `socket`, in any of its lives.
    #[inline]
    pub fn of_socket(&self, socket: u32) -> impl Iterator<Item = u32> {
        let mut at = self.first_of(socket).unwrap_or(NONE);
        std::iter::from_fn(move || {
            let index = at;
            at = self.slots.get(index as usize)?.next;
            Some(index)
        })
    }

    /// The place of a watch of the same record in another life.
    #[inline]
    pub fn of_earlier_life(&self, socket: SocketId) -> Option<u32> {
        self.of_socket(socket.index).find(|index| {
            let other = self.get(*index);
            other.is_some_and(|other| other.socket != socket)
        })
    }

    /// The place of the watch of `socket` under the number `fd`.
    #[inline]
    pub fn find(&self, fd: RawFd, socket: SocketId) -> Option<u32> {
        self.of_socket(socket.index).find(|index| {
            self.get(*index)
                .is_some_and(|watch| watch.fd == fd && watch.socket == socket)
        })
    }

    /// All places in use.
    pub fn all(&self) -> impl Iterator<Item = u32> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(index, slot)| slot.watch.is_some().then_some(index as u32))
    }

    /// The name by which edges of a watch come.
    #[inline]
    pub fn cookie(&self, index: u32) -> u32 {
        let slot = self.slots.get(index as usize);
        index | slot.map_or(0, |slot| slot.generation << INDEX_BITS)
    }

    /// The place that a cookie names, unless it is a cookie of an earlier watch.
    #[inline]
    pub fn by_cookie(&self, cookie: u32) -> Option<u32> {
        let index = cookie & (MOST as u32 - 1);
        (self.get(index).is_some() && self.cookie(index) == cookie).then_some(index)
    }

    /// Watches in the ready list.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Puts a watch at the end of the ready list, unless it is in it.
    #[inline]
    pub fn push_ready(&mut self, index: u32) {
        let last = self.last_ready;
        match self.slots.get_mut(index as usize) {
            Some(slot) if slot.watch.is_some() && slot.ready.is_none() => {
                slot.ready = Some((last, NONE));
            }
            _ => return,
        }
        match self.slots.get_mut(last as usize) {
            Some(Slot {
                ready: Some((_, next)),
                ..
            }) => *next = index,
            _ => self.first_ready = index,
        }
        self.last_ready = index;
        self.ready += 1;
    }

    /// Takes the first watch off the ready list.
    #[inline]
    pub fn pop_ready(&mut self) -> Option<u32> {
        let index = self.first_ready;
        self.unready(index);
        (index != NONE).then_some(index)
    }

    /// Takes a watch off the ready list, if it is in it.
    #[inline]
    pub fn unready(&mut self, index: u32) {
        let slot = self.slots.get_mut(index as usize);
        let Some((before, after)) = slot.and_then(|slot| slot.ready.take()) else {
            return;
        };
        match self.slots.get_mut(before as usize) {
            Some(Slot {
                ready: Some((_, next)),
                ..
            }) => *next = after,
            _ => self.first_ready = after,
        }
        match self.slots.get_mut(after as usize) {
            Some(Slot {
                ready: Some((previous, _)),
                ..
            }) => *previous = before,
            _ => self.last_ready = before,
        }
        self.ready -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(fd: RawFd, index: u32) -> Watch {
        Watch {
            fd,
            socket: SocketId {
                index,
                generation: 1,
            },
            events: 1,
            data: 0,
            active: true,
            both: false,
            seen: Seen::default(),
        }
    }

    #[test]
    fn a_socket_can_be_watched_under_several_numbers() {
        let mut watches = Watches::new();
        let places: Vec<u32> = [3, 4, 5]
            .into_iter()
            .map(|fd| watches.insert(watch(fd, 9)).unwrap())
            .collect();
        assert_eq!(watches.of_socket(9).count(), 3);
        for (gone, place) in places.iter().enumerate() {
            let socket = watch(0, 9).socket;
            let fd = 3 + gone as RawFd;
            assert_eq!(watches.find(fd, socket), Some(*place));
            assert_eq!(watches.remove(*place).unwrap().fd, fd);
            assert_eq!(watches.find(fd, socket), None);
            assert_eq!(watches.of_socket(9).count(), 2 - gone);
        }
        assert_eq!(watches.active(), 0);
    }

    #[test]
    fn a_number_of_another_life_of_the_record_is_not_found() {
        let mut watches = Watches::new();
        watches.insert(watch(3, 9)).unwrap();
        let next_life = SocketId {
            index: 9,
            generation: 2,
        };
        assert_eq!(watches.find(3, next_life), None);
    }

    #[test]
    fn a_stale_cookie_names_nothing() {
        let mut watches = Watches::new();
        let place = watches.insert(watch(3, 9)).unwrap();
        let cookie = watches.cookie(place);
        assert_eq!(watches.by_cookie(cookie), Some(place));
        watches.remove(place);
        assert_eq!(watches.by_cookie(cookie), None);
        assert_eq!(watches.insert(watch(4, 9)), Ok(place));
        assert_eq!(watches.by_cookie(cookie), None);
        assert_eq!(watches.by_cookie(u32::MAX), None);
    }

    #[test]
    fn the_ready_list_keeps_its_order_and_holds_each_watch_once() {
        let mut watches = Watches::new();
        let p: Vec<u32> = (0..4)
            .map(|fd| watches.insert(watch(fd, fd as u32)).unwrap())
            .collect();
        for index in [p[2], p[0], p[2], p[3], p[1]] {
            watches.push_ready(index);
        }
        watches.remove(p[3]);
        watches.set_active(p[1], false);
        assert_eq!(watches.ready(), 2);
        assert_eq!(watches.pop_ready(), Some(p[2]));
        watches.push_ready(p[2]);
        assert_eq!(watches.pop_ready(), Some(p[0]));
        assert_eq!(watches.pop_ready(), Some(p[2]));
        assert_eq!(watches.pop_ready(), None);
        assert_eq!(watches.ready(), 0);
    }
}
