//! The options of sockets: what stands in their records, and the settings that follow from it.

use super::Stack;
use super::commands::BUFFER_BOUNDS;
use super::connection::Flow;
use crate::net::Address;
use crate::net::ipv4::DEFAULT_TTL;
use crate::tcp::{Algorithm, Duration, Settings, SocketOptions, TcpConfig};
use context::socket::{Options, Socket, header, option};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

/// The bits of a traffic class that are TCP's own (RFC 3168 §5).
const ECN: u8 = 3;
/// The longest that an application can have a connection wait in FIN-WAIT-2, in seconds (Linux's
/// `TCP_FIN_TIMEOUT_MAX`): whatever it writes into the record.
const LONGEST_FIN_WAIT2: u32 = 120;
/// Different settings that are remembered; whoever asks for more gets his own.
const MOST_KNOWN: usize = 16;

/// What a socket asks for in the IP headers of its packets.
#[derive(Clone, Copy)]
pub struct HeaderOptions(u32);

impl HeaderOptions {
    /// Of a record as it is now.
    pub fn of_record(record: &Socket) -> Self {
        HeaderOptions(record.options.tos_ttl.load(Relaxed))
    }

    /// Type of service and time to live, or traffic class and hop limit, by the flow's family.
    pub fn of(self, flow: &Flow) -> (u8, u8) {
        let word = self.0;
        if flow.remote.v4().is_some() {
            let ttl = match (word >> header::TTL_SHIFT) as u8 {
                0 => DEFAULT_TTL,
                ttl => ttl,
            };
            return (word as u8, ttl);
        }
        let hops = match word & header::HOPS_ASKED {
            0 => DEFAULT_TTL,
            _ => (word >> header::HOPS_SHIFT) as u8,
        };
        ((word >> header::CLASS_SHIFT) as u8 & !ECN, hops)
    }
}

/// The words of a record on which the settings of its connection depend, each read once.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Words {
    bits: u32,
    keep_idle: u32,
    keep_interval: u32,
    keep_count: u32,
    user_timeout: u32,
    max_segment: u32,
    receive_buffer: u32,
    congestion: u32,
    syn_count: u32,
    fin_wait2: u32,
    window_clamp: u32,
    pacing_limit: u64,
}

impl Words {
    fn read(options: &Options) -> Self {
        const BITS: u32 = option::NODELAY | option::CORK | option::QUICKACK | option::KEEPALIVE;
        Words {
            bits: options.bits.load(Relaxed) & BITS,
            keep_idle: options.keep_idle.load(Relaxed),
            keep_interval: options.keep_interval.load(Relaxed),
            keep_count: options.keep_count.load(Relaxed),
            user_timeout: options.user_timeout.load(Relaxed),
            max_segment: options.max_segment.load(Relaxed),
            receive_buffer: options.receive_buffer.load(Relaxed),
            congestion: options.congestion.load(Relaxed),
            syn_count: options.syn_count.load(Relaxed),
            fin_wait2: options.fin_wait2.load(Relaxed),
            window_clamp: options.window_clamp.load(Relaxed),
            pacing_limit: options.pacing_limit.load(Relaxed),
        }
    }

    /// What they ask for; impossible values become the nearest possible ones. `keepalive` says whether
    /// idle connections are probed anyway.
    fn options(&self, keepalive: bool) -> SocketOptions {
        let has = |bit: u32| self.bits & bit != 0;
        let nonzero = |value: u32| (value != 0).then_some(value);
        let seconds =
            |value: u32| nonzero(value).map(|s| Duration::from_secs(u64::from(s.min(32_767))));
        SocketOptions {
            nodelay: has(option::NODELAY),
            cork: has(option::CORK),
            quickack: has(option::QUICKACK),
            keepalive: keepalive || has(option::KEEPALIVE),
            keepalive_count: nonzero(self.keep_count).map(|n| n.min(127) as u8),
            keepalive_idle: seconds(self.keep_idle),
            keepalive_interval: seconds(self.keep_interval),
            user_timeout: nonzero(self.user_timeout).map(|ms| Duration::from_millis(u64::from(ms))),
            maxseg: nonzero(self.max_segment).map(|mss| mss.min(65_535) as u16),
            recv_buffer: nonzero(self.receive_buffer)
                .map(|n| n.clamp(BUFFER_BOUNDS.0, BUFFER_BOUNDS.1)),
            syn_retries: nonzero(self.syn_count).map(|n| n.min(127) as u8),
            fin_wait2_timeout: match self.fin_wait2 {
                u32::MAX => Some(Duration::ZERO),
                asked => seconds(asked.min(LONGEST_FIN_WAIT2)),
            },
            window_clamp: nonzero(self.window_clamp),
            congestion: Algorithm::from_number(self.congestion),
            max_pacing_rate: Some(!self.pacing_limit).filter(|rate| *rate != u64::MAX),
        }
    }
}

/// The settings that connections had lately: those with the same share them.
#[derive(Default)]
pub struct KnownSettings {
    known: Vec<(Words, Rc<Settings>)>,
    /// Which of them gives way to the next.
    oldest: usize,
}

impl KnownSettings {
    /// The settings of connections over links of that segment size with such words.
    fn get(
        &mut self,
        words: &Words,
        mss: u16,
        make: impl FnOnce() -> Rc<Settings>,
    ) -> Rc<Settings> {
        let is_it =
            |(w, settings): &&(Words, Rc<Settings>)| w == words && settings.link_mss() == mss;
        if let Some((_, settings)) = self.known.iter().find(is_it) {
            return settings.clone();
        }
        let entry = (*words, make());
        let settings = entry.1.clone();
        if self.known.len() < MOST_KNOWN {
            self.known.push(entry);
        } else {
            self.known[self.oldest] = entry;
            self.oldest = (self.oldest + 1) % MOST_KNOWN;
        }
        settings
    }
}

impl Stack {
    /// The settings of a connection with `remote` whose socket has this record.
    pub fn settings_for(&mut self, record: &Socket, remote: Address) -> Rc<Settings> {
        let words = Words::read(&record.options);
        let (mss, keepalive) = (self.mss_for(remote), self.shared.config.keepalive);
        let tcp = &self.tcp;
        self.settings.get(&words, mss, || {
            Settings::new(&TcpConfig { mss, ..*tcp }, &words.options(keepalive))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_with_the_same_options_share_their_settings() {
        let mut known = KnownSettings::default();
        let mut settings = |mss, bits| {
            let record = Socket::default();
            record.options.bits.store(bits, Relaxed);
            let words = Words::read(&record.options);
            let cfg = TcpConfig {
                mss,
                ..TcpConfig::default()
            };
            known.get(&words, mss, || Settings::new(&cfg, &words.options(false)))
        };
        let first = settings(1000, 0);
        assert!(Rc::ptr_eq(&first, &settings(1000, option::REUSEADDR)));
        assert_ne!(first, settings(1001, 0));
        assert_ne!(first, settings(1000, option::NODELAY));
        for mss in 2000..2000 + MOST_KNOWN as u16 {
            settings(mss, 0);
        }
        assert!(
            !Rc::ptr_eq(&first, &settings(1000, 0)),
            "the oldest gives way"
        );
        assert_eq!(known.known.len(), MOST_KNOWN);
    }
}
