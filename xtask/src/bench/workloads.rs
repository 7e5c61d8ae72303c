//! What is measured: the table of loads, over which wires, against whom, and the goals.

use super::kind::{Kind, Way};

/// Whether a larger figure is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// It is.
    More,
    /// The smaller is.
    Less,
}

/// What joins the two ends when the stack is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Wire {
    /// The server on the stack, the client on the kernel, over a TAP device.
    Tap,
    /// The same over a veth pair, the server's end shared with the kernel by packet sockets.
    Packet,
    /// The same over a veth pair, the server's end taken whole by AF_XDP (in copy mode, and with
    /// the kernel's checksum and segmentation offloads off, which AF_XDP cannot take).
    Xdp,
    /// Both ends on the stack, over shared memory.
    Memory,
}

impl Wire {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Wire::Tap => "TAP",
            Wire::Packet => "packet sockets",
            Wire::Xdp => "AF_XDP",
            Wire::Memory => "memory wire",
        }
    }
}

/// On which core the kernel does the receive work of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On whichever core sends.
    AsItFalls,
    /// Each end's on its owner's core (RPS).
    Steered,
    /// Nothing is bound to a core, and each stack has two workers.
    TwoWorkers,
}

impl Placement {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Placement::AsItFalls => "as it falls",
            Placement::Steered => "steered",
            Placement::TwoWorkers => "two workers, both cores",
        }
    }
}

/// Whom the stack is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Both ends on the kernel, over a veth pair.
    Veth,
    /// Both ends on the kernel, over its loopback.
    Loopback,
    /// Both ends on smoltcp, over the same memory wire.
    Smoltcp,
    /// Nothing but the copies of a bulk transfer, over the same memory wire.
    Copies,
}

impl Peer {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Veth => "kernel, veth",
            Peer::Loopback => "kernel, loopback",
            Peer::Smoltcp => "smoltcp",
            Peer::Copies => "bare copies",
        }
    }
}

/// One line of the table: over what, against whom.
#[derive(Clone, Copy)]
pub struct Line {
    /// The stack's wire.
    pub wire: Wire,
    /// Where softirqs run.
    pub placement: Placement,
    /// The other side.
    pub peer: Peer,
    /// The ratio to reach.
    pub goal: Option<f64>,
    /// The figure to reach.
    pub bound: Option<f64>,
}

impl Line {
    const fn over(wire: Wire) -> Line {
        Line {
            wire,
            placement: Placement::AsItFalls,
            peer: Peer::Veth,
            goal: None,
            bound: None,
        }
    }

    const fn against(self, peer: Peer) -> Line {
        Line { peer, ..self }
    }

    const fn by_two(self) -> Line {
        Line {
            placement: Placement::TwoWorkers,
            ..self
        }
    }

    const fn goal(self, ratio: f64) -> Line {
        Line {
            goal: Some(ratio),
            ..self
        }
    }

    const fn bound(self, figure: f64) -> Line {
        Line {
            bound: Some(figure),
            ..self
        }
    }
}

const TAP: Line = Line::over(Wire::Tap);
const STEERED: Line = Line {
    placement: Placement::Steered,
    ..TAP
};
const TAP_BY_TWO: Line = TAP.by_two();
const PACKET: Line = Line::over(Wire::Packet);
const XDP: Line = Line::over(Wire::Xdp);
const MEMORY: Line = Line::over(Wire::Memory);
const MEMORY_BY_TWO: Line = MEMORY.by_two();
const SMOLTCP: Line = MEMORY.against(Peer::Smoltcp);

/// A load, and the lines that measure it.
pub struct Workload {
    /// What it is called.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// The ratio to reach over TAP, the best placement of each side against that of the other.
    pub goal_best: Option<f64>,
    /// Its lines.
    pub lines: &'static [Line],
}

impl Workload {
    /// Which way its figures should go.
    pub fn better(&self) -> Better {
        match self.kind {
            Kind::RoundTrip { .. } => Better::Less,
            _ => Better::More,
        }
    }
}

const fn short(size: usize, messages: u64) -> Kind {
    Kind::Short {
        size,
        messages,
        connections: 256,
    }
}

const fn several(messages: u64) -> Kind {
    Kind::Short {
        size: 64,
        messages,
        connections: 64,
    }
}

const fn workload(name: &'static str, kind: Kind, lines: &'static [Line]) -> Workload {
    Workload {
        name,
        kind,
        goal_best: None,
        lines,
    }
}

const fn best(goal: f64, workload: Workload) -> Workload {
    Workload {
        goal_best: Some(goal),
        ..workload
    }
}

const fn round_trip(connections: usize, spin: bool) -> Kind {
    Kind::RoundTrip { connections, spin }
}

const fn nginx(size: usize, close: bool) -> Kind {
    Kind::Nginx {
        size,
        close,
        open_files: false,
    }
}

const fn nginx_with_open_files(close: bool) -> Kind {
    Kind::Nginx {
        size: 64,
        close,
        open_files: true,
    }
}

const fn bulk(way: Way, flows: usize) -> Kind {
    Kind::Bulk { way, flows }
}

/// The table.
pub const WORKLOADS: &[Workload] = &[
    best(
        1.5,
        workload(
            "short connections, 64 B, 256 at once",
            short(64, 1),
            &[
                TAP.goal(2.5),
                STEERED,
                PACKET,
                XDP,
                TAP_BY_TWO,
                MEMORY.goal(12.0),
                MEMORY_BY_TWO,
                SMOLTCP.goal(5.0),
            ],
        ),
    ),
    workload(
        "short connections, 8 KB, 256 at once",
        short(8192, 1),
        &[TAP, MEMORY, SMOLTCP],
    ),
    workload(
        "connections of 8 messages of 64 B, 64 at once",
        several(8),
        &[TAP, MEMORY],
    ),
    workload(
        "connections of 32 messages of 64 B, 64 at once",
        several(32),
        &[TAP, MEMORY],
    ),
    workload(
        "connections of 128 messages of 64 B, 64 at once",
        several(128),
        &[TAP, MEMORY],
    ),
    workload(
        "round trip, 64 B, one connection",
        round_trip(1, false),
        &[TAP, STEERED, PACKET, XDP, MEMORY],
    ),
    workload(
        "round trip, 64 B, one connection, the kernel spinning",
        round_trip(1, true),
        &[
            TAP,
            MEMORY.against(Peer::Loopback).goal(3.0).bound(6.0),
            SMOLTCP,
        ],
    ),
    workload(
        "round trip, 64 B, 64 connections",
        round_trip(64, false),
        &[TAP, MEMORY],
    ),
    workload(
        "nginx, 64 B, keep-alive",
        nginx(64, false),
        &[TAP, STEERED, PACKET, XDP, MEMORY.goal(3.0)],
    ),
    workload(
        "nginx, 64 B, closing",
        nginx(64, true),
        &[TAP, STEERED, PACKET, XDP, MEMORY.goal(5.0)],
    ),
    workload(
        "nginx, 64 B, its file kept open, keep-alive",
        nginx_with_open_files(false),
        &[TAP, MEMORY.goal(3.0)],
    ),
    workload(
        "nginx, 64 B, its file kept open, closing",
        nginx_with_open_files(true),
        &[TAP, MEMORY.goal(5.0)],
    ),
    workload(
        "nginx, 8 KB, keep-alive",
        nginx(8192, false),
        &[TAP, MEMORY],
    ),
    workload(
        "nginx, 1 MB, keep-alive",
        nginx(1 << 20, false),
        &[TAP, MEMORY],
    ),
    workload(
        "redis GET, 50 clients, unpipelined",
        Kind::Redis { depth: 1 },
        &[TAP, STEERED, MEMORY.goal(3.0)],
    ),
    workload(
        "redis GET, 50 clients, pipelined by 16",
        Kind::Redis { depth: 16 },
        &[TAP, STEERED, MEMORY.goal(1.5)],
    ),
    workload(
        "memcached set, 64 B, 50 clients",
        Kind::Memcached,
        &[TAP, TAP_BY_TWO, MEMORY, MEMORY_BY_TWO],
    ),
    best(
        1.0,
        workload(
            "bulk to the server, 4 connections",
            bulk(Way::Up, 4),
            &[TAP, STEERED, PACKET, XDP, MEMORY],
        ),
    ),
    best(
        1.2,
        workload(
            "bulk from the server, 4 connections",
            bulk(Way::Down, 4),
            &[TAP, STEERED, PACKET, XDP, MEMORY],
        ),
    ),
    workload(
        "bulk to the server, 1 connection",
        bulk(Way::Up, 1),
        &[
            TAP,
            MEMORY,
            MEMORY.against(Peer::Copies).goal(0.7).bound(50.0),
            SMOLTCP.goal(2.0),
        ],
    ),
    workload(
        "bulk from the server, 1 connection",
        bulk(Way::Down, 1),
        &[TAP, MEMORY],
    ),
    workload(
        "bulk to the server, 16 connections",
        bulk(Way::Up, 16),
        &[TAP, MEMORY],
    ),
    workload(
        "bulk from the server, 16 connections",
        bulk(Way::Down, 16),
        &[TAP, MEMORY],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_measured_over_the_memory_wire_alone_can_make_the_load() {
        for workload in WORKLOADS {
            for line in workload.lines {
                match line.peer {
                    Peer::Smoltcp => assert!(workload.kind.smoltcp("/w", 1.0).is_some()),
                    Peer::Copies => assert!(matches!(workload.kind, Kind::Bulk { .. })),
                    Peer::Veth | Peer::Loopback => continue,
                }
                assert_eq!(line.wire, Wire::Memory, "{}", workload.name);
            }
        }
    }

    #[test]
    fn every_workload_has_a_name_of_its_own_and_a_line() {
        for (place, workload) in WORKLOADS.iter().enumerate() {
            let rest = &WORKLOADS[place + 1..];
            assert!(rest.iter().all(|other| other.name != workload.name));
            assert!(!workload.lines.is_empty(), "{}", workload.name);
        }
    }
}
