//! What packetdrill does with the shared object: it loads it with the same flags of dlopen(3), and
//! calls nothing but its table.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::net::IpAddr;

use mtcp_packetdrill::interface::Interface;

use crate::packets::{ACK, PEER, PEER6, SYN, Segment};

/// packetdrill's default port.
pub const PORT: u16 = 8080;
/// The peer's first sequence number.
pub const PEER_ISN: u32 = 1000;

pub struct Driver(pub Interface);

// SAFETY: packetdrill calls the table from two threads as well.
unsafe impl Sync for Driver {}

impl Driver {
    pub fn load(flags: &str) -> Driver {
        let program = std::env::current_exe().unwrap();
        let path = program.parent().unwrap().join("libmtcp_packetdrill.so");
        let path = CString::new(path.to_str().unwrap()).unwrap();
        let flags = CString::new(flags).unwrap();
        let how = libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NODELETE | libc::RTLD_DEEPBIND;
        // SAFETY: the function has the type that packetdrill.h gives it, and fills in the table.
        unsafe {
            let handle = libc::dlopen(path.as_ptr(), how);
            assert!(!handle.is_null(), "{:?}", CStr::from_ptr(libc::dlerror()));
            let init = libc::dlsym(handle, c"packetdrill_interface_init".as_ptr());
            assert!(!init.is_null());
            type Init = unsafe extern "C" fn(*const c_char, *mut Interface);
            let init = std::mem::transmute::<*mut c_void, Init>(init);
            let mut table = MaybeUninit::uninit();
            init(flags.as_ptr(), table.as_mut_ptr());
            Driver(table.assume_init())
        }
    }

    /// Makes a call of the table with its `userdata`.
    pub fn socket(&self) -> c_int {
        self.socket_of(libc::AF_INET)
    }

    pub fn socket_of(&self, family: c_int) -> c_int {
        let (kind, protocol) = (libc::SOCK_STREAM, libc::IPPROTO_TCP);
        // SAFETY: no pointers.
        unsafe { (self.0.socket)(self.0.userdata, family, kind, protocol) }
    }

    pub fn bind(&self, fd: c_int, address: IpAddr) -> c_int {
        let name = sockaddr(address, PORT);
        // SAFETY: an address of that length.
        unsafe { (self.0.bind)(self.0.userdata, fd, name.as_ptr().cast(), name.len() as u32) }
    }

    pub fn listen(&self, fd: c_int) -> c_int {
        // SAFETY: no pointers.
        unsafe { (self.0.listen)(self.0.userdata, fd, 1) }
    }

    pub fn accept(&self, fd: c_int) -> c_int {
        // SAFETY: no address is asked for.
        unsafe {
            let none = std::ptr::null_mut();
            (self.0.accept)(self.0.userdata, fd, none, std::ptr::null_mut())
        }
    }

    pub fn connect(&self, fd: c_int, to: (IpAddr, u16)) -> c_int {
        let name = sockaddr(to.0, to.1);
        // SAFETY: an address of that length.
        unsafe { (self.0.connect)(self.0.userdata, fd, name.as_ptr().cast(), name.len() as u32) }
    }

    pub fn write(&self, fd: c_int, bytes: &[u8]) -> isize {
        // SAFETY: the bytes' own length.
        unsafe { (self.0.write)(self.0.userdata, fd, bytes.as_ptr().cast(), bytes.len()) }
    }

    pub fn read(&self, fd: c_int, room: usize) -> Vec<u8> {
        let mut bytes = vec![0; room];
        // SAFETY: the room's own length.
        let n = unsafe { (self.0.read)(self.0.userdata, fd, bytes.as_mut_ptr().cast(), room) };
        bytes.truncate(usize::try_from(n).expect("read"));
        bytes
    }

    pub fn set_non_blocking(&self, fd: c_int) {
        let flags = libc::O_NONBLOCK as usize;
        // SAFETY: no pointers.
        let result = unsafe { (self.0.fcntl)(self.0.userdata, fd, libc::F_SETFL, flags) };
        assert_eq!(result, 0);
    }

    pub fn close(&self, fd: c_int) -> c_int {
        // SAFETY: no pointers.
        unsafe { (self.0.close)(self.0.userdata, fd) }
    }

    pub fn inject(&self, segment: &Segment) {
        let packet = segment.to_packet();
        // SAFETY: the packet's own length.
        let result =
            unsafe { (self.0.netdev_send)(self.0.userdata, packet.as_ptr().cast(), packet.len()) };
        assert_eq!(result, 0);
    }

    /// The next packet's bytes and time; none if the time was up.
    pub fn receive(&self) -> Option<(Vec<u8>, i64)> {
        let mut bytes = vec![0xee; 65_536];
        let (mut count, mut time) = (bytes.len(), 0);
        // SAFETY: a buffer of `count` bytes, and two variables.
        let result = unsafe {
            let buffer = bytes.as_mut_ptr().cast();
            (self.0.netdev_receive)(self.0.userdata, buffer, &mut count, &mut time)
        };
        assert_eq!(result, 0);
        bytes.truncate(count);
        (count > 0).then_some((bytes, time))
    }

    pub fn segment(&self) -> Segment {
        Segment::from_packet(&self.receive().expect("a packet").0)
    }

    pub fn now_us(&self) -> i64 {
        let mut time = libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        };
        // SAFETY: a variable; no time zone is asked for.
        let result =
            unsafe { (self.0.gettimeofday)(self.0.userdata, &mut time, std::ptr::null_mut()) };
        assert_eq!(result, 0);
        time.tv_sec * 1_000_000 + time.tv_usec
    }

    /// A socket that listens at `local`.
    pub fn listening(&self, local: IpAddr) -> c_int {
        let fd = match local {
            IpAddr::V4(_) => self.socket(),
            IpAddr::V6(_) => self.socket_of(libc::AF_INET6),
        };
        assert!(fd >= 0);
        assert_eq!(self.bind(fd, local), 0);
        assert_eq!(self.listen(fd), 0);
        fd
    }

    /// The peer connects; returns its next segment, empty.
    pub fn handshake(&self, local: IpAddr) -> Segment {
        let syn = from_peer(local);
        self.inject(&syn);
        let answer = self.segment();
        assert_eq!((answer.flags, answer.ack), (SYN | ACK, PEER_ISN + 1));
        let ack = Segment {
            flags: ACK,
            seq: PEER_ISN + 1,
            ack: answer.seq + 1,
            options: Vec::new(),
            ..syn
        };
        self.inject(&ack);
        ack
    }
}

/// A SYN with a segment size of 1,000 bytes.
pub fn from_peer(local: IpAddr) -> Segment {
    Segment {
        from: match local {
            IpAddr::V4(_) => PEER,
            IpAddr::V6(_) => PEER6,
        },
        to: (local, PORT),
        flags: SYN,
        seq: PEER_ISN,
        ack: 0,
        options: vec![2, 4, 0x03, 0xe8],
        payload: Vec::new(),
    }
}

/// An address as the kernel's `struct sockaddr_in` or `sockaddr_in6` has it.
fn sockaddr(address: IpAddr, port: u16) -> Vec<u8> {
    let (family, port) = match address {
        IpAddr::V4(_) => (libc::AF_INET, port.to_be_bytes()),
        IpAddr::V6(_) => (libc::AF_INET6, port.to_be_bytes()),
    };
    let mut name = (family as libc::sa_family_t).to_ne_bytes().to_vec();
    name.extend(port);
    match address {
        IpAddr::V4(v4) => [&name[..], &v4.octets(), &[0; 8]].concat(),
        IpAddr::V6(v6) => [&name[..], &[0; 4], &v6.octets(), &[0; 4]].concat(),
    }
}
