//! A layer in a file. This is the one place of the crate that names bincode.
//!
//! ```text
//! magic (8 bytes)  version (4)  size of the data blob (8)  number of changes (8)
//! changes, each by itself, in bincode's standard configuration
//! SHA-256 of all of that (32)
//! ```
//!
//! Numbers are little-endian. The digest tells a file that was damaged from one that is whole. Whoever can write the
//! file can make the digest fit, so it says nothing about who did: that is what the checks are for.
//!
//! bincode does not describe itself. What can be in a change is fixed for a version: another field is another version.

use bincode::error::{DecodeError, EncodeError};

use super::check::{Checker, LayerFlaw};
use super::{Change, Layer, MAX_CHANGE};
use crate::digest::Digest;
use crate::limits::Limits;
use crate::shown::shown;

const MAGIC: &[u8; 8] = b"MSBLAYER";
const VERSION: u32 = 1;
const DIGEST: usize = 32;

/// An index that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// It could not be written.
    #[error("cannot encode the layer's index")]
    Encode(#[source] EncodeError),
    /// It is something else.
    #[error("the file is no index of a layer; unpack the layer again")]
    NoIndex,
    /// It was written by another version of this library.
    #[error(
        "the layer's index has version {0}, and only {VERSION} is known; unpack the layer again"
    )]
    Version(u32),
    /// Its bytes are not those that were written.
    #[error("the layer's index is damaged; unpack the layer again")]
    Damaged,
    /// It is larger than one may be.
    #[error("the layer's index is larger than it may be; unpack the layer again")]
    TooLarge,
    /// What is in it is no list of changes.
    #[error("the layer's index is malformed; unpack the layer again")]
    Malformed(#[source] DecodeError),
    /// A change is not as it must be.
    #[error("the layer's index has an impossible entry, {path}; unpack the layer again")]
    Impossible {
        /// Which.
        path: String,
        /// Why.
        #[source]
        flaw: LayerFlaw,
    },
}

fn config() -> impl bincode::config::Config {
    // Lengths in a change, too, may not make anybody allocate more.
    bincode::config::standard().with_limit::<MAX_CHANGE>()
}

impl Layer {
    /// The index: what [`from_bytes`](Self::from_bytes) reads.
    pub fn to_bytes(&self) -> Result<Vec<u8>, IndexError> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.data_bytes.to_le_bytes());
        bytes.extend_from_slice(&(self.changes.len() as u64).to_le_bytes());
        for change in &self.changes {
            bincode::serde::encode_into_std_write(change, &mut bytes, config())
                .map_err(IndexError::Encode)?;
        }
        let digest = Digest::of(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        Ok(bytes)
    }

    /// Reads an index. Whatever the bytes are, what comes out is a layer within the limits
    /// ([`check`](Self::check) holds), though maybe not the one that its digest names.
    pub fn from_bytes(bytes: &[u8], limits: &Limits) -> Result<Self, IndexError> {
        // Whatever is in it takes less room than it costs, and the rest is short.
        if bytes.len() as u64 > limits.index_bytes.saturating_add(1 << 10) {
            return Err(IndexError::TooLarge);
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or(IndexError::NoIndex)?;
        let (version, _) = rest.split_first_chunk().ok_or(IndexError::Damaged)?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(IndexError::Version(version));
        }
        let (signed, digest) = bytes
            .split_last_chunk::<DIGEST>()
            .ok_or(IndexError::Damaged)?;
        if Digest::of(signed).as_bytes() != digest {
            return Err(IndexError::Damaged);
        }
        let rest = signed.get(MAGIC.len() + 4..).unwrap_or_default();
        let (data_bytes, rest) = rest.split_first_chunk().ok_or(IndexError::Damaged)?;
        let (count, mut rest) = rest.split_first_chunk().ok_or(IndexError::Damaged)?;
        let data_bytes = u64::from_le_bytes(*data_bytes);
        let count = u64::from_le_bytes(*count);
        let mut checker = Checker::new(data_bytes, limits).ok_or(IndexError::Damaged)?;
        if count > limits.layer_entries {
            return Err(IndexError::TooLarge);
        }
        let mut changes = Vec::new();
        for _ in 0..count {
            let (change, used): (Change, usize) =
                bincode::serde::decode_from_slice(rest, config()).map_err(IndexError::Malformed)?;
            rest = rest.get(used..).unwrap_or_default();
            checker
                .check(&change)
                .map_err(|flaw| IndexError::Impossible {
                    path: shown(&change.path),
                    flaw,
                })?;
            changes.push(change);
        }
        match rest.is_empty() {
            true => Ok(Self {
                changes,
                data_bytes,
            }),
            false => Err(IndexError::Damaged),
        }
    }
}
