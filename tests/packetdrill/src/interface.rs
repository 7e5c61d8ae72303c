//! `struct packetdrill_interface` of packetdrill.h: the table of calls that packetdrill makes.

use std::ffi::{c_int, c_longlong, c_uint, c_ulong, c_void};

use libc::{
    epoll_event, iovec, loff_t, msghdr, nfds_t, pollfd, size_t, sockaddr, socklen_t, ssize_t,
    timeval, timezone, useconds_t,
};

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        /// The table, in packetdrill's order. Each call has `userdata` as its first argument.
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub struct Interface {
            /// Handed to each call.
            pub userdata: *mut c_void,
            $(
                $(#[$doc])*
                pub $name: unsafe extern "C" fn(userdata: *mut c_void, $($arg: $type),*) $(-> $result)?,
            )*
        }
    };
}

table! {
    /// The test is over.
    free();
    /// socket(2)
    socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    /// bind(2)
    bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int;
    /// listen(2)
    listen(fd: c_int, backlog: c_int) -> c_int;
    /// accept(2)
    accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int;
    /// connect(2)
    connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int;
    /// read(2)
    read(fd: c_int, buffer: *mut c_void, count: size_t) -> ssize_t;
    /// readv(2)
    readv(fd: c_int, vector: *const iovec, count: c_int) -> ssize_t;
    /// recv(2)
    recv(fd: c_int, buffer: *mut c_void, count: size_t, flags: c_int) -> ssize_t;
    /// recvfrom(2)
    recvfrom(
        fd: c_int,
        buffer: *mut c_void,
        count: size_t,
        flags: c_int,
        address: *mut sockaddr,
        len: *mut socklen_t
    ) -> ssize_t;
    /// recvmsg(2)
    recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t;
    /// write(2)
    write(fd: c_int, buffer: *const c_void, count: size_t) -> ssize_t;
    /// writev(2)
    writev(fd: c_int, vector: *const iovec, count: c_int) -> ssize_t;
    /// send(2)
    send(fd: c_int, buffer: *const c_void, count: size_t, flags: c_int) -> ssize_t;
    /// sendto(2)
    sendto(
        fd: c_int,
        buffer: *const c_void,
        count: size_t,
        flags: c_int,
        address: *const sockaddr,
        len: socklen_t
    ) -> ssize_t;
    /// sendmsg(2)
    sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t;
    /// fcntl(2). Variadic in C; an argument that is there comes in the same register.
    fcntl(fd: c_int, command: c_int, argument: usize) -> c_int;
    /// ioctl(2), as `fcntl`.
    ioctl(fd: c_int, request: c_ulong, argument: usize) -> c_int;
    /// close(2)
    close(fd: c_int) -> c_int;
    /// shutdown(2)
    shutdown(fd: c_int, how: c_int) -> c_int;
    /// getsockopt(2)
    getsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        len: *mut socklen_t
    ) -> c_int;
    /// setsockopt(2)
    setsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *const c_void,
        len: socklen_t
    ) -> c_int;
    /// poll(2)
    poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int;
    /// Gives the stack an IP packet. 0, or -1 for one that is none.
    netdev_send(packet: *const c_void, count: size_t) -> c_int;
    /// Waits for the next IP packet of the stack. `count` is the room and becomes the length, 0 if
    /// none came; `time_usecs` becomes when the stack sent it, in microseconds since 1970.
    netdev_receive(packet: *mut c_void, count: *mut size_t, time_usecs: *mut c_longlong) -> c_int;
    /// usleep(3)
    usleep(usecs: useconds_t) -> c_int;
    /// gettimeofday(2)
    gettimeofday(time: *mut timeval, zone: *mut timezone) -> c_int;
    /// epoll_create(2)
    epoll_create(size: c_int) -> c_int;
    /// epoll_ctl(2)
    epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int;
    /// epoll_wait(2)
    epoll_wait(epoll: c_int, events: *mut epoll_event, count: c_int, timeout: c_int) -> c_int;
    /// pipe(2)
    pipe(fds: *mut c_int) -> c_int;
    /// splice(2). Offsets are pointers to what the script says; 0 there stands for none.
    splice(
        from: c_int,
        from_offset: *mut loff_t,
        to: c_int,
        to_offset: *mut loff_t,
        count: size_t,
        flags: c_uint
    ) -> ssize_t;
}
