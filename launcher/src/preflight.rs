//! What the machine has of what the settings need, and how to get what is missing.

use std::fmt;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;

use config::{Decision, Device, IpNet, Loopback, Settings};
use psio::numa::{self, SYSFS, Topology};

use crate::sys;

/// Bit of CAP_NET_ADMIN in a capability mask (capability.h).
const CAP_NET_ADMIN: u32 = 12;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Grade {
    /// As it should be.
    Good,
    /// It will run, but perhaps not well.
    Doubtful,
    /// It cannot run.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What it is.
    pub what: &'static str,
    /// How bad it is.
    pub grade: Grade,
    /// What was found and, where it is bad, how to mend it.
    pub text: String,
}

impl Finding {
    fn new(what: &'static str, grade: Grade, text: impl Into<String>) -> Finding {
        Finding {
            what,
            grade,
            text: text.into(),
        }
    }

    /// All that is missing, as one line each.
    pub fn summary(findings: &[Finding]) -> String {
        let missing = findings.iter().filter(|f| f.grade == Grade::Missing);
        let lines: Vec<String> = missing.map(|f| format!("{}: {}", f.what, f.text)).collect();
        lines.join("\n")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grade = match self.grade {
            Grade::Good => "good",
            Grade::Doubtful => "doubtful",
            Grade::Missing => "missing",
        };
        write!(f, "{:<16} {grade:<9} {}", self.what, self.text)
    }
}

/// Looks at what the stack needs: cores, memory, and what its device needs.
pub fn stack(settings: &Settings) -> Vec<Finding> {
    let mut findings = cores(settings);
    findings.extend(loopback_rules(settings));
    match settings.device {
        Device::Tap(_) => {
            findings.push(tun());
            findings.push(net_admin());
            findings.extend(addresses(settings));
        }
        // To open a wire is to meet the other end.
        Device::Wire(_) | Device::None => {}
        Device::Packet(_) | Device::Xdp(_) | Device::Pci(_) => {
            findings.push(device(settings));
            findings.extend(addresses(settings));
            findings.extend(deaf_addresses(settings));
        }
    }
    findings.extend(nodes(settings, Path::new(SYSFS)));
    findings.extend(memory(settings));
    findings.extend(huge_pages());
    findings
}

/// The rules that send addresses of the loopback, and none else, to a stack that does not carry it.
fn loopback_rules(settings: &Settings) -> Vec<Finding> {
    let is_loopback = |net: IpNet| match net {
        IpNet::Any => false,
        IpNet::V4(net) => net.prefix() >= 8 && net.address().is_loopback(),
        IpNet::V6(net) => net.prefix() == 128 && net.address().is_loopback(),
    };
    let is_dead = |rule: &config::Rule| rule.to != Decision::Kernel && is_loopback(rule.address);
    let rules = settings.rules.iter().zip(1..);
    rules
        .filter(|(rule, _)| settings.loopback == Loopback::Kernel && is_dead(rule))
        .map(|(rule, number)| {
            let text = format!(
                "number {number} ({rule}) needs loopback = \"stack\" (--loopback stack): without \
                 it the stack does not carry the loopback"
            );
            Finding::new("rule", Grade::Doubtful, text)
        })
        .collect()
}

/// Opens a device that exists without us, but none of its queues, which changes nothing.
fn device(settings: &Settings) -> Finding {
    let name = settings.device.to_string();
    let options = psio::OpenOptions {
        queues: settings.queue_count(),
        ..psio::OpenOptions::default()
    };
    match psio::open(&name, &options) {
        Ok(_) => Finding::new("device", Grade::Good, name),
        Err(error) => Finding::new("device", Grade::Missing, error.to_string()),
    }
}

/// Which of its addresses the kernel does not hear while the stack has their interface to itself.
fn deaf_addresses(settings: &Settings) -> Option<Finding> {
    let Device::Xdp(interface) = &settings.device else {
        return None;
    };
    // Of what cannot be read, the check of the stack's own addresses tells.
    let in_use = sys::interface_addresses().ok()?;
    let link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let deaf: Vec<String> = in_use
        .iter()
        .filter(|(ip, name)| name == interface && !link_local(ip))
        .map(|(ip, _)| ip.to_string())
        .collect();
    (!deaf.is_empty()).then(|| {
        let text = format!(
            "while the stack has {interface}, the kernel does not hear what comes there for {}; \
             packet:{interface} shares it",
            deaf.join(", ")
        );
        Finding::new("device", Grade::Doubtful, text)
    })
}

/// The addresses of the stack, and of the kernel's side of a TAP, have to be new to the kernel. It
/// would take what is for its own on whatever interface that comes, and answer with resets; and
/// with another TAP's it would send this stack's answers there.
fn addresses(settings: &Settings) -> Option<Finding> {
    let in_use = match sys::interface_addresses() {
        Ok(in_use) => in_use,
        Err(error) => {
            let text = format!("the kernel's addresses cannot be read: {error}");
            return Some(Finding::new("address", Grade::Doubtful, text));
        }
    };
    let v4 = settings.kernel_address().map(|net| net.address());
    let v6 = [settings.kernel_address6(), settings.fixed_address6()];
    let v4 = [v4, Some(settings.address.address())].map(|a| ("address", a.map(IpAddr::V4)));
    let v6 = v6.map(|net| ("address6", net.map(|net| IpAddr::V6(net.address()))));
    let wanted = v4.into_iter().chain(v6);
    wanted
        .flat_map(|(key, ip)| Some((key, ip?)))
        .find_map(|(key, ip)| {
            let (_, interface) = in_use.iter().find(|(taken, _)| *taken == ip)?;
            Some(Finding::new(
                key,
                Grade::Missing,
                taken(ip, interface, &settings.device),
            ))
        })
}

fn taken(ip: IpAddr, interface: &str, device: &Device) -> String {
    let option = if ip.is_ipv4() {
        "--address"
    } else {
        "--address6"
    };
    match device {
        Device::Tap(_) => format!(
            "{ip} is the kernel's already, on {interface} (another mtcp-run's TAP?): choose another \
             network with {option}, or run it in a network namespace of its own"
        ),
        _ => format!(
            "{ip} is the kernel's already, on {interface}: give the stack another with {option}, \
             which nobody else on the network has"
        ),
    }
}

/// Looks at the cores that the settings name.
pub fn cores(settings: &Settings) -> Vec<Finding> {
    let allowed = match sys::allowed_cores() {
        Ok(allowed) => allowed,
        Err(error) => return vec![Finding::new("cores", Grade::Missing, error.to_string())],
    };
    [
        ("engine_cores", &settings.engine_cores),
        ("app_cores", &settings.app_cores),
    ]
    .map(|(what, wanted)| wanted_cores(what, wanted, &allowed))
    .into()
}

/// Looks whether the engine's cores are near the card: what crosses between nodes takes longer.
fn nodes(settings: &Settings, sysfs: &Path) -> Option<Finding> {
    let card = match &settings.device {
        Device::Pci(address) => numa::node_of_card(sysfs, address),
        Device::Packet(name) | Device::Xdp(name) => numa::node_of_interface(sysfs, name),
        Device::Tap(_) | Device::Wire(_) | Device::None => None,
    }?;
    let topology = Topology::read(sysfs);
    let is_far = |core: &&usize| topology.node_of(**core).is_some_and(|node| node != card);
    let far: Vec<String> = settings
        .engine_cores
        .iter()
        .filter(is_far)
        .map(ToString::to_string)
        .collect();
    (!far.is_empty()).then(|| {
        let text = format!(
            "{} is near node {card}, and core {} of engine_cores is not: every frame crosses between \
             nodes; cores of node {card} are in {}/devices/system/node/node{card}/cpulist",
            settings.device,
            far.join(","),
            sysfs.display()
        );
        Finding::new("NUMA", Grade::Doubtful, text)
    })
}

fn wanted_cores(what: &'static str, wanted: &[usize], allowed: &[usize]) -> Finding {
    let list = |cores: &[usize]| {
        let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
        cores.join(",")
    };
    let absent: Vec<usize> = wanted
        .iter()
        .filter(|core| !allowed.contains(core))
        .copied()
        .collect();
    if !absent.is_empty() {
        let text = format!(
            "core {} is not among those that mtcp-run may use, which are {}: name some of these",
            list(&absent),
            list(allowed)
        );
        return Finding::new(what, Grade::Missing, text);
    }
    let text = if wanted.is_empty() {
        "not pinned".to_owned()
    } else {
        list(wanted)
    };
    Finding::new(what, Grade::Good, text)
}

fn tun() -> Finding {
    const TUN: &str = "/dev/net/tun";
    let opened = OpenOptions::new().read(true).write(true).open(TUN);
    let Err(error) = opened else {
        return Finding::new(TUN, Grade::Good, "can be opened");
    };
    let advice = match error.kind() {
        ErrorKind::NotFound => {
            "load it with `modprobe tun`, or give it to the container with --device /dev/net/tun"
        }
        ErrorKind::PermissionDenied => {
            "run as root, make it readable and writable for this user, or give it to the container \
             with --device /dev/net/tun"
        }
        _ if error.raw_os_error() == Some(libc::ENODEV) => "load it with `modprobe tun`",
        _ => "a TAP needs it",
    };
    Finding::new(TUN, Grade::Missing, format!("{error}: {advice}"))
}

fn net_admin() -> Finding {
    const NAME: &str = "CAP_NET_ADMIN";
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = effective_capabilities(&status).unwrap_or(0);
    if effective >> CAP_NET_ADMIN & 1 == 1 {
        return Finding::new(NAME, Grade::Good, "is held");
    }
    let advice = "is not held: run as root, use --rootless, or give it to mtcp-run with `setcap \
                  cap_net_admin+ep` (to the container with --cap-add NET_ADMIN)";
    Finding::new(NAME, Grade::Missing, advice)
}

/// The CapEff line of /proc/PID/status (proc_pid_status(5)).
fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn memory(settings: &Settings) -> Vec<Finding> {
    let wanted = settings.memory;
    let mut findings = Vec::new();
    for (name, resource, advice) in [
        ("ulimit -v", libc::RLIMIT_AS, "address space"),
        ("ulimit -f", libc::RLIMIT_FSIZE, "size of a file"),
    ] {
        if let Ok(Some(limit)) = sys::limit(resource)
            && limit < wanted
        {
            let text = format!(
                "limits the {advice} to {} MB, and `memory` is {} MB: raise the one or lower the \
                 other",
                limit >> 20,
                wanted >> 20
            );
            findings.push(Finding::new(name, Grade::Missing, text));
        }
    }
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let cgroup = std::fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
    findings.push(free_memory(wanted, &meminfo, &cgroup));
    findings
}

/// Compares what is wanted with /proc/meminfo and the cgroup's memory.max (a number or `max`).
fn free_memory(wanted: u64, meminfo: &str, cgroup: &str) -> Finding {
    let available = meminfo_kilobytes(meminfo, "MemAvailable").and_then(|kb| kb.checked_mul(1024));
    let limit = cgroup.trim().parse::<u64>().ok();
    match available.into_iter().chain(limit).min() {
        Some(bytes) if bytes < wanted => {
            let text = format!(
                "{} MB are free for `memory`, which is {} MB: sockets may get no buffers",
                bytes >> 20,
                wanted >> 20
            );
            Finding::new("memory", Grade::Doubtful, text)
        }
        Some(bytes) => {
            let text = format!("{} MB of {} MB free", wanted >> 20, bytes >> 20);
            Finding::new("memory", Grade::Good, text)
        }
        None => Finding::new("memory", Grade::Doubtful, "/proc/meminfo cannot be read"),
    }
}

/// Huge pages are not needed, so that none is as good as some.
fn huge_pages() -> Option<Finding> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let free = meminfo_kilobytes(&meminfo, "HugePages_Free")?;
    let text = format!("{free} free (not needed)");
    Some(Finding::new("huge pages", Grade::Good, text))
}

/// A line's number in /proc/meminfo, in the line's own unit (proc_meminfo(5)).
fn meminfo_kilobytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then_some(value)
    })?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_on_another_node_than_the_card_are_doubtful() {
        let sysfs = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("devices/system/node/node0/cpulist", "0-3"),
            ("devices/system/node/node1/cpulist", "4-7"),
            ("bus/pci/devices/0000:03:00.0/numa_node", "1"),
            ("class/net/eth0/device/numa_node", "-1"),
        ] {
            let file = sysfs.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, format!("{text}\n")).unwrap();
        }
        let found = |device: Device, cores: &[usize]| {
            let settings = Settings {
                device,
                engine_cores: cores.to_vec(),
                ..Settings::default()
            };
            nodes(&settings, sysfs.path())
        };
        let card = || Device::Pci("0000:03:00.0".into());
        let far = found(card(), &[2, 3, 4]).unwrap();
        assert_eq!(far.grade, Grade::Doubtful);
        assert!(far.text.contains("core 2,3 of engine_cores"), "{far}");
        assert_eq!(found(card(), &[4, 7]), None);
        assert_eq!(found(card(), &[]), None, "not pinned");
        let interface = Device::Packet("eth0".into());
        assert_eq!(found(interface, &[0, 4]), None, "near all");
        assert_eq!(found(Device::Tap(None), &[0, 4]), None);
    }

    #[test]
    fn cores_that_are_not_there_are_missing() {
        let found = wanted_cores("engine_cores", &[0, 7, 9], &[0, 1]);
        assert_eq!(found.grade, Grade::Missing);
        assert!(found.text.starts_with("core 7,9 is not among"));
        assert!(found.text.contains("which are 0,1"));
        assert_eq!(wanted_cores("app_cores", &[1], &[0, 1]).grade, Grade::Good);
        assert_eq!(wanted_cores("app_cores", &[], &[0, 1]).grade, Grade::Good);
    }

    #[test]
    fn the_device_decides_what_is_looked_at() {
        let mut settings = Settings::default();
        let looks_at_tun =
            |settings: &Settings| stack(settings).iter().any(|f| f.what == "/dev/net/tun");
        assert!(looks_at_tun(&settings));
        settings.device = Device::Wire("/tmp/w".to_owned());
        assert!(!looks_at_tun(&settings));
    }

    #[test]
    fn a_rule_for_the_loopback_needs_a_stack_that_carries_it() {
        let rule =
            |address: &str, to: &str| format!("[[rule]]\naddress = \"{address}\"\nto = \"{to}\"\n");
        let rules = [
            rule("127.0.0.53", "kernel"),
            rule("127.0.0.0/8", "mtcp"),
            rule("::1", "mtcp"),
            rule("0.0.0.0/0", "mtcp"),
        ];
        let mut loader = config::Loader::new();
        let read = loader.toml_text("mtcp.toml".as_ref(), &rules.concat());
        read.unwrap();
        let mut settings = loader.finish().unwrap().settings;
        let found = loopback_rules(&settings);
        let numbers = found.iter().map(|f| f.text.split_whitespace().nth(1));
        assert_eq!(numbers.collect::<Vec<_>>(), [Some("2"), Some("3")]);
        assert!(found.iter().all(|f| f.grade == Grade::Doubtful));
        settings.loopback = Loopback::Stack;
        assert_eq!(loopback_rules(&settings), []);
    }

    #[test]
    fn more_memory_than_is_free_is_doubtful() {
        let grade = |wanted, cgroup| {
            let meminfo = "MemAvailable:   2048 kB\n";
            free_memory(wanted, meminfo, cgroup).grade
        };
        assert_eq!(grade(2 << 20, "max\n"), Grade::Good);
        assert_eq!(grade(3 << 20, "max\n"), Grade::Doubtful);
        assert_eq!(grade(2 << 20, "1048576\n"), Grade::Doubtful);
        assert_eq!(free_memory(1, "", "").grade, Grade::Doubtful);
    }

    #[test]
    fn the_summary_has_only_what_is_missing() {
        let findings = [
            Finding::new("a", Grade::Good, "fine"),
            Finding::new("b", Grade::Missing, "get it"),
            Finding::new("c", Grade::Doubtful, "well"),
        ];
        assert_eq!(Finding::summary(&findings), "b: get it");
    }

    #[test]
    fn the_files_of_proc_are_understood() {
        let status = "Name:\tx\nCapPrm:\t0\nCapEff:\t0000000000001000\n";
        assert_eq!(effective_capabilities(status), Some(1 << CAP_NET_ADMIN));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
        let meminfo = "MemTotal:  100 kB\nMemAvailable:   42 kB\nHugePages_Free:  3\n";
        assert_eq!(meminfo_kilobytes(meminfo, "MemAvailable"), Some(42));
        assert_eq!(meminfo_kilobytes(meminfo, "HugePages_Free"), Some(3));
        assert_eq!(meminfo_kilobytes(meminfo, "Nothing"), None);
    }
}
