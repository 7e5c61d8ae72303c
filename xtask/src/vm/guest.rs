//! The guests: what each of them runs, and the machine that it needs.

use clap::ValueEnum;

/// What every guest does first.
pub const COMMON: &str = include_str!("guest/common.sh");

/// A guest, by what drives the first of its two cards. The second one is always Linux's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Guest {
    /// Linux's ixgbe.
    Linux,
    /// Our driver, through vfio-pci, below nginx.
    Ours,
}

impl Guest {
    /// All of them, in the order in which they run.
    pub const ALL: [Guest; 2] = [Guest::Linux, Guest::Ours];

    /// What it does.
    pub fn script(self) -> &'static str {
        match self {
            Guest::Linux => include_str!("guest/linux.sh"),
            Guest::Ours => include_str!("guest/ours.sh"),
        }
    }

    /// Modules of the kernel, in the order in which they are loaded.
    pub fn modules(self) -> Vec<&'static str> {
        let mut modules = vec!["dca", "xfrm_algo", "libphy", "mdio_devres", "mdio", "ixgbe"];
        if self.has_iommu() {
            modules.extend(["irqbypass", "vfio", "vfio_virqfd", "vfio_iommu_type1"]);
            modules.extend(["vfio-pci-core", "vfio-pci"]);
        }
        modules
    }

    /// Programs of Debian, to which their libraries are added.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Guest::Linux => &["/usr/bin/ip", "/usr/sbin/ethtool", "/usr/bin/iperf3"],
            Guest::Ours => &[
                "/usr/bin/ip",
                "/usr/sbin/ethtool",
                "/usr/sbin/nginx",
                "/usr/bin/ab",
                "/usr/bin/curl",
            ],
        }
    }

    /// Files that are built here and stand in /opt/mtcp.
    pub fn built(self) -> &'static [&'static str] {
        match self {
            Guest::Linux => &[],
            Guest::Ours => &["mtcp-run", "libmtcp_preload.so"],
        }
    }

    /// Whether an IOMMU stands between the cards and memory.
    pub fn has_iommu(self) -> bool {
        self == Guest::Ours
    }

    /// Its memory, in MB.
    pub fn memory(self) -> u32 {
        match self {
            Guest::Linux => 512,
            Guest::Ours => 3072,
        }
    }
}
