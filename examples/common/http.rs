//! As much of HTTP/1.x as the examples speak: GET, Content-Length and keep-alive.
#![allow(dead_code)] // The server reads requests, the client reads answers.

/// The longest head (request or answer) that is read.
pub const MAX_HEAD: usize = 16 * 1024;

/// Length of the head at the start of `bytes`, its blank line included; `None` if more must come.
pub fn head_len(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// The value of a header field; names are compared without case.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Whether the connection stays open: as the Connection field says, else as the version does.
fn keeps_alive(head: &str, version: &str) -> bool {
    match field(head, "connection") {
        Some(value) if value.eq_ignore_ascii_case("close") => false,
        Some(value) if value.eq_ignore_ascii_case("keep-alive") => true,
        _ => version == "HTTP/1.1",
    }
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The path, without its query.
    pub path: &'a str,
    /// Whether the client wants the connection to stay open.
    pub keep_alive: bool,
}

impl<'a> Request<'a> {
    /// Reads the head of a GET request; `None` if it is anything else.
    pub fn parse(head: &'a [u8]) -> Option<Request<'a>> {
        let head = std::str::from_utf8(head).ok()?;
        let mut words = head.lines().next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if method != "GET" || !target.starts_with('/') || !version.starts_with("HTTP/1.") {
            return None;
        }
        Some(Request {
            path: target.split('?').next().unwrap_or(target),
            keep_alive: keeps_alive(head, version),
        })
    }
}

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code, 200 when all is well.
    pub status: u16,
    /// Length of the body; without one the body ends with the connection.
    pub content_length: Option<u64>,
    /// Whether the connection stays open.
    pub keep_alive: bool,
}

impl Answer {
    /// Reads the head of an answer; `None` if it is not HTTP/1.x.
    pub fn parse(head: &[u8]) -> Option<Answer> {
        let head = std::str::from_utf8(head).ok()?;
        let mut words = head.lines().next()?.split(' ');
        let version = words.next().filter(|word| word.starts_with("HTTP/1."))?;
        let content_length = match field(head, "content-length") {
            Some(value) => Some(value.parse().ok()?),
            None => None,
        };
        Some(Answer {
            status: words.next()?.parse().ok()?,
            keep_alive: content_length.is_some() && keeps_alive(head, version),
            content_length,
        })
    }
}
