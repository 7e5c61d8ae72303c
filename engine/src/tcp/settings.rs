//! What is in force of [`TcpConfig`] and [`SocketOptions`], once for all connections that have the same.

use alloc::rc::Rc;
use core::num::NonZero;

use super::config::{MIN_MSS, SocketOptions, TcpConfig};
use super::congestion::Algorithm;
use super::ecn::EcnMode;
use super::time::Duration;

/// A span in whole milliseconds, rounded up and at least one: half the size of a [`Duration`], and
/// no timer comes back at the instant that armed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Millis(u32);

impl Millis {
    fn new(span: Duration) -> Self {
        let micros = span.as_micros().clamp(1, u64::from(u32::MAX) * 1000);
        Millis(((micros - 1) / 1000 + 1) as u32)
    }

    pub(super) fn get(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

/// The settings of a connection: where options and configuration meet, the option is in force if it is
/// set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub(super) cfg: TcpConfig,
    pub(super) opts: SocketOptions,

    pub(super) window_scaling: bool,
    pub(super) timestamps: bool,
    pub(super) sack: bool,
    pub(super) dsack: bool,
    pub(super) slow_start_after_idle: bool,
    pub(super) ecn: EcnMode,
    pub(super) initial_window: u8,
    pub(super) data_retries: u8,
    pub(super) orphan_retries: u8,
    pub(super) synack_retries: u8,
    /// In milliseconds, 255 at most.
    pub(super) quick_ack_delay: u8,
    /// In milliseconds, 65,535 at most.
    pub(super) answer_interval: u16,
    pub(super) recv_buffer_max: u32,
    pub(super) delayed_ack: Millis,
    pub(super) cork_limit: Millis,
    pub(super) time_wait: Millis,

    pub(super) nodelay: bool,
    pub(super) cork: bool,
    pub(super) quickack: bool,
    pub(super) recv_buffer: Option<NonZero<u32>>,
    pub(super) window_clamp: Option<NonZero<u32>>,
    pub(super) user_timeout: Option<Millis>,
    pub(super) congestion: Algorithm,

    /// The MSS that this side announces: that of the first link or less.
    pub(super) own_mss: u16,
    pub(super) syn_retries: u8,
    pub(super) fin_wait2_timeout: Millis,
    pub(super) keepalive: Keepalive,
}

/// Settings of keepalive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Keepalive {
    pub(super) on: bool,
    pub(super) count: u8,
    pub(super) idle: Millis,
    pub(super) interval: Millis,
}

impl Settings {
    /// Least time between two answers to segments without data that should not have come.
    pub(super) fn answer_interval(&self) -> Duration {
        Duration::from_millis(self.answer_interval.into())
    }

    /// The settings of connections with these options.
    pub fn new(cfg: &TcpConfig, opts: &SocketOptions) -> Rc<Settings> {
        let maxseg = opts.maxseg.unwrap_or(u16::MAX);
        let or = |span: Option<Duration>, default| Millis::new(span.unwrap_or(default));
        Rc::new(Settings {
            cfg: *cfg,
            opts: *opts,
            window_scaling: cfg.window_scaling,
            timestamps: cfg.timestamps,
            sack: cfg.sack,
            dsack: cfg.dsack,
            slow_start_after_idle: cfg.slow_start_after_idle,
            ecn: cfg.ecn,
            initial_window: cfg.initial_window.max(1),
            data_retries: cfg.data_retries,
            orphan_retries: cfg.orphan_retries,
            synack_retries: cfg.synack_retries,
            recv_buffer_max: cfg.recv_buffer_max,
            delayed_ack: Millis::new(cfg.delayed_ack),
            quick_ack_delay: cfg.quick_ack_delay.as_millis().min(255) as u8,
            answer_interval: cfg.answer_interval.as_millis().min(65_535) as u16,
            cork_limit: Millis::new(cfg.cork),
            time_wait: Millis::new(cfg.time_wait),
            nodelay: opts.nodelay,
            cork: opts.cork,
            quickack: opts.quickack,
            recv_buffer: opts.recv_buffer.and_then(NonZero::new),
            window_clamp: opts.window_clamp.and_then(NonZero::new),
            user_timeout: opts.user_timeout.map(Millis::new),
            congestion: opts.congestion.unwrap_or(cfg.congestion),
            own_mss: cfg.mss.min(maxseg).max(MIN_MSS),
            syn_retries: opts.syn_retries.unwrap_or(cfg.syn_retries),
            fin_wait2_timeout: or(opts.fin_wait2_timeout, cfg.fin_wait2_timeout),
            keepalive: Keepalive {
                on: opts.keepalive,
                count: opts.keepalive_count.unwrap_or(cfg.keepalive_count),
                idle: or(opts.keepalive_idle, cfg.keepalive_idle),
                interval: or(opts.keepalive_interval, cfg.keepalive_interval),
            },
        })
    }

    /// The segment size of the connection's first link, bytes.
    pub fn link_mss(&self) -> u16 {
        self.cfg.mss
    }

    /// The same with another MSS to announce.
    pub(super) fn announcing(&self, own_mss: u16) -> Rc<Settings> {
        Rc::new(Settings {
            own_mss,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_is_not_set_gives_way_to_the_configuration() {
        let cfg = TcpConfig::default();
        let none = SocketOptions::default();
        let set = SocketOptions {
            keepalive: true,
            keepalive_count: Some(1),
            keepalive_idle: Some(Duration::from_secs(1)),
            maxseg: Some(500),
            syn_retries: Some(1),
            ..none
        };
        let settings = Settings::new(&cfg, &set);
        assert_eq!((settings.own_mss, settings.syn_retries), (500, 1));
        assert_eq!(settings.keepalive.idle.get(), Duration::from_secs(1));
        assert_eq!(Settings::new(&cfg, &none).own_mss, 1460);
    }

    #[test]
    fn spans_are_rounded_up_to_milliseconds_and_never_overflow() {
        assert_eq!(
            Millis::new(Duration::from_micros(1)).get(),
            Duration::from_millis(1)
        );
        assert_eq!(Millis::new(Duration::ZERO).get(), Duration::from_millis(1));
        let for_ever = Duration::from_secs(u64::MAX);
        assert_eq!(
            Millis::new(for_ever).get(),
            Duration::from_millis(u32::MAX.into())
        );
    }
}
