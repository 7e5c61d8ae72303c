//! One line of the trace, built in place without allocating.

#![allow(unsafe_code)]

use libc::{c_int, c_void, iovec, sockaddr};
use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Longest line in bytes; what is longer is cut.
const LONGEST: usize = 1000;
/// Bytes of a buffer that are shown, as many as strace shows.
const SHOWN: usize = 32;
/// Buffers of a vector that are shown.
const SHOWN_VECTORS: usize = 4;

/// A line that grows by arguments.
pub struct Line {
    bytes: [u8; LONGEST],
    len: usize,
    has_arguments: bool,
    returns_fd: bool,
}

impl Write for Line {
    /// Never fails: what does not fit is cut.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LONGEST - self.len;
        let mut n = text.len().min(room);
        while !text.is_char_boundary(n) {
            n -= 1;
        }
        self.bytes[self.len..self.len + n].copy_from_slice(&text.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

impl Line {
    /// An empty line.
    pub fn new() -> Line {
        Line {
            bytes: [0; LONGEST],
            len: 0,
            has_arguments: false,
            returns_fd: false,
        }
    }

    /// The line so far.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }

    /// Thread and time of day.
    pub(super) fn stamp(&mut self, tid: u32, now: Duration) {
        let day = now.as_secs() % 86_400;
        self.put(format_args!(
            "[pid {tid}] {:02}:{:02}:{:02}.{:06} ",
            day / 3600,
            day / 60 % 60,
            day % 60,
            now.subsec_micros()
        ));
    }

    /// The stamp, and the name of the call.
    pub(super) fn begin(&mut self, tid: u32, now: Duration, name: &str) {
        self.stamp(tid, now);
        self.put(format_args!("{name}("));
    }

    /// Result, error and time taken.
    pub(super) fn end(&mut self, result: i64, errno: c_int, took: Duration) {
        // Room for the result is kept, however long the arguments are.
        self.len = self.len.min(LONGEST - 160);
        self.put(format_args!(") = "));
        if result < 0 {
            let (name, text) = error_text(errno);
            self.put(format_args!("-1 {name} ({text})"));
        } else {
            self.put(format_args!("{result}"));
            if self.returns_fd {
                let _ = super::describe(result as c_int, self);
            }
        }
        let (s, us) = (took.as_secs(), took.subsec_micros());
        self.put(format_args!(" <{s}.{us:06}>"));
    }

    /// Says that the call's result is a descriptor, so that what stands behind it is shown.
    pub fn returns_fd(&mut self) {
        self.returns_fd = true;
    }

    pub(super) fn is_fd_returned(&self) -> bool {
        self.returns_fd
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a line cannot fail.
        let _ = self.write_fmt(text);
    }

    /// Starts the next argument.
    fn next(&mut self) {
        if self.has_arguments {
            self.put(format_args!(", "));
        }
        self.has_arguments = true;
    }

    /// An argument that is printed as it displays.
    pub fn arg(&mut self, value: impl fmt::Display) -> &mut Self {
        self.next();
        self.put(format_args!("{value}"));
        self
    }

    /// A descriptor, with what stands behind it.
    pub fn fd(&mut self, fd: c_int) -> &mut Self {
        self.next();
        if fd == libc::AT_FDCWD {
            self.put(format_args!("AT_FDCWD"));
        } else {
            self.put(format_args!("{fd}"));
            let _ = super::describe(fd, self);
        }
        self
    }

    /// A pointer as such.
    pub fn pointer<T>(&mut self, at: *const T) -> &mut Self {
        self.next();
        if at.is_null() {
            self.put(format_args!("NULL"));
        } else {
            self.put(format_args!("{at:p}"));
        }
        self
    }

    /// The value that a pointer points to, in brackets.
    pub fn pointee<T: Copy + fmt::Display>(&mut self, at: *const T) -> &mut Self {
        match peek(at) {
            Some(value) => self.arg(format_args!("[{value}]")),
            None => self.pointer(at),
        }
    }

    /// Bit names joined by `|`, a rest in hexadecimal.
    pub fn flags(&mut self, value: c_int, names: &[(c_int, &str)]) -> &mut Self {
        self.next();
        let mut rest = value;
        let mut separator = "";
        for (bits, name) in names {
            if *bits != 0 && rest & bits == *bits {
                self.put(format_args!("{separator}{name}"));
                rest &= !bits;
                separator = "|";
            }
        }
        if separator.is_empty() && rest == 0 {
            self.put(format_args!("0"));
        } else if rest != 0 {
            self.put(format_args!("{separator}{rest:#x}"));
        }
        self
    }

    /// One name of several, or the number.
    pub fn name(&mut self, value: c_int, names: &[(c_int, &str)]) -> &mut Self {
        match names.iter().find(|(number, _)| *number == value) {
            Some((_, name)) => self.arg(name),
            None => self.arg(value),
        }
    }

    /// The flags of send and recv.
    pub fn message_flags(&mut self, flags: c_int) -> &mut Self {
        self.flags(flags, MESSAGE_FLAGS)
    }

    /// The bytes at `at`, of which the first few are shown.
    pub fn buffer(&mut self, at: *const c_void, len: usize) -> &mut Self {
        self.next();
        self.quote(at, len);
        self
    }

    fn quote(&mut self, at: *const c_void, len: usize) {
        let mut shown = [0u8; SHOWN];
        let n = peek_bytes(at, &mut shown[..len.min(SHOWN)]);
        if n == 0 && len > 0 {
            return if at.is_null() {
                self.put(format_args!("NULL"))
            } else {
                self.put(format_args!("{at:p}"))
            };
        }
        self.put(format_args!("\""));
        for byte in &shown[..n] {
            match byte {
                b'\n' => self.put(format_args!("\\n")),
                b'\r' => self.put(format_args!("\\r")),
                b'\t' => self.put(format_args!("\\t")),
                b'"' | b'\\' => self.put(format_args!("\\{}", *byte as char)),
                b' '..=b'~' => self.put(format_args!("{}", *byte as char)),
                _ => self.put(format_args!("\\{byte:o}")),
            }
        }
        self.put(format_args!("\""));
        if n < len {
            self.put(format_args!("..."));
        }
    }

    /// The value of a socket option, of `len` bytes: a number if it is as long as one.
    pub fn bytes(&mut self, at: *const c_void, len: usize) -> &mut Self {
        match (len == size_of::<c_int>())
            .then(|| peek(at.cast::<c_int>()))
            .flatten()
        {
            Some(number) => self.arg(format_args!("[{number}]")),
            None => self.buffer(at, len),
        }
    }

    /// As [`bytes`](Line::bytes), where the length is read from memory.
    pub fn value(&mut self, at: *const c_void, len: *const u32) -> &mut Self {
        match peek(len) {
            Some(len) => self.bytes(at, len as usize),
            None => self.pointer(at),
        }
    }

    /// A vector of buffers that hold `total` bytes of data.
    pub fn vector(&mut self, at: *const iovec, count: usize, total: usize) -> &mut Self {
        self.next();
        let mut left = total;
        let mut separator = "[";
        for i in 0..count.min(SHOWN_VECTORS) {
            let Some(piece) = peek(at.wrapping_add(i)) else {
                return self.pointer(at);
            };
            self.put(format_args!("{separator}{{iov_base="));
            let filled = piece.iov_len.min(left);
            self.quote(piece.iov_base, filled);
            self.put(format_args!(", iov_len={}}}", piece.iov_len));
            left -= filled;
            separator = ", ";
        }
        if count == 0 {
            self.put(format_args!("["));
        }
        self.put(format_args!(
            "{}]",
            if count > SHOWN_VECTORS { ", ..." } else { "" }
        ));
        self
    }

    /// A socket address of `len` bytes.
    pub fn address(&mut self, at: *const sockaddr, len: usize) -> &mut Self {
        let bytes: *const u8 = at.cast();
        let family = (len >= 2).then(|| peek(bytes.cast::<u16>())).flatten();
        match family.map(c_int::from) {
            Some(libc::AF_INET) if len >= 16 => {
                if let Some(a) = peek(at.cast::<libc::sockaddr_in>()) {
                    let ip = Ipv4Addr::from_bits(u32::from_be(a.sin_addr.s_addr));
                    let port = u16::from_be(a.sin_port);
                    return self.arg(format_args!("{{AF_INET, {ip}:{port}}}"));
                }
            }
            Some(libc::AF_INET6) if len >= 28 => {
                if let Some(a) = peek(at.cast::<libc::sockaddr_in6>()) {
                    let ip = Ipv6Addr::from(a.sin6_addr.s6_addr);
                    let port = u16::from_be(a.sin6_port);
                    return self.arg(format_args!("{{AF_INET6, [{ip}]:{port}}}"));
                }
            }
            Some(family) => return self.arg(format_args!("{{sa_family={family}}}")),
            None => {}
        }
        self.pointer(at)
    }
}

impl Default for Line {
    fn default() -> Self {
        Line::new()
    }
}

/// The value at an address of the traced program, if it can be read.
fn peek<T: Copy>(at: *const T) -> Option<T> {
    let mut value = std::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the bytes of `value`, written by the call; not read unless all were written.
    unsafe {
        let bytes = std::slice::from_raw_parts_mut(value.as_mut_ptr().cast::<u8>(), size_of::<T>());
        (peek_bytes(at.cast(), bytes) == size_of::<T>()).then(|| value.assume_init())
    }
}

/// Copies from an address of the traced program, which may be no valid one: the kernel does the
/// copying and stops where nothing is mapped. Returns how many bytes were copied.
fn peek_bytes(at: *const c_void, to: &mut [u8]) -> usize {
    if at.is_null() || to.is_empty() {
        return 0;
    }
    let local = iovec {
        iov_base: to.as_mut_ptr().cast(),
        iov_len: to.len(),
    };
    let remote = iovec {
        iov_base: at.cast_mut(),
        iov_len: to.len(),
    };
    // SAFETY: writes at most `to.len()` bytes to `to`; a bad address is an error, not a fault.
    let n = unsafe {
        libc::process_vm_readv(
            crate::real::process_id() as libc::pid_t,
            &raw const local,
            1,
            &raw const remote,
            1,
            0,
        )
    };
    usize::try_from(n).unwrap_or(0)
}

const MESSAGE_FLAGS: &[(c_int, &str)] = &[
    (libc::MSG_OOB, "MSG_OOB"),
    (libc::MSG_PEEK, "MSG_PEEK"),
    (libc::MSG_DONTROUTE, "MSG_DONTROUTE"),
    (libc::MSG_TRUNC, "MSG_TRUNC"),
    (libc::MSG_DONTWAIT, "MSG_DONTWAIT"),
    (libc::MSG_EOR, "MSG_EOR"),
    (libc::MSG_WAITALL, "MSG_WAITALL"),
    (libc::MSG_CONFIRM, "MSG_CONFIRM"),
    (libc::MSG_ERRQUEUE, "MSG_ERRQUEUE"),
    (libc::MSG_NOSIGNAL, "MSG_NOSIGNAL"),
    (libc::MSG_MORE, "MSG_MORE"),
    (libc::MSG_WAITFORONE, "MSG_WAITFORONE"),
    (libc::MSG_ZEROCOPY, "MSG_ZEROCOPY"),
    (libc::MSG_FASTOPEN, "MSG_FASTOPEN"),
    (libc::MSG_CMSG_CLOEXEC, "MSG_CMSG_CLOEXEC"),
];

/// Name and text of an error, for those that the calls of this library give.
fn error_text(errno: c_int) -> (&'static str, &'static str) {
    macro_rules! table {
        ($($name:ident $text:literal)*) => {
            match errno {
                $(libc::$name => (stringify!($name), $text),)*
                _ => ("E?", "Unknown error"),
            }
        };
    }
    table! {
        EPERM "Operation not permitted"
        ENOENT "No such file or directory"
        ESRCH "No such process"
        EINTR "Interrupted system call"
        EIO "Input/output error"
        ENXIO "No such device or address"
        E2BIG "Argument list too long"
        EBADF "Bad file descriptor"
        ECHILD "No child processes"
        EAGAIN "Resource temporarily unavailable"
        ENOMEM "Cannot allocate memory"
        EACCES "Permission denied"
        EFAULT "Bad address"
        EBUSY "Device or resource busy"
        EEXIST "File exists"
        EXDEV "Invalid cross-device link"
        ENODEV "No such device"
        ENOTDIR "Not a directory"
        EISDIR "Is a directory"
        EINVAL "Invalid argument"
        ENFILE "Too many open files in system"
        EMFILE "Too many open files"
        ENOTTY "Inappropriate ioctl for device"
        EFBIG "File too large"
        ENOSPC "No space left on device"
        ESPIPE "Illegal seek"
        EROFS "Read-only file system"
        EPIPE "Broken pipe"
        EDOM "Numerical argument out of domain"
        ERANGE "Numerical result out of range"
        EDEADLK "Resource deadlock avoided"
        ENAMETOOLONG "File name too long"
        ENOSYS "Function not implemented"
        ELOOP "Too many levels of symbolic links"
        EPROTO "Protocol error"
        EOVERFLOW "Value too large for defined data type"
        ENOTSOCK "Socket operation on non-socket"
        EDESTADDRREQ "Destination address required"
        EMSGSIZE "Message too long"
        EPROTOTYPE "Protocol wrong type for socket"
        ENOPROTOOPT "Protocol not available"
        EPROTONOSUPPORT "Protocol not supported"
        ESOCKTNOSUPPORT "Socket type not supported"
        EOPNOTSUPP "Operation not supported"
        EPFNOSUPPORT "Protocol family not supported"
        EAFNOSUPPORT "Address family not supported by protocol"
        EADDRINUSE "Address already in use"
        EADDRNOTAVAIL "Cannot assign requested address"
        ENETDOWN "Network is down"
        ENETUNREACH "Network is unreachable"
        ENETRESET "Network dropped connection on reset"
        ECONNABORTED "Software caused connection abort"
        ECONNRESET "Connection reset by peer"
        ENOBUFS "No buffer space available"
        EISCONN "Transport endpoint is already connected"
        ENOTCONN "Transport endpoint is not connected"
        ESHUTDOWN "Cannot send after transport endpoint shutdown"
        ETIMEDOUT "Connection timed out"
        ECONNREFUSED "Connection refused"
        EHOSTDOWN "Host is down"
        EHOSTUNREACH "No route to host"
        EALREADY "Operation already in progress"
        EINPROGRESS "Operation now in progress"
        ECANCELED "Operation canceled"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(
        name: &str,
        build: impl FnOnce(&mut Line),
        result: i64,
        errno: c_int,
        took: Duration,
    ) -> String {
        let mut line = Line::new();
        line.begin(12, Duration::new(86_400 + 50_602, 123_456_789), name);
        build(&mut line);
        line.end(result, errno, took);
        line.text().to_owned()
    }

    #[test]
    fn a_call_reads_as_strace_would_print_it() {
        let data = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
        let line = finished(
            "recv",
            |l| {
                l.arg(5)
                    .buffer(data.as_ptr().cast(), data.len())
                    .arg(1024)
                    .message_flags(0);
            },
            37,
            0,
            Duration::from_nanos(4900),
        );
        assert_eq!(
            line,
            "[pid 12] 14:03:22.123456 recv(5, \"GET / HTTP/1.1\\r\\nHost: example.or\"..., 1024, 0) \
             = 37 <0.000004>"
        );
    }

    #[test]
    fn an_error_has_its_name_and_text() {
        let line = finished(
            "read",
            |l| {
                l.arg(5).pointer(std::ptr::null::<u8>()).arg(8);
            },
            -1,
            libc::EAGAIN,
            Duration::from_secs(2),
        );
        assert!(
            line.ends_with(
                "read(5, NULL, 8) = -1 EAGAIN (Resource temporarily unavailable) <2.000000>"
            ),
            "{line}"
        );
    }

    #[test]
    fn flags_are_named_and_a_rest_is_hexadecimal() {
        let mut line = Line::new();
        line.message_flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .message_flags(libc::MSG_PEEK | 1 << 23)
            .message_flags(1 << 28)
            .name(2, &[(2, "SHUT_RDWR")]);
        assert_eq!(
            line.text(),
            "MSG_DONTWAIT|MSG_NOSIGNAL, MSG_PEEK|0x800000, 0x10000000, SHUT_RDWR"
        );
    }

    #[test]
    fn a_bad_address_is_printed_as_a_pointer_and_not_followed() {
        let mut line = Line::new();
        line.buffer(std::ptr::without_provenance(8), 10)
            .address(std::ptr::without_provenance(8), 16)
            .vector(std::ptr::without_provenance(8), 1, 5);
        assert!(line.text().starts_with("0x8, 0x8, "), "{}", line.text());
    }

    #[test]
    fn addresses_and_vectors_are_spelt_out() {
        // SAFETY: an all-zero sockaddr_in is valid.
        let mut a: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        a.sin_family = libc::AF_INET as u16;
        a.sin_port = 80u16.to_be();
        a.sin_addr.s_addr = u32::from(Ipv4Addr::new(10, 77, 0, 1)).to_be();
        let words = [b"abc".as_slice(), b"de"].map(|word| iovec {
            iov_base: word.as_ptr().cast_mut().cast(),
            iov_len: word.len(),
        });
        let mut line = Line::new();
        line.address((&raw const a).cast(), 16)
            .vector(words.as_ptr(), 2, 4);
        assert_eq!(
            line.text(),
            "{AF_INET, 10.77.0.1:80}, [{iov_base=\"abc\", iov_len=3}, \
             {iov_base=\"d\", iov_len=2}]"
        );
    }

    #[test]
    fn a_long_line_is_cut_and_still_shows_the_result() {
        let line = finished(
            "writev",
            |l| {
                for _ in 0..500 {
                    l.arg("argument");
                }
            },
            7,
            0,
            Duration::ZERO,
        );
        assert!(line.len() <= LONGEST);
        assert!(line.ends_with(") = 7 <0.000000>"), "{line}");
    }
}
