//! The program's buffers: one, or a vector of them.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};
use libc::{c_int, iovec};
use std::ffi::c_void;

/// Most bytes that one call moves (`MAX_RW_COUNT` of Linux).
pub const MOST: usize = 0x7fff_f000;

/// Most buffers in a vector.
pub const IOV_MAX: usize = 1024;

/// The buffers of one call, and how far they are used.
pub struct Buffers<'a> {
    first: iovec,
    rest: &'a [iovec],
    left: usize,
}

impl<'a> Buffers<'a> {
    /// One buffer.
    ///
    /// # Errors
    /// `EFAULT` for null with a length.
    ///
    /// # Safety
    /// `len` bytes at `at` may be read, or written if the call writes.
    pub unsafe fn one(at: *const c_void, len: usize) -> Result<Buffers<'a>> {
        if at.is_null() && len > 0 {
            return Err(Errno(libc::EFAULT));
        }
        let left = len.min(MOST);
        Ok(Buffers {
            first: iovec {
                iov_base: at.cast_mut(),
                iov_len: left,
            },
            rest: &[],
            left,
        })
    }

    /// A vector as readv(2) takes it.
    ///
    /// # Errors
    /// `EINVAL` for too many buffers, or lengths whose sum is no `ssize_t`; `EFAULT` for null.
    ///
    /// # Safety
    /// `count` descriptions stand at `vector`, and each buffer is as for [`one`](Buffers::one).
    pub unsafe fn many(vector: *const iovec, count: c_int) -> Result<Buffers<'a>> {
        match usize::try_from(count) {
            // SAFETY: the caller's promise.
            Ok(count) => unsafe { Buffers::message(vector, count, libc::EINVAL) },
            Err(_) => Err(Errno(libc::EINVAL)),
        }
    }

    /// A vector as a message has it; too many buffers give `excess`.
    ///
    /// # Errors
    /// As [`many`](Buffers::many).
    ///
    /// # Safety
    /// As [`many`](Buffers::many).
    pub unsafe fn message(
        vector: *const iovec,
        count: usize,
        excess: c_int,
    ) -> Result<Buffers<'a>> {
        if count > IOV_MAX {
            return Err(Errno(excess));
        }
        if vector.is_null() && count > 0 {
            return Err(Errno(libc::EFAULT));
        }
        let rest: &[iovec] = if count == 0 {
            &[]
        } else {
            // SAFETY: the caller's promise; not null, and an iovec is aligned as C aligns it.
            unsafe { std::slice::from_raw_parts(vector, count) }
        };
        let mut left = 0usize;
        for buffer in rest {
            let Some(sum) = left.checked_add(buffer.iov_len) else {
                return Err(Errno(libc::EINVAL));
            };
            if sum > isize::MAX as usize {
                return Err(Errno(libc::EINVAL));
            }
            if buffer.iov_base.is_null() && buffer.iov_len > 0 {
                return Err(Errno(libc::EFAULT));
            }
            left = sum;
        }
        Ok(Buffers {
            first: iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            },
            rest,
            left: left.min(MOST),
        })
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// A second pass over the same buffers from where this one stands.
    pub fn again(&self) -> Buffers<'a> {
        Buffers {
            first: self.first,
            rest: self.rest,
            left: self.left,
        }
    }

    /// The next `len` bytes pass without being touched.
    pub fn skip(&mut self, len: usize) {
        self.pieces(len, |_, _| ());
    }

    /// Fills the next bytes from `from`.
    ///
    /// # Safety
    /// `len` bytes at `from` can be read, and do not overlap the buffers.
    #[inline]
    pub unsafe fn fill(&mut self, mut from: *const u8, len: usize) {
        self.pieces(len, |to, n| {
            // SAFETY: the buffers are as their makers promised, and the pieces sum up to `len`.
            unsafe {
                std::ptr::copy_nonoverlapping(from, to, n);
                from = from.add(n);
            }
        });
    }

    /// Copies the next bytes to `to`, as many as there are up to `len`, and returns their number.
    ///
    /// # Safety
    /// `len` bytes at `to` can be written, and do not overlap the buffers.
    #[inline]
    pub unsafe fn drain(&mut self, mut to: *mut u8, len: usize) -> usize {
        let len = len.min(self.left);
        self.pieces(len, |from, n| {
            // SAFETY: as in `fill`.
            unsafe {
                std::ptr::copy_nonoverlapping(from, to, n);
                to = to.add(n);
            }
        });
        len
    }

    #[inline]
    fn pieces(&mut self, len: usize, mut visit: impl FnMut(*mut u8, usize)) {
        let mut len = len.min(self.left);
        self.left -= len;
        while len > 0 {
            if self.first.iov_len == 0 {
                let Some((next, rest)) = self.rest.split_first() else {
                    return;
                };
                (self.first, self.rest) = (*next, rest);
                continue;
            }
            let n = len.min(self.first.iov_len);
            let at = self.first.iov_base.cast::<u8>();
            visit(at, n);
            self.first.iov_base = at.wrapping_add(n).cast();
            self.first.iov_len -= n;
            len -= n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iov(bytes: &mut [u8]) -> iovec {
        iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        }
    }

    #[test]
    fn bytes_go_through_a_vector_with_empty_parts() {
        let (mut a, mut b, mut c) = ([0u8; 3], [0u8; 0], [0u8; 4]);
        let vector = [iov(&mut a), iov(&mut b), iov(&mut c)];
        // SAFETY: the buffers live through the test and do not overlap.
        unsafe {
            let mut buffers = Buffers::many(vector.as_ptr(), 3).unwrap();
            let mut again = buffers.again();
            assert_eq!(buffers.left(), 7);
            buffers.fill(b"abcde".as_ptr(), 5);
            buffers.fill(b"fg".as_ptr(), 2);
            assert_eq!(buffers.left(), 0);
            again.skip(1);
            let mut out = [0u8; 9];
            assert_eq!(again.drain(out.as_mut_ptr(), 9), 6);
            assert_eq!(&out[..6], b"bcdefg");
        }
        assert_eq!((&a, &c), (b"abc", b"defg"));
    }

    #[test]
    fn impossible_vectors_are_refused() {
        let huge = iovec {
            iov_base: std::ptr::dangling_mut(),
            iov_len: isize::MAX as usize,
        };
        let null = iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 1,
        };
        // SAFETY: what is refused is not touched.
        unsafe {
            let error = |vector: &[iovec], count| {
                Buffers::many(vector.as_ptr(), count)
                    .map(|b| b.left())
                    .unwrap_err()
                    .0
            };
            assert_eq!(error(&[huge, huge], 2), libc::EINVAL);
            assert_eq!(error(&[huge], -1), libc::EINVAL);
            assert_eq!(error(&[huge], 1025), libc::EINVAL);
            assert_eq!(error(&[null], 1), libc::EFAULT);
            assert!(Buffers::one(std::ptr::null(), 1).is_err());
            assert_eq!(Buffers::one(std::ptr::null(), 0).unwrap().left(), 0);
            let most = Buffers::many([huge].as_ptr(), 1).unwrap().left();
            assert_eq!(most, MOST);
        }
    }
}
