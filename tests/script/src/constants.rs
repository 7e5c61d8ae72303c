//! Names of constants, as they stand in scripts.

use std::ffi::c_int;

macro_rules! names {
    ($($name:ident)+) => { &[$((stringify!($name), libc::$name as i64),)+] };
}

/// Constants that the C library's headers have.
const LIBC: &[(&str, i64)] = names! {
    AF_INET AF_INET6 SOCK_STREAM SOCK_NONBLOCK SOCK_CLOEXEC IPPROTO_TCP IPPROTO_IP IPPROTO_IPV6
    SOL_SOCKET SOL_TCP SO_REUSEADDR SO_REUSEPORT SO_ERROR SO_RCVBUF SO_SNDBUF SO_KEEPALIVE SO_LINGER
    SO_OOBINLINE SO_RCVLOWAT SO_RCVTIMEO SO_SNDTIMEO SO_MAX_PACING_RATE
    TCP_NODELAY TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_USER_TIMEOUT TCP_MAXSEG
    TCP_SYNCNT TCP_LINGER2 TCP_DEFER_ACCEPT TCP_WINDOW_CLAMP TCP_INFO TCP_QUICKACK TCP_CONGESTION
    TCP_FASTOPEN TCP_FASTOPEN_CONNECT TCP_NOTSENT_LOWAT
    IP_TOS IP_TTL IP_MTU_DISCOVER IP_MTU IPV6_V6ONLY IPV6_TCLASS
    O_RDONLY O_WRONLY O_RDWR O_NONBLOCK F_GETFL F_SETFL SHUT_RD SHUT_WR SHUT_RDWR
    MSG_OOB MSG_PEEK MSG_DONTWAIT MSG_WAITALL MSG_NOSIGNAL MSG_MORE MSG_TRUNC MSG_FASTOPEN
    POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLRDHUP
    EPOLLIN EPOLLPRI EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDHUP
    EPOLL_CTL_ADD EPOLL_CTL_MOD EPOLL_CTL_DEL
    EAGAIN EALREADY ECONNABORTED ECONNREFUSED ECONNRESET EHOSTUNREACH EINPROGRESS EINVAL EISCONN
    EMSGSIZE ENETUNREACH ENOTCONN EPIPE ETIMEDOUT EADDRINUSE EADDRNOTAVAIL EOPNOTSUPP ENOPROTOOPT
    EPROTO EBADF ENOENT ENOBUFS EINTR EDESTADDRREQ EACCES
};

/// Constants that only the kernel's headers have, and states of TCP as `tcp_info` gives them.
const KERNEL: &[(&str, i64)] = &[
    ("SIOCINQ", 0x541b),
    ("SIOCOUTQ", 0x5411),
    ("SIOCOUTQNSD", 0x894b),
    ("SIOCATMARK", 0x8905),
    ("TCP_ESTABLISHED", 1),
    ("TCP_SYN_SENT", 2),
    ("TCP_SYN_RECV", 3),
    ("TCP_FIN_WAIT1", 4),
    ("TCP_FIN_WAIT2", 5),
    ("TCP_TIME_WAIT", 6),
    ("TCP_CLOSE", 7),
    ("TCP_CLOSE_WAIT", 8),
    ("TCP_LAST_ACK", 9),
    ("TCP_LISTEN", 10),
    ("TCP_CLOSING", 11),
    ("TCP_CA_Open", 0),
    ("TCP_CA_Disorder", 1),
    ("TCP_CA_CWR", 2),
    ("TCP_CA_Recovery", 3),
    ("TCP_CA_Loss", 4),
    ("TCPI_OPT_TIMESTAMPS", 1),
    ("TCPI_OPT_SACK", 2),
    ("TCPI_OPT_WSCALE", 4),
    ("TCPI_OPT_ECN", 8),
    ("TCPI_OPT_ECN_SEEN", 16),
    ("TCPI_OPT_SYN_DATA", 32),
    ("TCP_INFINITE_SSTHRESH", 0x7fff_ffff),
];

/// The value behind a name.
pub fn value(name: &str) -> Option<i64> {
    let mut all = LIBC.iter().chain(KERNEL);
    all.find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

/// The name of an error.
pub fn errno(number: c_int) -> String {
    let errors = LIBC.iter().filter(|(name, _)| name.starts_with('E'));
    let mut errors = errors.filter(|(name, _)| !name.starts_with("EPOLL"));
    match errors.find(|(_, value)| *value == i64::from(number)) {
        Some((name, _)) => (*name).to_owned(),
        None => format!("errno {number}"),
    }
}
