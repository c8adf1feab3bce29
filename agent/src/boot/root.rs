//! Mounting the root file system, on a disk that is found out about first.

use std::fs::{File, read_to_string};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use msb_protocol::{BootRequest, BootStage, Root};
use rustix::fs::{Mode, mkdir};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount as mount_call};

use super::switch::NEW_ROOT;
use super::{BootError, disks, in_place};
use crate::log;

/// The disk that becomes the root when nobody says.
const DEFAULT_DEVICE: &str = "/dev/vda";

/// The one that does where that is not there: the first that is mapped. The kernel may still be at work on it.
const MAPPED_DEVICE: &str = "/dev/pmem0";
/// Where there are links named `virtio...` to devices of mapped disks.
const MAPPED_DRIVER: &str = "/sys/bus/virtio/drivers/virtio_pmem";

/// How long a disk may take to appear. Those that are there at start-up were found before
/// PID 1 began; this is for one that is slower.
pub(super) const APPEARS: Duration = Duration::from_secs(10);

/// What is booted when nobody says.
pub(super) fn default_request() -> BootRequest {
    let disk = |device: &str, read_only| Root::Disk {
        device: device.to_owned(),
        fstype: None,
        read_only,
    };
    let root = if disks::is_disk(Path::new(DEFAULT_DEVICE)) {
        disk(DEFAULT_DEVICE, is_read_only(DEFAULT_DEVICE))
    } else if has_mapped(Path::new(MAPPED_DRIVER)) {
        // Nobody can write to it, though the kernel does not know that.
        disk(MAPPED_DEVICE, true)
    } else {
        Root::Initramfs
    };
    BootRequest {
        root,
        hostname: None,
        env: Vec::new(),
    }
}

/// Mounts `device` where the new root is prepared.
pub(super) async fn mount(
    device: &str,
    fstype: Option<&str>,
    read_only: bool,
    patience: Duration,
) -> Result<(), BootError> {
    let disk = disks::at(device, patience).await?;
    match mkdir(NEW_ROOT, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(BootError::new(BootStage::Root, NEW_ROOT, error)),
    }
    file_system(&disk, NEW_ROOT, fstype, read_only)
}

/// Mounts what is on `disk` at `place`.
pub(super) fn file_system(
    disk: &Path,
    place: &str,
    fstype: Option<&str>,
    read_only: bool,
) -> Result<(), BootError> {
    let flags = if read_only {
        MountFlags::RDONLY
    } else {
        MountFlags::empty()
    };
    let candidates = match fstype {
        Some(fstype) => vec![fstype.to_owned()],
        None => in_likely_order(known_file_systems(), magic(disk)),
    };
    let guessing = fstype.is_none();
    // A wrong guess is no news for the console.
    let quiet = if guessing {
        MountFlags::SILENT
    } else {
        MountFlags::empty()
    };
    let mut refusals = Vec::new();
    for fstype in &candidates {
        let attempt = |options| mount_call(disk, place, fstype.as_str(), flags | quiet, options);
        let options = in_place::options(disk, fstype);
        if options.is_some() && attempt(options).is_ok() {
            if let Err(error) = in_place::whole_dumps() {
                log::info(&format!("dumps of programs will lack their data: {error}"));
            }
            return Ok(());
        }
        match attempt(None) {
            Ok(()) => return Ok(()),
            // Not one of these; the next may know it.
            Err(Errno::INVAL) if guessing => refusals.push(fstype.as_str()),
            Err(error) => {
                let access = if read_only { "" } else { " for writing" };
                return Err(BootError::new(
                    BootStage::Root,
                    format!("mounting {} as {fstype}{access}", disk.display()),
                    error,
                ));
            }
        }
    }
    Err(BootError::of(
        BootStage::Root,
        format!(
            "there is no file system on {} that this kernel knows ({})",
            disk.display(),
            refusals.join(", ")
        ),
    ))
}

/// Whether there is a mapped disk, or will be.
fn has_mapped(driver: &Path) -> bool {
    let devices = std::fs::read_dir(driver).into_iter().flatten().flatten();
    let mut names = devices.map(|device| device.file_name());
    names.any(|name| name.as_encoded_bytes().starts_with(b"virtio"))
}

/// Whether the kernel says that the disk cannot be written to.
fn is_read_only(device: &str) -> bool {
    let name = device.trim_start_matches("/dev/");
    read_to_string(format!("/sys/class/block/{name}/ro")).is_ok_and(|flag| flag.trim() == "1")
}

/// File systems of this kernel that live on a disk.
fn known_file_systems() -> Vec<String> {
    let list = read_to_string("/proc/filesystems").unwrap_or_default();
    list.lines()
        .filter_map(|line| line.strip_prefix('\t'))
        // Wants a program that serves it.
        .filter(|name| *name != "fuseblk")
        .map(str::to_owned)
        .collect()
}

/// What the disk's superblock looks like. It saves trying; it decides nothing.
fn magic(disk: &Path) -> Option<&'static str> {
    let mut start = [0; 2048];
    File::open(disk).ok()?.read_exact_at(&mut start, 0).ok()?;
    let at = |offset: usize, expected: &[u8]| {
        start
            .get(offset..)
            .is_some_and(|bytes| bytes.starts_with(expected))
    };
    if at(0x438, &[0x53, 0xef]) {
        Some("ext4")
    } else if at(0x400, &[0xe2, 0xe1, 0xf5, 0xe0]) {
        Some("erofs")
    } else if at(0, b"hsqs") {
        Some("squashfs")
    } else if at(0, b"XFSB") {
        Some("xfs")
    } else {
        None
    }
}

fn in_likely_order(mut known: Vec<String>, likely: Option<&str>) -> Vec<String> {
    if let Some(likely) = likely {
        // Stable: the rest stays in the kernel's order. ext4 also mounts ext2 and ext3.
        known.sort_by_key(|name| name != likely);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likely_file_system_is_tried_first_and_the_others_after_it() {
        let known = || vec!["ext3".to_owned(), "erofs".to_owned(), "ext4".to_owned()];
        assert_eq!(
            in_likely_order(known(), Some("ext4")),
            ["ext4", "ext3", "erofs"]
        );
        assert_eq!(in_likely_order(known(), Some("xfs")), known());
        assert_eq!(in_likely_order(known(), None), known());
    }

    #[test]
    fn a_mapped_disk_is_known_by_its_driver() {
        let driver = tempfile::tempdir().unwrap();
        assert!(!has_mapped(driver.path()) && !has_mapped(Path::new("/no/such")));
        for name in ["bind", "uevent", "unbind"] {
            std::fs::write(driver.path().join(name), "").unwrap();
        }
        assert!(!has_mapped(driver.path()));
        std::fs::create_dir(driver.path().join("virtio4")).unwrap();
        assert!(has_mapped(driver.path()));
    }

    #[test]
    fn superblocks_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let with = |offset: usize, bytes: &[u8]| {
            let mut disk = vec![0; 4096];
            disk[offset..offset + bytes.len()].copy_from_slice(bytes);
            std::fs::write(&path, disk).unwrap();
            magic(&path)
        };
        assert_eq!(with(0x438, &[0x53, 0xef]), Some("ext4"));
        assert_eq!(with(0x400, &[0xe2, 0xe1, 0xf5, 0xe0]), Some("erofs"));
        assert_eq!(with(0, &[]), None);
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(magic(&path), None);
    }
}
