//! Trees as Linux shows them below /sys.

use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// A tree with this card in an IOMMU group of its own.
struct Tree(TempDir);

impl Tree {
    fn new() -> Tree {
        Tree(tempfile::tempdir().unwrap())
    }

    fn device(&self, address: &str, ids: (&str, &str), driver: Option<&str>) -> &Tree {
        let folder = self.folder(address);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in [("vendor", ids.0), ("device", ids.1), ("numa_node", "-1")] {
            self.write(address, name, text);
        }
        if let Some(driver) = driver {
            symlink(
                format!("../../../bus/pci/drivers/{driver}"),
                folder.join("driver"),
            )
            .unwrap();
        }
        self
    }

    fn write(&self, address: &str, name: &str, text: &str) -> &Tree {
        let file = self.folder(address).join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("{text}\n")).unwrap();
        self
    }

    fn group(&self, number: u32, members: &[&str]) -> &Tree {
        let group = self.0.path().join(format!("kernel/iommu_groups/{number}"));
        fs::create_dir_all(group.join("devices")).unwrap();
        for member in members {
            symlink(self.folder(member), group.join("devices").join(member)).unwrap();
            symlink(&group, self.folder(member).join("iommu_group")).unwrap();
        }
        self
    }

    fn folder(&self, address: &str) -> std::path::PathBuf {
        self.0.path().join("bus/pci/devices").join(address)
    }

    fn list(&self) -> String {
        list(self.0.path()).unwrap()
    }
}

const ADDRESS: &str = "0000:03:00.0";
const CARD: (&str, &str) = ("0x8086", "0x10fb");

#[test]
fn a_card_of_the_kernels_comes_with_the_commands_that_hand_it_over() {
    let tree = Tree::new();
    tree.device(ADDRESS, CARD, Some("ixgbe"))
        .group(17, &[ADDRESS])
        .write(ADDRESS, "numa_node", "1")
        .write(ADDRESS, "net/eth2/operstate", "up")
        .write(ADDRESS, "net/eth2/speed", "10000");
    let expected = "\
0000:03:00.0  82599 10 Gbit/s SFP+ (8086:10fb)
  driver       ixgbe
  interface    eth2, up, 10000 Mbit/s
  IOMMU group  17
  NUMA node    1
  To hand it over to the stack, as root:
    ip link set eth2 down
    modprobe vfio-pci
    echo 'vfio-pci' > /sys/bus/pci/devices/0000:03:00.0/driver_override
    echo 0000:03:00.0 > /sys/bus/pci/devices/0000:03:00.0/driver/unbind
    echo 0000:03:00.0 > /sys/bus/pci/drivers_probe
";
    assert_eq!(tree.list(), expected);
}

#[test]
fn a_card_that_was_handed_over_comes_with_what_uses_it_and_gives_it_back() {
    let tree = Tree::new();
    tree.device(ADDRESS, CARD, Some("vfio-pci"))
        .group(17, &[ADDRESS]);
    let text = tree.list();
    assert!(
        text.contains("mtcp-run --device 0000:03:00.0 PROGRAM"),
        "{text}"
    );
    assert!(text.contains("    echo '' > /sys/bus/pci/devices/0000:03:00.0/driver_override\n"));
    assert!(text.contains("NUMA node    the only one"), "{text}");
}

#[test]
fn a_card_without_a_driver_is_not_unbound() {
    let tree = Tree::new();
    tree.device(ADDRESS, CARD, None).group(1, &[ADDRESS]);
    let text = tree.list();
    assert!(text.contains("driver       none"), "{text}");
    assert!(
        text.contains("drivers_probe") && !text.contains("unbind"),
        "{text}"
    );
}

#[test]
fn without_an_iommu_the_text_says_how_to_get_one() {
    let tree = Tree::new();
    tree.device(ADDRESS, CARD, Some("ixgbe"));
    let text = tree.list();
    assert!(
        text.contains("IOMMU group  none") && text.contains("intel_iommu=on"),
        "{text}"
    );
    assert!(!text.contains("driver_override"), "{text}");
}

#[test]
fn other_members_of_the_group_are_named_unless_they_are_bridges() {
    let tree = Tree::new();
    let (other, bridge) = ("0000:03:00.1", "0000:00:01.0");
    tree.device(ADDRESS, CARD, Some("ixgbe"))
        .device(other, ("0x10de", "0x1234"), None)
        .device(bridge, ("0x8086", "0x0c01"), None)
        .write(bridge, "class", "0x060400")
        .group(3, &[ADDRESS, other, bridge]);
    let text = tree.list();
    assert!(
        text.contains("IOMMU group  3, with 0000:03:00.1, which"),
        "{text}"
    );
}

#[test]
fn cards_without_a_driver_of_the_stacks_are_not_listed() {
    let tree = Tree::new();
    tree.device(ADDRESS, ("0x8086", "0x1528"), Some("ixgbe"))
        .device("0000:04:00.0", ("0x15b3", "0x10fb"), None);
    let text = tree.list();
    assert!(text.starts_with("This machine has no card"), "{text}");
    assert!(
        text.contains("8086:10fb") && text.contains("8086:10f7"),
        "{text}"
    );
    assert_eq!(
        Tree::new().list(),
        text,
        "nor is a machine without PCI an error"
    );
}
