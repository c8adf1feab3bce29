//! What is mounted in a guest, step by step.

use std::path::PathBuf;

use msb_types::{
    DiskImageFormat, HostPermissions, Mebibytes, MountOptions, MountSource, StatVirtualization,
    VolumeMount,
};

use super::NamedVolumeBuilder;
use super::image::format_of;
use crate::error::{MicrosandboxError, MicrosandboxResult};

/// Describes a mount. Setters never fail; [`build`](Self::build) tells what was wrong.
#[derive(Clone, Debug)]
pub struct MountBuilder {
    guest: String,
    source: Option<Source>,
    options: MountOptions,
    format: Option<DiskImageFormat>,
    fstype: Option<String>,
    stat_virtualization: Option<StatVirtualization>,
    host_permissions: Option<HostPermissions>,
    size: Option<Mebibytes>,
    quota: Option<Mebibytes>,
    mistake: Option<String>,
}

#[derive(Clone, Debug)]
enum Source {
    Bind(PathBuf),
    Named(NamedVolumeBuilder),
    Tmpfs,
    Disk(PathBuf),
}

impl MountBuilder {
    /// A mount at this path of the guest.
    pub fn new(guest: impl Into<String>) -> Self {
        Self {
            guest: guest.into(),
            source: None,
            options: MountOptions::default(),
            format: None,
            fstype: None,
            stat_virtualization: None,
            host_permissions: None,
            size: None,
            quota: None,
            mistake: None,
        }
    }

    fn source(mut self, source: Source) -> Self {
        if self.source.replace(source).is_some() {
            self.mistake.get_or_insert_with(|| {
                format!("the mount at {:?} is to be two things at once", self.guest)
            });
        }
        self
    }

    /// A directory or a file of the host.
    #[must_use]
    pub fn bind(self, host: impl Into<PathBuf>) -> Self {
        self.source(Source::Bind(host.into()))
    }

    /// The volume of this name, which must be there.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        self.source(Source::Named(NamedVolumeBuilder::new(name)))
    }

    /// The volume of this name, which may have to be made.
    #[must_use]
    pub fn named_with(
        self,
        name: impl Into<String>,
        f: impl FnOnce(NamedVolumeBuilder) -> NamedVolumeBuilder,
    ) -> Self {
        self.source(Source::Named(f(NamedVolumeBuilder::new(name))))
    }

    /// Memory of the guest, gone when it stops.
    #[must_use]
    pub fn tmpfs(self) -> Self {
        self.source(Source::Tmpfs)
    }

    /// A disk image of the host.
    #[must_use]
    pub fn disk(self, path: impl Into<PathBuf>) -> Self {
        self.source(Source::Disk(path.into()))
    }

    /// The disk image's format; told from its name when not set.
    #[must_use]
    pub fn format(mut self, format: DiskImageFormat) -> Self {
        self.format = Some(format);
        self
    }

    /// The disk image's file system; found out when not set.
    #[must_use]
    pub fn fstype(mut self, fstype: impl Into<String>) -> Self {
        self.fstype = Some(fstype.into());
        self
    }

    /// Nothing in it can be changed.
    #[must_use]
    pub fn readonly(mut self) -> Self {
        self.options.readonly = true;
        self
    }

    /// No program can be run from it.
    #[must_use]
    pub fn noexec(mut self) -> Self {
        self.options.noexec = true;
        self
    }

    /// Set-uid bits mean nothing in it.
    #[must_use]
    pub fn nosuid(mut self) -> Self {
        self.options.nosuid = true;
        self
    }

    /// Device files mean nothing in it.
    #[must_use]
    pub fn nodev(mut self) -> Self {
        self.options.nodev = true;
        self
    }

    /// How owners and modes that the guest sets are kept; `Strict` when not set.
    #[must_use]
    pub fn stat_virtualization(mut self, how: StatVirtualization) -> Self {
        self.stat_virtualization = Some(how);
        self
    }

    /// What the guest's files may be on the host; `Private` when not set.
    #[must_use]
    pub fn host_permissions(mut self, permissions: HostPermissions) -> Self {
        self.host_permissions = Some(permissions);
        self
    }

    /// The most that [`tmpfs`](Self::tmpfs) holds, in MiB.
    #[must_use]
    pub fn size(mut self, size: impl Into<Mebibytes>) -> Self {
        self.size = Some(size.into());
        self
    }

    /// The most that the guest may add to [`bind`](Self::bind), in MiB; 4 GiB when not set.
    #[must_use]
    pub fn quota(mut self, quota: impl Into<Mebibytes>) -> Self {
        self.quota = Some(quota.into());
        self
    }

    /// The mount.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](MicrosandboxError::InvalidConfig) when it is nothing, two things, or has a
    /// setting that means nothing for what it is.
    pub fn build(self) -> MicrosandboxResult<VolumeMount> {
        let mount = self.finish().map_err(MicrosandboxError::InvalidConfig)?;
        super::check::mount(&mount)?;
        Ok(mount)
    }

    /// The mount, unless it cannot even be said.
    pub(super) fn finish(self) -> Result<VolumeMount, String> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let guest = self.guest;
        let source = self.source.ok_or_else(|| {
            format!("the mount at {guest:?} is nothing; call bind(), named(), tmpfs() or disk()")
        })?;
        let shared = matches!(source, Source::Bind(_) | Source::Named(_));
        let disk = matches!(source, Source::Disk(_));
        let wrong = [
            ("format()", self.format.is_some() && !disk),
            ("fstype()", self.fstype.is_some() && !disk),
            (
                "stat_virtualization()",
                self.stat_virtualization.is_some() && !shared,
            ),
            (
                "host_permissions()",
                self.host_permissions.is_some() && !shared,
            ),
            (
                "size()",
                self.size.is_some() && !matches!(source, Source::Tmpfs),
            ),
            (
                "quota()",
                self.quota.is_some() && !matches!(source, Source::Bind(_)),
            ),
        ];
        if let Some((setting, _)) = wrong.iter().find(|(_, wrong)| *wrong) {
            return Err(format!(
                "{setting} means nothing for the mount at {guest:?}; leave it out"
            ));
        }
        let stat_virtualization = self.stat_virtualization.unwrap_or_default();
        let host_permissions = self.host_permissions.unwrap_or_default();
        let source = match source {
            Source::Bind(host) => MountSource::Bind {
                host,
                quota_mib: self.quota.map(Mebibytes::as_u32),
                stat_virtualization,
                host_permissions,
            },
            Source::Named(volume) => MountSource::Named {
                name: volume.name,
                mode: volume.mode,
                create: volume.create,
                stat_virtualization,
                host_permissions,
            },
            Source::Tmpfs => MountSource::Tmpfs {
                size_mib: self.size.map(Mebibytes::as_u32),
            },
            Source::Disk(host) => MountSource::Disk {
                format: self.format.unwrap_or_else(|| format_of(&host)),
                host,
                fstype: self.fstype,
            },
        };
        Ok(VolumeMount {
            guest,
            source,
            options: self.options,
        })
    }
}
