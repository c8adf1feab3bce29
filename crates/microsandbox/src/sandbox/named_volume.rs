//! A volume that is mounted by its name, step by step.

use msb_types::{Mebibytes, NamedVolume, NamedVolumeMode, VolumeKind};

/// Describes a named volume that is mounted, and what it is made as if it has to be.
#[derive(Clone, Debug)]
pub struct NamedVolumeBuilder {
    pub(super) name: String,
    pub(super) mode: NamedVolumeMode,
    pub(super) create: NamedVolume,
}

impl NamedVolumeBuilder {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            mode: NamedVolumeMode::default(),
            create: NamedVolume::default(),
        }
    }

    /// It must be there. This is the default.
    #[must_use]
    pub fn existing(mut self) -> Self {
        self.mode = NamedVolumeMode::Existing;
        self
    }

    /// It must not be there, and is made.
    #[must_use]
    pub fn create(mut self) -> Self {
        self.mode = NamedVolumeMode::Create;
        self
    }

    /// It is made unless it is there.
    #[must_use]
    pub fn ensure_exists(mut self) -> Self {
        self.mode = NamedVolumeMode::EnsureExists;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// It is made as a directory. This is the default.
    #[must_use]
    pub fn directory(mut self) -> Self {
        self.create.kind = VolumeKind::Directory;
        self
    }

    /// It is made as a disk.
    #[must_use]
    pub fn disk(mut self) -> Self {
        self.create.kind = VolumeKind::Disk;
        self
    }

    /// The most that a directory holds, in MiB.
    #[must_use]
    pub fn quota(mut self, quota: impl Into<Mebibytes>) -> Self {
        self.create.quota_mib = Some(quota.into().as_u32());
        self
    }

    /// The size of a disk, in MiB.
    #[must_use]
    pub fn size(mut self, size: impl Into<Mebibytes>) -> Self {
        self.create.size_mib = Some(size.into().as_u32());
        self
    }

    /// Files it under a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.create.labels.insert(key.into(), value.into());
        self
    }
}
