//! How a connection begins, in fresh memory or where another has ended.

use super::connection::{Connection, Flow, Hop};
use super::port_conflict::Sharing;
use super::streams::{RecvChain, SendChain};
use super::timers::Entry;
use crate::tcp::{Events, Instant, SeqNum, Settings, Tcb};
use std::rc::Rc;

/// How a control block begins.
pub struct Beginning<'a> {
    /// When.
    pub at: Instant,
    /// What follows from options and configuration.
    pub settings: &'a Rc<Settings>,
    /// Our initial sequence number.
    pub iss: SeqNum,
    /// The offset of our timestamps.
    pub ts_offset: u32,
}

impl Connection {
    /// Of this flow; everything else is as at the beginning.
    pub fn new(tcb: Tcb, flow: Flow) -> Self {
        Connection {
            tcb,
            flow,
            hash: 0,
            socket: None,
            listener: None,
            recv: RecvChain::default(),
            send: SendChain::default(),
            send_limit: 0,
            starved: false,
            hop: Hop::Unknown,
            tos_ttl: (0, 0),
            stamp: 0,
            armed: Instant::NEVER,
            timer: Entry::NONE,
            news: Events::NONE,
            queued: false,
            held: false,
            swept: false,
            progress: false,
            orphan: false,
            was_connected: false,
            sharing: Sharing::default(),
            early: false,
        }
    }

    /// Makes all but control block and flow, with its hash, like new.
    pub fn clear(&mut self) {
        // Named one by one, so that none is forgotten.
        let Connection {
            tcb: _,
            flow: _,
            hash: _,
            socket,
            listener,
            recv,
            send,
            send_limit,
            starved,
            hop,
            tos_ttl,
            stamp,
            armed,
            timer,
            news,
            queued,
            held,
            swept,
            progress,
            orphan,
            was_connected,
            sharing,
            early,
        } = self;
        (*socket, *listener) = (None, None);
        (*recv, *send) = (RecvChain::default(), SendChain::default());
        (*hop, *tos_ttl) = (Hop::Unknown, (0, 0));
        (*send_limit, *stamp) = (0, 0);
        (*armed, *timer) = (Instant::NEVER, Entry::NONE);
        (*news, *sharing) = (Events::NONE, Sharing::default());
        let flags = [
            starved,
            queued,
            held,
            swept,
            progress,
            orphan,
            was_connected,
            early,
        ];
        for flag in flags {
            *flag = false;
        }
    }
}
