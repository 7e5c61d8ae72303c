//! `cargo xtask demo`: nginx, unmodified, on our stack; the kernel's curl fetches from it.

use std::fs;

use testbed::{LIMIT, Testbed, artifacts, servers};

use crate::setup;
use crate::shell::{Error, at, attempt, build_programs, need_root};

const PAGE: &str = "<h1>Served by nginx on a TCP stack in user space</h1>\n";

/// Shows it, checks it, and cleans up.
pub fn run() -> Result<(), Error> {
    need_root("the demo")?;
    setup::provide()?;
    artifacts::use_directory(build_programs()?);
    attempt(show)
}

fn show() -> Result<(), Error> {
    eprintln!(
        "\n1. A network namespace without a name, so that nothing of this machine is touched."
    );
    let bed = Testbed::server_on_tap();
    let root = bed.path("site");
    fs::create_dir(&root).map_err(at(&root))?;
    fs::write(root.join("index.html"), PAGE).map_err(at(&root))?;

    eprintln!("2. nginx, as Debian ships it, on our stack:");
    let server = servers::nginx(&bed, &root);
    eprintln!("   $ {}", server.command_line());
    eprintln!(
        "   The namespace's interfaces (the kernel's end of the TAP; 10.77.0.2 is not the kernel's):"
    );
    let addresses = bed.client.run("ip", &["-brief", "address"]);
    for line in addresses.stdout.lines() {
        eprintln!("     {line}");
    }

    eprintln!("3. The kernel's curl, over that TAP:");
    let url = bed.url(server.port, "");
    eprintln!("   $ curl {url}");
    let answer = bed
        .client
        .run("curl", &["-sS", "--fail", "--max-time", "10", &url]);
    for line in answer.stdout.lines().chain(answer.stderr.lines()) {
        eprintln!("     {line}");
    }
    if !answer.status.success() || answer.stdout != PAGE {
        let mut server = server.into_program();
        return Err(Error::Other(format!(
            "that is not the page; the server: {}",
            server.report()
        )));
    }

    eprintln!("4. SIGTERM to mtcp-run; nothing may be left.");
    server.into_program().stop(LIMIT);
    bed.assert_nothing_left();
    eprintln!("\nIt works: the page came through our own TCP.");
    Ok(())
}
