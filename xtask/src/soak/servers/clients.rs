//! The requests, made by clients on the kernel's stack.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use testbed::{Testbed, postgresql};

/// The size of the page that nginx serves.
pub const PAGE: usize = 20_000;

/// Nothing may take longer, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn connect(bed: &Testbed, port: u16) -> Result<TcpStream, String> {
    let stream = bed.client.namespace().connect(bed.endpoint(port), PATIENCE);
    let stream = stream.map_err(|error| format!("connect: {error}"))?;
    let set = stream.set_read_timeout(Some(PATIENCE));
    set.and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .map_err(|error| error.to_string())?;
    Ok(stream)
}

/// nginx's page.
pub struct Pages<'a>(pub &'a Testbed);

impl Pages<'_> {
    /// One page over a connection of its own.
    pub fn request(&self) -> Result<u64, String> {
        let mut stream = connect(self.0, 80)?;
        let mut answer = Vec::new();
        stream
            .write_all(b"GET /page HTTP/1.0\r\n\r\n")
            .and_then(|()| stream.read_to_end(&mut answer))
            .map_err(|error| format!("{error} after {} bytes", answer.len()))?;
        let is_whole = answer.starts_with(b"HTTP/1.1 200 OK\r\n")
            && answer.ends_with(&[b'x'; PAGE])
            && answer.windows(4).any(|end| end == b"\r\n\r\n");
        match is_whole {
            true => Ok(1),
            false => Err(format!("{} bytes of an answer", answer.len())),
        }
    }
}

/// redis's values.
pub struct Values<'a>(pub &'a Testbed);

impl Values<'_> {
    /// A hundred values set and read again over one connection, under a key of the client's own.
    pub fn request(&self, client: u32) -> Result<u64, String> {
        let mut stream = BufReader::new(connect(self.0, 6379)?);
        for n in 0..100 {
            let value = "v".repeat(n * 37 + 1);
            self.exchange(&mut stream, client, &value)
                .map_err(|error| format!("value {n}: {error}"))?;
        }
        Ok(200)
    }

    fn exchange(
        &self,
        stream: &mut BufReader<TcpStream>,
        client: u32,
        value: &str,
    ) -> std::io::Result<()> {
        let commands = format!("SET key-{client} {value}\r\nGET key-{client}\r\n");
        stream.get_mut().write_all(commands.as_bytes())?;
        for wanted in ["+OK", &format!("${}", value.len()), value] {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            if line.trim_end() != wanted {
                let text = format!("{line:?} instead of {wanted:?}");
                return Err(std::io::Error::other(text));
            }
        }
        Ok(())
    }
}

/// PostgreSQL's transactions.
pub struct Transactions<'a>(pub &'a Testbed);

impl Transactions<'_> {
    /// A hundred of them over two connections; or forty, each over a `fresh` one and so by a process
    /// of its own.
    pub fn request(&self, fresh: bool) -> Result<u64, String> {
        let (arguments, count) = match fresh {
            true => (&["-n", "-C", "-S", "-c", "2", "-t", "20"][..], 40),
            false => (&["-n", "-c", "2", "-t", "50"][..], 100),
        };
        let finished = postgresql::pgbench(self.0, arguments);
        let all = format!("actually processed: {count}/{count}");
        match finished.status.success() && finished.stdout.contains(&all) {
            true => Ok(count),
            false => Err(finished.to_string()),
        }
    }
}
