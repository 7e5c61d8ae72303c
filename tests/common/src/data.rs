//! Test data: pseudo-random streams and their digests.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// A SHA-256 in hexadecimal.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An endless stream of bytes that depends on its seed only (xorshift64*).
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number of the stream.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next `len` bytes, in whole numbers of eight.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let numbers = std::iter::repeat_with(|| self.number().to_le_bytes());
        let mut bytes: Vec<u8> = numbers.take(len.div_ceil(8)).flatten().collect();
        bytes.truncate(len);
        bytes
    }
}

/// Writes `len` bytes of noise to `path` and answers their SHA-256.
pub fn write_noise(path: &Path, len: u64, seed: u64) -> io::Result<String> {
    const CHUNK: usize = 1 << 20;
    let mut noise = Noise::new(seed);
    let mut digest = Sha256::new();
    let mut file = BufWriter::new(File::create(path)?);
    let mut left = len;
    while left > 0 {
        let chunk = noise.bytes(left.min(CHUNK as u64) as usize);
        digest.update(&chunk);
        file.write_all(&chunk)?;
        left -= chunk.len() as u64;
    }
    file.flush()?;
    Ok(hex(&digest.finalize()))
}

/// Reads to the end and answers how many bytes came, and their SHA-256.
pub fn digest(mut stream: impl Read) -> io::Result<(u64, String)> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut len = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok((len, hex(&digest.finalize()))),
            Ok(count) => {
                digest.update(&buffer[..count]);
                len += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_of_a_known_text_is_the_published_one() {
        // FIPS 180-4 examples, "abc".
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(&b"abc"[..]).unwrap(), (3, expected.to_owned()));
    }

    #[test]
    fn noise_of_one_seed_is_always_the_same_and_of_two_seeds_differs() {
        assert_eq!(Noise::new(1).bytes(1000), Noise::new(1).bytes(1000));
        assert_ne!(Noise::new(1).bytes(1000), Noise::new(2).bytes(1000));
    }

    #[test]
    fn a_file_of_noise_has_the_length_and_digest_that_were_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("noise");
        let expected = write_noise(&path, 1_500_001, 7).unwrap();
        assert_eq!(
            digest(File::open(path).unwrap()).unwrap(),
            (1_500_001, expected)
        );
    }
}
