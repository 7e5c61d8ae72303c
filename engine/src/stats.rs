//! Counters: one block for each worker, written by it alone and read by anybody.

use crate::tcp;
use crate::wire::DropReason;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What a worker counts besides drops.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(non_camel_case_types)]
        pub enum Counter { $($(#[doc = $doc])+ $name,)+ }

        impl Counter {
            /// All counters, in the order of their indices.
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)+];

            /// The counter's name.
            pub fn name(self) -> &'static str {
                match self { $(Counter::$name => stringify!($name),)+ }
            }
        }
    };
}

counters! {
    /// Frames taken from the device or the loopback.
    frames_in,
    /// Frames given to the device or the loopback.
    frames_out,
    /// Frames that the device dropped before the stack saw them.
    rx_dropped,
    /// Frames given to the device that it refused.
    tx_dropped,
    /// TCP segments received with data.
    segments_in,
    /// TCP segments received marked as having met congestion (CE of RFC 3168).
    marked_in,
    /// Connections opened actively.
    connects,
    /// Connections accepted by the stack.
    accepts,
    /// Connections ended, for whatever reason.
    closed,
    /// Connections that exist now, TIME-WAIT included.
    connections,
    /// Connections now in TIME-WAIT, or closed and in FIN-WAIT-2.
    time_wait,
    /// Connections in TIME-WAIT whose place connect() took.
    time_wait_reused,
    /// Those ended early because there were too many.
    time_wait_overflow,
    /// Connections reset when the application left them, because too many such had still to send.
    orphans_reset,
    /// SYNs dropped because too many handshakes were under way, without SYN cookies.
    backlog_full,
    /// SYNs, and ACKs that completed a handshake, dropped because the accept queue was full.
    accept_queue_full,
    /// Handshakes that the peer did not complete in time.
    handshake_timeouts,
    /// Connections that were open before their handshake was complete (TCP Fast Open).
    fast_open_accepts,
    /// SYNs whose Fast Open cookie was wrong or too old.
    fast_open_refused,
    /// SYNs that could not open a connection early because too many were pending.
    fast_open_overflow,
    /// SYN cookies sent.
    cookies_sent,
    /// Connections that came from a SYN cookie.
    cookies_received,
    /// ACKs refused because their cookie was wrong or too old.
    cookies_failed,
    /// SYNs dropped for want of memory.
    no_memory,
    /// Segments with a bad TCP checksum.
    bad_checksum,
    /// Segments that could not be parsed.
    bad_segment,
    /// Segments handed to the worker that owns their connection.
    redirected,
    /// The same, dropped because too many waited for that worker.
    redirect_full,
    /// Segments to no connection.
    no_connection,
    /// RSTs sent to segments that match nothing.
    resets_sent,
    /// The same, not sent because there were too many.
    resets_limited,
    /// ARP packets of other stations that claim this stack's address.
    address_conflicts,
    /// Loopback frames dropped because the queue was full.
    loopback_full,
    /// Commands that made no sense.
    bad_commands,
    /// Connections ended because their application broke the rules.
    misbehaved,
    /// Edges put into ready sets.
    events,
    /// Wake-ups of application threads.
    wakes,
    /// Times the worker slept.
    sleeps,
    /// Times that stream memory became scarce.
    memory_pressure,
    /// Ranges of data out of order given up to save their memory.
    out_of_order_pruned,
    /// Bytes of stream memory given back to the system.
    memory_returned,
    /// Bytes of stream memory lent or in use now.
    stream_memory,
}

/// The counters of one worker; no cache line is another's as well.
#[repr(align(64))]
pub struct Counters {
    counters: [AtomicU64; Counter::ALL.len()],
    link_drops: [AtomicU64; DropReason::COUNT],
    tcp_drops: [AtomicU64; tcp::Drop::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            counters: [const { AtomicU64::new(0) }; _],
            link_drops: [const { AtomicU64::new(0) }; _],
            tcp_drops: [const { AtomicU64::new(0) }; _],
        }
    }
}

fn add(counter: &AtomicU64, n: u64) {
    // Only the worker itself writes.
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

impl Counters {
    /// Counts one.
    #[inline]
    pub fn count(&self, counter: Counter) {
        add(&self.counters[counter as usize], 1);
    }

    /// Counts `n`.
    pub fn add(&self, counter: Counter, n: u64) {
        add(&self.counters[counter as usize], n);
    }

    /// Sets a counter that says how many there are now.
    pub fn set(&self, counter: Counter, value: u64) {
        self.counters[counter as usize].store(value, Ordering::Relaxed);
    }

    /// Counts a frame dropped below TCP.
    pub fn drop_frame(&self, reason: DropReason) {
        add(&self.link_drops[reason.index()], 1);
    }

    /// Counts a segment dropped by a connection.
    pub fn drop_segment(&self, reason: tcp::Drop) {
        add(&self.tcp_drops[reason as usize], 1);
    }

    /// A counter's value.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// All counters that are not zero, with their names.
    pub fn nonzero(&self) -> Vec<(&'static str, u64)> {
        let counters = Counter::ALL.iter().map(|c| c.name()).zip(&self.counters);
        let link = DropReason::ALL
            .iter()
            .map(|r| r.name())
            .zip(&self.link_drops);
        let tcp = tcp::Drop::ALL.iter().map(|r| r.name()).zip(&self.tcp_drops);
        counters
            .chain(link)
            .chain(tcp)
            .map(|(name, value)| (name, value.load(Ordering::Relaxed)))
            .filter(|(_, value)| *value != 0)
            .collect()
    }
}
