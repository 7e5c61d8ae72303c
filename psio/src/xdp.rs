//! A kernel interface through AF_XDP sockets: frames are received into and sent from memory that
//! program and driver share, where the driver can, and are copied once by the kernel elsewhere.
//!
//! The stack has the interface to itself: a program that the driver runs for each frame hands all of
//! them to the stack, and the kernel sees none of them before the last queue is closed or the process
//! ends. To share an interface with the kernel there is [`packet`](crate::packet). Each receive queue of
//! the interface has a socket, and the interface spreads the flows over them. Checksums and segmentation are the
//! stack's to do, and a received checksum is the stack's to verify: where the other end is a virtual
//! interface of this machine, it has to fill them in (`ethtool -K PEER tx off`).

mod frames;
mod program;
mod queue;
mod ring;
mod socket;
mod umem;
mod watch;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use crate::sys::AnyReadable;
use crate::{
    Capabilities, Device, Error, MacAddr, Queue, QueueStats, ethtool, interface, no_such_queue,
};
use frames::Frames;
use program::{Link, Program};
use queue::XdpQueue;
use socket::XdpSocket;
use umem::Umem;
use watch::Changes;

/// The most queues; cards have at most as many.
const MAX_QUEUES: usize = 256;

/// Sizes that a frame's place may have: what every driver takes (af_xdp.rst).
const FRAME_SIZES: [usize; 2] = [2048, 4096];

/// What the kernel keeps free in front of a received frame (`XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;

/// Bytes of an Ethernet header with a VLAN tag.
const ETHERNET: usize = 18;

/// The longest IP packet for which there is room.
const MAX_MTU: usize = FRAME_SIZES[1] - HEADROOM - ETHERNET;

/// An interface to take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XdpConfig {
    /// The interface's name. It has to be up.
    pub interface: String,
    /// Queue pairs, one to each worker: as many as the interface uses.
    pub queues: usize,
    /// Frames of each queue for receiving, a power of two, and half as many for sending.
    pub slots: usize,
}

impl XdpConfig {
    /// The interface of that name with one queue.
    pub fn new(interface: &str) -> XdpConfig {
        XdpConfig {
            interface: interface.into(),
            queues: 1,
            slots: 4096,
        }
    }
}

/// How the frames of a queue lie in memory.
#[derive(Clone, Copy)]
struct Layout {
    /// Bytes of a frame's place.
    frame: usize,
    /// Frames for receiving, a power of two.
    receive: usize,
    /// Frames for sending, a power of two.
    send: usize,
}

impl Layout {
    fn bytes(self) -> usize {
        self.frame * (self.receive + self.send)
    }
}

/// What makes the interface's frames the stack's, as long as a queue is open.
struct Redirect {
    program: Program,
    _link: Link,
    /// Has the interface receive all multicast frames.
    _multicast: OwnedFd,
}

/// A kernel interface that the stack has to itself.
pub struct Xdp {
    name: String,
    index: u32,
    mac: MacAddr,
    mtu: usize,
    layout: Layout,
    /// Loaded, and not yet at the interface.
    program: Option<Program>,
    /// At the interface, from the first queue on.
    redirect: Option<Arc<Redirect>>,
    open: Vec<bool>,
}

impl Xdp {
    /// Looks the interface up and loads the program for it. Nothing changes for the interface before
    /// the first queue is opened.
    ///
    /// # Errors
    /// [`Error::Missing`] without the privileges or an interface of that name, or if it is no
    /// Ethernet interface, is down, has other queues or longer frames; [`Error::Description`] for a
    /// number of queues or frames that cannot be.
    pub fn open(config: &XdpConfig) -> Result<Xdp, Error> {
        crate::check_queue_count("an AF_XDP device", config.queues, MAX_QUEUES)?;
        if !config.slots.is_power_of_two() || !(2..=1 << 16).contains(&config.slots) {
            return Err(Error::Description(format!(
                "an AF_XDP device has a power of two of frames, from 2 to 65536, not {}",
                config.slots
            )));
        }
        let interface = interface::look_up(&config.interface)?;
        check_queues(&config.interface, config.queues)?;
        let frame = FRAME_SIZES
            .into_iter()
            .find(|size| HEADROOM + ETHERNET + interface.mtu <= *size)
            .ok_or_else(|| Error::Missing {
                what: format!(
                    "interface {} has an MTU of {} bytes, and AF_XDP has room for {MAX_MTU}",
                    config.interface, interface.mtu
                ),
                remedy: format!("`ip link set {} mtu {MAX_MTU}`", config.interface),
            })?;
        let name = format!("xdp:{}", config.interface);
        Ok(Xdp {
            program: Some(Program::load(&name, config.queues)?),
            name,
            index: interface.index,
            mac: interface.mac,
            mtu: interface.mtu,
            layout: Layout {
                frame,
                receive: config.slots,
                send: config.slots / 2,
            },
            redirect: None,
            open: vec![false; config.queues],
        })
    }

    /// The program at the interface, to which it is brought by the first queue.
    fn redirect(&mut self) -> Result<Arc<Redirect>, Error> {
        if let Some(program) = self.program.take() {
            let multicast = interface::deaf_packet_socket().and_then(|socket| {
                interface::hear_all_multicast(&socket, self.index)?;
                Ok(socket)
            });
            let failed = Error::io(format!("ask {} for multicast", self.name));
            let link = program.attach(&self.name, self.index)?;
            self.redirect = Some(Arc::new(Redirect {
                program,
                _link: link,
                _multicast: multicast.map_err(failed)?,
            }));
        }
        let gone = || Error::Gone(self.name.clone());
        self.redirect.clone().ok_or_else(gone)
    }
}

/// Frames that come to a receive queue without a socket would go to the kernel.
fn check_queues(interface: &str, wanted: usize) -> Result<(), Error> {
    let Some(queues) = ethtool::queues(interface) else {
        return Ok(());
    };
    if queues.receive == wanted && queues.transmit >= wanted {
        return Ok(());
    }
    Err(Error::Missing {
        what: format!(
            "interface {interface} spreads what it receives over {} queues and sends by {}, the stack \
             has {wanted}",
            queues.receive, queues.transmit
        ),
        remedy: format!(
            "choose as many `queues` (`workers` if that is auto), or `ethtool -L {interface} combined {wanted}` (for a driver \
             without combined ones, `rx {wanted} tx {wanted}`)"
        ),
    })
}

impl Device for Xdp {
    fn name(&self) -> &str {
        &self.name
    }

    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: self.mtu,
            tx_checksum: false,
            tx_segmentation: false,
            rx_coalescing: false,
            queues: self.open.len(),
        }
    }

    fn open_queue(&mut self, index: usize) -> Result<Box<dyn Queue>, Error> {
        let queues = self.open.len();
        match self.open.get_mut(index) {
            Some(open) if !*open => *open = true,
            _ => return Err(no_such_queue(&self.name, index, queues)),
        }
        let name = self.name.clone();
        let failed = |what: &str| Error::io(format!("{what} of {name}"));
        let umem = Umem::map(self.layout.bytes()).map_err(failed("memory"))?;
        let ordinary = umem.ordinary.as_ref().map(ToString::to_string);
        let (socket, rings) = XdpSocket::open(&name, &umem, self.layout)?;
        let zero_copy = socket.bind(&name, self.index, index)?;
        tracing::info!(
            device = name,
            queue = index,
            zero_copy,
            megabytes = umem.len() >> 20,
            huge_pages = ordinary.as_deref().unwrap_or("yes"),
            "AF_XDP socket bound"
        );
        let frames = Frames::new(umem, rings, self.layout);
        let changes = Changes::watch().map_err(failed("changes"))?;
        let readable = AnyReadable::new(&[socket.as_raw_fd(), changes.as_raw_fd()])
            .map_err(failed("readiness"))?;
        let redirect = self.redirect()?;
        redirect
            .program
            .redirect(index, socket.as_fd())
            .map_err(failed("redirection"))?;
        Ok(Box::new(XdpQueue {
            name: name.clone(),
            interface: self.index,
            socket,
            frames,
            changes,
            readable,
            gone: false,
            zero_copy,
            stats: QueueStats::default(),
            _redirect: redirect,
        }))
    }
}

#[cfg(test)]
mod tests;
