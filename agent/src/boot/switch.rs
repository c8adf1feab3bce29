//! Making the mounted disk `/`.
//!
//! An initramfs cannot be unmounted and `pivot_root` refuses it, so the new root is moved
//! on top of it and entered. Unlike a plain `chroot` this leaves nothing to climb out to,
//! and the kernel knows it: user namespaces go on working. The old root's files would stay
//! in memory for good and are deleted.

use std::os::fd::OwnedFd;

use msb_protocol::BootStage;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, open, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::mount::mount_move;
use rustix::process::{chdir, chroot};

use super::{BootError, memory};
use crate::log;

/// Where the new root is before it is `/`.
pub(super) const NEW_ROOT: &str = "/newroot";

/// How deep an initramfs is followed when its files are deleted.
const DEPTH_MAX: usize = 32;

/// The initramfs, after its files are out of reach.
#[derive(Debug)]
pub(super) struct OldRoot {
    root: OwnedFd,
}

/// Makes what is mounted at [`NEW_ROOT`] the root.
pub(super) fn switch_root() -> Result<OldRoot, BootError> {
    let at =
        |what: &'static str| move |error: Errno| BootError::new(BootStage::SwitchRoot, what, error);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open("/", flags, Mode::empty()).map_err(at("opening the initramfs"))?;
    let new = open(NEW_ROOT, flags, Mode::empty()).map_err(at("opening the root disk"))?;
    for system in ["dev", "proc", "sys"] {
        // On a directory that was looked at: a link there would lead somewhere in the initramfs.
        let moved = memory::directory(&new, system)
            .and_then(|place| memory::shift(&format!("/{system}"), place));
        moved.map_err(|error| {
            BootError::new(
                BootStage::SwitchRoot,
                format!("moving /{system} to the root disk, which needs a directory of that name"),
                error,
            )
        })?;
    }
    chdir(NEW_ROOT).map_err(at("entering the root disk"))?;
    mount_move(".", "/").map_err(at("moving the root disk to /"))?;
    chroot(".").map_err(at("making the root disk /"))?;
    chdir("/").map_err(at("entering /"))?;
    Ok(OldRoot { root })
}

impl OldRoot {
    /// Deletes the initramfs's files, which gives their memory back.
    pub(super) fn free(self) {
        let freed =
            fstat(&self.root).and_then(|stat| delete_below(&self.root, stat.st_dev, DEPTH_MAX));
        if let Err(error) = freed {
            log::info(&format!("the initramfs was not freed: {error}"));
        }
    }
}

/// Deletes everything below `directory` that is on `device`, this file system, itself.
fn delete_below(directory: &OwnedFd, device: u64, depth: usize) -> Result<(), Errno> {
    if depth == 0 {
        return Err(Errno::LOOP);
    }
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_dev != device {
            continue;
        }
        let flags = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = openat(directory, name, flags, Mode::empty())?;
            delete_below(&below, device, depth - 1)?;
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        match unlinkat(directory, name, flags) {
            // Somebody uses it as a mount point.
            Ok(()) | Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
