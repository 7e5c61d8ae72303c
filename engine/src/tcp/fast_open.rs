//! TCP Fast Open (RFC 7413): data in the SYN, for a client that has shown before that it is where
//! it says.

use core::hash::Hasher;
use core::net::IpAddr;

use siphasher::sip::SipHasher24;

use super::config::DEFAULT_MSS;
use super::event::Events;
use super::keyed::{Purpose, hasher};
use super::segment::{Flags, Segment};
use super::tcb::{RecvStream, State, Tcb};
use super::time::{Duration, Instant};

/// Bytes of the cookies that we give.
const OWN_LEN: usize = 8;
/// Lengths that a cookie may have: 4 to 16 bytes, an even number (RFC 7413 section 4.1.1); 0 asks
/// for one.
const MAX_LEN: usize = 16;
/// How long the stack's own keys last. Cookies of the key before still count.
const KEY_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Room that is left for options in a SYN with data.
const OPTION_SPACE: u16 = 40;

/// Bits of [`TcpConfig::fast_open`](super::TcpConfig::fast_open), by the numbers of Linux's
/// `tcp_fastopen`.
pub mod bits {
    /// Applications that ask for it send data with their SYN.
    pub const CLIENT: u32 = 1;
    /// Listeners that ask for it take data with a SYN.
    pub const SERVER: u32 = 2;
    /// Data goes with a SYN without a cookie.
    pub const CLIENT_NO_COOKIE: u32 = 4;
    /// Data is taken from a SYN without a cookie.
    pub const SERVER_NO_COOKIE: u32 = 0x200;
    /// All listeners take data with a SYN.
    pub const EVERY_LISTENER: u32 = 0x400;
}

/// A cookie as it stands in the option; empty, it asks for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cookie {
    bytes: [u8; MAX_LEN],
    len: u8,
}

impl Cookie {
    /// From the option's value; `None` if its length is none of a cookie.
    pub fn new(value: &[u8]) -> Option<Cookie> {
        let len = value.len();
        let fits = len == 0 || (4..=MAX_LEN).contains(&len) && len.is_multiple_of(2);
        fits.then(|| {
            let mut bytes = [0; MAX_LEN];
            bytes[..len].copy_from_slice(value);
            Cookie {
                bytes,
                len: len as u8,
            }
        })
    }

    /// The option's value.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether it asks for a cookie.
    pub fn is_request(&self) -> bool {
        self.len == 0
    }
}

/// Keys of a server's cookies: the current one, and one whose cookies still count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FastOpenKeys {
    /// Makes cookies.
    pub current: [u8; 16],
    /// Made those that are still accepted.
    pub previous: Option<[u8; 16]>,
}

/// What a client's cookie is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Validity {
    /// Made by the current key.
    Current,
    /// Made by the previous key: the client should get a new one.
    Previous,
    /// Not ours.
    Wrong,
}

impl FastOpenKeys {
    /// The stack's own keys at `now`, derived from its secret: they change every day.
    pub fn derived(secret: &[u8; 16], now: Instant) -> FastOpenKeys {
        let day = now.as_micros() / KEY_LIFETIME.as_micros();
        let key = |day: u64| {
            let half = |part: u8| {
                let mut hasher = hasher(secret, Purpose::FastOpenKey);
                hasher.write_u64(day);
                hasher.write_u8(part);
                hasher.finish().to_ne_bytes()
            };
            let mut key = [0; 16];
            key[..8].copy_from_slice(&half(0));
            key[8..].copy_from_slice(&half(1));
            key
        };
        FastOpenKeys {
            current: key(day),
            previous: Some(key(day.wrapping_sub(1))),
        }
    }

    /// The cookie of a client at `remote` for the server at `local`; the same that Linux makes with
    /// the same key, so that servers behind one address can share it.
    pub fn cookie(&self, local: IpAddr, remote: IpAddr) -> Cookie {
        cookie(&self.current, local, remote)
    }

    /// What a cookie that came is worth.
    pub fn check(&self, local: IpAddr, remote: IpAddr, given: &Cookie) -> Validity {
        if *given == cookie(&self.current, local, remote) {
            Validity::Current
        } else if self
            .previous
            .is_some_and(|key| *given == cookie(&key, local, remote))
        {
            Validity::Previous
        } else {
            Validity::Wrong
        }
    }
}

impl core::fmt::Debug for FastOpenKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("FastOpenKeys(secret)")
    }
}

fn cookie(key: &[u8; 16], local: IpAddr, remote: IpAddr) -> Cookie {
    let mut path = [0; 32];
    let len = match (remote, local) {
        (IpAddr::V4(remote), IpAddr::V4(local)) => {
            path[..4].copy_from_slice(&remote.octets());
            path[4..8].copy_from_slice(&local.octets());
            8
        }
        (remote, local) => {
            for (place, address) in path.chunks_exact_mut(16).zip([remote, local]) {
                let v6 = match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                place.copy_from_slice(&v6.octets());
            }
            32
        }
    };
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(&path[..len]);
    let mut bytes = [0; MAX_LEN];
    bytes[..OWN_LEN].copy_from_slice(&hasher.finish().to_le_bytes());
    Cookie {
        bytes,
        len: OWN_LEN as u8,
    }
}

/// What a connection that uses Fast Open keeps of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct FastOpen {
    /// In our SYN or SYN-ACK, the first time it is sent.
    option: Option<Cookie>,
    /// The SYN may carry that many bytes of data.
    room: u16,
    /// It did carry so many.
    pub(super) sent: u16,
    /// What came with the SYN-ACK.
    got: Option<Cookie>,
    /// When the first SYN-ACK left.
    pub(super) answered_at: Instant,
}

/// How an active open with Fast Open went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FastOpenOutcome {
    /// The server's cookie, if it gave one.
    pub cookie: Option<Cookie>,
    /// The server's segment size.
    pub mss: u16,
    /// The SYN carried data or a cookie, and the first one was lost.
    pub lost: bool,
}

impl Tcb {
    /// Before the first SYN: has it carry `cookie`, and unless that is a request, or there is none
    /// at all and `without` allows for that, the data that is already written. `mss` is the server's
    /// segment size, as far as it is known.
    pub fn open_fast(&mut self, cookie: Option<Cookie>, mss: Option<u16>) {
        let may_carry = cookie.is_none_or(|cookie| !cookie.is_request());
        let path = self.set.own_mss.min(self.path.segment());
        let mss = mss.unwrap_or(DEFAULT_MSS).min(path);
        self.rare.make().fast_open = Some(Box::new(FastOpen {
            option: cookie,
            room: if may_carry {
                mss.saturating_sub(OPTION_SPACE)
            } else {
                0
            },
            sent: 0,
            got: None,
            answered_at: Instant::NEVER,
        }));
    }

    /// After [`accept`](Self::accept): believes the SYN, takes its data, and lets the application
    /// answer before the handshake is complete. `renewed` is a cookie for the client's next time.
    pub fn accept_fast<R: RecvStream>(
        &mut self,
        now: Instant,
        syn: &Segment<'_>,
        renewed: Option<Cookie>,
        rx: &mut R,
    ) -> Events {
        self.rare.make().fast_open = Some(Box::new(FastOpen {
            option: renewed,
            room: 0,
            sent: 0,
            got: None,
            answered_at: now,
        }));
        // Our SYN counts as acknowledged where data is concerned; the handshake has its own timer.
        self.snd.una = 1;
        self.rcv.advertise_in_syn(self.first_segment());
        let data = Segment {
            seq: syn.seq + 1,
            flags: Flags::ACK,
            ..*syn
        };
        let events = self.process_text(now, &data, 1, rx);
        self.syn_data = self.rcv.nxt > 1;
        self.ack.on_syn_data();
        self.timers.delayed_ack = Instant::NEVER;
        events
    }

    /// SYN-RECEIVED, but the application has the connection already.
    pub fn is_open_early(&self) -> bool {
        self.state == State::SynReceived && self.opened_early_at().is_some()
    }

    /// Payload of the largest SYN that may be sent.
    pub(super) fn largest_syn(&self) -> u16 {
        self.rare.fast_open.as_ref().map_or(0, |fast| fast.room)
    }

    /// When the first SYN-ACK of a connection that was opened early left.
    pub(super) fn opened_early_at(&self) -> Option<Instant> {
        let at = self.rare.fast_open.as_ref()?.answered_at;
        (at != Instant::NEVER).then_some(at)
    }

    /// The option of a SYN or SYN-ACK sent now.
    pub(super) fn fast_open_option(&self) -> Option<Cookie> {
        let fast = self.rare.fast_open.as_ref()?;
        fast.option.filter(|_| !self.syn_retransmitted)
    }

    /// Bytes of the stream that ride in the SYN sent now.
    pub(super) fn data_in_syn(&mut self) -> u16 {
        let waiting = self.snd.end.saturating_sub(1);
        match self.rare.if_any().and_then(|rare| rare.fast_open.as_mut()) {
            Some(fast) if !self.syn_retransmitted && self.state == State::SynSent => {
                let bytes = waiting.min(fast.room.into()) as u16;
                fast.sent = fast.sent.max(bytes);
                bytes
            }
            _ => 0,
        }
    }

    /// Position after what an ACK in the handshake may acknowledge.
    pub(super) fn handshake_end(&self) -> u64 {
        let sent = self.rare.fast_open.as_ref().map_or(0, |fast| fast.sent);
        self.snd.nxt.max(1 + u64::from(sent))
    }

    /// The SYN-ACK acknowledges our SYN and its data up to `ack`. What it does not is sent again as
    /// if it were new.
    pub(super) fn take_syn_ack(&mut self, segment: &Segment<'_>, ack: u64) {
        self.snd.una = ack;
        self.snd.nxt = self.snd.nxt.max(ack);
        if let Some(fast) = self.rare.if_any().and_then(|rare| rare.fast_open.as_mut()) {
            fast.got = segment
                .options
                .fast_open
                .filter(|cookie| !cookie.is_request());
        }
        self.syn_data = ack > 1;
    }

    /// How the active open went, to be asked when it is over; `None` if it did not use Fast Open.
    pub fn take_fast_open_outcome(&mut self) -> Option<FastOpenOutcome> {
        let fast = self.rare.if_any()?.fast_open.take()?;
        Some(FastOpenOutcome {
            cookie: fast.got,
            mss: self.path.peer_mss,
            lost: self.syn_retransmitted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 1));
    const REMOTE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn cookies_have_the_lengths_of_the_rfc() {
        let bytes = [7; 18];
        let fine: Vec<usize> = (0..=18)
            .filter(|len| Cookie::new(&bytes[..*len]).is_some())
            .collect();
        assert_eq!(fine, [0, 4, 6, 8, 10, 12, 14, 16]);
        assert!(Cookie::new(&[]).unwrap().is_request());
        assert_eq!(Cookie::new(&bytes[..6]).unwrap().as_slice(), &bytes[..6]);
    }

    #[test]
    fn keys_rotate_daily_and_the_one_before_still_counts() {
        let (day, secret) = (KEY_LIFETIME, [9; 16]);
        let at = |now| FastOpenKeys::derived(&secret, now);
        let start = Instant::ZERO + day * 100;
        let cookie = at(start).cookie(LOCAL, REMOTE);
        let check = |now| at(now).check(LOCAL, REMOTE, &cookie);
        assert_eq!(check(start + day / 2), Validity::Current);
        assert_eq!(check(start + day), Validity::Previous);
        assert_eq!(check(start + day * 2), Validity::Wrong);
    }

    #[test]
    fn a_cookie_is_good_for_its_own_client_only() {
        let keys = FastOpenKeys::derived(&[9; 16], Instant::ZERO);
        let cookie = keys.cookie(LOCAL, REMOTE);
        assert_eq!(keys.check(LOCAL, LOCAL, &cookie), Validity::Wrong);
        let v6: IpAddr = "fd00::2".parse().unwrap();
        let other = keys.cookie("fd00::1".parse().unwrap(), v6);
        assert_ne!(cookie, other);
        assert_eq!(keys.check(LOCAL, REMOTE, &other), Validity::Wrong);
    }
}
