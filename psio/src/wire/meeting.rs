//! How the two ends of a wire find each other: a UNIX socket, on which whoever comes first
//! listens. The first makes the shared memory and passes it to the second, and each passes the
//! other the bells by which it is woken.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use super::shared::{Shape, SharedMemory};
use crate::sys::{self, Bell};

/// How long one end waits for the other's part of the introduction.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where to meet.
#[derive(Clone, Debug)]
pub enum Address {
    Path(PathBuf),
    /// A name in the abstract namespace (unix(7)), which belongs to the network namespace.
    Abstract(SocketAddr),
}

/// Which end we are.
pub enum Role {
    First(UnixListener),
    Second(UnixStream),
}

impl Address {
    /// A path, or a name after `@`.
    pub fn parse(path: &Path) -> io::Result<Address> {
        match path.as_os_str().as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).map(Address::Abstract),
            _ => SocketAddr::from_pathname(path).map(|_| Address::Path(path.into())),
        }
    }

    /// Listens if nobody does, else connects.
    pub fn meet(&self) -> io::Result<Role> {
        match self {
            Address::Abstract(name) => match UnixListener::bind_addr(name) {
                Ok(listener) => Ok(Role::First(listener)),
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                    UnixStream::connect_addr(name).map(Role::Second)
                }
                Err(e) => Err(e),
            },
            Address::Path(path) => {
                // Two that find the socket of a dead process at once must not both replace it.
                let _lock = lock_directory(path)?;
                match UnixStream::connect(path) {
                    Ok(stream) => return Ok(Role::Second(stream)),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                        if !fs::symlink_metadata(path)?.file_type().is_socket() {
                            let text = "a file that is no socket is in the way";
                            return Err(io::Error::other(text));
                        }
                        fs::remove_file(path)?;
                    }
                    Err(e) => return Err(e),
                }
                UnixListener::bind(path).map(Role::First)
            }
        }
    }

    /// Takes away what the first end leaves in the file system.
    pub fn clean_up(&self) {
        if let Address::Path(path) = self {
            // It may have been removed by hand.
            let _ = fs::remove_file(path);
        }
    }
}

/// Locks the directory that `path` is in, for as long as the result lives.
fn lock_directory(path: &Path) -> io::Result<File> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let file = File::open(directory)?;
    // Others hold it for well under a millisecond, if they are honest: no reason to hang.
    for _ in 0..100 {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(10)),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    let text = format!("{} is locked by somebody else", directory.display());
    Err(io::Error::new(io::ErrorKind::TimedOut, text))
}

/// Why two ends do not come together.
#[derive(Debug, thiserror::Error)]
pub enum NoLink {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("both ends are taken, and a wire has no third")]
    Busy,
    #[error("this end has {ours} queues and the other {theirs}")]
    Queues { ours: usize, theirs: usize },
    #[error("the other end belongs to user {0}")]
    Stranger(u32),
    #[error("the other end does not speak this version of the wire's language")]
    Garbled,
}

impl NoLink {
    /// Whether trying again will not help: the peer is there, and it is not for us.
    pub fn is_final(&self) -> bool {
        match self {
            NoLink::Busy | NoLink::Queues { .. } | NoLink::Stranger(_) => true,
            // So it looks, too, when a peer ends in the midst of it.
            NoLink::Io(_) | NoLink::Garbled => false,
        }
    }
}

/// Two ends joined.
pub struct Session {
    pub memory: Arc<SharedMemory>,
    /// The peer's bells, one to each queue.
    pub bells: Vec<Bell>,
    /// Whether this end made the memory.
    pub first: bool,
}

const MAGIC: u64 = u64::from_ne_bytes(*b"mtcpwire");
const VERSION: u32 = 1;
const MESSAGE: usize = 32;

/// What both ends say: the verdict of who speaks, and what the rings are like.
struct Message {
    verdict: u32,
    queues: u32,
    capacity: u64,
}

const WELCOME: u32 = 0;
const BUSY: u32 = 1;
const WRONG_QUEUES: u32 = 2;

impl Message {
    fn encode(&self) -> [u8; MESSAGE] {
        let mut bytes = [0; MESSAGE];
        bytes[0..8].copy_from_slice(&MAGIC.to_ne_bytes());
        bytes[8..12].copy_from_slice(&VERSION.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.verdict.to_ne_bytes());
        bytes[16..20].copy_from_slice(&self.queues.to_ne_bytes());
        bytes[24..32].copy_from_slice(&self.capacity.to_ne_bytes());
        bytes
    }

    fn decode(bytes: &[u8; MESSAGE]) -> Option<Message> {
        let u32_at = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        (u64_at(0) == MAGIC && u32_at(8) == VERSION).then(|| Message {
            verdict: u32_at(12),
            queues: u32_at(16),
            capacity: u64_at(24),
        })
    }
}

fn send(stream: &UnixStream, message: &Message, fds: &[RawFd]) -> io::Result<()> {
    sys::send_with_fds(stream, &message.encode(), fds)
}

fn receive(stream: &UnixStream) -> Result<(Message, Vec<OwnedFd>), NoLink> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = [0; MESSAGE];
    let (len, fds) = sys::receive_with_fds(stream, &mut bytes)?;
    if len != MESSAGE {
        return Err(NoLink::Garbled);
    }
    let message = Message::decode(&bytes).ok_or(NoLink::Garbled)?;
    match message.verdict {
        WELCOME => Ok((message, fds)),
        BUSY => Err(NoLink::Busy),
        _ => Ok((message, Vec::new())),
    }
}

/// The peer's memory carries our traffic: it must be our own, or root's.
fn check_user(stream: &UnixStream) -> Result<(), NoLink> {
    let peer = sys::peer_user_id(stream)?;
    if peer == 0 || peer == sys::user_id() {
        Ok(())
    } else {
        Err(NoLink::Stranger(peer))
    }
}

/// The first end's part. The second is asked to ring `bells`.
pub fn introduce_first(
    stream: &UnixStream,
    shape: Shape,
    bells: &[Bell],
) -> Result<Session, NoLink> {
    check_user(stream)?;
    let (memory, fd) = SharedMemory::create(shape)?;
    let mut fds = vec![fd.as_raw_fd()];
    fds.extend(bells.iter().map(AsRawFd::as_raw_fd));
    let hello = Message {
        verdict: WELCOME,
        queues: bells.len() as u32,
        capacity: shape.capacity as u64,
    };
    send(stream, &hello, &fds)?;
    let (answer, fds) = receive(stream)?;
    check_queues(&answer, bells.len(), fds.len())?;
    Ok(Session {
        memory: Arc::new(memory),
        bells: fds.into_iter().map(Bell::from_fd).collect(),
        first: true,
    })
}

/// The second end's part. The first is asked to ring `bells`.
pub fn introduce_second(stream: &UnixStream, bells: &[Bell]) -> Result<Session, NoLink> {
    check_user(stream)?;
    let (hello, fds) = receive(stream)?;
    let mut fds = fds.into_iter();
    let memory = fds.next().ok_or(NoLink::Garbled)?;
    let checked = check_queues(&hello, bells.len(), fds.len());
    let mut answer = Message {
        verdict: WELCOME,
        queues: bells.len() as u32,
        capacity: hello.capacity,
    };
    let own: Vec<RawFd> = bells.iter().map(AsRawFd::as_raw_fd).collect();
    if let Err(e) = checked {
        answer.verdict = WRONG_QUEUES;
        send(stream, &answer, &own)?;
        return Err(e);
    }
    let shape = Shape {
        rings: 2 * bells.len(),
        capacity: hello.capacity as usize,
    };
    let memory = SharedMemory::attach(memory, shape)?;
    send(stream, &answer, &own)?;
    Ok(Session {
        memory: Arc::new(memory),
        bells: fds.map(Bell::from_fd).collect(),
        first: false,
    })
}

fn check_queues(message: &Message, ours: usize, bells: usize) -> Result<(), NoLink> {
    let theirs = message.queues as usize;
    if theirs != ours {
        return Err(NoLink::Queues { ours, theirs });
    }
    if bells != ours {
        return Err(NoLink::Garbled);
    }
    Ok(())
}

/// Tells a third that the wire has both ends. It may hang up before it hears it.
pub fn refuse(stream: &UnixStream, bells: &[Bell]) {
    let busy = Message {
        verdict: BUSY,
        queues: bells.len() as u32,
        capacity: 0,
    };
    // A message carries at least one descriptor: a bell of ours does no harm.
    let _ = send(stream, &busy, &[bells[0].as_raw_fd()]);
}
