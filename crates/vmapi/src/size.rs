//! Sizes as people write them: `512M`, `4G`, or a bare number of mebibytes.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// An amount of guest memory in bytes.
///
/// Written as a number with a unit (`K`, `M`, `G`, each a power of 1024, with an
/// optional `iB` or `B`), or as a bare number, which means mebibytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(u64);

impl MemorySize {
    /// An exact number of bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A number of mebibytes.
    pub const fn from_mib(mib: u32) -> Self {
        // A u32 times 2^20 fits in 52 bits.
        Self((mib as u64) * MIB)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// A size that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a size; write it like 512M or 4G (a bare number means MiB)")]
pub struct ParseSizeError {
    text: String,
}

impl FromStr for MemorySize {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseSizeError {
            text: text.chars().take(40).collect(),
        };
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| error())?;
        let scale = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "m" | "mb" | "mib" => MIB,
            "k" | "kb" | "kib" => KIB,
            "g" | "gb" | "gib" => GIB,
            "b" => 1,
            _ => return Err(error()),
        };
        number.checked_mul(scale).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes != 0 && bytes % GIB == 0 => write!(f, "{}G", bytes / GIB),
            bytes if bytes % MIB == 0 => write!(f, "{}M", bytes / MIB),
            bytes if bytes % KIB == 0 => write!(f, "{}K", bytes / KIB),
            bytes => write!(f, "{bytes}B"),
        }
    }
}

impl Serialize for MemorySize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemorySize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = MemorySize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size like \"512M\" or a number of MiB")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<MemorySize, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, mib: u64) -> Result<MemorySize, E> {
                mib.checked_mul(MIB)
                    .map(MemorySize)
                    .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(mib), &self))
            }
        }
        deserializer
            .deserialize_any(SizeVisitor)
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("512M", 512 * MIB),
            ("512", 512 * MIB),
            ("4G", 4 * GIB),
            ("4GiB", 4 * GIB),
            ("64k", 64 * KIB),
            ("0", 0),
        ] {
            assert_eq!(
                text.parse::<MemorySize>().map(MemorySize::bytes),
                Ok(bytes),
                "{text}"
            );
        }
        for text in [
            "",
            "M",
            "12X",
            "-1",
            "1.5G",
            "99999999999999999999",
            "18446744073709551615G",
        ] {
            assert!(text.parse::<MemorySize>().is_err(), "{text}");
        }
    }

    #[test]
    fn display_reads_back() {
        for bytes in [0, 1, KIB, 3 * MIB, GIB, GIB + MIB, GIB + 1] {
            let size = MemorySize::from_bytes(bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
