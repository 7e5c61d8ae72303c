//! SYN cookies (RFC 4987 section 3.6): a handshake that is remembered by the peer alone.
//!
//! The initial sequence number of the SYN-ACK carries the peer's segment size and the minute, under
//! a keyed hash; the low bits of its timestamp carry the other options. Without timestamps there is
//! room for neither window scale nor SACK.

use core::hash::Hasher;
use core::net::SocketAddr;

use super::config::TcpConfig;
use super::ecn::Codepoint;
use super::keyed::{Purpose, flow_hasher};
use super::options::Options;
use super::request::Request;
use super::segment::{Flags, Outgoing, Segment};
use super::seq::SeqNum;
use super::settings::Settings;
use super::time::{Duration, Instant};

/// How long a cookie is good for at least, a minute; twice that at most.
const TICK: Duration = Duration::from_secs(60);
/// Ticks in which a cookie is accepted.
const TICKS: u32 = 2;
/// How long after the last cookie was sent an answer to one may come.
pub const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

/// Segment sizes that a cookie can tell: the peer's is rounded down to one.
const SIZES: [u16; 8] = [536, 1220, 1300, 1400, 1440, 1460, 4312, 8940];

/// Bits of the sequence number for hash and segment size; the tick takes those above.
const DATA_BITS: u32 = 24;
const DATA_MASK: u32 = (1 << DATA_BITS) - 1;

/// Bits of the timestamp: window scale, or all of them set; SACK; ECN.
const STAMP_MASK: u32 = 0x3f;
const NO_SCALE: u32 = 0xf;
const SACK: u32 = 1 << 4;
const ECN: u32 = 1 << 5;

/// Makes and checks cookies.
#[derive(Clone)]
pub struct SynCookies {
    key: [u8; 16],
}

impl SynCookies {
    /// `key` is secret and random, and stays the same while the stack runs.
    pub fn new(key: [u8; 16]) -> Self {
        SynCookies { key }
    }

    /// The SYN-ACK that answers `syn` and is all that anybody remembers of it.
    #[allow(clippy::too_many_arguments)]
    pub fn answer(
        &self,
        now: Instant,
        set: &Settings,
        (local, remote): (SocketAddr, SocketAddr),
        ts_offset: u32,
        syn: &Segment<'_>,
    ) -> Outgoing {
        let mut syn = Segment {
            payload: &[],
            ..*syn
        };
        let stamped = set.timestamps && syn.options.timestamps.is_some();
        if !stamped {
            syn.options = Options {
                mss: syn.options.mss,
                ..Options::default()
            };
            syn.flags = Flags::SYN;
        }
        let size = syn.options.mss.unwrap_or(SIZES[0]);
        let iss = self.number(now, local, remote, syn.seq, size);
        let mut answer = Request::new(now, iss, ts_offset, &syn).syn_ack(now, set);
        if let Some((value, _)) = &mut answer.options.timestamps {
            let options = &syn.options;
            let ecn = answer.flags.contains(Flags::ECE);
            *value = mark(value.wrapping_sub(ts_offset), options, ecn).wrapping_add(ts_offset);
        }
        answer
    }

    /// The handshake that `ack` completes, if it answers one of our cookies.
    pub fn check(
        &self,
        now: Instant,
        cfg: &TcpConfig,
        (local, remote): (SocketAddr, SocketAddr),
        ts_offset: u32,
        ack: &Segment<'_>,
    ) -> Option<Request> {
        let (irs, iss) = (ack.seq - 1, ack.ack - 1);
        let size = self.size(now, local, remote, irs, iss)?;
        let mut options = Options {
            mss: Some(size),
            ..Options::default()
        };
        let mut flags = Flags::SYN;
        if let Some((value, echo)) = ack.options.timestamps.filter(|_| cfg.timestamps) {
            let bits = echo.wrapping_sub(ts_offset) & STAMP_MASK;
            options.timestamps = Some((value, 0));
            options.sack_permitted = bits & SACK != 0;
            options.window_scale = Some(bits & NO_SCALE)
                .filter(|shift| *shift != NO_SCALE)
                .map(|shift| shift as u8);
            if bits & ECN != 0 {
                flags |= Flags::ECE | Flags::CWR;
            }
        }
        let syn = Segment {
            seq: irs,
            ack: SeqNum(0),
            flags,
            urgent: 0,
            options,
            payload: &[],
            ecn: Codepoint::NotEct,
            gso_size: 0,
            ..*ack
        };
        Some(Request::from_cookie(now, iss, ts_offset, &syn))
    }

    /// The initial sequence number that stands for a SYN.
    fn number(
        &self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        irs: SeqNum,
        size: u16,
    ) -> SeqNum {
        let index = SIZES.iter().rposition(|known| *known <= size).unwrap_or(0) as u32;
        let tick = tick(now);
        let pad = self.pad(local, remote, irs, tick);
        let data = pad.wrapping_add(index) & DATA_MASK;
        let hash = self.base(local, remote, irs);
        SeqNum(hash.wrapping_add(tick << DATA_BITS).wrapping_add(data))
    }

    /// The segment size in a cookie, if it is one of ours and not too old.
    fn size(
        &self,
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        irs: SeqNum,
        cookie: SeqNum,
    ) -> Option<u16> {
        let rest = cookie.0.wrapping_sub(self.base(local, remote, irs));
        let now = tick(now);
        let age = now.wrapping_sub(rest >> DATA_BITS) & (u32::MAX >> DATA_BITS);
        if age >= TICKS {
            return None;
        }
        let pad = self.pad(local, remote, irs, now.wrapping_sub(age));
        let index = rest.wrapping_sub(pad) & DATA_MASK;
        SIZES.get(index as usize).copied()
    }

    fn base(&self, local: SocketAddr, remote: SocketAddr, irs: SeqNum) -> u32 {
        let hash = flow_hasher(&self.key, Purpose::SynCookie, local, remote).finish();
        (hash as u32).wrapping_add(irs.0)
    }

    fn pad(&self, local: SocketAddr, remote: SocketAddr, irs: SeqNum, tick: u32) -> u32 {
        let mut hasher = flow_hasher(&self.key, Purpose::SynCookieTime, local, remote);
        hasher.write_u64(u64::from(irs.0) << 32 | u64::from(tick));
        hasher.finish() as u32
    }
}

impl core::fmt::Debug for SynCookies {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SynCookies(secret)")
    }
}

fn tick(now: Instant) -> u32 {
    (now.as_micros() / TICK.as_micros()) as u32
}

/// Puts options into the low bits of a timestamp, so that it does not lie in the future.
fn mark(clock: u32, options: &Options, ecn: bool) -> u32 {
    let mut bits = options.window_scale.map_or(NO_SCALE, |s| s.min(14).into());
    if options.sack_permitted {
        bits |= SACK;
    }
    if ecn {
        bits |= ECN;
    }
    let marked = (clock & !STAMP_MASK) | bits;
    if bits > clock & STAMP_MASK {
        marked.wrapping_sub(STAMP_MASK + 1)
    } else {
        marked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::SocketOptions;

    const NOW: Instant = Instant::from_millis(7_000_000);

    fn ends() -> (SocketAddr, SocketAddr) {
        (
            SocketAddr::from(([10, 0, 0, 1], 80)),
            SocketAddr::from(([10, 0, 0, 2], 4000)),
        )
    }

    fn syn(options: Options) -> Segment<'static> {
        Segment {
            src_port: 4000,
            dst_port: 80,
            seq: SeqNum(77),
            ack: SeqNum(0),
            flags: Flags::SYN,
            window: 60_000,
            urgent: 0,
            options,
            payload: b"",
            ecn: Codepoint::NotEct,
            gso_size: 0,
        }
    }

    fn full() -> Options {
        Options {
            mss: Some(1460),
            window_scale: Some(9),
            sack_permitted: true,
            timestamps: Some((5, 0)),
            ..Options::default()
        }
    }

    /// The ACK that completes the handshake which `answer` offers.
    fn ack(answer: &Outgoing) -> Segment<'static> {
        let echo = answer.options.timestamps.map(|(value, _)| (6, value));
        Segment {
            seq: SeqNum(78),
            ack: answer.seq + 1,
            flags: Flags::ACK,
            ..syn(Options {
                timestamps: echo,
                ..Options::default()
            })
        }
    }

    fn answer(cookies: &SynCookies, options: Options) -> Outgoing {
        let settings = Settings::new(&TcpConfig::default(), &SocketOptions::default());
        cookies.answer(NOW, &settings, ends(), 1234, &syn(options))
    }

    fn remembered(cookies: &SynCookies, at: Instant, ack: &Segment<'_>) -> Option<Options> {
        let request = cookies.check(at, &TcpConfig::default(), ends(), 1234, ack)?;
        Some(request.syn().options)
    }

    #[test]
    fn what_the_syn_offered_comes_back_with_the_ack() {
        let cookies = SynCookies::new([3; 16]);
        for scale in [None, Some(0), Some(9), Some(14)] {
            let offered = Options {
                window_scale: scale,
                sack_permitted: scale != Some(0),
                ..full()
            };
            let back = remembered(&cookies, NOW, &ack(&answer(&cookies, offered))).unwrap();
            let expected = Options {
                timestamps: Some((6, 0)),
                ..offered
            };
            assert_eq!(back, expected);
        }
    }

    #[test]
    fn without_timestamps_only_the_segment_size_is_offered_and_kept() {
        let cookies = SynCookies::new([3; 16]);
        let offered = Options {
            timestamps: None,
            mss: Some(1399),
            ..full()
        };
        let answer = answer(&cookies, offered);
        assert_eq!(
            (answer.options.window_scale, answer.options.sack_permitted),
            (None, false)
        );
        let back = remembered(&cookies, NOW, &ack(&answer)).unwrap();
        assert_eq!((back.mss, back.window_scale), (Some(1300), None));
        assert!(!back.sack_permitted, "it was not offered");
    }

    #[test]
    fn a_stamp_never_lies_in_the_future() {
        let cookies = SynCookies::new([3; 16]);
        let (value, _) = answer(&cookies, full()).options.timestamps.unwrap();
        let clock = (NOW.as_micros() / 1000) as u32 + 1234;
        assert!(clock.wrapping_sub(value) < 128, "{value} at {clock}");
    }

    #[test]
    fn a_cookie_lasts_a_minute_and_not_more_than_two() {
        let cookies = SynCookies::new([3; 16]);
        let ack = ack(&answer(&cookies, full()));
        assert!(remembered(&cookies, NOW + TICK, &ack).is_some());
        assert!(remembered(&cookies, NOW + TICK * 2, &ack).is_none());
        // The counter in the cookie has eight bits.
        assert!(remembered(&cookies, NOW + TICK * 255, &ack).is_none());
        let long = NOW + TICK * 256;
        assert!(
            remembered(&cookies, long, &ack).is_none(),
            "the pad differs"
        );
    }

    #[test]
    fn a_cookie_is_good_for_its_own_flow_number_and_key() {
        let cookies = SynCookies::new([3; 16]);
        let good = ack(&answer(&cookies, full()));
        let cfg = TcpConfig::default();
        let (local, remote) = ends();
        let stranger = SocketAddr::from(([10, 0, 0, 3], 4000));
        let check = |ends, ack: &Segment<'_>| cookies.check(NOW, &cfg, ends, 1234, ack).is_some();
        assert!(check((local, remote), &good));
        assert!(!check((local, stranger), &good));
        let shifted = Segment {
            seq: good.seq + 1,
            ..good
        };
        assert!(!check((local, remote), &shifted));
        let other = SynCookies::new([4; 16]);
        assert!(other.check(NOW, &cfg, ends(), 1234, &good).is_none());
    }

    #[test]
    fn guessing_a_cookie_is_hopeless() {
        let cookies = SynCookies::new([3; 16]);
        let hits = (0..100_000u32)
            .filter(|guess| {
                let guess = SeqNum(guess.wrapping_mul(0x9e37_79b1));
                let (local, remote) = ends();
                cookies
                    .size(NOW, local, remote, SeqNum(77), guess)
                    .is_some()
            })
            .count();
        assert_eq!(hits, 0, "16 of 2^32 numbers are good");
    }
}
