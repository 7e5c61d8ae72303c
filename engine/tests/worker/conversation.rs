//! Two applications on two stacks that keep the rules, and check every byte that they get.

use crate::app::App;
use crate::bed::{Bed, exchange};
use crate::dice::Dice;
use context::socket::state;
use std::net::{IpAddr, SocketAddr};

/// One end of a connection.
pub struct End {
    pub app: App,
    pub socket: u32,
    sent: u64,
    received: u64,
}

/// A connection between two stacks, with data in both directions.
pub struct Conversation {
    /// At the stack that connected.
    pub client: End,
    /// At the stack that listened.
    pub server: End,
    /// The listener, at the server's stack.
    pub listener: u32,
}

/// Byte `at` of a stream; the two directions differ.
fn byte(client: bool, at: u64) -> u8 {
    (at ^ at >> 8 ^ at >> 17 ^ u64::from(client)) as u8
}

impl Conversation {
    /// Connects a new process of `a` to a new process of `b`, which listens on `port`.
    pub fn start(a: &mut Bed, b: &mut Bed, processes: (u32, u32), port: u16) -> Conversation {
        let (any, to) = (b.family.any(), b.at(port));
        Conversation::start_at(a, b, processes, any, to)
    }

    /// The same to an address of either family, where the server listens on `any`.
    pub fn start_at(
        a: &mut Bed,
        b: &mut Bed,
        processes: (u32, u32),
        any: IpAddr,
        to: SocketAddr,
    ) -> Conversation {
        let (mut client, mut server) = (a.app(processes.0), b.app(processes.1));
        let listener = server.socket().unwrap();
        assert!(b.listen_at(listener, (any, to.port()), false));
        let socket = client.socket().unwrap();
        client.connect(socket, to);
        exchange(a, b, |_, _| true);
        assert!(client.is_connected(socket), "{}", client.state(socket));
        let accepted = server.accept(listener).expect("a connection waits");
        let end = |app, socket| End {
            app,
            socket,
            sent: 0,
            received: 0,
        };
        Conversation {
            client: end(client, socket),
            server: end(server, accepted),
            listener,
        }
    }

    /// Both ends write and read some. `dice` decides how much.
    pub fn go_on(&mut self, dice: &mut Dice<'_>) {
        self.client.write(true, dice.below(20_000));
        self.server.write(false, dice.below(20_000));
        self.client.read(false, dice.below(60_000));
        self.server.read(true, dice.below(60_000));
    }

    /// Reads all that is still on its way and checks that nothing is missing.
    pub fn finish(&mut self, a: &mut Bed, b: &mut Bed) {
        for _ in 0..1000 {
            if self.client.sent == self.server.received && self.server.sent == self.client.received
            {
                assert_eq!(
                    self.client.app.state(self.client.socket),
                    state::ESTABLISHED
                );
                return;
            }
            a.now += 50_000;
            b.now = a.now;
            exchange(a, b, |_, _| true);
            self.client.read(false, u64::MAX);
            self.server.read(true, u64::MAX);
        }
        panic!(
            "the conversation has stopped: {} of {} bytes, and {} of {}",
            self.server.received, self.client.sent, self.client.received, self.server.sent
        );
    }

    /// Bytes that have arrived at both ends together.
    pub fn bytes(&self) -> u64 {
        self.client.received + self.server.received
    }
}

impl End {
    fn write(&mut self, client: bool, n: u64) {
        let data: Vec<u8> = (self.sent..self.sent + n)
            .map(|at| byte(client, at))
            .collect();
        self.sent += self.app.send(self.socket, &data) as u64;
    }

    fn read(&mut self, client: bool, most: u64) {
        let n = self.app.readable(self.socket).min(most);
        let data = self.app.recv(self.socket, n as usize);
        for (i, got) in data.iter().enumerate() {
            let at = self.received + i as u64;
            assert_eq!(*got, byte(client, at), "byte {at} of the stream");
        }
        self.received += data.len() as u64;
    }
}
