//! mTCP's own files as they are: `mtcp.conf`, `route.conf` and `arp.conf`.
//!
//! The forms are those that mTCP reads (`mtcp/src/config.c`, 2019): `key = value` lines; `ROUTES n`
//! before lines of `address/prefix interface`; `ARP_ENTRY n` before lines of `address/prefix mac`.
//! `#` begins a comment in each.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Origin, Warning};
use crate::keys::Key;
use crate::loader::{Loader, read};
use crate::nearest::nearest;
use crate::net::{Ipv4Net, Neighbor, Route, parse_mac};
use crate::value::{cores_text, number};

/// Keys that mTCP reads and that mean nothing here, with what to tell their user.
const WITHOUT_MEANING: [(&str, &str); 13] = [
    ("io", "the packet device is chosen by `device`"),
    ("port", "the packet device is chosen by `device`"),
    ("num_mem_ch", "there are no memory channels to configure"),
    ("num_ip", "source addresses are not configured by number"),
    (
        "max_num_buffers",
        "buffers are taken as they are needed, up to `memory`",
    ),
    (
        "tcp_timeout",
        "idle connections are kept; `tcp.keepalive` probes them",
    ),
    ("multiprocess", "any number of processes may use the stack"),
    ("stat_print", "statistics are switched on by `stats`"),
    ("onvm_serv", "there is no OpenNetVM"),
    ("onvm_inst", "there is no OpenNetVM"),
    ("onvm_dest", "there is no OpenNetVM"),
    ("pci_devices", "the packet device is chosen by `device`"),
    (
        "stack_thread",
        "the engine's cores are set by `engine_cores`",
    ),
];

/// Keys that have a counterpart here.
const WITH_MEANING: [&str; 7] = [
    "num_cores",
    "core_mask",
    "max_concurrency",
    "rcvbuf",
    "sndbuf",
    "tcp_timewait",
    "cc",
];

/// The most entries that `route.conf` or `arp.conf` may have.
const MAX_ENTRIES: usize = 4096;

/// The least and most bytes that `rcvbuf` and `sndbuf` may come to here.
const BUFFERS: std::ops::RangeInclusive<u64> = 2 << 10..=1 << 30;

pub fn load(loader: &mut Loader, path: &Path) -> Result<(), Error> {
    mtcp_conf(loader, path, &read(path)?)?;
    for (name, parse) in [
        ("route.conf", route_conf as Parser),
        ("arp.conf", arp_conf as Parser),
    ] {
        if let Some((path, text)) = beside(path, name)? {
            parse(loader, &path, &text)?;
        }
    }
    Ok(())
}

type Parser = fn(&mut Loader, &Path, &str) -> Result<(), Error>;

/// The file of that name in `config/` beside `conf`, or else beside it.
fn beside(conf: &Path, name: &str) -> Result<Option<(PathBuf, String)>, Error> {
    let folder = conf.parent().unwrap_or(Path::new(""));
    for path in [folder.join("config").join(name), folder.join(name)] {
        match read(&path) {
            Ok(text) => return Ok(Some((path, text))),
            Err(Error::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The lines of a file without comments and surrounding space; empty ones are left out.
fn lines<'a>(path: &'a Path, text: &'a str) -> impl Iterator<Item = (Origin, &'a str)> {
    text.lines().enumerate().filter_map(|(i, line)| {
        let line = line.split('#').next().unwrap_or("").trim();
        let origin = Origin::File {
            path: path.to_owned(),
            line: i + 1,
        };
        (!line.is_empty()).then_some((origin, line))
    })
}

/// A value with the line on which it stands.
type Found<T> = Option<(T, Origin)>;

/// Values whose effect depends on each other.
#[derive(Default)]
struct Joint {
    num_cores: Found<usize>,
    core_mask: Found<Vec<usize>>,
    max_concurrency: Found<u64>,
    rcvbuf: Found<u64>,
    sndbuf: Found<u64>,
}

fn mtcp_conf(loader: &mut Loader, path: &Path, text: &str) -> Result<(), Error> {
    let mut joint = Joint::default();
    for (origin, line) in lines(path, text) {
        let mut words = line.split([' ', '\t', '=']).filter(|word| !word.is_empty());
        let (Some(key), Some(value)) = (words.next(), words.next()) else {
            return Err(Error::Syntax {
                origin,
                message: format!("expected `key = value`, found {line:?}"),
            });
        };
        let number = |bounds, expected| {
            number(value, bounds).ok_or_else(|| Error::value(&origin, key, expected, value))
        };
        match key {
            "num_cores" => {
                let n = number(1..=8192, "a number of cores from 1 to 8192")?;
                joint.num_cores = Some((n as usize, origin));
            }
            "core_mask" => {
                let cores = core_mask(value).ok_or_else(|| {
                    Error::value(&origin, key, "a mask in hexadecimal, not 0", value)
                })?;
                joint.core_mask = Some((cores, origin));
            }
            "max_concurrency" => {
                let n = number(0..=u64::MAX, "a number of connections")?;
                joint.max_concurrency = Some((n, origin));
            }
            "rcvbuf" => {
                let n = number(64..=*BUFFERS.end(), "a number of bytes from 64 to 1G")?;
                joint.rcvbuf = Some((n, origin));
            }
            "sndbuf" => {
                let n = number(64..=*BUFFERS.end(), "a number of bytes from 64 to 1G")?;
                joint.sndbuf = Some((n, origin));
            }
            "tcp_timewait" => {
                let seconds = number(0..=600, "a number of seconds from 0 to 600")?;
                set(loader, "tcp.time_wait", &format!("{seconds}s"), origin)?;
            }
            "cc" => match Key::find("tcp.congestion") {
                Some(known) if known.set(&mut loader.settings, value).is_some() => {
                    loader.came_from("tcp.congestion", origin);
                }
                _ => {
                    let used = loader.settings.tcp.congestion;
                    let message = format!("{value:?} is not available; {used} is used");
                    loader.note(origin, key, message);
                }
            },
            _ => match WITHOUT_MEANING.iter().find(|(name, _)| *name == key) {
                Some((_, why)) => {
                    loader.note(origin, key, format!("has no meaning here: {why}"));
                }
                None => {
                    let known = WITHOUT_MEANING.iter().map(|(name, _)| *name);
                    loader.warnings.push(Warning::UnknownKey {
                        origin,
                        key: key.to_owned(),
                        suggestion: nearest(key, known.chain(WITH_MEANING)),
                    });
                }
            },
        }
    }
    joint.apply(loader)
}

impl Joint {
    fn apply(self, loader: &mut Loader) -> Result<(), Error> {
        // As in mTCP, num_cores takes the first cores of the mask, or of the machine.
        let cores = match (self.core_mask, self.num_cores) {
            (Some((mut cores, _)), Some((n, origin))) => {
                cores.truncate(n);
                Some((cores, origin))
            }
            (None, Some((n, origin))) => Some(((0..n).collect(), origin)),
            (mask, None) => mask,
        };
        if let Some((cores, origin)) = cores {
            set(loader, "engine_cores", &cores_text(&cores), origin)?;
        }
        if let Some((per_core, origin)) = self.max_concurrency {
            let workers = loader.settings.workers() as u64;
            let all = per_core.saturating_mul(workers).clamp(16, 1 << 24);
            set(loader, "max_sockets", &all.to_string(), origin)?;
        }
        // Either stands for both if the other is not set.
        let rcvbuf = self.rcvbuf.clone().or_else(|| self.sndbuf.clone());
        let sndbuf = self.sndbuf.or(self.rcvbuf);
        let tcp = &loader.settings.tcp;
        let (recv_max, send_max) = (tcp.recv_buffer_max, tcp.send_buffer_max);
        buffer(loader, "tcp.recv_buffer", rcvbuf, recv_max)?;
        buffer(loader, "tcp.send_buffer", sndbuf, send_max)
    }
}

/// Takes a fixed size of mTCP's as the size to begin with, and lets the maximum keep up.
fn buffer(
    loader: &mut Loader,
    key: &str,
    found: Found<u64>,
    max: Option<usize>,
) -> Result<(), Error> {
    let Some((bytes, origin)) = found else {
        return Ok(());
    };
    let bytes = bytes.max(*BUFFERS.start());
    if max.is_some_and(|max| bytes > max as u64) {
        let key = format!("{key}_max");
        set(loader, &key, &bytes.to_string(), origin.clone())?;
    }
    set(loader, key, &bytes.to_string(), origin)
}

fn set(loader: &mut Loader, key: &str, value: &str, origin: Origin) -> Result<(), Error> {
    loader.set(key, value, origin)
}

/// Cores whose bits are set, lowest first; `None` if there are none or it is not hexadecimal.
fn core_mask(text: &str) -> Option<Vec<usize>> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digits: Option<Vec<u32>> = text.chars().rev().map(|c| c.to_digit(16)).collect();
    let cores: Vec<usize> = digits?
        .iter()
        .take(8192 / 4)
        .enumerate()
        .flat_map(|(i, digit)| {
            let bits = (0..4).filter(move |bit| digit >> bit & 1 == 1);
            bits.map(move |bit| i * 4 + bit)
        })
        .collect();
    (!cores.is_empty()).then_some(cores)
}

fn route_conf(loader: &mut Loader, path: &Path, text: &str) -> Result<(), Error> {
    let mut left = 0;
    for (origin, line) in lines(path, text) {
        if let Some(count) = header(line, "ROUTES", &origin)? {
            left = count;
        } else if left == 0 {
            loader.note(
                origin,
                line,
                "is ignored: it is beyond the number in ROUTES",
            );
        } else {
            left -= 1;
            let expected = "`address/prefix interface` such as `10.0.1.0/24 dpdk0`";
            let mut words = line.split_whitespace();
            let to = words.next().and_then(|to| to.parse::<Ipv4Net>().ok());
            let (Some(to), Some(_)) = (to, words.next()) else {
                return Err(Error::value(&origin, "route", expected, line));
            };
            let to = to.network();
            loader.settings.routes.push(Route { to, via: None });
            let index = loader.settings.routes.len();
            loader.came_from(&format!("route {index}"), origin);
        }
    }
    Ok(())
}

fn arp_conf(loader: &mut Loader, path: &Path, text: &str) -> Result<(), Error> {
    let mut left = 0;
    for (origin, line) in lines(path, text) {
        if let Some(count) = header(line, "ARP_ENTRY", &origin)? {
            left = count;
        } else if left == 0 {
            return Err(Error::Syntax {
                origin,
                message: format!("expected no more entries than ARP_ENTRY says, found {line:?}"),
            });
        } else {
            left -= 1;
            let expected =
                "`address/prefix mac` with a unicast MAC, such as `10.0.0.1/32 02:00:00:00:00:01`";
            let mut words = line.split_whitespace();
            let ip = words.next().and_then(|ip| Ipv4Net::parse_or_host(ip).ok());
            let (Some(ip), Some(mac)) = (ip, words.next().and_then(parse_mac)) else {
                return Err(Error::value(&origin, "arp", expected, line));
            };
            let ip = ip.network();
            loader.settings.neighbors.push(Neighbor { ip, mac });
            let index = loader.settings.neighbors.len();
            loader.came_from(&format!("neighbor {index}"), origin);
        }
    }
    Ok(())
}

/// The number in a line such as `ROUTES 2`; `None` if the line does not begin with `word`.
fn header(line: &str, word: &str, origin: &Origin) -> Result<Option<usize>, Error> {
    let mut words = line.split_whitespace();
    if words.next() != Some(word) {
        return Ok(None);
    }
    let text = words.next().unwrap_or("");
    match number(text, 0..=MAX_ENTRIES) {
        Some(count) => Ok(Some(count)),
        None => {
            let expected = format!("a number of entries from 0 to {MAX_ENTRIES}");
            Err(Error::value(origin, word, &expected, text))
        }
    }
}
