//! The stack in this process, and the preload library that is attached to it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use context::layout::Plan;
use engine::Engine;
use engine::net::Prefix;
use engine::net::ipv6::Prefix6;
use psio::offload::OffloadDevice;

use crate::calls::Functions;
use crate::flags::Flags;
use crate::library::Library;
use crate::wire::{PEER, Wire, WireDevice};
use crate::{calls, flags, library};

/// The stack under test. There is one for the process, as the preload library attaches to one.
static ADAPTER: OnceLock<Adapter> = OnceLock::new();

/// Everything that a test runs on.
pub struct Adapter {
    /// What was asked for.
    pub flags: Flags,
    /// Packets to and from the stack.
    pub wire: Arc<Wire>,
    /// The preload library's calls.
    pub functions: Functions,
    _library: Library,
    _engine: Mutex<Engine>,
}

/// Why there is no stack.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The flags are wrong.
    #[error(transparent)]
    Flags(#[from] flags::Error),
    /// The settings make no stack.
    #[error(transparent)]
    Stack(#[from] launcher::stack::Error),
    /// The engine did not start.
    #[error("{0}")]
    Engine(String),
    /// The preload library cannot be used.
    #[error(transparent)]
    Library(#[from] library::Error),
    /// A system call failed.
    #[error("pipe: {0}")]
    Io(#[from] std::io::Error),
    /// A second test wants another stack.
    #[error("--so_flags: the stack of this process has other settings")]
    OtherFlags,
}

/// The stack; `None` before it has started.
pub fn adapter() -> Option<&'static Adapter> {
    ADAPTER.get()
}

/// Starts the stack, or has a second test in this process go on with the one that runs.
///
/// # Errors
/// See [`Error`].
pub fn start(text: &str) -> Result<&'static Adapter, Error> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let flags = Flags::parse(text)?;
    if let Some(running) = ADAPTER.get() {
        running.wire.clear();
        return match running.flags == flags {
            true => Ok(running),
            false => Err(Error::OtherFlags),
        };
    }
    let adapter = Adapter::start(flags)?;
    let adapter = ADAPTER.get_or_init(|| adapter);
    calls::redirect_main_program();
    Ok(adapter)
}

impl Adapter {
    fn start(flags: Flags) -> Result<Adapter, Error> {
        let settings = &flags.settings;
        let mut config = launcher::stack::engine_config(settings)?;
        // packetdrill makes up an address in its network unless it is told one (--local_ip).
        let network = settings.address.network();
        config
            .local
            .extend(Prefix::new(network.address(), network.prefix()));
        if let Some(ipv6) = &mut config.ipv6 {
            let networks = ipv6.addresses.iter();
            ipv6.local
                .extend(networks.filter_map(|(address, len)| Prefix6::new(*address, *len)));
            ipv6.neighbors = vec![(Prefix6::ALL, PEER)];
            ipv6.silent = true;
            ipv6.dad_probes = 0;
        }
        let plan = Plan {
            workers: 1,
            sockets: settings.max_sockets,
            contexts: 32,
            ready_sets: 32,
            memory: settings.memory,
        };
        let wire = Arc::new(Wire::new()?);
        let mut device = OffloadDevice::new(WireDevice::new(wire.clone(), settings.mtu));
        let client = settings.client().to_bytes();
        // Not a shared core, where commands wait for the thread to sleep.
        let engine = Engine::start(config, &plan, &client, false, 0, &mut device)
            .map_err(|error| Error::Engine(error.to_string()))?;
        let library = Library::load(flags.preload.as_deref(), engine.control_name())?;
        Ok(Adapter {
            functions: Functions::of(&library)?,
            wire,
            _library: library,
            _engine: Mutex::new(engine),
            flags,
        })
    }
}
