//! TCP Fast Open (RFC 7413) as a worker does it: which SYNs are believed before their handshake is
//! complete, and what is remembered of servers.

use super::Stack;
use super::beginning::Beginning;
use super::connection::Flow;
use super::half_open::{Opening, Terms};
use super::input::Sink;
use crate::net::Address;
use crate::shared::Listener;
use crate::stats::Counter;
use crate::tcp::{
    Cookie, Duration, Events, FastOpenKeys, FastOpenOutcome, Instant, Segment as TcpSegment, Tcb,
    Validity, fast_open_bits as bits,
};
use context::socket::{Socket, flag, option};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Servers remembered.
const MAX_SERVERS: usize = 1024;
/// How long a server that lost two SYNs in a row gets plain ones; doubled with each further one.
const BLACK_HOLE: Duration = Duration::from_secs(60);
/// Losses after which that time grows no more.
const MAX_LOSSES: u8 = 10;

/// What is known of servers: their cookies, and whether they lose SYNs that carry them.
#[derive(Default)]
pub struct FastOpenCache {
    servers: HashMap<Address, Server>,
    uses: u64,
}

struct Server {
    cookie: Option<Cookie>,
    mss: u16,
    losses: u8,
    lost_at: Instant,
    /// When it was used last, counted in uses.
    used: u64,
}

impl FastOpenCache {
    /// The cookie to open with (empty: one is asked for) and the server's segment size, as far as
    /// it is known. `None`: SYNs with the option are lost on the way there.
    fn plan(&mut self, now: Instant, remote: Address) -> Option<(Cookie, Option<u16>)> {
        self.uses += 1;
        let Some(server) = self.servers.get_mut(&remote) else {
            return Some((Cookie::default(), None));
        };
        server.used = self.uses;
        let pause = BLACK_HOLE * (1 << server.losses);
        if server.losses > 1 && now.since(server.lost_at) < pause {
            return None;
        }
        match server.cookie {
            Some(cookie) => Some((cookie, Some(server.mss))),
            None => Some((Cookie::default(), None)),
        }
    }

    /// Takes note of how an open went.
    fn learn(&mut self, now: Instant, remote: Address, outcome: FastOpenOutcome) {
        self.uses += 1;
        if !self.servers.contains_key(&remote) && self.servers.len() >= MAX_SERVERS {
            let oldest = self.servers.iter().min_by_key(|(_, server)| server.used);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.servers.remove(&oldest);
            }
        }
        let server = self.servers.entry(remote).or_insert(Server {
            cookie: None,
            mss: outcome.mss,
            losses: 0,
            lost_at: now,
            used: 0,
        });
        server.used = self.uses;
        if outcome.cookie.is_some() {
            (server.cookie, server.mss) = (outcome.cookie, outcome.mss);
        }
        if outcome.lost {
            server.losses = (server.losses + 1).min(MAX_LOSSES);
            server.lost_at = now;
        } else {
            server.losses = 0;
        }
    }
}

/// How a listener takes a SYN as far as Fast Open is concerned.
pub enum Early {
    /// As any other.
    No,
    /// As any other, but the SYN-ACK brings this cookie.
    Offer(Cookie),
    /// The connection is open at once; there may be a new cookie for the next time.
    Accept(Option<Cookie>),
}

impl Stack {
    /// How to take a SYN.
    pub fn early(&mut self, listener: &Listener, flow: &Flow, syn: &TcpSegment<'_>) -> Early {
        let given = syn.options.fast_open;
        let enabled = self.tcp.fast_open;
        let data = !syn.payload.is_empty();
        if enabled & bits::SERVER == 0 || !(data || given.is_some()) {
            return Early::No;
        }
        let shared = self.shared.clone();
        let Some(record) = shared.segment.socket(listener.socket) else {
            return Early::No;
        };
        let most = match record.options.fastopen_queue.load(Relaxed) {
            0 if enabled & bits::EVERY_LISTENER != 0 => listener.backlog.load(Relaxed),
            asked => asked,
        };
        if most == 0 {
            return Early::No;
        }
        if !self.listeners.may_open_early(listener, self.now, most) {
            self.count(Counter::fast_open_overflow);
            return Early::No;
        }
        if data && enabled & bits::SERVER_NO_COOKIE != 0 {
            return Early::Accept(None);
        }
        let Some(given) = given else {
            return Early::No;
        };
        let keys = self.fast_open_keys(record);
        let (local, remote) = (flow.local.ip(), flow.remote.ip());
        let cookie = keys.cookie(local, remote);
        match keys.check(local, remote, &given) {
            Validity::Current => Early::Accept(None),
            Validity::Previous => Early::Accept(Some(cookie)),
            Validity::Wrong => {
                if !given.is_request() {
                    self.count(Counter::fast_open_refused);
                }
                Early::Offer(cookie)
            }
        }
    }

    /// The keys of a listener's cookies: its own, or the stack's.
    fn fast_open_keys(&self, record: &Socket) -> FastOpenKeys {
        let key = |words: &[std::sync::atomic::AtomicU64; 2]| {
            let mut key = [0; 16];
            for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
                bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
            }
            (key != [0; 16]).then_some(key)
        };
        let [current, previous] = &record.options.fastopen_keys;
        match key(current) {
            Some(current) => FastOpenKeys {
                current,
                previous: key(previous),
            },
            None => FastOpenKeys::derived(&self.secret, self.now),
        }
    }

    /// A SYN was believed: the application gets its connection at once.
    pub fn open_early(
        &mut self,
        listener: &Arc<Listener>,
        opening: &Opening<'_>,
        terms: &Terms,
        renewed: Option<Cookie>,
    ) {
        let Opening {
            flow,
            syn,
            hop,
            iss,
            ts_offset,
        } = *opening;
        let shared = self.shared.clone();
        let now = self.now;
        let beginning = Beginning {
            at: now,
            settings: &terms.settings,
            iss,
            ts_offset,
        };
        let begin = |tcb: &mut Tcb| tcb.answer_syn(now, syn);
        let id = self.adopt_connection(flow, hop, terms.header.of(&flow), &beginning, begin);
        self.listeners.opened_early(listener);
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        connection.listener = Some(listener.clone());
        connection.early = true;
        connection.was_connected = true;
        self.offer(id, listener);
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let mut sink = Sink {
            segment: &shared.segment,
            pool: &mut self.pool,
            chain: &mut connection.recv,
            socket: connection.socket,
        };
        let events = connection.tcb.accept_fast(now, syn, renewed, &mut sink);
        if let Some(reason) = events.payload_drop() {
            self.counters().drop_segment(reason);
        }
        self.count(Counter::fast_open_accepts);
        self.after(id, events | Events::SEND);
    }

    /// A connection that was opened early has completed its handshake, or has ended without that.
    pub fn settle_early(&mut self, listener: &Listener, reset: bool) {
        self.listeners.early_settled(listener, reset, self.now);
    }

    /// Before the first SYN of a connection whose application has asked for Fast Open.
    pub fn plan_fast_open(&mut self, id: u32, record: &Socket) {
        if record.app.flags.load(SeqCst) & flag::FASTOPEN == 0 {
            return;
        }
        // Bytes may stand in the send stream by now.
        record.app.flags.fetch_and(!flag::TX_PENDING, SeqCst);
        self.collect_writes(id);
        let enabled = self.tcp.fast_open;
        if enabled & bits::CLIENT == 0 {
            return;
        }
        let without = self.needs_no_cookie(record);
        let now = self.now;
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let Some((cookie, mss)) = self.servers.plan(now, connection.flow.remote) else {
            return;
        };
        if cookie.is_request() && without {
            connection.tcb.open_fast(None, mss);
        } else {
            connection.tcb.open_fast(Some(cookie), mss);
        }
    }

    fn needs_no_cookie(&self, record: &Socket) -> bool {
        self.tcp.fast_open & bits::CLIENT_NO_COOKIE != 0
            || record.options.bits.load(Relaxed) & option::FASTOPEN_NO_COOKIE != 0
    }

    /// Whether data can ride in the SYN to where a socket is to connect.
    pub fn may_open_fast(&mut self, record: &Socket) -> bool {
        let remote = record.names.requested().ip().into();
        let without = self.needs_no_cookie(record);
        let plan = self.servers.plan(self.now, remote);
        let known = plan.is_some_and(|(cookie, _)| without || !cookie.is_request());
        self.tcp.fast_open & bits::CLIENT != 0 && known
    }

    /// An active open with Fast Open is over, well or not.
    pub fn learn_fast_open(&mut self, id: u32) {
        let now = self.now;
        if let Some(connection) = self.connections.get(id)
            && let Some(outcome) = connection.tcb.take_fast_open_outcome()
        {
            self.servers.learn(now, connection.flow.remote, outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const T0: Instant = Instant::from_millis(1_000_000);

    fn server(n: u32) -> Address {
        Ipv4Addr::from(n).into()
    }

    fn outcome(cookie: &[u8], lost: bool) -> FastOpenOutcome {
        FastOpenOutcome {
            cookie: Cookie::new(cookie).filter(|cookie| !cookie.is_request()),
            mss: 1400,
            lost,
        }
    }

    #[test]
    fn a_cookie_is_asked_for_once_and_then_used() {
        let mut cache = FastOpenCache::default();
        let asks = Some((Cookie::default(), None));
        assert_eq!(cache.plan(T0, server(1)), asks);
        cache.learn(T0, server(1), outcome(b"abcdefgh", false));
        let cookie = Cookie::new(b"abcdefgh").unwrap();
        assert_eq!(cache.plan(T0, server(1)), Some((cookie, Some(1400))));
        cache.learn(T0, server(1), outcome(b"", false));
        assert_eq!(cache.plan(T0, server(1)), Some((cookie, Some(1400))));
        assert_eq!(cache.plan(T0, server(2)), asks);
    }

    #[test]
    fn a_path_that_loses_such_syns_is_spared_them_for_a_while() {
        let mut cache = FastOpenCache::default();
        cache.learn(T0, server(1), outcome(b"", true));
        assert!(cache.plan(T0, server(1)).is_some(), "once may be chance");
        cache.learn(T0, server(1), outcome(b"", true));
        let pause = BLACK_HOLE * 4;
        assert_eq!(cache.plan(T0, server(1)), None);
        assert!(cache.plan(T0 + pause, server(1)).is_some());
        for _ in 0..300 {
            cache.learn(T0, server(1), outcome(b"", true));
        }
        assert_eq!(cache.plan(T0 + pause, server(1)), None, "it grows");
        cache.learn(T0, server(1), outcome(b"", false));
        assert!(cache.plan(T0, server(1)).is_some());
    }

    #[test]
    fn the_server_unused_for_longest_is_forgotten() {
        let mut cache = FastOpenCache::default();
        for n in 0..MAX_SERVERS as u32 {
            cache.learn(T0, server(n), outcome(b"abcd", false));
        }
        assert!(cache.plan(T0, server(0)).unwrap().1.is_some());
        cache.learn(T0, server(9999), outcome(b"abcd", false));
        assert_eq!(cache.servers.len(), MAX_SERVERS);
        assert!(cache.plan(T0, server(0)).unwrap().1.is_some());
        assert!(cache.plan(T0, server(1)).unwrap().1.is_none());
    }
}
