//! The control socket: what an application asks for rarely, and waits for.
//!
//! A SEQPACKET socket with an abstract name (`unix(7)`), told to the application in the
//! environment variable [`SOCKET_VARIABLE`]. A connection stands for a process: when it breaks, the
//! process is dead, and the engine closes what it held.

mod message;

pub use message::{receive, send};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Names the control socket to the preload library.
pub const SOCKET_VARIABLE: &str = "MTCP_STACK_CONTROL";

/// Most descriptors in one message: the segment and a doorbell for each worker.
pub const MAX_FDS: usize = 1 + crate::MAX_WORKERS;

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// First message of a process. Answered with the segment's memfd and one doorbell (an eventfd)
    /// for each worker; `value` is the process's number.
    Hello {
        /// Process id, for logs.
        pid: u32,
    },
    /// A thread wants a context: `value` is its index; `ENOMEM` if there is none left.
    NewContext {
        /// Thread id, for logs.
        tid: u32,
    },
    /// A context is no longer used.
    FreeContext(u32),
    /// A ready set is wanted: `value` is its index; `ENOMEM` if there is none left. Comes with an
    /// eventfd by which threads that sleep in the kernel are woken.
    NewReadySet,
    /// A ready set is no longer used; its watches are dropped.
    FreeReadySet(u32),
    /// `bind(2)`; the address of a port 0 is chosen. The engine writes the socket's local address.
    Bind {
        /// The socket.
        socket: u32,
        /// Address, IPv4 never mapped.
        to: SocketAddr,
    },
    /// `listen(2)`; binds to a free port first if the socket is not bound.
    Listen {
        /// The socket.
        socket: u32,
        /// As given; the engine clamps it.
        backlog: u32,
    },
    /// The calling process is about to fork: `value` is the child's number, and the control
    /// connection that stands for the child comes back as a descriptor. The child holds the sockets
    /// that are named behind the request, at most [`MAX_NAMES`] of them.
    Fork,
    /// More sockets for the child of a [`Fork`](Request::Fork), named behind the request.
    Share {
        /// The child's number.
        child: u32,
    },
    /// A descriptor of a socket is about to go where this library may not be: a lease comes back, one
    /// end of a socket pair. The socket lives at least until the last copy of it is closed.
    Lease(Name),
    /// The calling process has come by a lease, or by a kernel socket that listens beside one of the
    /// stack's, which comes with the request: it holds the socket from now on. `value` is the socket;
    /// `ENOENT` if it is neither.
    Hold,
    /// A kernel socket that listens beside one of the stack's is about to be sent to another process,
    /// which will ask for the stack's by [`Hold`](Request::Hold). Until then it stays.
    Pin(Name),
}

/// A socket in one of its lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    /// Its record.
    pub socket: u32,
    /// Low bits of the record's generation.
    pub generation: u16,
}

impl Name {
    /// As bytes.
    pub fn to_bytes(self) -> [u8; NAME_LEN] {
        let word = u64::from(self.generation) << 32 | u64::from(self.socket);
        word.to_le_bytes()
    }

    /// From bytes.
    pub fn from_bytes(bytes: [u8; NAME_LEN]) -> Name {
        let word = u64::from_le_bytes(bytes);
        Name {
            socket: word as u32,
            generation: (word >> 32) as u16,
        }
    }
}

/// The answer to a request. `error` is an errno, or 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// 0, or the errno for the caller.
    pub error: i32,
    /// What was asked for.
    pub value: u32,
}

/// Bytes of a request on the wire.
pub const REQUEST_LEN: usize = 40;
/// Bytes of a reply on the wire.
pub const REPLY_LEN: usize = 8;
/// Bytes of a socket's name on the wire.
pub const NAME_LEN: usize = 8;
/// Most sockets named behind one request.
pub const MAX_NAMES: usize = 4096;

impl Request {
    /// As bytes: kind, two arguments, port, address.
    pub fn to_bytes(self) -> [u8; REQUEST_LEN] {
        let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
        let (kind, a, b, to) = match self {
            Request::Hello { pid } => (1, pid, 0, any),
            Request::NewContext { tid } => (2, tid, 0, any),
            Request::FreeContext(index) => (3, index, 0, any),
            Request::NewReadySet => (4, 0, 0, any),
            Request::FreeReadySet(index) => (5, index, 0, any),
            Request::Bind { socket, to } => (6, socket, 0, to),
            Request::Listen { socket, backlog } => (7, socket, backlog, any),
            Request::Fork => (8, 0, 0, any),
            Request::Share { child } => (9, child, 0, any),
            Request::Lease(name) => (10, name.socket, name.generation.into(), any),
            Request::Hold => (11, 0, 0, any),
            Request::Pin(name) => (12, name.socket, name.generation.into(), any),
        };
        let ip = match to.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut bytes = [0; REQUEST_LEN];
        bytes[0..4].copy_from_slice(&u32::to_le_bytes(kind));
        bytes[4..8].copy_from_slice(&a.to_le_bytes());
        bytes[8..12].copy_from_slice(&b.to_le_bytes());
        bytes[12..14].copy_from_slice(&to.port().to_le_bytes());
        bytes[16..32].copy_from_slice(&ip.octets());
        bytes
    }

    /// From bytes, without the names that may stand behind; `None` if they are no request.
    pub fn from_bytes(bytes: &[u8]) -> Option<Request> {
        let bytes: &[u8; REQUEST_LEN] = bytes.get(..REQUEST_LEN)?.try_into().ok()?;
        let word = |i: usize| u32::from_le_bytes(bytes[i..i + 4].try_into().unwrap_or_default());
        let ip: [u8; 16] = bytes[16..32].try_into().ok()?;
        let port = u16::from_le_bytes([bytes[12], bytes[13]]);
        let to = SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), port);
        let a = word(4);
        Some(match word(0) {
            1 => Request::Hello { pid: a },
            2 => Request::NewContext { tid: a },
            3 => Request::FreeContext(a),
            4 => Request::NewReadySet,
            5 => Request::FreeReadySet(a),
            6 => Request::Bind { socket: a, to },
            7 => Request::Listen {
                socket: a,
                backlog: word(8),
            },
            8 => Request::Fork,
            9 => Request::Share { child: a },
            10 => Request::Lease(Name {
                socket: a,
                generation: word(8) as u16,
            }),
            11 => Request::Hold,
            12 => Request::Pin(Name {
                socket: a,
                generation: word(8) as u16,
            }),
            _ => return None,
        })
    }
}

/// The sockets that are named behind a request.
pub fn names(bytes: &[u8]) -> impl Iterator<Item = Name> {
    let (names, _) = bytes.get(REQUEST_LEN..).unwrap_or_default().as_chunks();
    names.iter().map(|name| Name::from_bytes(*name))
}

impl Reply {
    /// As bytes.
    pub fn to_bytes(self) -> [u8; REPLY_LEN] {
        let mut bytes = [0; REPLY_LEN];
        bytes[..4].copy_from_slice(&self.error.to_le_bytes());
        bytes[4..].copy_from_slice(&self.value.to_le_bytes());
        bytes
    }

    /// From bytes; `None` if they are no reply.
    pub fn from_bytes(bytes: &[u8]) -> Option<Reply> {
        let bytes: &[u8; REPLY_LEN] = bytes.try_into().ok()?;
        Some(Reply {
            error: i32::from_le_bytes(bytes[..4].try_into().ok()?),
            value: u32::from_le_bytes(bytes[4..].try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_socket() {
        let to = "10.77.0.2:80".parse().unwrap();
        for request in [
            Request::Hello { pid: 5 },
            Request::NewContext { tid: 6 },
            Request::FreeContext(7),
            Request::NewReadySet,
            Request::FreeReadySet(8),
            Request::Bind { socket: 9, to },
            Request::Listen {
                socket: 9,
                backlog: 511,
            },
            Request::Fork,
            Request::Share { child: 10 },
            Request::Lease(Name {
                socket: 11,
                generation: u16::MAX,
            }),
            Request::Hold,
            Request::Pin(Name {
                socket: 12,
                generation: 1,
            }),
        ] {
            assert_eq!(Request::from_bytes(&request.to_bytes()), Some(request));
        }
        assert_eq!(Request::from_bytes(&[0; REQUEST_LEN]), None);
        assert_eq!(Request::from_bytes(&[1; 3]), None);
    }

    #[test]
    fn names_stand_behind_a_request() {
        let wanted = [(0, 1), (u32::MAX, u16::MAX)];
        let wanted = wanted.map(|(socket, generation)| Name { socket, generation });
        let mut bytes = Request::Fork.to_bytes().to_vec();
        bytes.extend(wanted.iter().flat_map(|name| name.to_bytes()));
        bytes.push(0);
        assert_eq!(Request::from_bytes(&bytes), Some(Request::Fork));
        assert!(names(&bytes).eq(wanted));
        assert_eq!(names(&bytes[..3]).count(), 0);
    }
}
