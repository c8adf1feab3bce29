//! What a root file system is made from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Mebibytes of the writable layer when nobody says. It takes room on the host as it is written.
pub const DEFAULT_UPPER_MIB: u32 = 4096;

/// The fewest mebibytes that a writable layer may have: those of the template that it is made from.
pub const MIN_UPPER_MIB: u32 = 32;

/// The most: 16 TiB, which is what a file may have on the file systems of most hosts.
pub const MAX_UPPER_MIB: u32 = 16 << 20;

/// What a root file system is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RootfsSource {
    /// A directory on the host.
    Bind(PathBuf),
    /// An image in an OCI registry.
    Oci {
        /// The reference, `python:3.12`.
        reference: String,
        /// Mebibytes of the writable layer; [`DEFAULT_UPPER_MIB`] when not given.
        upper_size_mib: Option<u32>,
    },
    /// A disk image with a file system on it.
    DiskImage {
        /// The image file.
        path: PathBuf,
        /// Its format.
        format: DiskImageFormat,
        /// Its file system; found out when not given.
        fstype: Option<String>,
    },
}

/// Formats of disk images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiskImageFormat {
    /// QEMU copy-on-write.
    Qcow2,
    /// Byte for byte.
    Raw,
    /// VMware.
    Vmdk,
}

/// When an OCI image is pulled from its registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// When it is not on this host yet.
    #[default]
    IfMissing,
    /// Each time.
    Always,
    /// Never: it must be on this host.
    Never,
}
