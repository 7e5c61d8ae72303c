//! sendfile(2) to a socket of the stack: the file is read straight into the send stream.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use crate::real;
use crate::socket::SocketRef;
use crate::socket::send::send_from;
use std::os::fd::RawFd;

/// Most bytes of one call (`MAX_RW_COUNT`).
pub(super) const MOST: usize = 0x7fff_f000;

/// Sends up to `count` bytes of `file`, from `offset` on, which is moved by what was sent; without
/// one, from the file's own position.
///
/// # Errors
/// As sendfile(2): `EINVAL` for a file that has no positions, `EAGAIN` only if nothing was sent.
pub fn sendfile(
    socket: SocketRef,
    file: RawFd,
    mut offset: Option<&mut i64>,
    count: usize,
) -> Result<usize> {
    crate::descriptor::visible(file)?;
    // Where the call cannot block and reads at an offset, what is wrong with a file shows soon enough.
    let has_offset = offset.is_some();
    let is_negative = offset.as_ref().is_some_and(|offset| **offset < 0);
    let may_check_late = has_offset && !is_negative && count > 0 && socket.is_nonblocking(0);
    if !may_check_late {
        check_file(file, has_offset)?;
    }
    if is_negative {
        return Err(Errno(libc::EINVAL));
    }
    if count == 0 {
        return Ok(0);
    }
    let mut error = None;
    let result = send_from(socket, count.min(MOST), 0, |to, n| {
        match read_piece(file, offset.as_deref().copied(), to, n) {
            Ok(got) => {
                if let Some(offset) = offset.as_deref_mut() {
                    *offset = offset.saturating_add(got as i64);
                }
                got
            }
            Err(reason) => {
                error = Some(reason);
                0
            }
        }
    });
    let failure = match (result, error) {
        (Ok(0), Some(error)) | (Err(error), _) => error,
        (Ok(sent), _) => return Ok(sent),
    };
    if may_check_late {
        check_file(file, has_offset)?;
    }
    Err(failure)
}

/// Refuses what has no positions, as Linux does, before the socket is looked at.
fn check_file(file: RawFd, has_offset: bool) -> Result<()> {
    // SAFETY: an all-zero stat is valid, and the call fills it.
    let mode = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        let args = [file as usize, &raw mut stat as usize, 0, 0, 0, 0];
        real::syscall(libc::SYS_fstat, args)?;
        stat.st_mode & libc::S_IFMT
    };
    match mode {
        libc::S_IFREG | libc::S_IFBLK => return Ok(()),
        libc::S_IFDIR => return Err(Errno(libc::EINVAL)),
        _ => {}
    }
    if real::fcntl(file, libc::F_GETFL, 0)? & libc::O_ACCMODE as usize == libc::O_WRONLY as usize {
        return Err(Errno(libc::EBADF));
    }
    let args = [file as usize, 0, libc::SEEK_CUR as usize, 0, 0, 0];
    // SAFETY: no memory is involved.
    match unsafe { real::syscall(libc::SYS_lseek, args) } {
        Ok(_) => Ok(()),
        Err(_) if has_offset => Err(Errno(libc::ESPIPE)),
        Err(_) => Err(Errno(libc::EINVAL)),
    }
}

/// Reads up to `n` bytes to `to`. A short read that is not the end goes on, so that fewer bytes than
/// asked for mean the end.
fn read_piece(file: RawFd, offset: Option<i64>, to: *mut u8, n: usize) -> Result<usize> {
    let mut done = 0;
    while done < n {
        let at = to.wrapping_add(done) as usize;
        let (number, offset) = match offset {
            Some(offset) => (libc::SYS_pread64, offset as usize + done),
            None => (libc::SYS_read, 0),
        };
        // SAFETY: the piece lies in the segment and is `n` bytes long.
        let result = unsafe { real::syscall(number, [file as usize, at, n - done, offset, 0, 0]) };
        match result {
            Ok(0) => break,
            Ok(got) => done += got,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
