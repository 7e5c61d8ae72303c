//! The server's end: what `bench-server` does.

use std::error::Error;

use bench::{CHUNK, sys};
use smoltcp::socket::tcp;

use crate::{BULK_BUFFER, PORT, SERVER, ServerOptions, Service, Stack, message_buffer};

/// Serves until a signal comes.
pub fn run(options: &ServerOptions) -> Result<(), Box<dyn Error>> {
    let common = &options.common;
    // A socket listens again only once its connection has ended: a second one listens meanwhile.
    let (sockets, room) = match options.service {
        Service::Echo => (2 * common.connections, message_buffer(common.size)),
        Service::Sink | Service::Source => (common.connections, BULK_BUFFER),
    };
    let mut stack = Stack::open(common, SERVER, sockets, room)?;
    let mut buffer = vec![0x5a; CHUNK.max(common.size)];
    let mut announced = false;
    while !sys::stopping() {
        stack.poll()?;
        for &handle in &stack.handles {
            let socket = stack.sockets.get_mut::<tcp::Socket>(handle);
            if !socket.is_open() {
                socket.listen(PORT)?;
                continue;
            }
            match options.service {
                Service::Echo => echo(socket, common.size, &mut buffer)?,
                Service::Sink => while socket.can_recv() && socket.recv_slice(&mut buffer)? > 0 {},
                Service::Source => while socket.can_send() && socket.send_slice(&buffer)? > 0 {},
            }
            if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
                socket.close();
            }
        }
        if !announced {
            // Whoever started us waits for this line.
            println!("listening");
            announced = true;
        }
    }
    Ok(())
}

/// Sends whole messages back while there are any, and room.
fn echo(socket: &mut tcp::Socket, size: usize, buffer: &mut [u8]) -> Result<(), Box<dyn Error>> {
    while socket.recv_queue() >= size && socket.send_capacity() - socket.send_queue() >= size {
        socket.recv_slice(&mut buffer[..size])?;
        socket.send_slice(&buffer[..size])?;
    }
    Ok(())
}
