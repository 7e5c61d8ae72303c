//! Where there is no card: what is said of it. The kernel's files are imitated.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;

const CARD: &str = "0000:03:00.0";

/// A `/sys` and a `/dev` with one card.
struct Machine {
    _dir: tempfile::TempDir,
    roots: Roots,
}

impl Machine {
    fn new(driver: Option<&str>, group: Option<&str>) -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots {
            sys: dir.path().join("sys"),
            dev: dir.path().join("dev"),
        };
        fs::create_dir_all(roots.dev.join("vfio")).unwrap();
        let machine = Machine { _dir: dir, roots };
        machine.add(CARD, "0x10fb", driver);
        if let Some(group) = group {
            let folder = machine.roots.sys.join("kernel/iommu_groups").join(group);
            fs::create_dir_all(folder.join("devices")).unwrap();
            symlink(&folder, machine.card().join("iommu_group")).unwrap();
        }
        machine
    }

    fn add(&self, address: &str, device: &str, driver: Option<&str>) {
        let folder = self.roots.sys.join("bus/pci/devices").join(address);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("vendor"), "0x8086\n").unwrap();
        fs::write(folder.join("device"), format!("{device}\n")).unwrap();
        fs::write(folder.join("numa_node"), "1\n").unwrap();
        if let Some(driver) = driver {
            let target = self.roots.sys.join("bus/pci/drivers").join(driver);
            symlink(target, folder.join("driver")).unwrap();
        }
    }

    fn card(&self) -> PathBuf {
        self.roots.sys.join("bus/pci/devices").join(CARD)
    }

    /// Why a card does not open.
    fn refusal(&self, address: &str) -> String {
        match open_at(&self.roots, address, IxgbeConfig::default()) {
            Ok(device) => panic!("{} opened", device.name()),
            Err(error) => error.to_string(),
        }
    }
}

#[test]
fn an_address_without_a_card_is_answered_with_where_to_look() {
    let machine = Machine::new(Some("vfio-pci"), Some("17"));
    for (address, named) in [
        ("0000:04:00.0", "0000:04:00.0"),
        ("04:00.0", "0000:04:00.0"),
    ] {
        let text = machine.refusal(address);
        assert!(text.contains(&format!("no PCI device {named}")), "{text}");
        assert!(text.contains("mtcp-run devices"), "{text}");
    }
}

#[test]
fn a_card_of_another_kind_is_named_by_its_numbers() {
    let machine = Machine::new(None, None);
    machine.add("0000:05:00.0", "0x1521", None);
    let text = machine.refusal("05:00.0");
    assert!(text.contains("0x8086:0x1521, and not an 82599"), "{text}");
}

#[test]
fn a_card_that_the_kernel_drives_comes_with_the_commands_that_hand_it_over() {
    let machine = Machine::new(Some("ixgbe"), Some("17"));
    let text = machine.refusal(CARD);
    assert!(text.contains("driven by the kernel's ixgbe"), "{text}");
    for part in ["driver_override", "driver/unbind", "drivers_probe", CARD] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_card_without_an_iommu_group_says_how_to_get_one() {
    let machine = Machine::new(Some("vfio-pci"), None);
    let text = machine.refusal(CARD);
    assert!(
        text.contains("no IOMMU group") && text.contains("intel_iommu=on"),
        "{text}"
    );
}

#[test]
fn a_machine_without_vfio_says_what_to_load() {
    let machine = Machine::new(Some("vfio-pci"), Some("17"));
    let text = machine.refusal(CARD);
    assert!(
        text.contains("vfio/vfio") && text.contains("modprobe vfio-pci"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_not_vfio_is_not_taken_for_it() {
    let machine = Machine::new(Some("vfio-pci"), Some("17"));
    fs::write(machine.roots.dev.join("vfio/vfio"), "").unwrap();
    let text = machine.refusal(CARD);
    assert!(text.contains("no type 1 IOMMU"), "{text}");
}

#[test]
fn a_file_that_may_not_be_opened_says_who_may() {
    let machine = Machine::new(Some("vfio-pci"), Some("17"));
    let file = machine.roots.dev.join("vfio/vfio");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may open anything.
    let expected = match crate::sys::user_id() {
        0 => "no type 1 IOMMU",
        _ => "run as root",
    };
    let text = machine.refusal(CARD);
    assert!(text.contains(expected), "{text}");
}

#[test]
fn other_members_of_the_group_are_named_with_their_drivers() {
    let machine = Machine::new(Some("vfio-pci"), Some("17"));
    machine.add("0000:03:00.1", "0x10fb", Some("ixgbe"));
    machine.add("0000:00:01.0", "0x0001", Some("pcieport"));
    let devices = machine.roots.sys.join("bus/pci/devices");
    let members = machine.card().join("iommu_group/devices");
    for member in [CARD, "0000:03:00.1", "0000:00:01.0"] {
        symlink(devices.join(member), members.join(member)).unwrap();
    }
    let function = Function::find(&machine.roots, CARD).unwrap();
    assert_eq!(function.strangers(), ["0000:03:00.1 (ixgbe)"]);
    assert_eq!(function.node(), Some(1));
}

#[test]
fn a_card_under_uio_whose_registers_are_not_there_says_so() {
    let machine = Machine::new(Some("uio_pci_generic"), None);
    fs::write(machine.card().join("config"), [0; 64]).unwrap();
    let text = machine.refusal(CARD);
    assert!(text.contains("resource0"), "{text}");
    // A second program is told that the first one has the card.
    let function = Function::find(&machine.roots, CARD).unwrap();
    let first = function.open("config").unwrap();
    first.try_lock().unwrap();
    let text = machine.refusal(CARD);
    assert!(text.contains("is in use"), "{text}");
}

#[test]
fn a_card_without_a_driver_is_woken_up_and_let_sleep_again() {
    let machine = Machine::new(None, None);
    fs::write(machine.card().join("config"), [0; 64]).unwrap();
    let registers = fs::File::create(machine.card().join("resource0")).unwrap();
    registers.set_len(512 << 10).unwrap();
    let enable = machine.card().join("enable");
    fs::write(&enable, "").unwrap();
    let function = Function::find(&machine.roots, CARD).unwrap();
    let card = UioCard::open(&function).unwrap();
    assert_eq!(fs::read_to_string(&enable).unwrap(), "1");
    drop(card);
    // A file keeps all that was written to it, one after the other.
    assert_eq!(fs::read_to_string(&enable).unwrap(), "10");
}
