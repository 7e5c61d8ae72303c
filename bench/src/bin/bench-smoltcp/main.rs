//! bench-smoltcp: what `bench-server` and `bench-client` do, by smoltcp over one end of a wire in
//! shared memory. Stack and program are one loop that never sleeps, as smoltcp is fastest.

mod client;
mod device;
mod server;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bench::sys;
use clap::{Args, Parser, Subcommand, ValueEnum};
use psio::wire::{Wire, WireConfig};
use psio::{Device as _, MacAddr};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address};

use device::WireDevice;

const SERVER: Ipv4Address = Ipv4Address::new(10, 78, 0, 1);
const CLIENT: Ipv4Address = Ipv4Address::new(10, 78, 0, 2);
const PREFIX: u8 = 24;
const PORT: u16 = 9000;

/// Bytes of a socket's buffer, each way, where messages are exchanged: room for a few of them.
fn message_buffer(size: usize) -> usize {
    (4 * size).max(1024)
}

/// Bytes of a socket's buffer, each way, in bulk: what a connection of our own stack grows to.
const BULK_BUFFER: usize = 4 << 20;

#[derive(Parser)]
#[command(about = "bench-server and bench-client by smoltcp, over a wire in shared memory")]
struct Options {
    #[command(subcommand)]
    end: End,
}

#[derive(Subcommand)]
enum End {
    /// Serves until SIGTERM or SIGINT.
    Server(ServerOptions),
    /// Loads the server and prints what it measured as JSON.
    Client(ClientOptions),
}

/// The wire's end, and what crosses it.
#[derive(Args)]
struct Common {
    /// The UNIX socket where both ends of the wire meet.
    #[arg(long)]
    wire: PathBuf,
    /// Largest IP packet, in bytes.
    #[arg(long, default_value_t = 1500)]
    mtu: usize,
    /// Connections at once; the server has twice as many sockets.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64)]
    size: usize,
}

/// What becomes of the bytes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Service {
    /// Every message of --size bytes is sent back.
    Echo,
    /// Bytes are read.
    Sink,
    /// Bytes are sent until the client closes.
    Source,
}

#[derive(Args)]
struct ServerOptions {
    /// What becomes of the bytes.
    service: Service,
    #[command(flatten)]
    common: Common,
}

/// What the connections do.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Connect, exchange --messages messages, close, and again.
    Short,
    /// Exchange messages on connections that stay.
    Latency,
    /// Send as fast as it goes (server: sink).
    BulkUp,
    /// Receive as fast as it goes (server: source).
    BulkDown,
}

#[derive(Args)]
struct ClientOptions {
    /// What the connections do.
    mode: Mode,
    #[command(flatten)]
    common: Common,
    /// Messages on each connection (short).
    #[arg(long, default_value_t = 1)]
    messages: u64,
    /// Ends after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    duration: f64,
}

/// smoltcp over our end of the wire, and its sockets.
struct Stack {
    interface: Interface,
    device: WireDevice,
    sockets: SocketSet<'static>,
    handles: Vec<SocketHandle>,
    _wire: Wire,
}

impl Stack {
    fn open(
        common: &Common,
        own: Ipv4Address,
        sockets: usize,
        buffer: usize,
    ) -> Result<Stack, Box<dyn Error>> {
        if common.connections == 0 || common.size == 0 {
            return Err("--connections and --size must be at least 1".into());
        }
        let mut wire = Wire::open(&WireConfig {
            path: common.wire.clone(),
            mtu: common.mtu,
            ..WireConfig::default()
        })?;
        let MacAddr(mac) = wire.mac();
        let mut device = WireDevice::new(wire.open_queue(0)?, common.mtu);
        let mut config = Config::new(EthernetAddress(mac).into());
        config.random_seed = u64::from(std::process::id());
        let mut interface = Interface::new(config, &mut device, Instant::now());
        interface.update_ip_addrs(|addresses| {
            let pushed = addresses.push(IpCidr::new(own.into(), PREFIX));
            pushed.expect("an interface has room for one address");
        });
        let mut set = SocketSet::new(Vec::with_capacity(sockets));
        let handles = (0..sockets).map(|_| {
            let room = || tcp::SocketBuffer::new(vec![0; buffer]);
            let mut socket = tcp::Socket::new(room(), room());
            socket.set_nagle_enabled(false);
            set.add(socket)
        });
        Ok(Stack {
            handles: handles.collect(),
            interface,
            device,
            sockets: set,
            _wire: wire,
        })
    }

    /// Takes in what has arrived and sends what is due.
    fn poll(&mut self) -> Result<(), psio::Error> {
        let Stack {
            interface,
            device,
            sockets,
            ..
        } = self;
        interface.poll(Instant::now(), device, sockets);
        device.flush()
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse();
    sys::stop_on_signals()?;
    match options.end {
        End::Server(options) => {
            server::run(&options)?;
            Ok(ExitCode::SUCCESS)
        }
        End::Client(options) => {
            let duration = Duration::try_from_secs_f64(options.duration)?;
            let measured = client::run(&options, duration)?;
            println!("{:#}", measured.to_json(options.duration));
            let succeeded = measured.errors() == 0 && measured.connections > 0;
            Ok(if succeeded {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}
