//! The kernel's IPv6 address on a TAP, by rtnetlink(7): the one way to add it without duplicate
//! address detection, for a second of which the kernel would not use it.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;

use crate::sys::{check, netlink_socket};

const RTM_NEWADDR: u16 = 20;
const IFA_ADDRESS: u16 = 1;
const IFA_F_NODAD: u8 = 2;
const NLMSG_ERROR: u16 = 2;
/// Request, acknowledged, of something new.
const FLAGS: u16 = 0x1 | 0x4 | 0x400 | 0x200;
/// Bytes of the request: netlink's header, that of an address, and one attribute.
const REQUEST_LEN: usize = 16 + 8 + 20;

/// Gives an interface an address whose network has `prefix` bits.
pub fn add(interface: &str, address: Ipv6Addr, prefix: u8) -> io::Result<()> {
    let name = CString::new(interface)?;
    // SAFETY: the name ends with a zero.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    let request = request(index, address, prefix);
    let socket = netlink_socket()?;
    // SAFETY: pointer and length are those of `request`; the kernel is the default destination.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            request.as_ptr().cast(),
            request.len(),
            0,
        )
    };
    check(sent as libc::c_int)?;
    let mut answer = [0u8; 512];
    // SAFETY: pointer and length are those of `answer`.
    let received = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            answer.as_mut_ptr().cast(),
            answer.len(),
            0,
        )
    };
    let len = check(received as libc::c_int)? as usize;
    outcome(&answer[..len])
}

fn request(index: u32, address: Ipv6Addr, prefix: u8) -> [u8; REQUEST_LEN] {
    let mut bytes = [0; REQUEST_LEN];
    bytes[..4].copy_from_slice(&(REQUEST_LEN as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&RTM_NEWADDR.to_ne_bytes());
    bytes[6..8].copy_from_slice(&FLAGS.to_ne_bytes());
    bytes[16..20].copy_from_slice(&[libc::AF_INET6 as u8, prefix, IFA_F_NODAD, 0]);
    bytes[20..24].copy_from_slice(&index.to_ne_bytes());
    bytes[24..26].copy_from_slice(&20u16.to_ne_bytes());
    bytes[26..28].copy_from_slice(&IFA_ADDRESS.to_ne_bytes());
    bytes[28..].copy_from_slice(&address.octets());
    bytes
}

/// What an acknowledgement says: an error number below its header, 0 for none.
fn outcome(answer: &[u8]) -> io::Result<()> {
    let field = |at: usize| answer.get(at..at + 4)?.try_into().ok();
    let (Some(kind), Some(error)) = (field(4), field(16)) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let [a, b, ..]: [u8; 4] = kind;
    match (u16::from_ne_bytes([a, b]), i32::from_ne_bytes(error)) {
        (NLMSG_ERROR, 0) => Ok(()),
        (NLMSG_ERROR, error) => Err(io::Error::from_raw_os_error(-error)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_went_wrong() {
        let mut answer = [0; 36];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        assert!(outcome(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-libc::EEXIST).to_ne_bytes());
        let error = outcome(&answer).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        assert!(outcome(&answer[..10]).is_err());
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        assert!(add("nonesuch", Ipv6Addr::LOCALHOST, 64).is_err());
    }
}
