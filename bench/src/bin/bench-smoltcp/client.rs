//! The client's end: what `bench-client` does.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use bench::measured::Measured;
use bench::{CHUNK, sys};
use smoltcp::iface::{Interface, SocketHandle};
use smoltcp::socket::tcp;
use smoltcp::wire::IpEndpoint;

use crate::{BULK_BUFFER, CLIENT, ClientOptions, Mode, PORT, SERVER, Stack, message_buffer};

/// The first port that connections leave from.
const FIRST_PORT: u16 = 1024;

/// One connection of the load.
struct Connection {
    handle: SocketHandle,
    /// Whether a connection was begun in its socket, and has not done its work yet.
    under_way: bool,
    /// Whether a message is out whose answer has not come.
    awaiting: bool,
    /// When the message under way began.
    since: Instant,
    /// Messages exchanged.
    exchanged: u64,
    /// Bytes given to the socket (bulk).
    sent: u64,
}

struct Load<'a> {
    options: &'a ClientOptions,
    buffer: Vec<u8>,
    next_port: u16,
    measured: Measured,
}

/// Loads the server for so long.
pub fn run(options: &ClientOptions, duration: Duration) -> Result<Measured, Box<dyn Error>> {
    let common = &options.common;
    let room = match options.mode {
        Mode::Short | Mode::Latency => message_buffer(common.size),
        Mode::BulkUp | Mode::BulkDown => BULK_BUFFER,
    };
    let mut stack = Stack::open(common, CLIENT, common.connections, room)?;
    let mut load = Load {
        options,
        buffer: vec![0xa5; CHUNK.max(common.size)],
        next_port: FIRST_PORT,
        measured: Measured::new(),
    };
    let mut connections: Vec<Connection> = stack.handles.iter().map(Connection::new).collect();
    let start = Instant::now();
    while start.elapsed() < duration && !sys::stopping() {
        stack.poll()?;
        for connection in &mut connections {
            let socket = stack.sockets.get_mut(connection.handle);
            load.advance(connection, socket, &mut stack.interface)?;
        }
    }
    if options.mode != Mode::Short {
        for connection in &connections {
            let socket = stack.sockets.get::<tcp::Socket>(connection.handle);
            load.measured.connections += u64::from(connection.under_way && socket.may_send());
            // Only what the other end has acknowledged has surely arrived.
            let arrived = connection.sent.saturating_sub(socket.send_queue() as u64);
            load.measured.bytes += arrived;
        }
    }
    Ok(load.measured)
}

impl Connection {
    fn new(handle: &SocketHandle) -> Connection {
        Connection {
            handle: *handle,
            under_way: false,
            awaiting: false,
            since: Instant::now(),
            exchanged: 0,
            sent: 0,
        }
    }
}

impl Load<'_> {
    fn advance(
        &mut self,
        connection: &mut Connection,
        socket: &mut tcp::Socket,
        interface: &mut Interface,
    ) -> Result<(), Box<dyn Error>> {
        // smoltcp lets a socket in TIME-WAIT be used again at once.
        if !socket.is_open() {
            if connection.under_way {
                let refused = io::Error::from(io::ErrorKind::ConnectionReset);
                self.measured.failed(&refused);
            }
            return self.begin(connection, socket, interface);
        }
        if !connection.under_way {
            return Ok(());
        }
        match self.options.mode {
            Mode::Short | Mode::Latency => self.exchange(connection, socket),
            Mode::BulkUp => {
                while socket.can_send() {
                    connection.sent += socket.send_slice(&self.buffer[..CHUNK])? as u64;
                }
                Ok(())
            }
            Mode::BulkDown => {
                while socket.can_recv() {
                    self.measured.bytes += socket.recv_slice(&mut self.buffer)? as u64;
                }
                Ok(())
            }
        }
    }

    fn begin(
        &mut self,
        connection: &mut Connection,
        socket: &mut tcp::Socket,
        interface: &mut Interface,
    ) -> Result<(), Box<dyn Error>> {
        let server = IpEndpoint::new(SERVER.into(), PORT);
        socket.connect(interface.context(), server, self.next_port)?;
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        *connection = Connection::new(&connection.handle);
        connection.under_way = true;
        Ok(())
    }

    /// Goes on with the exchange of messages as far as it goes.
    fn exchange(
        &mut self,
        connection: &mut Connection,
        socket: &mut tcp::Socket,
    ) -> Result<(), Box<dyn Error>> {
        let size = self.options.common.size;
        if connection.awaiting && socket.recv_queue() >= size {
            socket.recv_slice(&mut self.buffer[..size])?;
            self.measured.bytes += 2 * size as u64;
            // The time of a short connection's first message includes the handshake.
            self.measured.answered_after(connection.since.elapsed());
            connection.awaiting = false;
            connection.exchanged += 1;
            if self.options.mode == Mode::Short && connection.exchanged == self.options.messages {
                self.measured.connections += 1;
                connection.under_way = false;
                socket.close();
                return Ok(());
            }
            connection.since = Instant::now();
        }
        if !connection.awaiting && socket.can_send() {
            if self.options.mode == Mode::Latency && connection.exchanged == 0 {
                connection.since = Instant::now();
            }
            socket.send_slice(&self.buffer[..size])?;
            connection.awaiting = true;
        }
        Ok(())
    }
}
