//! Sizes in mebibytes, the unit of memory and disks in the API.

use serde::{Deserialize, Serialize};

/// A number of mebibytes (2^20 bytes). Any `u32` converts into it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Mebibytes(u32);

impl Mebibytes {
    /// This many mebibytes.
    pub const fn new(mebibytes: u32) -> Self {
        Self(mebibytes)
    }

    /// The number of mebibytes.
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        (self.0 as u64) << 20
    }
}

impl From<u32> for Mebibytes {
    fn from(mebibytes: u32) -> Self {
        Self(mebibytes)
    }
}

/// Sizes written with their unit: `512.mib()`, `4.gib()`.
pub trait SizeExt {
    /// This many mebibytes.
    fn mib(self) -> Mebibytes;
    /// This many gibibytes; saturates at the largest size there is.
    fn gib(self) -> Mebibytes;
}

impl SizeExt for u32 {
    fn mib(self) -> Mebibytes {
        Mebibytes(self)
    }

    fn gib(self) -> Mebibytes {
        Mebibytes(self.saturating_mul(1024))
    }
}
