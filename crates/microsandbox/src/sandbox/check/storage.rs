//! Mounts and patches: paths in the guest, names and sizes.

use std::collections::BTreeSet;
use std::path::Path;

use msb_image::Digest;
use msb_types::{
    MountSource, NamedVolume, NamedVolumeMode, Patch, RootfsSource, SandboxConfig, VolumeKind,
    VolumeMount,
};

use super::invalid;
use crate::error::MicrosandboxResult;

/// Where the agent has its own files in the guest.
const RESERVED: &str = "/.msb";

/// The permission bits of a file.
const MODE_BITS: u32 = 0o7777;

/// Checks what a sandbox begins from besides its image.
pub(super) fn beginning(config: &SandboxConfig) -> MicrosandboxResult<()> {
    if let Some(digest) = &config.manifest_digest
        && digest.parse::<Digest>().is_err()
    {
        return Err(invalid(format!(
            "{digest:?} is no digest of an image's manifest"
        )));
    }
    let Some(upper) = &config.snapshot_upper_source else {
        return Ok(());
    };
    if upper.as_os_str().is_empty() {
        return Err(invalid(
            "the writable layer of the snapshot has an empty path",
        ));
    }
    let image = matches!(config.image, RootfsSource::Oci { .. });
    if !image || config.manifest_digest.is_none() {
        return Err(invalid(
            "a snapshot lies over an OCI image, whose digest has to be given with it",
        ));
    }
    Ok(())
}

/// Checks all mounts: each, and that no two are at one place.
pub(super) fn mounts(mounts: &[VolumeMount]) -> MicrosandboxResult<()> {
    let mut places = BTreeSet::new();
    for each in mounts {
        mount(each)?;
        if !places.insert(Path::new(&each.guest)) {
            return Err(invalid(format!("two mounts are at {:?}", each.guest)));
        }
    }
    Ok(())
}

/// Checks one mount.
pub(crate) fn mount(mount: &VolumeMount) -> MicrosandboxResult<()> {
    let guest = &mount.guest;
    inside("a mount", guest)?;
    if Path::new(guest).starts_with(RESERVED) {
        return Err(invalid(format!(
            "the mount at {guest:?} is in {RESERVED}, which is this library's"
        )));
    }
    let empty = |what: &str| invalid(format!("the mount at {guest:?} {what}"));
    match &mount.source {
        MountSource::Bind { host, .. } | MountSource::Disk { host, .. }
            if host.as_os_str().is_empty() =>
        {
            Err(empty("is of an empty path"))
        }
        MountSource::Bind {
            quota_mib: Some(0), ..
        } => Err(empty("has a quota of 0 MiB; make it readonly() instead")),
        MountSource::Tmpfs { size_mib: Some(0) } => Err(empty("has a size of 0 MiB")),
        MountSource::Named {
            name, mode, create, ..
        } => {
            msb_types::validate_sandbox_name(name)
                .map_err(|error| invalid(format!("volume name: {error}")))?;
            volume(name, *mode, create)
        }
        _ => Ok(()),
    }
}

fn volume(name: &str, mode: NamedVolumeMode, create: &NamedVolume) -> MicrosandboxResult<()> {
    for (key, value) in &create.labels {
        msb_types::validate_label(key, value).map_err(|error| invalid(error.to_string()))?;
    }
    let why = match create.kind {
        _ if mode == NamedVolumeMode::Existing && *create != NamedVolume::default() => {
            "must be there already, and is told what to be made as; call create() or ensure_exists()"
        }
        VolumeKind::Directory if create.size_mib.is_some() => {
            "is a directory, which has a quota() and no size()"
        }
        VolumeKind::Disk if create.quota_mib.is_some() => {
            "is a disk, which has a size() and no quota()"
        }
        VolumeKind::Disk
            if matches!(create.size_mib, None | Some(0)) && mode != NamedVolumeMode::Existing =>
        {
            "is to be made as a disk and has no size()"
        }
        VolumeKind::Directory if create.quota_mib == Some(0) => "has a quota of 0 MiB",
        VolumeKind::Directory | VolumeKind::Disk => return Ok(()),
    };
    Err(invalid(format!("the volume {name:?} {why}")))
}

/// Checks all patches, and that there is something that can be patched.
pub(super) fn patches(config: &SandboxConfig) -> MicrosandboxResult<()> {
    if config.patches.is_empty() {
        return Ok(());
    }
    if matches!(config.image, RootfsSource::DiskImage { .. }) {
        return Err(invalid(
            "a disk image cannot be changed by patches; change it with its own tools, or write the \
             files once the sandbox runs",
        ));
    }
    if config.snapshot_upper_source.is_some() {
        return Err(invalid(
            "what begins from a snapshot cannot be changed by patches; leave them out",
        ));
    }
    config.patches.iter().try_for_each(patch)
}

fn patch(patch: &Patch) -> MicrosandboxResult<()> {
    let (path, mode) = match patch {
        Patch::Text { path, mode, .. }
        | Patch::File { path, mode, .. }
        | Patch::Mkdir { path, mode } => (path, *mode),
        Patch::CopyFile { src, dst, mode, .. } => {
            source(src)?;
            (dst, *mode)
        }
        Patch::CopyDir { src, dst, .. } => {
            source(src)?;
            (dst, None)
        }
        Patch::Symlink { target, link, .. } => {
            if target.is_empty() || target.contains('\0') {
                return Err(invalid(format!("no link can say {target:?}")));
            }
            (link, None)
        }
        Patch::Remove { path } | Patch::Append { path, .. } => (path, None),
        // Whatever comes later says itself what it must be.
        _ => return Ok(()),
    };
    inside("a patch", path)?;
    match mode {
        Some(mode) if mode & !MODE_BITS != 0 => Err(invalid(format!(
            "the mode {mode:o} of {path:?} has more than permission bits"
        ))),
        _ => Ok(()),
    }
}

fn source(src: &Path) -> MicrosandboxResult<()> {
    match src.as_os_str().is_empty() {
        true => Err(invalid("a patch copies from an empty path")),
        false => Ok(()),
    }
}

/// Checks a path in the guest: absolute, below the root, and without a way back up.
fn inside(what: &str, path: &str) -> MicrosandboxResult<()> {
    let up = || path.split('/').any(|part| part == "..");
    if !path.starts_with('/') || path.contains('\0') || up() || path.split('/').all(str::is_empty) {
        return Err(invalid(format!(
            "{what} needs an absolute path in the guest below /, without \"..\"; {path:?} is none"
        )));
    }
    Ok(())
}
