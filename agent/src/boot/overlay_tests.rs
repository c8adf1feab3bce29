//! Overlays of memory, and what is in their two parts afterwards.

use std::fs::{self, Permissions, read_to_string};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use rustix::fs::{XattrFlags, getxattr, setxattr};

use super::*;
use crate::sys::private::in_root;

/// Memory in the place of a disk.
fn disk(place: &str) {
    mount("tmpfs", place, "tmpfs", MountFlags::empty(), c"mode=0700").unwrap();
}

/// A root with an image below, and an empty upper disk.
fn image() {
    for place in [LOWER, UPPER, NEW_ROOT, "/image", "/disk"] {
        fs::create_dir(place).unwrap();
    }
    disk("/image");
    disk("/disk");
    fs::create_dir("/image/etc").unwrap();
    fs::write("/image/etc/motd", "from the image").unwrap();
    fs::set_permissions("/image", Permissions::from_mode(0o1711)).unwrap();
    chown("/image", Some(7), Some(8)).unwrap();
    setxattr("/image", "trusted.mine", b"1", XattrFlags::empty()).unwrap();
    setxattr(
        "/image",
        "trusted.overlay.opaque",
        b"y",
        XattrFlags::empty(),
    )
    .unwrap();
}

/// Mounts both as a boot does. `false` where this kernel, or who runs this, cannot.
fn boot() -> Option<OwnedFd> {
    for (disk, place) in [("/image", LOWER), ("/disk", UPPER)] {
        rustix::mount::mount_bind(disk, place).unwrap();
    }
    match put_together() {
        Ok(kept) => Some(kept),
        Err(Errno::NODEV | Errno::PERM) => {
            eprintln!("skipped: no overlay can be mounted here");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn halt(kept: OwnedFd) {
    unmount(NEW_ROOT, UnmountFlags::empty()).unwrap();
    drop(kept);
}

#[test]
fn changes_last_and_the_image_stays_as_it_is() {
    in_root(|| {
        image();
        let Some(kept) = boot() else { return };
        let root = fs::metadata(NEW_ROOT).unwrap();
        assert_eq!(
            (root.mode() & 0o7777, root.uid(), root.gid()),
            (0o1711, 7, 8)
        );
        let mut value = [0; 8];
        let length = getxattr(NEW_ROOT, "trusted.mine", &mut value).unwrap();
        assert_eq!(&value[..length], b"1");
        // Nothing of the image is hidden by what it says of itself.
        let motd = format!("{NEW_ROOT}/etc/motd");
        assert_eq!(read_to_string(&motd).unwrap(), "from the image");

        fs::write(&motd, "changed").unwrap();
        fs::rename(format!("{NEW_ROOT}/etc"), format!("{NEW_ROOT}/moved")).unwrap();
        fs::create_dir(format!("{NEW_ROOT}/dev")).unwrap();
        fs::set_permissions(NEW_ROOT, Permissions::from_mode(0o700)).unwrap();
        // They are out of sight.
        assert_eq!(fs::read_dir(LOWER).unwrap().count(), 0);
        assert_eq!(fs::read_dir(UPPER).unwrap().count(), 0);
        halt(kept);

        assert_eq!(read_to_string("/image/etc/motd").unwrap(), "from the image");
        assert_eq!(fs::read_dir("/image").unwrap().count(), 1);
        let kept = boot().unwrap();
        let moved = format!("{NEW_ROOT}/moved/motd");
        assert_eq!(read_to_string(moved).unwrap(), "changed");
        assert!(!fs::exists(format!("{NEW_ROOT}/etc")).unwrap());
        assert_eq!(fs::metadata(NEW_ROOT).unwrap().mode() & 0o7777, 0o700);
        halt(kept);
    });
}

#[test]
fn a_first_boot_that_was_cut_short_is_begun_anew() {
    in_root(|| {
        image();
        fs::create_dir("/disk/work").unwrap();
        fs::create_dir("/disk/upper.new").unwrap();
        let Some(kept) = boot() else { return };
        assert_eq!(fs::metadata(NEW_ROOT).unwrap().uid(), 7);
        assert!(!fs::exists("/disk/upper.new").unwrap());
        halt(kept);
    });
}

#[test]
fn what_is_no_directory_on_the_disk_is_an_error() {
    in_root(|| {
        image();
        std::os::unix::fs::symlink("/image", "/disk/upper").unwrap();
        for (disk, place) in [("/image", LOWER), ("/disk", UPPER)] {
            rustix::mount::mount_bind(disk, place).unwrap();
        }
        assert!(put_together().is_err());
        assert!(fs::symlink_metadata("/disk/upper").unwrap().is_symlink());
    });
}

#[test]
fn at_the_end_the_disk_is_left_clean() {
    in_root(|| {
        image();
        let Some(kept) = boot() else { return };
        let file = format!("{NEW_ROOT}/file");
        fs::write(&file, "kept").unwrap();
        rustix::mount::mount_remount(NEW_ROOT, MountFlags::RDONLY, c"").unwrap();
        read_only(&kept).unwrap();
        assert!(fs::write("/disk/other", "").is_err());
        assert_eq!(read_to_string(&file).unwrap(), "kept");
    });
}
