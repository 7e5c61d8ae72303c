//! A program for the kernel (bpf(2)) that chooses the queue of a frame as a card with receive-side
//! scaling does: by the Toeplitz hash with the symmetric key.
//!
//! That key repeats every 16 bits, so the hash of all words is that of their exclusive or, which is
//! short enough to compute for each frame. What is not TCP, or a fragment, goes to the first queue.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::bpf::{self, EXIT, Instruction, op};
use crate::rss::{Rss, SYMMETRIC_KEY, TABLE_LEN, toeplitz};

/// Offsets from here on are counted from the IP header (`SKF_NET_OFF`).
const IP: i32 = -0x10_0000;

const TCP: i32 = 6;

const fn byte(at: i32) -> Instruction {
    op(0x30, 0, 0, 0, IP + at)
}

const fn half(at: i32) -> Instruction {
    op(0x28, 0, 0, 0, IP + at)
}

const fn word(at: i32) -> Instruction {
    op(0x20, 0, 0, 0, IP + at)
}

const fn copy(to: u8, from: u8) -> Instruction {
    op(0xbf, to, from, 0, 0)
}

const fn set(register: u8, value: i32) -> Instruction {
    op(0xb7, register, 0, 0, value)
}

const fn and(register: u8, value: i32) -> Instruction {
    op(0x57, register, 0, 0, value)
}

const fn shift_right(register: u8, bits: i32) -> Instruction {
    op(0x77, register, 0, 0, bits)
}

const fn xor(to: u8, from: u8) -> Instruction {
    op(0xaf, to, from, 0, 0)
}

const fn skip(instructions: usize) -> Instruction {
    op(0x05, 0, 0, instructions as i16, 0)
}

/// Goes on if register 0 holds `value`, else chooses the first queue.
const fn only_if(value: i32) -> [Instruction; 3] {
    [op(0x15, 0, 0, 2, value), set(0, 0), EXIT]
}

/// Leaves the exclusive or of both addresses in register 7, and both ports in register 0.
fn ipv4() -> Vec<Instruction> {
    let mut code = vec![byte(9)];
    code.extend(only_if(TCP));
    // More fragments, or an offset.
    code.extend([half(6), and(0, 0x3fff)]);
    code.extend(only_if(0));
    code.extend([word(12), copy(7, 0), word(16), xor(7, 0)]);
    let length_in_bytes = op(0x67, 0, 0, 0, 2);
    let word_behind_header = op(0x40, 0, 8, 0, IP);
    code.extend([byte(0), and(0, 15), length_in_bytes, copy(8, 0)]);
    code.push(word_behind_header);
    code
}

/// The same.
fn ipv6() -> Vec<Instruction> {
    let mut code = vec![byte(6)];
    code.extend(only_if(TCP));
    code.push(set(7, 0));
    code.extend((8..40).step_by(4).flat_map(|at| [word(at), xor(7, 0)]));
    code.push(word(40));
    code
}

/// Chooses the queue from what these have left.
fn choose(queues: u16) -> Vec<Instruction> {
    let mut code = vec![
        xor(7, 0),
        copy(0, 7),
        shift_right(0, 16),
        xor(7, 0),
        set(0, 0),
    ];
    for bit in 0..16 {
        let part = toeplitz(&SYMMETRIC_KEY, &(1u16 << bit).to_be_bytes()) as usize % TABLE_LEN;
        code.extend([
            op(0x45, 7, 0, 1, 1 << bit),
            skip(1),
            op(0xa7, 0, 0, 0, part as i32),
        ]);
    }
    code.extend([op(0x97, 0, 0, 0, queues.into()), EXIT]);
    code
}

fn program(queues: u16) -> Vec<Instruction> {
    let (ipv4, ipv6) = (ipv4(), ipv6());
    let version = [copy(6, 1), byte(0), shift_right(0, 4)];
    let mut code = version.to_vec();
    let other = only_if(6);
    let to_ipv4 = other.len() + ipv6.len() + 1;
    code.push(op(0x15, 0, 0, to_ipv4 as i16, 4));
    code.extend(other);
    code.extend(ipv6);
    code.push(skip(ipv4.len()));
    code.extend(ipv4);
    code.extend(choose(queues));
    code
}

/// The program in the kernel, where it stays for as long as somebody uses it.
pub struct Steering {
    program: OwnedFd,
    queues: u16,
}

impl Steering {
    /// Loads the program for so many queues.
    ///
    /// # Errors
    /// What bpf(2) says: `EPERM` without CAP_BPF, unless the system lets everybody load programs.
    pub fn load(queues: u16) -> io::Result<Steering> {
        let program = bpf::load(bpf::SOCKET_FILTER, &program(queues.max(1)))?;
        Ok(Steering { program, queues })
    }

    /// What the program computes.
    pub fn rss(&self) -> Rss {
        Rss::new(SYMMETRIC_KEY, self.queues)
    }
}

impl AsRawFd for Steering {
    fn as_raw_fd(&self) -> RawFd {
        self.program.as_raw_fd()
    }
}

#[cfg(test)]
#[path = "steering_tests.rs"]
mod tests;
