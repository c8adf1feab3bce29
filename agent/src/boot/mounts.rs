//! The kernel's own file systems: /dev, /proc, /sys and what belongs below them.
//!
//! They are mounted in the initramfs, while the supervisor is being dialled, and move to the
//! root later with everything on them.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use msb_protocol::BootStage;
use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fchmod, fstat, fstatvfs, mkdir, open, symlink};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::umask;

use super::BootError;
use crate::log;
use crate::sys::signal::ignore_broken_pipes;

/// The first words of a guest: a boot that gets no further than this has a console and an agent.
const BANNER: &[u8] = b"msb-agent: init\n";

struct Mount {
    kind: &'static CStr,
    target: &'static CStr,
    flags: MountFlags,
    options: &'static CStr,
    needed: bool,
}

const QUIET: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

const DEV: Mount = Mount {
    kind: c"devtmpfs",
    target: c"/dev",
    flags: MountFlags::NOSUID,
    options: c"mode=0755",
    needed: true,
};

const SYSTEM: [Mount; 6] = [
    Mount {
        kind: c"proc",
        target: c"/proc",
        flags: QUIET,
        options: c"",
        needed: true,
    },
    Mount {
        kind: c"sysfs",
        target: c"/sys",
        flags: QUIET,
        options: c"",
        needed: true,
    },
    Mount {
        kind: c"cgroup2",
        target: c"/sys/fs/cgroup",
        flags: QUIET,
        options: c"nsdelegate",
        needed: false,
    },
    Mount {
        kind: c"devpts",
        target: c"/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        // Group 5 is `tty` in every distribution.
        options: c"gid=5,mode=620,ptmxmode=666",
        needed: false,
    },
    Mount {
        kind: c"tmpfs",
        target: c"/dev/shm",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        options: c"mode=1777",
        needed: false,
    },
    Mount {
        kind: c"mqueue",
        target: c"/dev/mqueue",
        flags: QUIET,
        options: c"",
        needed: false,
    },
];

const RUN: Mount = Mount {
    kind: c"tmpfs",
    target: c"/run",
    flags: MountFlags::NOSUID.union(MountFlags::NODEV),
    options: c"mode=0755",
    needed: false,
};

const TMP: Mount = Mount {
    kind: c"tmpfs",
    target: c"/tmp",
    flags: MountFlags::NOSUID.union(MountFlags::NODEV),
    options: c"mode=1777",
    needed: false,
};

/// Links that programs expect in /dev.
const LINKS: [(&CStr, &CStr); 4] = [
    (c"/proc/self/fd", c"/dev/fd"),
    (c"/proc/self/fd/0", c"/dev/stdin"),
    (c"/proc/self/fd/1", c"/dev/stdout"),
    (c"/proc/self/fd/2", c"/dev/stderr"),
];

/// What has to be right before the event loop can be made: standard streams that are open,
/// so that nothing else gets their numbers.
pub fn first_steps() {
    ignore_broken_pipes();
    umask(Mode::WGRP | Mode::WOTH);
    // Fails if the kernel found no console to open for us.
    let _ = rustix::io::write(rustix::stdio::stdout(), BANNER);
    // If this fails there is no console and no disk; `system` says so, to the supervisor.
    let _ = DEV.mount();
    open_standard_streams();
}

fn open_standard_streams() {
    for device in [c"/dev/console", c"/dev/null"] {
        // The lowest free number is given out, so this goes on until all three are taken.
        while let Ok(fd) = open(device, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()) {
            if std::os::fd::AsRawFd::as_raw_fd(&fd) > 2 {
                return;
            }
            std::mem::forget(fd);
        }
    }
}

/// Mounts what every guest has.
pub(super) fn system() -> Result<(), BootError> {
    let fail = |mount: &Mount, error: Errno| {
        let target = mount.target.to_string_lossy();
        BootError::new(BootStage::Filesystems, format!("mounting {target}"), error)
    };
    // Again, for its error: it is mounted if all is well.
    DEV.mount().map_err(|error| fail(&DEV, error))?;
    for entry in &SYSTEM {
        match entry.mount() {
            Ok(()) => {}
            Err(error) if entry.needed => return Err(fail(entry, error)),
            Err(_not_in_this_kernel) => {}
        }
    }
    for (target, link) in LINKS {
        // Where one is already, it stays.
        let _ = symlink(target, link);
    }
    Ok(())
}

/// What is the root's to have where it has room for it: `/run`, which is memory, and `/tmp`.
pub(super) fn for_root() {
    if let Err(error) = RUN.mount() {
        log::info(&format!("no /run: {error}"));
    }
    if let Err(error) = tmp() {
        log::info(&format!("/tmp is not for everyone: {error}"));
    }
}

/// Has `/tmp` be a directory for everyone; memory, if the root cannot be written to. One that is no
/// directory is what the image wants it to be.
fn tmp() -> Result<(), Errno> {
    let everyone = Mode::from_raw_mode(0o1777);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match open(TMP.target, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            mkdir(TMP.target, everyone)?;
            open(TMP.target, flags, Mode::empty())
        }
        other => other,
    };
    let directory = match opened {
        Err(Errno::LOOP | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    if Mode::from_raw_mode(fstat(&directory)?.st_mode).contains(everyone) {
        return match writable(&directory) {
            true => Ok(()),
            false => TMP.mount(),
        };
    }
    match fchmod(&directory, everyone) {
        Err(Errno::ROFS) => TMP.mount(),
        other => other,
    }
}

fn writable(directory: &OwnedFd) -> bool {
    fstatvfs(directory).is_ok_and(|root| !root.f_flag.contains(StatVfsMountFlags::RDONLY))
}

impl Mount {
    fn mount(&self) -> Result<(), Errno> {
        match self.attempt() {
            Err(Errno::NOENT) => {
                mkdir(self.target, Mode::from_raw_mode(0o755))?;
                self.attempt()
            }
            other => other,
        }
    }

    fn attempt(&self) -> Result<(), Errno> {
        match mount(self.kind, self.target, self.kind, self.flags, self.options) {
            // It was mounted before.
            Err(Errno::BUSY) => Ok(()),
            other => other,
        }
    }
}
