//! The part of the settings that the preload library reads, and its form as bytes.
//!
//! The bytes lie in memory that other processes may write, so reading them trusts nothing: every
//! length is checked, and junk is an error.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use crate::choice::{Loopback, Trace};
use crate::net::Ipv4Net;
use crate::net6::{IpNet, Ipv6Net};
use crate::policy::{Decision, Policy, Ports, Role, Rule};
use crate::settings::TcpSettings;

/// Begins the bytes; its last byte is the version of the form.
const MAGIC: [u8; 8] = *b"mtcpset\x03";

/// What the preload library needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientSettings {
    /// Which sockets go to the stack.
    pub policy: Policy,
    /// What to trace.
    pub trace: Trace,
    /// Where the trace goes, an absolute path; `None` for standard error.
    pub trace_file: Option<PathBuf>,
    /// What the socket options of TCP read as while the program has not set them.
    pub tcp: ClientTcp,
    /// What to log, in the form of tracing-subscriber's `EnvFilter`.
    pub log: String,
    /// Where the log goes, an absolute path; `None` for standard error.
    pub log_file: Option<PathBuf>,
}

/// Settings of TCP that a program can read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientTcp {
    /// Name of the congestion control (TCP_CONGESTION).
    pub congestion: String,
    /// TCP_SYNCNT
    pub syn_retries: u32,
    /// TCP_LINGER2, in seconds.
    pub fin_timeout: u32,
    /// TCP_KEEPIDLE, in seconds.
    pub keepalive_time: u32,
    /// TCP_KEEPINTVL, in seconds.
    pub keepalive_interval: u32,
    /// TCP_KEEPCNT
    pub keepalive_probes: u32,
    /// Bits of [`crate::fastopen`].
    pub fastopen: u32,
    /// Upper bound of a backlog.
    pub backlog_max: u32,
}

impl ClientTcp {
    pub(crate) fn of(tcp: &TcpSettings) -> ClientTcp {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        ClientTcp {
            congestion: tcp.congestion.to_string(),
            syn_retries: tcp.syn_retries,
            fin_timeout: seconds(tcp.fin_timeout),
            keepalive_time: seconds(tcp.keepalive_time),
            keepalive_interval: seconds(tcp.keepalive_interval),
            keepalive_probes: tcp.keepalive_probes,
            fastopen: tcp.fastopen,
            backlog_max: u32::try_from(tcp.backlog_max).unwrap_or(u32::MAX),
        }
    }
}

/// Bytes that are not [`ClientSettings`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// They are of another program, or of another version of this one.
    #[error("not settings of this version")]
    Foreign,
    /// They end too early.
    #[error("the settings are cut short")]
    Truncated,
    /// A field holds what it never may.
    #[error("bad {0} in the settings")]
    Bad(&'static str),
}

impl ClientSettings {
    /// Integers in little-endian order, texts and lists with their length in front.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
        out.list(&self.policy.addresses, Writer::net);
        out.list(&self.policy.routes, Writer::net);
        out.list(&self.policy.addresses6, Writer::net6);
        out.list(&self.policy.routes6, Writer::net6);
        out.byte(match self.policy.loopback {
            Loopback::Kernel => 0,
            Loopback::Stack => 1,
        });
        out.list(&self.policy.rules, Writer::rule);
        out.byte(u8::from(self.trace.calls) | u8::from(self.trace.policy) << 1);
        out.path(&self.trace_file);
        out.tcp(&self.tcp);
        out.text(self.log.as_bytes());
        out.path(&self.log_file);
        out.0
    }

    /// Reads what [`ClientSettings::to_bytes`] wrote; bytes behind it are ignored.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<ClientSettings, DecodeError> {
        let rest = bytes.strip_prefix(&MAGIC);
        let mut input = Reader(rest.ok_or(DecodeError::Foreign)?);
        let policy = Policy {
            addresses: input.list(Reader::net)?,
            routes: input.list(Reader::net)?,
            addresses6: input.list(Reader::net6)?,
            routes6: input.list(Reader::net6)?,
            loopback: match input.byte()? {
                0 => Loopback::Kernel,
                1 => Loopback::Stack,
                _ => return Err(DecodeError::Bad("loopback")),
            },
            rules: input.list(Reader::rule)?,
        };
        let trace = match input.byte()? {
            bits @ 0..=3 => Trace {
                calls: bits & 1 != 0,
                policy: bits & 2 != 0,
            },
            _ => return Err(DecodeError::Bad("trace")),
        };
        Ok(ClientSettings {
            policy,
            trace,
            trace_file: input.path()?,
            tcp: input.tcp()?,
            log: input.text()?,
            log_file: input.path()?,
        })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    /// Longer texts than 4 GB do not come out of a configuration; they would be cut.
    fn text(&mut self, text: &[u8]) {
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.number(len);
        self.0.extend(text.iter().take(len as usize));
    }

    /// An empty path is none.
    fn path(&mut self, path: &Option<PathBuf>) {
        let path = path.as_ref().map_or(OsStr::new(""), |p| p.as_os_str());
        self.text(path.as_bytes());
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Writer, &T)) {
        let len = u32::try_from(items.len()).unwrap_or(u32::MAX);
        self.number(len);
        items
            .iter()
            .take(len as usize)
            .for_each(|item| write(self, item));
    }

    fn net(&mut self, net: &Ipv4Net) {
        self.number(net.address().to_bits());
        self.byte(net.prefix());
    }

    fn tcp(&mut self, tcp: &ClientTcp) {
        self.text(tcp.congestion.as_bytes());
        for number in [
            tcp.syn_retries,
            tcp.fin_timeout,
            tcp.keepalive_time,
            tcp.keepalive_interval,
            tcp.keepalive_probes,
            tcp.fastopen,
            tcp.backlog_max,
        ] {
            self.number(number);
        }
    }

    fn net6(&mut self, net: &Ipv6Net) {
        self.0.extend(net.address().octets());
        self.byte(net.prefix());
    }

    fn any_net(&mut self, net: &IpNet) {
        match net {
            IpNet::Any => self.byte(0),
            IpNet::V4(v4) => {
                self.byte(4);
                self.net(v4);
            }
            IpNet::V6(v6) => {
                self.byte(6);
                self.net6(v6);
            }
        }
    }

    fn rule(&mut self, rule: &Rule) {
        // A program's name is never empty, so that an empty one can stand for all programs.
        self.text(rule.program.as_deref().unwrap_or("").as_bytes());
        self.byte(match rule.role {
            None => 0,
            Some(Role::Listen) => 1,
            Some(Role::Connect) => 2,
        });
        self.any_net(&rule.address);
        self.list(rule.ports.ranges(), |out, (first, last)| {
            out.number(u32::from(*first) << 16 | u32::from(*last));
        });
        self.byte(match rule.to {
            Decision::Mtcp => 0,
            Decision::Kernel => 1,
            Decision::Both => 2,
        });
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u32, DecodeError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.number()?;
        self.take(usize::try_from(len).map_err(|_| DecodeError::Truncated)?)
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        let bytes = self.bytes()?.to_vec();
        String::from_utf8(bytes).map_err(|_| DecodeError::Bad("text"))
    }

    fn path(&mut self) -> Result<Option<PathBuf>, DecodeError> {
        let bytes = self.bytes()?;
        let path = || PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()));
        Ok((!bytes.is_empty()).then(path))
    }

    /// Every item takes bytes, so that a length that lies ends at the end of the input.
    fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let len = self.number()?;
        (0..len).map(|_| read(self)).collect()
    }

    fn net(&mut self) -> Result<Ipv4Net, DecodeError> {
        let address = Ipv4Addr::from_bits(self.number()?);
        Ipv4Net::new(address, self.byte()?).ok_or(DecodeError::Bad("prefix"))
    }

    fn tcp(&mut self) -> Result<ClientTcp, DecodeError> {
        Ok(ClientTcp {
            congestion: self.text()?,
            syn_retries: self.number()?,
            fin_timeout: self.number()?,
            keepalive_time: self.number()?,
            keepalive_interval: self.number()?,
            keepalive_probes: self.number()?,
            fastopen: self.number()?,
            backlog_max: self.number()?,
        })
    }

    fn net6(&mut self) -> Result<Ipv6Net, DecodeError> {
        let (octets, rest) = self
            .0
            .split_first_chunk::<16>()
            .ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ipv6Net::new((*octets).into(), self.byte()?).ok_or(DecodeError::Bad("prefix"))
    }

    fn any_net(&mut self) -> Result<IpNet, DecodeError> {
        match self.byte()? {
            0 => Ok(IpNet::Any),
            4 => self.net().map(IpNet::V4),
            6 => self.net6().map(IpNet::V6),
            _ => Err(DecodeError::Bad("family")),
        }
    }

    fn rule(&mut self) -> Result<Rule, DecodeError> {
        Ok(Rule {
            program: Some(self.text()?).filter(|name| !name.is_empty()),
            role: match self.byte()? {
                0 => None,
                1 => Some(Role::Listen),
                2 => Some(Role::Connect),
                _ => return Err(DecodeError::Bad("role")),
            },
            address: self.any_net()?,
            ports: Ports::from_ranges(self.list(|input| {
                let both = input.number()?;
                Ok(((both >> 16) as u16, both as u16))
            })?),
            to: match self.byte()? {
                0 => Decision::Mtcp,
                1 => Decision::Kernel,
                2 => Decision::Both,
                _ => return Err(DecodeError::Bad("decision")),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use proptest::prelude::*;

    fn sample() -> ClientSettings {
        let mut client = Settings::default().client();
        client.policy.routes = vec!["192.168.0.0/16".parse().unwrap(), Ipv4Net::ALL];
        client.policy.routes6 = vec![Ipv6Net::ALL];
        client.policy.loopback = Loopback::Stack;
        client.policy.rules = vec![
            Rule {
                program: Some("nginx".to_owned()),
                role: Some(Role::Listen),
                address: IpNet::Any,
                ports: Ports::parse("80,8000-8100").unwrap(),
                to: Decision::Both,
            },
            Rule {
                program: None,
                role: None,
                address: IpNet::parse("10.0.0.0/8").unwrap(),
                ports: Ports::all(),
                to: Decision::Kernel,
            },
        ];
        client.trace.policy = true;
        client.trace_file = Some("/tmp/trace".into());
        client.tcp.congestion = "bbr".to_owned();
        client.tcp.keepalive_time = 77;
        client.log = "warn,engine=debug".to_owned();
        client
    }

    #[test]
    fn what_is_written_reads_back() {
        for client in [Settings::default().client(), sample()] {
            let bytes = client.to_bytes();
            assert_eq!(ClientSettings::from_bytes(&bytes), Ok(client));
        }
    }

    #[test]
    fn bytes_behind_the_settings_are_ignored() {
        let mut bytes = sample().to_bytes();
        bytes.extend([0; 100]);
        assert_eq!(ClientSettings::from_bytes(&bytes), Ok(sample()));
    }

    #[test]
    fn every_cut_is_an_error() {
        let bytes = sample().to_bytes();
        for len in 0..bytes.len() {
            assert!(ClientSettings::from_bytes(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn another_version_is_foreign() {
        let mut bytes = sample().to_bytes();
        bytes[7] += 1;
        assert_eq!(
            ClientSettings::from_bytes(&bytes),
            Err(DecodeError::Foreign)
        );
    }

    proptest! {
        #[test]
        fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(junk);
            let _ = ClientSettings::from_bytes(&bytes);
        }

        #[test]
        fn a_changed_byte_never_panics(at in 8usize..100, to in any::<u8>()) {
            let mut bytes = sample().to_bytes();
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = ClientSettings::from_bytes(&bytes);
        }
    }
}
