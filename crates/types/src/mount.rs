//! What is mounted into a guest, beside its root.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::rootfs::DiskImageFormat;

/// A mount in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// Where: an absolute path in the guest.
    pub guest: String,
    /// What.
    pub source: MountSource,
    /// What may be done there.
    #[serde(default)]
    pub options: MountOptions,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum MountSource {
    /// A directory or a file of the host.
    Bind {
        /// Its path on the host.
        host: PathBuf,
        /// The most that the guest may add, in MiB; 4 GiB when not given.
        #[serde(default)]
        quota_mib: Option<u32>,
        /// How what the guest does to owners and modes is kept.
        #[serde(default)]
        stat_virtualization: StatVirtualization,
        /// What new files on the host are allowed to be.
        #[serde(default)]
        host_permissions: HostPermissions,
    },
    /// A volume, by its name.
    Named {
        /// Its name.
        name: String,
        /// Whether it must be there, or is to be made.
        #[serde(default)]
        mode: NamedVolumeMode,
        /// What it is made as, where it is.
        #[serde(default)]
        create: NamedVolume,
        /// How what the guest does to owners and modes is kept.
        #[serde(default)]
        stat_virtualization: StatVirtualization,
        /// What new files on the host are allowed to be.
        #[serde(default)]
        host_permissions: HostPermissions,
    },
    /// The guest's memory; gone when it stops.
    Tmpfs {
        /// The most that it may hold, in MiB; the guest's own limit when not given.
        #[serde(default)]
        size_mib: Option<u32>,
    },
    /// A disk image of the host.
    Disk {
        /// Its path on the host.
        host: PathBuf,
        /// Its format.
        format: DiskImageFormat,
        /// Its file system; found out when not given.
        #[serde(default)]
        fstype: Option<String>,
    },
}

/// What may be done in a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MountOptions {
    /// Nothing can be changed.
    pub readonly: bool,
    /// No program can be run from it.
    pub noexec: bool,
    /// Set-uid bits mean nothing in it.
    pub nosuid: bool,
    /// Device files mean nothing in it.
    pub nodev: bool,
}

/// How owners and modes that the guest sets are kept, where the host's user may not set them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatVirtualization {
    /// Beside the file; where that cannot be, setting them fails.
    #[default]
    Strict,
    /// Beside the file where that can be.
    Relaxed,
    /// Not at all: the guest sees the host's.
    Off,
}

/// What the files that a guest makes are allowed to be on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPermissions {
    /// For their user alone.
    #[default]
    Private,
    /// What the guest gives them.
    Mirror,
}

/// Whether a named volume must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamedVolumeMode {
    /// It must be.
    #[default]
    Existing,
    /// It must not be, and is made.
    Create,
    /// It is made unless it is.
    EnsureExists,
}

/// What a named volume is made as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NamedVolume {
    /// A directory or a disk.
    pub kind: VolumeKind,
    /// The most that a directory may hold, in MiB.
    pub quota_mib: Option<u32>,
    /// The size of a disk, in MiB.
    pub size_mib: Option<u32>,
    /// What it is filed under.
    pub labels: BTreeMap<String, String>,
}

/// What a volume is on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeKind {
    /// A directory, which several sandboxes may have at once.
    #[default]
    Directory,
    /// A disk image with a file system of its own.
    Disk,
}
