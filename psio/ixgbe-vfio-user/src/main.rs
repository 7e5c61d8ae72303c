//! Two cards, joined by a wire, each served on a socket; with `--strict` they are not tolerant. It says "ready" when it can be connected to,
//! and at the end what the cards did.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, panic, process, thread};

use ixgbe_model::Carried;
use ixgbe_vfio_user::{Port, join, serve};

/// The cards' addresses.
const MACS: [[u8; 6]; 2] = [
    [0x00, 0x1b, 0x21, 0x0a, 0x0b, 0x01],
    [0x00, 0x1b, 0x21, 0x0a, 0x0b, 0x02],
];

fn main() -> ExitCode {
    let (options, sockets) = env::args_os()
        .skip(1)
        .map(PathBuf::from)
        .partition::<Vec<_>, _>(|argument| argument.as_os_str() == "--strict");
    let Ok([first, second]) = <[PathBuf; 2]>::try_from(sockets) else {
        eprintln!("usage: ixgbe-vfio-user [--strict] SOCKET SOCKET");
        return ExitCode::FAILURE;
    };
    // A card that refuses something has been driven wrongly, and there is nothing more to see.
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        usual(info);
        process::exit(101);
    }));
    let ports = MACS.map(|mac| Port::new(mac, u64::from(mac[5])));
    let listeners = [first, second].map(UnixListener::bind);
    let listeners = match listeners {
        [Ok(first), Ok(second)] => [first, second],
        [Err(error), _] | [_, Err(error)] => {
            eprintln!("ixgbe-vfio-user: cannot make its socket: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("ready");
    if options.is_empty() {
        for port in &ports {
            port.card(|card| card.set_tolerant());
        }
    }
    let _wire = join(ports[0].clone(), ports[1].clone());
    let servers = listeners
        .into_iter()
        .zip(ports.clone())
        .map(|(socket, port)| thread::spawn(move || serve(&port, socket)));
    let mut code = ExitCode::SUCCESS;
    for server in servers.collect::<Vec<_>>() {
        match server.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                eprintln!("ixgbe-vfio-user: {error}");
                code = ExitCode::FAILURE;
            }
            Err(_) => code = ExitCode::FAILURE,
        }
    }
    for (port, name) in ports.iter().zip(["first", "second"]) {
        port.card(|card| {
            println!("{}", counts(name, card.carried()));
            println!("{name} card: {:?}", card.offloaded());
            println!(
                "  not modelled, but held: {}",
                rows(&card.unknown_registers())
            );
        });
    }
    code
}

/// What a card has carried, as a guest says it that has read the card's counters.
fn counts(name: &str, carried: Carried) -> String {
    let Carried {
        frames_out,
        bytes_out,
        frames_in,
        bytes_in,
    } = carried;
    format!(
        "count: {name} card: {frames_out} frames out, {bytes_out} bytes, {frames_in} in, {bytes_in}"
    )
}

/// Offsets of registers, those that follow each other as one: `3f00-3f3c 4004`.
fn rows(offsets: &[u32]) -> String {
    let rows = offsets.chunk_by(|first, second| first + 4 == *second);
    let text = rows.map(|row| match row {
        [first, .., last] => format!("{first:x}-{last:x}"),
        _ => format!("{:x}", row[0]),
    });
    text.collect::<Vec<_>>().join(" ")
}
