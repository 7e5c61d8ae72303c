//! Settings whose value is one of a few words.

use std::fmt;

use crate::net::Ipv4Net;
use crate::value;

/// Congestion control algorithms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Congestion {
    /// NewReno (RFC 5681, RFC 6582).
    NewReno,
    /// CUBIC (RFC 9438).
    #[default]
    Cubic,
    /// BBR version 3 (draft-ietf-ccwg-bbr).
    Bbr,
    /// DCTCP (RFC 8257).
    Dctcp,
}

impl Congestion {
    pub(crate) fn parse(text: &str) -> Option<Congestion> {
        match text {
            "reno" | "newreno" => Some(Congestion::NewReno),
            "cubic" => Some(Congestion::Cubic),
            "bbr" => Some(Congestion::Bbr),
            "dctcp" => Some(Congestion::Dctcp),
            _ => None,
        }
    }
}

impl fmt::Display for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Congestion::NewReno => "reno",
            Congestion::Cubic => "cubic",
            Congestion::Bbr => "bbr",
            Congestion::Dctcp => "dctcp",
        })
    }
}

/// Explicit congestion notification (RFC 3168).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ecn {
    /// Never.
    Off,
    /// When the peer asks for it.
    #[default]
    Passive,
    /// Asks for it as well.
    On,
}

impl Ecn {
    pub(crate) fn parse(text: &str) -> Option<Ecn> {
        match text {
            "passive" => Some(Ecn::Passive),
            _ => value::switch(text).map(|on| if on { Ecn::On } else { Ecn::Off }),
        }
    }
}

impl fmt::Display for Ecn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ecn::Off => "off",
            Ecn::Passive => "passive",
            Ecn::On => "on",
        })
    }
}

/// Who carries what never leaves the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Loopback {
    /// The kernel.
    #[default]
    Kernel,
    /// The engine.
    Stack,
}

impl Loopback {
    pub(crate) fn parse(text: &str) -> Option<Loopback> {
        match text {
            "kernel" => Some(Loopback::Kernel),
            "stack" => Some(Loopback::Stack),
            _ => None,
        }
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Loopback::Kernel => "kernel",
            Loopback::Stack => "stack",
        })
    }
}

/// When SYNs are answered with cookies, Linux's `tcp_syncookies`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SynCookies {
    /// Never.
    Off,
    /// Beyond a listener's bound.
    #[default]
    On,
    /// Always.
    Always,
}

impl SynCookies {
    pub(crate) fn parse(text: &str) -> Option<SynCookies> {
        match text {
            "always" => Some(SynCookies::Always),
            _ => value::switch(text).map(|on| if on { SynCookies::On } else { SynCookies::Off }),
        }
    }
}

impl fmt::Display for SynCookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SynCookies::Off => "off",
            SynCookies::On => "on",
            SynCookies::Always => "always",
        })
    }
}

/// Connections in TIME-WAIT that connect() may take the place of, Linux's `tcp_tw_reuse`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimeWaitReuse {
    /// None.
    Off,
    /// Those inside the stack.
    #[default]
    Loopback,
    /// All.
    On,
}

impl TimeWaitReuse {
    pub(crate) fn parse(text: &str) -> Option<TimeWaitReuse> {
        match text {
            "loopback" => Some(TimeWaitReuse::Loopback),
            _ => value::switch(text).map(|on| {
                if on {
                    TimeWaitReuse::On
                } else {
                    TimeWaitReuse::Off
                }
            }),
        }
    }
}

impl fmt::Display for TimeWaitReuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimeWaitReuse::Off => "off",
            TimeWaitReuse::Loopback => "loopback",
            TimeWaitReuse::On => "on",
        })
    }
}

/// The kernel's address on its side of a TAP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HostAddress {
    /// The first host of the stack's network which is not the stack.
    #[default]
    Auto,
    /// None: the kernel's side stays without an address.
    None,
    /// This one.
    Is(Ipv4Net),
}

impl HostAddress {
    pub(crate) fn parse(text: &str) -> Option<HostAddress> {
        match text {
            "auto" => Some(HostAddress::Auto),
            "none" => Some(HostAddress::None),
            _ => text.parse().ok().map(HostAddress::Is),
        }
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostAddress::Auto => f.write_str("auto"),
            HostAddress::None => f.write_str("none"),
            HostAddress::Is(net) => net.fmt(f),
        }
    }
}

/// What the preload library traces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    /// Each intercepted call, in strace's form.
    pub calls: bool,
    /// Each decision of the [`Policy`], with its reason.
    pub policy: bool,
}

impl Trace {
    pub(crate) fn parse(text: &str) -> Option<Trace> {
        let mut trace = Trace::default();
        if text == "none" {
            return Some(trace);
        }
        for item in text.split(',') {
            match item.trim() {
                "calls" => trace.calls = true,
                "policy" => trace.policy = true,
                _ => return None,
            }
        }
        Some(trace)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.calls, self.policy) {
            (true, true) => "calls,policy",
            (true, false) => "calls",
            (false, true) => "policy",
            (false, false) => "none",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_and_off_may_be_said_as_for_any_switch() {
        for (text, ecn) in [
            ("yes", Ecn::On),
            ("true", Ecn::On),
            ("no", Ecn::Off),
            ("0", Ecn::Off),
        ] {
            assert_eq!(Ecn::parse(text), Some(ecn), "{text}");
        }
        assert_eq!(SynCookies::parse("true"), Some(SynCookies::On));
        assert_eq!(SynCookies::parse("always"), Some(SynCookies::Always));
        assert_eq!(TimeWaitReuse::parse("false"), Some(TimeWaitReuse::Off));
        assert_eq!(
            TimeWaitReuse::parse("loopback"),
            Some(TimeWaitReuse::Loopback)
        );
        assert_eq!(Ecn::parse("maybe"), None);
    }
}
