//! Bytes in bulk, of which each can be told from any other place's.
//!
//! A seed stands for a stream of random bytes: [`Source`] makes it piece by piece, and [`Check`] compares
//! what arrives with it. So a gibibyte needs no memory on either side, and what went wrong has a place. Both
//! take the SHA-256 of what went through them on the way, to be compared with what the other side has
//! computed by itself.

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};

/// Bytes in each piece but the last.
const PIECE: usize = 1 << 20;

/// The stream of a seed, piece by piece.
#[derive(Debug)]
struct Pieces {
    random: fastrand::Rng,
    left: u64,
}

impl Pieces {
    fn new(seed: u64, length: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            left: length,
        }
    }

    /// The next piece; an empty one at the end.
    fn next(&mut self) -> Vec<u8> {
        let length = usize::try_from(self.left).map_or(PIECE, |left| left.min(PIECE));
        self.left -= length as u64;
        let mut piece = vec![0; length];
        self.random.fill(&mut piece);
        piece
    }
}

/// Makes the stream of a seed.
#[derive(Debug)]
pub struct Source {
    pieces: Pieces,
    digest: Sha256,
}

impl Source {
    /// The first `length` bytes of the stream of `seed`.
    pub fn new(seed: u64, length: u64) -> Self {
        Self {
            pieces: Pieces::new(seed, length),
            digest: Sha256::new(),
        }
    }

    /// What comes next, at most 1 MiB; `None` at the end.
    pub fn piece(&mut self) -> Option<Vec<u8>> {
        let piece = self.pieces.next();
        self.digest.update(&piece);
        (!piece.is_empty()).then_some(piece)
    }

    /// The checksum of all that was made.
    pub fn sum(self) -> String {
        hex(self.digest.finalize())
    }
}

/// Compares what arrives with the stream of a seed.
#[derive(Debug)]
pub struct Check {
    pieces: Pieces,
    /// The piece of which something is to come next.
    piece: Vec<u8>,
    /// So much of it has come.
    used: usize,
    seen: u64,
    length: u64,
    digest: Sha256,
}

impl Check {
    /// Expects the first `length` bytes of the stream of `seed`, and then the end.
    pub fn new(seed: u64, length: u64) -> Self {
        Self {
            pieces: Pieces::new(seed, length),
            piece: Vec::new(),
            used: 0,
            seen: 0,
            length,
            digest: Sha256::new(),
        }
    }

    /// Bytes that have arrived.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// These have arrived.
    ///
    /// # Errors
    ///
    /// Where they are not what is expected; it names the place of the first one.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.digest.update(bytes);
        while !bytes.is_empty() {
            if self.used == self.piece.len() {
                self.piece = self.pieces.next();
                self.used = 0;
                let more = bytes.len();
                ensure!(
                    !self.piece.is_empty(),
                    "{more} bytes came after the end, which is at {}",
                    self.length
                );
            }
            let expected = self.piece.get(self.used..).unwrap_or_default();
            let length = expected.len().min(bytes.len());
            let wrong = bytes.iter().zip(expected).position(|(is, want)| is != want);
            if let Some(at) = wrong {
                let at = self.seen + at as u64;
                anyhow::bail!("byte {at} of {} is not what was sent", self.length);
            }
            bytes = bytes.get(length..).unwrap_or_default();
            self.used += length;
            self.seen += length as u64;
        }
        Ok(())
    }

    /// That was all. The checksum of what arrived.
    ///
    /// # Errors
    ///
    /// When something is missing.
    pub fn finish(self) -> Result<String> {
        let (seen, length) = (self.seen, self.length);
        ensure!(seen == length, "{seen} of {length} bytes have arrived");
        Ok(hex(self.digest.finalize()))
    }
}

/// A checksum as `sha256sum` writes it.
pub fn hex(digest: impl AsRef<[u8]>) -> String {
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}
