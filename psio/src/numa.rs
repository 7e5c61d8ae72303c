//! Nodes of memory and the cores that are near them (numa(7)): what sysfs says of them, and where a
//! thread's memory comes from.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;

/// Where Linux shows its devices.
pub const SYSFS: &str = "/sys";

/// The most nodes (`MAX_NUMNODES` of the largest x86-64 configuration).
const MAX_NODES: usize = 1024;

/// Nodes with the cores of each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology(Vec<(usize, Vec<usize>)>);

impl Topology {
    /// What sysfs, usually at [`SYSFS`], says. A system without NUMA has no nodes.
    pub fn read(sysfs: &Path) -> Topology {
        let entries = fs::read_dir(sysfs.join("devices/system/node"));
        let mut nodes: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let number = name.to_str()?.strip_prefix("node")?.parse().ok()?;
                let cores = fs::read_to_string(entry.path().join("cpulist")).ok()?;
                (number < MAX_NODES).then(|| Some((number, core_list(cores.trim())?)))?
            })
            .collect();
        nodes.sort_unstable();
        Topology(nodes)
    }

    /// Whether there is nothing to choose.
    pub fn is_uniform(&self) -> bool {
        self.0.len() < 2
    }

    /// The node that a core is near.
    pub fn node_of(&self, core: usize) -> Option<usize> {
        let mut nodes = self.0.iter();
        let (node, _) = nodes.find(|(_, cores)| cores.contains(&core))?;
        Some(*node)
    }
}

/// A list of cores as sysfs writes it: `0-3,8`, or nothing.
fn core_list(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cores)
}

/// The node that a PCI device is near, by its address with or without a domain; `None` if it is near
/// all.
pub fn node_of_card(sysfs: &Path, address: &str) -> Option<usize> {
    let devices = sysfs.join("bus/pci/devices");
    let in_first_domain = || node_in(&devices.join(format!("0000:{address}")));
    node_in(&devices.join(address)).or_else(in_first_domain)
}

/// The node that a network interface's card is near, likewise.
pub fn node_of_interface(sysfs: &Path, name: &str) -> Option<usize> {
    node_in(&sysfs.join("class/net").join(name).join("device"))
}

/// The node that a device is near, by its folder.
pub(crate) fn node_in(device: &Path) -> Option<usize> {
    // -1 where it makes no difference.
    let text = fs::read_to_string(device.join("numa_node")).ok()?;
    text.trim().parse().ok()
}

/// Takes memory from `node` for as long as it lives, as far as this thread touches it first and the
/// node has some; from wherever the thread runs otherwise.
#[derive(Debug)]
pub struct Preference(());

impl Preference {
    /// Prefers a node.
    ///
    /// # Errors
    /// What set_mempolicy(2) says: `EINVAL` for a node that does not exist.
    pub fn of(node: usize) -> io::Result<Preference> {
        set_policy(libc::MPOL_PREFERRED, &mask(node)?).map(|()| Preference(()))
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // It cannot fail: the default takes no nodes.
        let _ = set_policy(libc::MPOL_DEFAULT, &[]);
    }
}

/// Has memory, which begins at a page, come from `node` when it is first touched, whoever touches it, as
/// long as the node has some (mbind(2)).
///
/// # Errors
/// `EINVAL` for a node that does not exist, `EFAULT` for memory that is not mapped.
pub fn prefer(memory: *const u8, len: usize, node: usize) -> io::Result<()> {
    let nodes = mask(node)?;
    let (start, mode, bits) = (memory.addr(), libc::MPOL_PREFERRED, bits(&nodes));
    // SAFETY: the contents of the memory stay as they are; the mask has that many bits, and is only read.
    let result =
        unsafe { libc::syscall(libc::SYS_mbind, start, len, mode, nodes.as_ptr(), bits, 0) };
    crate::sys::check(result as libc::c_int).map(drop)
}

/// The set of one node.
fn mask(node: usize) -> io::Result<Vec<u64>> {
    if node >= MAX_NODES {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut mask = vec![0; node / 64 + 1];
    mask[node / 64] = 1 << (node % 64);
    Ok(mask)
}

/// The size of a set as the kernel is told: it takes one bit less.
fn bits(nodes: &[u64]) -> usize {
    nodes.len() * 64 + 1
}

fn set_policy(mode: libc::c_int, nodes: &[u64]) -> io::Result<()> {
    // SAFETY: the mask has that many bits, and is only read.
    let result =
        unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits(nodes)) };
    crate::sys::check(result as libc::c_int).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with these files below it.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{text}\n")).unwrap();
        }
        root
    }

    #[test]
    fn each_core_is_near_the_node_that_lists_it() {
        let root = tree(&[
            ("devices/system/node/node0/cpulist", "0-3,8"),
            ("devices/system/node/node1/cpulist", "4-7"),
            ("devices/system/node/node2/cpulist", ""),
            ("devices/system/node/possible", "0-2"),
            ("devices/system/node/node3/meminfo", "no cores are named"),
        ]);
        let topology = Topology::read(root.path());
        assert!(!topology.is_uniform());
        assert_eq!(topology.node_of(3), Some(0));
        assert_eq!(topology.node_of(8), Some(0));
        assert_eq!(topology.node_of(4), Some(1));
        assert_eq!(topology.node_of(9), None);
    }

    #[test]
    fn one_node_or_none_leaves_nothing_to_choose() {
        let one = tree(&[("devices/system/node/node0/cpulist", "0-1")]);
        assert!(Topology::read(one.path()).is_uniform());
        assert!(Topology::read(tree(&[]).path()).is_uniform());
    }

    #[test]
    fn a_card_is_near_the_node_that_its_device_names() {
        let root = tree(&[
            ("bus/pci/devices/0000:03:00.0/numa_node", "1"),
            ("bus/pci/devices/0000:04:00.0/numa_node", "-1"),
            ("class/net/eth0/device/numa_node", "0"),
        ]);
        let root = root.path();
        assert_eq!(node_of_card(root, "0000:03:00.0"), Some(1));
        assert_eq!(node_of_card(root, "03:00.0"), Some(1));
        assert_eq!(node_of_card(root, "0000:04:00.0"), None);
        assert_eq!(node_of_card(root, "0000:05:00.0"), None);
        assert_eq!(node_of_interface(root, "eth0"), Some(0));
        assert_eq!(node_of_interface(root, "lo"), None);
    }

    /// The calling thread's policy (get_mempolicy(2)).
    fn policy() -> libc::c_int {
        let mut mode = -1;
        let none = std::ptr::null_mut::<u64>();
        // SAFETY: stores one int; no mask and no address are asked for.
        let result =
            unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, none, 0, none, 0) };
        assert_eq!(result, 0);
        mode
    }

    #[test]
    fn a_node_is_preferred_until_the_preference_ends() {
        let before = policy();
        let preference = Preference::of(0).unwrap();
        assert_eq!(policy(), libc::MPOL_PREFERRED);
        drop(preference);
        assert_eq!(policy(), before);
        assert!(Preference::of(MAX_NODES - 1).is_err(), "no such node");
    }
}
