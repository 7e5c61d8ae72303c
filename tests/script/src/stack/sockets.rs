//! Socket calls over the shared segment, as the preload library makes them, by one thread that never
//! sleeps: a call that blocks is tried again when something has happened.

use super::{options, station};
use crate::app::App;
use crate::bed::Bed;
use crate::call::{Call, Outcome};
use crate::flow::pattern;
use crate::run::Addresses;
use context::command::{Command, Op};
use context::socket::{Socket, flag, state};
use context::stream::Reader;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;

/// The process whose sockets these are.
const PROCESS: u32 = 1;
/// Number of the first descriptor.
const FIRST: i32 = 3;

/// The descriptors of a script.
pub struct Sockets {
    pub(super) app: App,
    pub(super) addresses: Addresses,
    open: Vec<Option<Descriptor>>,
    replies: u32,
}

/// What stands behind a descriptor.
pub enum Descriptor {
    /// A socket.
    Socket(Handle),
    /// An epoll set: descriptors with the events asked for.
    Set(Vec<(i32, u32)>),
}

/// A socket.
#[derive(Clone, Copy)]
pub struct Handle {
    pub(super) record: u32,
    pub(super) nonblocking: bool,
    /// Bytes written so far.
    written: u64,
}

impl Handle {
    fn new(record: u32, flags: i32) -> Handle {
        Handle {
            record,
            nonblocking: flags & libc::SOCK_NONBLOCK != 0,
            written: 0,
        }
    }
}

/// A call that fails.
pub fn no(errno: i32) -> Option<Outcome> {
    Some(Outcome::failed(errno))
}

/// A call that goes well.
pub fn yes(value: i64) -> Option<Outcome> {
    Some(Outcome::done(value))
}

impl Sockets {
    pub fn new(bed: &mut Bed, addresses: Addresses) -> Sockets {
        let app = bed.app(PROCESS);
        bed.settle();
        Sockets {
            app,
            addresses,
            open: Vec::new(),
            replies: 0,
        }
    }

    /// Whether no call was made yet.
    pub fn is_untouched(&self) -> bool {
        self.open.is_empty()
    }

    /// Makes a call; `None`: it blocks.
    pub fn call(&mut self, bed: &mut Bed, call: &Call) -> Option<Outcome> {
        match call {
            Call::Connect { fd } => self.connect(bed, *fd),
            Call::Send { fd, len, flags, .. } if flags & libc::MSG_FASTOPEN != 0 => {
                self.send_early(bed, *fd, *len, *flags)
            }
            other => self.resume(bed, other),
        }
    }

    /// Makes a call, or goes on with one that has blocked.
    pub fn resume(&mut self, bed: &mut Bed, call: &Call) -> Option<Outcome> {
        match call {
            Call::Socket { kind, .. } => self.socket(bed, *kind),
            Call::Connect { fd } => self.connected(*fd),
            Call::Accept { fd, flags } => self.accept(bed, *fd, *flags),
            Call::Send { fd, len, flags, .. } if flags & libc::MSG_FASTOPEN != 0 => {
                self.sent_early(bed, *fd, *len)
            }
            Call::Send { fd, len, flags, .. } => self.send(bed, *fd, *len, *flags),
            Call::Receive { fd, len, flags } => self.receive(*fd, *len, *flags),
            Call::Close { fd } => self.close(*fd),
            Call::EpollCreate => yes(self.insert(Descriptor::Set(Vec::new()))),
            Call::EpollControl {
                set,
                operation,
                fd,
                events,
            } => self.epoll_control(*set, *operation, *fd, *events),
            Call::EpollWait { set, most, timeout } => self.epoll_wait(*set, *most, *timeout),
            Call::Poll { fds, timeout } => self.poll(fds, *timeout),
            Call::Bind { fd, port } => {
                let record = self.handle(*fd)?.record;
                let bound = station::bind(bed, self.addresses, record, *port);
                if bound { yes(0) } else { no(libc::EADDRINUSE) }
            }
            Call::Listen { fd, backlog } => {
                let handle = self.handle(*fd)?;
                let backlog = *backlog as u32;
                let listens = station::listen(bed, self.addresses, handle.record, backlog);
                if listens {
                    yes(0)
                } else {
                    no(libc::EADDRINUSE)
                }
            }
            Call::Shutdown { fd, how } => self.shutdown(*fd, *how),
            Call::SetOption {
                fd,
                level,
                name,
                value,
            } => {
                let handle = self.handle(*fd)?;
                let outcome = options::set(self.record(handle), *level, *name, value);
                self.app.command(Op::Options, handle.record, 0);
                Some(outcome)
            }
            Call::GetOption {
                fd,
                level,
                name,
                len,
            } => {
                let handle = self.handle(*fd)?;
                Some(options::get(self.record(handle), *level, *name, *len))
            }
            Call::Fcntl {
                fd,
                command,
                argument,
            } => self.fcntl(*fd, *command, *argument),
            Call::Ioctl { fd, request } => self.ioctl(*fd, *request),
        }
    }

    fn insert(&mut self, descriptor: Descriptor) -> i64 {
        let place = self.open.iter().position(Option::is_none);
        let place = place.unwrap_or_else(|| {
            self.open.push(None);
            self.open.len() - 1
        });
        self.open[place] = Some(descriptor);
        place as i64 + i64::from(FIRST)
    }

    pub(super) fn descriptor(&mut self, fd: i32) -> Option<&mut Descriptor> {
        self.open.get_mut((fd - FIRST) as usize)?.as_mut()
    }

    /// The socket behind a descriptor. The runner knows which are open.
    pub(super) fn handle(&self, fd: i32) -> Option<Handle> {
        match self.open.get((fd - FIRST) as usize) {
            Some(Some(Descriptor::Socket(handle))) => Some(*handle),
            _ => None,
        }
    }

    pub(super) fn record(&self, handle: Handle) -> &Socket {
        let record = self.app.shared.segment.socket(handle.record);
        record.expect("a granted record")
    }

    /// Whether a connection waits to be accepted.
    pub(super) fn has_connections(&self, handle: Handle) -> bool {
        let chunk = self.app.accept_chunk(handle.record);
        let ring = self.app.shared.segment.accept_ring(chunk);
        chunk != 0 && ring.is_some_and(|ring| !ring.is_empty())
    }

    fn socket(&mut self, bed: &mut Bed, kind: i32) -> Option<Outcome> {
        let record = self.app.socket().or_else(|| {
            bed.settle();
            self.app.socket()
        });
        match record {
            Some(record) => yes(self.insert(Descriptor::Socket(Handle::new(record, kind)))),
            None => no(libc::ENOBUFS),
        }
    }

    fn accept(&mut self, bed: &mut Bed, fd: i32, flags: i32) -> Option<Outcome> {
        let handle = self.handle(fd)?;
        if self.record(handle).tcp_state() != state::LISTEN {
            return no(libc::EINVAL);
        }
        match self.app.accept(handle.record) {
            Some(record) => {
                bed.settle();
                yes(self.insert(Descriptor::Socket(Handle::new(record, flags))))
            }
            None if handle.nonblocking => no(libc::EAGAIN),
            None => None,
        }
    }

    fn connect(&mut self, bed: &mut Bed, fd: i32) -> Option<Outcome> {
        let handle = self.handle(fd)?;
        let record = self.record(handle);
        let connecting = record.app.flags.load(SeqCst) & flag::CONNECTING != 0;
        match record.tcp_state() {
            state::LISTEN => return no(libc::EISCONN),
            state::SYN_SENT | state::SYN_RECV if handle.nonblocking => return no(libc::EALREADY),
            state::CLOSE if !connecting => {}
            _ => return self.connected(fd),
        }
        let to = SocketAddr::new(self.addresses.remote, crate::run::PORT);
        record.names.request(to);
        let flags = flag::KNOWN | flag::CONNECTING;
        record.app.flags.fetch_or(flags, SeqCst);
        self.app.command(Op::Connect, handle.record, 0);
        if handle.nonblocking {
            return no(libc::EINPROGRESS);
        }
        bed.settle();
        self.connected(fd)
    }

    /// What an attempt to connect has come to.
    pub(super) fn connected(&self, fd: i32) -> Option<Outcome> {
        let record = self.record(self.handle(fd)?);
        let flags = &record.app.flags;
        let error = record.engine.error.load(SeqCst);
        match record.tcp_state() {
            state::SYN_SENT | state::SYN_RECV => None,
            state::CLOSE if error == 0 => match flags.load(SeqCst) & flag::CONNECTING != 0 {
                true => None,
                false => no(libc::ECONNABORTED),
            },
            state::CLOSE => {
                flags.fetch_and(!flag::CONNECTING, SeqCst);
                no(record.engine.error.swap(0, SeqCst))
            }
            _ if flags.fetch_and(!flag::CONNECTING, SeqCst) & flag::CONNECTING == 0 => {
                no(libc::EISCONN)
            }
            _ => yes(0),
        }
    }

    fn send(&mut self, bed: &mut Bed, fd: i32, len: usize, flags: i32) -> Option<Outcome> {
        let handle = self.handle(fd)?;
        let record = self.record(handle);
        let waits = !handle.nonblocking && flags & libc::MSG_DONTWAIT == 0;
        let again = || if waits { None } else { no(libc::EAGAIN) };
        let shut = record.engine.state.load(SeqCst) & state::TX_SHUT != 0
            || record.app.flags.load(SeqCst) & flag::SHUT_WR != 0;
        let error = record.engine.error.swap(0, SeqCst);
        match record.tcp_state() {
            _ if error != 0 => return no(error),
            _ if shut => return no(libc::EPIPE),
            state::SYN_SENT | state::SYN_RECV => return again(),
            state::CLOSE | state::LISTEN => return no(libc::EPIPE),
            _ => {}
        }
        if flags & libc::MSG_MORE != 0 {
            record.app.flags.fetch_or(flag::MORE, SeqCst);
        } else {
            record.app.flags.fetch_and(!flag::MORE, SeqCst);
        }
        if flags & libc::MSG_OOB != 0 {
            self.announce_urgent(handle, len as u64);
        }
        match self.append(bed, fd, len) {
            0 if len > 0 => again(),
            done if done < len && waits => {
                // It would write the rest later; no script asks for that.
                no(libc::EOPNOTSUPP)
            }
            done => yes(done as i64),
        }
    }

    /// Appends so many bytes of the pattern to the send stream; chunks for it are granted from round to
    /// round.
    pub(super) fn append(&mut self, bed: &mut Bed, fd: i32, len: usize) -> usize {
        let Some(handle) = self.handle(fd) else {
            return 0;
        };
        let data: Vec<u8> = (0..len as u64)
            .map(|i| pattern(handle.written + i))
            .collect();
        let mut done = 0;
        while done < data.len() {
            let n = self.app.send(handle.record, &data[done..]);
            done += n;
            bed.settle();
            if n == 0 && self.record(handle).writable() == 0 {
                break;
            }
        }
        if let Some(Descriptor::Socket(open)) = self.descriptor(fd) {
            open.written += done as u64;
        }
        done
    }

    fn receive(&mut self, fd: i32, len: usize, flags: i32) -> Option<Outcome> {
        let handle = self.handle(fd)?;
        let record = self.record(handle);
        if record.tcp_state() == state::LISTEN {
            return no(libc::ENOTCONN);
        }
        if flags & libc::MSG_OOB != 0 {
            return self.receive_urgent(handle, len, flags);
        }
        let all = flags & libc::MSG_WAITALL != 0;
        let low = u64::from(record.options.receive_low.load(SeqCst));
        let least = if all {
            len as u64
        } else {
            low.clamp(1, len.max(1) as u64)
        };
        let word = record.engine.state.load(SeqCst);
        let shut = record.app.flags.load(SeqCst) & flag::SHUT_RD != 0;
        let ended = word & state::RX_SHUT != 0 || shut || record.engine.error.load(SeqCst) != 0;
        let (len, skip) = self.before_mark(handle, len);
        let stops = self.is_at_mark(handle, len as u64);
        let there = record.readable().saturating_sub(skip);
        let waits = !handle.nonblocking && flags & libc::MSG_DONTWAIT == 0;
        if there >= least || there > 0 && (ended || !waits || stops && there >= len as u64) {
            let bytes = match flags & libc::MSG_PEEK != 0 {
                true => self.peek(handle, skip, len),
                false => {
                    self.app.recv(handle.record, skip as usize);
                    self.app.recv(handle.record, len)
                }
            };
            return Some(Outcome {
                value: bytes.len() as i64,
                bytes,
                ..Outcome::default()
            });
        }
        match record.engine.error.swap(0, SeqCst) {
            0 => {}
            error => return no(error),
        }
        if ended {
            return yes(0);
        }
        if record.tcp_state() == state::CLOSE {
            return no(libc::ENOTCONN);
        }
        if waits { None } else { no(libc::EAGAIN) }
    }

    fn peek(&self, handle: Handle, skip: u64, len: usize) -> Vec<u8> {
        let record = self.record(handle);
        let start = record.app.rx_head.load(SeqCst);
        let reader = Reader::lock(&self.app.shared.segment, record, 1);
        let seen = reader.map_or(0, |mut r| r.read(skip + len as u64, true, |_, _| {}));
        // How much there is, is all that a script asks; bytes are compared when they are taken.
        (skip..seen).map(|i| pattern(start + i)).collect()
    }

    fn shutdown(&mut self, fd: i32, how: i32) -> Option<Outcome> {
        let handle = self.handle(fd)?;
        let record = self.record(handle);
        if record.tcp_state() == state::CLOSE {
            return no(libc::ENOTCONN);
        }
        let bits = match how {
            libc::SHUT_RD => flag::SHUT_RD,
            libc::SHUT_WR => flag::SHUT_WR,
            _ => flag::SHUT_RD | flag::SHUT_WR,
        };
        record.app.flags.fetch_or(bits, SeqCst);
        self.app.command(Op::Shutdown, handle.record, how as u64);
        yes(0)
    }

    /// With `SO_LINGER` and no time it resets. With a time, it would wait; no script asks for that.
    fn close(&mut self, fd: i32) -> Option<Outcome> {
        let place = self.open.get_mut((fd - FIRST) as usize)?;
        if let Some(Descriptor::Socket(handle)) = place.take() {
            match self.record(handle).options.linger.load(SeqCst) {
                1 => self.app.reset(handle.record),
                _ => self.app.close(handle.record),
            }
        }
        yes(0)
    }

    fn fcntl(&mut self, fd: i32, command: i32, argument: i32) -> Option<Outcome> {
        let Some(Descriptor::Socket(handle)) = self.descriptor(fd) else {
            return no(libc::EINVAL);
        };
        if command == libc::F_SETFL {
            handle.nonblocking = argument & libc::O_NONBLOCK != 0;
            return yes(0);
        }
        let nonblocking = if handle.nonblocking {
            libc::O_NONBLOCK
        } else {
            0
        };
        yes(i64::from(libc::O_RDWR | nonblocking))
    }

    fn ioctl(&mut self, fd: i32, request: i64) -> Option<Outcome> {
        let handle = self.handle(fd)?;
        let record = self.record(handle);
        let number = match request {
            0x541b => record.readable(),
            0x5411 => record.unacked(),
            0x8905 => u64::from(self.is_at_mark(handle, 0)),
            _ => return no(libc::EINVAL),
        };
        Some(Outcome {
            bytes: (number as i32).to_ne_bytes().to_vec(),
            ..Outcome::default()
        })
    }

    /// `struct tcp_info` by the command that the preload library uses.
    pub fn info(&mut self, bed: &mut Bed, fd: i32) -> Result<Vec<u8>, String> {
        let handle = self.handle(fd).ok_or("no socket")?;
        let words = self.ask(bed, handle, Op::Info)?;
        Ok(words.into_iter().flat_map(u64::to_ne_bytes).collect())
    }

    /// What the worker answers to a question.
    pub(super) fn ask(
        &mut self,
        bed: &mut Bed,
        handle: Handle,
        question: Op,
    ) -> Result<Vec<u64>, String> {
        self.replies += 1;
        self.app.push(Command {
            op: question,
            socket: handle.record,
            generation: self.app.generation(handle.record),
            arg: u64::from(self.replies),
        });
        bed.settle();
        let segment = &self.app.shared.segment;
        let context = segment.context(self.app.context).ok_or("no context")?;
        if context.reply_seq.load(SeqCst) != self.replies {
            return Err("the stack does not answer".into());
        }
        Ok(context.reply.iter().map(|word| word.load(SeqCst)).collect())
    }
}
