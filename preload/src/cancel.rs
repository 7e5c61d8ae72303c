//! pthread_cancel(3): calls that wait for the stack are cancellation points, as libc's are.
//!
//! No cancellation unwinds through a wait. A signal ends the wait, which lets everything go that it
//! has, and the call gives in at its end, where nothing of this library stands on the stack. For that
//! each thread that makes such calls is known here by its id.

#![allow(unsafe_code)]

use crate::calls::processes::pthread_setcanceltype;
use crate::own::own;
use crate::{real, thread};
use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};

/// Threads that can be cancelled while they wait; others are when they make their next call.
const MOST: usize = 4096;

/// glibc's `SIGCANCEL`. Its handler does nothing more to a thread that is to be cancelled already.
const SIGCANCEL: c_int = 32;

/// What libc keeps for itself of the signals.
pub const OF_LIBC: std::ops::RangeInclusive<c_int> = SIGCANCEL..=33;

const PTHREAD_CANCEL_ENABLE: c_int = 0;
const PTHREAD_CANCEL_DISABLE: c_int = 1;
const PTHREAD_CANCEL_DEFERRED: c_int = 0;
const PTHREAD_CANCEL_ASYNCHRONOUS: c_int = 1;

unsafe extern "C-unwind" {
    fn pthread_testcancel();
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

/// A thread.
struct Place {
    /// Its `pthread_t`; 0: not there yet, or no more.
    thread: AtomicUsize,
    /// Its id; 0: the place is free.
    tid: AtomicU32,
    /// pthread_cancel(3) was called for it.
    asked: AtomicBool,
}

static PLACES: [Place; MOST] = [const {
    Place {
        thread: AtomicUsize::new(0),
        tid: AtomicU32::new(0),
        asked: AtomicBool::new(false),
    }
}; MOST];
/// One more than the highest place ever used.
static END: AtomicUsize = AtomicUsize::new(0);
/// pthread_cancel(3) has been called in this process.
static USED: AtomicBool = AtomicBool::new(false);

/// A thread of this process has chosen asynchronous cancellation at some time.
static ASYNCHRONOUS: AtomicBool = AtomicBool::new(false);

/// A thread's place in the list.
pub(crate) struct Local {
    /// Its number plus 1, [`UNKNOWN`] or [`NOWHERE`].
    place: Cell<usize>,
}

impl Local {
    fn place(&self) -> Option<&'static Place> {
        PLACES.get(self.place.get().wrapping_sub(1))
    }
}

/// Of a thread that has not looked for a place yet, and of one that has found none.
const UNKNOWN: usize = 0;
const NOWHERE: usize = usize::MAX;

/// A cancellation point: called before anything of this library is on the stack that must be let go.
#[inline]
pub fn point() {
    if own().cancel.place.get() == UNKNOWN {
        enlist();
    }
    if USED.load(Ordering::Relaxed) {
        // SAFETY: no frame below has anything to let go.
        unsafe { pthread_testcancel() };
    }
}

/// After a wait that was interrupted: ends the thread if that is why. To be called as [`point`] is.
#[cold]
pub fn give_in() {
    if is_due() {
        // SAFETY: as above.
        unsafe { pthread_testcancel() };
    }
}

/// Whether this thread is to end at its next cancellation point.
pub fn is_due() -> bool {
    let place = own().cancel.place();
    place.is_some_and(|place| place.asked.load(Ordering::SeqCst)) && is_enabled()
}

/// pthread_setcanceltype(3) was called.
pub fn choose(kind: c_int) {
    if kind == PTHREAD_CANCEL_ASYNCHRONOUS {
        ASYNCHRONOUS.store(true, Ordering::Relaxed);
    }
}

/// A call during which this thread is not cancelled at any instant, but where it waits and at its end.
pub struct Deferral(c_int);

impl Deferral {
    /// Begins a call.
    #[inline]
    pub fn new() -> Deferral {
        match ASYNCHRONOUS.load(Ordering::Relaxed) {
            true => Deferral(set_kind(PTHREAD_CANCEL_DEFERRED)),
            false => Deferral(PTHREAD_CANCEL_DEFERRED),
        }
    }

    /// Ends it, and the thread if it was cancelled meanwhile. To be called as [`point`] is.
    #[inline]
    pub fn end(self) {
        if self.0 != PTHREAD_CANCEL_DEFERRED {
            set_kind(self.0);
        }
    }
}

impl Default for Deferral {
    fn default() -> Self {
        Deferral::new()
    }
}

#[cold]
fn set_kind(kind: c_int) -> c_int {
    let mut before = PTHREAD_CANCEL_DEFERRED;
    // SAFETY: libc's own function fills the word; it ends a thread that was cancelled and that becomes
    // asynchronous, which the caller has prepared for.
    unsafe { pthread_setcanceltype::real()(kind, &raw mut before) };
    before
}

fn is_enabled() -> bool {
    let mut before = PTHREAD_CANCEL_DISABLE;
    // SAFETY: the state becomes what it was.
    unsafe {
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut before);
        if before == PTHREAD_CANCEL_ENABLE {
            pthread_setcancelstate(before, std::ptr::null_mut());
        }
    }
    before == PTHREAD_CANCEL_ENABLE
}

#[cold]
fn enlist() {
    let tid = thread::id();
    let take = |Place { tid: word, .. }: &Place| {
        let taken = || word.compare_exchange(0, tid, Ordering::AcqRel, Ordering::Relaxed);
        word.load(Ordering::Relaxed) == 0 && taken().is_ok()
    };
    let Some(at) = PLACES.iter().position(take) else {
        own().cancel.place.set(NOWHERE);
        return;
    };
    PLACES[at].asked.store(false, Ordering::Relaxed);
    PLACES[at].thread.store(own_name(), Ordering::SeqCst);
    END.fetch_max(at + 1, Ordering::SeqCst);
    own().cancel.place.set(at + 1);
    thread::remember_to_free();
    // Either `request` finds this place, or this thread sees that it was called.
    fence(Ordering::SeqCst);
}

fn own_name() -> usize {
    // SAFETY: it cannot fail.
    unsafe { libc::pthread_self() as usize }
}

/// Before pthread_cancel(3).
pub fn announce() {
    USED.store(true, Ordering::SeqCst);
}

/// After pthread_cancel(3) of a thread: ends its wait, if it is in one. What comes just before the
/// thread falls asleep is found when it looks whether the engine is still there.
pub fn wake(thread: libc::pthread_t) {
    let places = PLACES.iter().take(END.load(Ordering::SeqCst));
    for place in places.filter(|place| place.thread.load(Ordering::SeqCst) == thread as usize) {
        place.asked.store(true, Ordering::SeqCst);
        real::signal_thread(place.tid.load(Ordering::SeqCst), SIGCANCEL);
    }
}

/// This thread ends.
pub fn retire() {
    let local = &own().cancel;
    let place = local.place();
    local.place.set(UNKNOWN);
    if let Some(place) = place {
        place.thread.store(0, Ordering::SeqCst);
        place.tid.store(0, Ordering::SeqCst);
    }
}

/// In the child of a fork: its only thread has another id, and the others are gone.
pub fn forget() {
    for place in PLACES.iter().take(END.load(Ordering::SeqCst)) {
        place.thread.store(0, Ordering::SeqCst);
        place.tid.store(0, Ordering::SeqCst);
    }
    own().cancel.place.set(UNKNOWN);
}
