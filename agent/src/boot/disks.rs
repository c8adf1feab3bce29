//! Finding disks: by the path of their device, or by the serial that the host gave them.
//!
//! A serial says which disk is which in whatever order they come.

use std::fs::{File, read_dir, read_to_string};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use msb_protocol::BootStage;
use rustix::fs::{SeekFrom, seek};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::time::timeout;

use super::BootError;
use crate::stream::{READ_MAX, Stream};

/// Where the kernel lists its disks.
const DISKS: &str = "/sys/block";

/// The most disks that are looked at; a machine of ours has room for far fewer.
const DISKS_MAX: usize = 256;

/// The kernel's group of uevents (the other, 2, is udev's).
const KERNEL_EVENTS: u32 = 1;

/// The disk whose device is at `path`, as soon as it is there.
pub(super) async fn at(path: &str, patience: Duration) -> Result<PathBuf, BootError> {
    if !path.starts_with("/dev/") {
        return Err(BootError::of(
            BootStage::Root,
            format!("the root disk {path:?} is not the path of a device, as /dev/vda is"),
        ));
    }
    let look = || Some(PathBuf::from(path)).filter(|path| is_disk(path));
    wait(&format!("the root disk {path}"), patience, look).await
}

/// The disk with this serial, as soon as it is there.
pub(super) async fn with_serial(serial: &str, patience: Duration) -> Result<PathBuf, BootError> {
    let name = format!("the disk with the serial {serial:?}");
    wait(&name, patience, || find(Path::new(DISKS), serial)).await
}

/// The bytes of a disk.
pub(super) fn size(disk: &Path) -> io::Result<u64> {
    Ok(seek(File::open(disk)?, SeekFrom::End(0))?)
}

pub(super) fn is_disk(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|data| data.file_type().is_block_device())
}

fn find(disks: &Path, serial: &str) -> Option<PathBuf> {
    let entries = read_dir(disks).ok()?.flatten().take(DISKS_MAX);
    let with = |entry: &std::fs::DirEntry| {
        let theirs = read_to_string(entry.path().join("serial"));
        theirs.is_ok_and(|theirs| theirs.trim_end() == serial)
    };
    let name = entries.into_iter().find(with)?.file_name();
    Some(Path::new("/dev").join(name))
}

/// Waits until `look` finds a disk, `name` in errors.
async fn wait(
    name: &str,
    patience: Duration,
    look: impl Fn() -> Option<PathBuf>,
) -> Result<PathBuf, BootError> {
    match timeout(patience, appears(look)).await {
        Ok(Ok(disk)) => Ok(disk),
        Ok(Err(error)) => Err(BootError::new(
            BootStage::Root,
            format!("waiting for {name}"),
            error,
        )),
        Err(_elapsed) => Err(BootError::of(
            BootStage::Root,
            format!("{name} did not appear; is it attached to the machine?"),
        )),
    }
}

/// The kernel tells of new devices after it has made their nodes, so looking again at each such event
/// misses nothing.
async fn appears(look: impl Fn() -> Option<PathBuf>) -> io::Result<PathBuf> {
    if let Some(disk) = look() {
        return Ok(disk);
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let events = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        flags,
        Some(KOBJECT_UEVENT),
    )?;
    bind(&events, &SocketAddrNetlink::new(0, KERNEL_EVENTS))?;
    let events = Stream::reader(events)?;
    loop {
        if let Some(disk) = look() {
            return Ok(disk);
        }
        match events.read(READ_MAX, |_event| ()).await {
            Ok(()) => {}
            // Events were lost: there were some.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, write};

    use super::*;

    #[test]
    fn disks_are_told_apart_by_their_serials() {
        let disks = tempfile::tempdir().unwrap();
        for (name, serial) in [
            ("vda", Some("upper")),
            ("vdb", Some("root\n")),
            ("loop0", None),
            ("vdc", Some("")),
        ] {
            create_dir(disks.path().join(name)).unwrap();
            if let Some(serial) = serial {
                write(disks.path().join(name).join("serial"), serial).unwrap();
            }
        }
        let found = |serial| find(disks.path(), serial);
        assert_eq!(found("root"), Some(PathBuf::from("/dev/vdb")));
        assert_eq!(found("upper"), Some(PathBuf::from("/dev/vda")));
        assert_eq!(found("roo"), None);
        assert_eq!(find(Path::new("/no/such"), "root"), None);
    }

    #[tokio::test(flavor = "local")]
    async fn what_does_not_come_is_named() {
        for error in [
            at("/dev/no-such-disk", Duration::ZERO).await.unwrap_err(),
            with_serial("no-such-disk", Duration::ZERO)
                .await
                .unwrap_err(),
        ] {
            assert!(error.message.contains("no-such-disk"), "{}", error.message);
            assert!(error.message.contains("attached"), "{}", error.message);
        }
        let odd = at("vda", Duration::ZERO).await.unwrap_err();
        assert!(odd.message.contains("/dev/vda"), "{}", odd.message);
    }
}
