//! The agent's own view of `/dev`.
//!
//! An init may mount another `/dev` over the one that the guest was brought up with, and what hangs
//! below that is out of sight then. Commands need `/dev/null` and terminals all the same, so the
//! directory is kept open: by it, everything is where it was.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, openpt};

static KEPT: OnceLock<OwnedFd> = OnceLock::new();

/// Keeps what `/dev` is now. What was kept before stays.
pub(crate) fn keep() -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, "/dev", flags, Mode::empty())?;
    let _ = KEPT.set(directory);
    Ok(())
}

/// `/dev/null`, to be read.
pub(crate) fn null() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(match KEPT.get() {
        Some(dev) => openat(dev, "null", flags, Mode::empty())?,
        None => openat(CWD, "/dev/null", flags, Mode::empty())?,
    })
}

/// A new terminal's side that is ours.
pub(crate) fn terminal() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    // The one of the terminals' own file system: that in /dev looks for it beside itself.
    let kept = KEPT
        .get()
        .map(|dev| openat(dev, "pts/ptmx", flags, Mode::empty()));
    match kept {
        Some(Ok(terminal)) => Ok(terminal),
        Some(Err(_)) | None => {
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            Ok(openpt(flags)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::read;

    use rustix::mount::{MountFlags, mount};

    use super::*;
    use crate::sys::private::in_root;

    /// All of it in one test: what is kept is the process's.
    #[test]
    fn another_dev_on_top_changes_nothing() {
        in_root(|| {
            mount("devtmpfs", "/dev", "devtmpfs", MountFlags::empty(), None).unwrap();
            let options = c"newinstance,ptmxmode=0666";
            mount("devpts", "/dev/pts", "devpts", MountFlags::empty(), options).unwrap();
            keep().unwrap();
            mount("tmpfs", "/dev", "tmpfs", MountFlags::empty(), None).unwrap();
            assert!(read("/dev/null").is_err());
            let null = null().unwrap();
            assert_eq!(rustix::io::read(&null, &mut [0; 1]), Ok(0));
            let ours = terminal().unwrap();
            rustix::pty::unlockpt(&ours).unwrap();
            rustix::pty::ioctl_tiocgptpeer(&ours, OpenptFlags::RDWR).unwrap();
            // Nothing else is there.
            assert!(openpt(OpenptFlags::RDWR).is_err());
        });
    }
}
