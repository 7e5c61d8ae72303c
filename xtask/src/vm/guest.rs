//! The guests: what each of them runs, and the machine that it needs.

use clap::ValueEnum;

use super::packages::{self, Set};

/// A guest, by what drives the first of its two cards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Guest {
    /// Linux's ixgbe.
    Linux,
    /// Our driver, through vfio-pci, below nginx.
    Ours,
    /// Our driver on both cards, through vfio-pci, which are as strict as in the tests.
    Strict,
    /// DPDK's driver, through vfio-pci, on both cards.
    Dpdk,
}

impl Guest {
    /// All of them, in the order in which they run.
    pub const ALL: [Guest; 4] = [Guest::Linux, Guest::Ours, Guest::Strict, Guest::Dpdk];

    /// What it does.
    pub fn script(self) -> String {
        let common = include_str!("guest/common.sh");
        let stack = include_str!("guest/stack.sh");
        match self {
            Guest::Linux => [common, include_str!("guest/linux.sh")].concat(),
            Guest::Ours => [common, stack, include_str!("guest/ours.sh")].concat(),
            Guest::Strict => [common, stack, include_str!("guest/strict.sh")].concat(),
            Guest::Dpdk => [common, include_str!("guest/dpdk.sh")].concat(),
        }
    }

    /// Modules of the kernel, in the order in which they are loaded.
    pub fn modules(self) -> Vec<&'static str> {
        let mut modules = Vec::new();
        if !self.is_strict() {
            modules.extend(["dca", "xfrm_algo", "libphy", "mdio_devres", "mdio", "ixgbe"]);
        }
        if self.has_iommu() {
            modules.extend(["irqbypass", "vfio", "vfio_virqfd", "vfio_iommu_type1"]);
            modules.extend(["vfio-pci-core", "vfio-pci"]);
        }
        modules
    }

    /// Programs of Debian, to which their libraries are added.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Guest::Linux => &[
                "/usr/bin/ip",
                "/usr/sbin/ethtool",
                "/usr/bin/iperf3",
                "/usr/bin/curl",
            ],
            Guest::Ours | Guest::Strict => &[
                "/usr/bin/ip",
                "/usr/sbin/ethtool",
                "/usr/sbin/nginx",
                "/usr/bin/ab",
                "/usr/bin/curl",
            ],
            Guest::Dpdk => &[
                "/usr/bin/dpdk-testpmd",
                "/usr/lib/x86_64-linux-gnu/librte_mempool_ring.so.23",
            ],
        }
    }

    /// The packages that its programs are from.
    pub fn packages(self) -> &'static Set {
        match self {
            Guest::Linux | Guest::Ours | Guest::Strict => &packages::GUEST,
            Guest::Dpdk => &packages::DPDK,
        }
    }

    /// Files that are built here and stand in /opt/mtcp.
    pub fn built(self) -> &'static [&'static str] {
        match self {
            Guest::Ours | Guest::Strict => &["mtcp-run", "libmtcp_preload.so"],
            Guest::Linux | Guest::Dpdk => &[],
        }
    }

    /// Whether an IOMMU stands between the cards and memory.
    pub fn has_iommu(self) -> bool {
        self != Guest::Linux
    }

    /// Whether the cards refuse all that silicon might not forgive: no driver but ours stands that.
    pub fn is_strict(self) -> bool {
        self == Guest::Strict
    }

    /// Its memory, in MB.
    pub fn memory(self) -> u32 {
        match self {
            Guest::Linux => 512,
            Guest::Ours => 3072,
            Guest::Strict | Guest::Dpdk => 2048,
        }
    }
}
