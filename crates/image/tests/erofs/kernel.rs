//! Written by us, mounted by the kernel, where this process may mount and the kernel knows the format.
//!
//! Mounts are made in a namespace of their own, in which the test runs once more, so that nothing of
//! them is left, however it ends.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use msb_image::node::{Kind, Xattr};
use msb_image::tree::Inode;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::fs::makedev;

use crate::big;
use crate::golden;
use crate::model::{Any, Model, installed, models, run};

const INSIDE: &str = "MSB_TEST_UNSHARED";

/// Runs `test`, whose name is `name`, where it may mount.
fn where_mounts_are_allowed(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.contains("\terofs\n") || !installed("mkfs.erofs") || !may_mount() {
        println!("skipped: the kernel has no erofs, or this process may not mount");
        return;
    }
    let exe = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--mount", "--"])
        .arg(exe)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "see above");
}

/// Whether an image of somebody else's can be mounted.
fn may_mount() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (image, at) = (dir.path().join("image"), dir.path().join("at"));
    fs::create_dir(&at).unwrap();
    run("mkfs.erofs", &[], &[&image, &at]);
    let mounted = Command::new("unshare")
        .args(["--mount", "--", "mount", "-t", "erofs", "-o", "ro,loop"])
        .args([&image, &at])
        .output();
    mounted.is_ok_and(|output| output.status.success())
}

fn mounted(image: &Path, at: &Path, look: impl FnOnce()) {
    struct Mount<'a>(&'a Path);
    impl Drop for Mount<'_> {
        fn drop(&mut self) {
            run("umount", &[], &[self.0]);
        }
    }
    fs::create_dir_all(at).unwrap();
    run("mount", &["-t", "erofs", "-o", "ro,loop"], &[image, at]);
    let _mount = Mount(at);
    look();
}

#[test]
fn the_kernel_shows_the_tree() {
    where_mounts_are_allowed("kernel::the_kernel_shows_the_tree", || {
        let look = |model: &Model| {
            // The loop device of an image may outlive its mount a little, so each is another file.
            let dir = tempfile::tempdir().unwrap();
            let (image, at) = (dir.path().join("image"), dir.path().join("at"));
            fs::write(&image, model.disk_bytes()).unwrap();
            mounted(&image, &at, || compare(model, &at));
        };
        look(&golden::small());
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 24,
            max_shrink_iters: 200,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let any = Any {
            devices: true,
            extremes: true,
        };
        let all = runner.run(&models(any), |model| {
            look(&model);
            Ok(())
        });
        all.unwrap();
    });
}

#[test]
fn the_kernel_finds_bytes_beyond_4_gib() {
    where_mounts_are_allowed("kernel::the_kernel_finds_bytes_beyond_4_gib", || {
        let dir = tempfile::tempdir().unwrap();
        let (image, at) = (dir.path().join("image"), dir.path().join("at"));
        big::sparse_disk(&image);
        mounted(&image, &at, || {
            big::compare(|name, offset| {
                let file = File::open(at.join(name)).unwrap();
                let size = file.metadata().unwrap().len();
                let mut bytes = vec![0; usize::try_from(size - offset).unwrap()];
                file.read_exact_at(&mut bytes, offset).unwrap();
                bytes
            });
        });
    });
}

fn compare(model: &Model, root: &Path) {
    let mut numbers = HashMap::new();
    for (path, id) in model.tree.walk() {
        let inode = model.tree.inode(id);
        let at = root.join(OsStr::from_bytes(&path));
        let found = fs::symlink_metadata(&at).unwrap();
        assert_eq!(
            *numbers.entry(id).or_insert(found.ino()),
            found.ino(),
            "{at:?}"
        );
        let attributes = &inode.node.attributes;
        let of_node = (attributes.uid, attributes.gid, u32::from(attributes.mode));
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o7777),
            of_node,
            "{at:?}"
        );
        let time = (attributes.mtime, i64::from(attributes.mtime_nsec));
        assert_eq!((found.mtime(), found.mtime_nsec()), time, "{at:?}");
        if !inode.is_directory() {
            assert_eq!(found.nlink(), u64::from(model.tree.links(id)), "{at:?}");
        }
        compare_kind(model, inode, &at, &found);
        assert_eq!(xattrs(&at), expected_xattrs(inode), "{at:?}");
    }
}

fn compare_kind(model: &Model, inode: &Inode, at: &Path, found: &fs::Metadata) {
    let kind = found.file_type();
    let same = match &inode.node.kind {
        Kind::File(file) => {
            assert_eq!(found.len(), file.content.size, "{at:?}");
            fs::read(at).unwrap() == model.contents(file)
        }
        Kind::Directory => {
            let subdirectories = inode
                .children
                .values()
                .filter(|id| model.tree.inode(**id).is_directory());
            assert_eq!(found.nlink(), 2 + subdirectories.count() as u64, "{at:?}");
            let names = fs::read_dir(at)
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            names.eq(inode.children.keys().map(|name| OsStr::from_bytes(name)))
        }
        Kind::Symlink(target) => fs::read_link(at).unwrap().as_os_str().as_bytes() == target,
        Kind::CharDevice(device) => {
            kind.is_char_device() && found.rdev() == makedev(device.major, device.minor)
        }
        Kind::BlockDevice(device) => {
            kind.is_block_device() && found.rdev() == makedev(device.major, device.minor)
        }
        Kind::Fifo => kind.is_fifo(),
        Kind::Socket => kind.is_socket(),
    };
    assert!(same, "{at:?}: {:?}", inode.node.kind);
}

/// Those that the kernel gives out. Of links and devices it does not give out all that it lists.
fn xattrs(at: &Path) -> Vec<Xattr> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(at, &mut names).unwrap();
    let names = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    let mut all: Vec<_> = names
        .filter_map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = rustix::fs::lgetxattr(at, OsStr::from_bytes(name), &mut value).ok()?;
            value.truncate(length);
            let name = name.to_vec();
            Some(Xattr { name, value })
        })
        .collect();
    all.sort_unstable();
    all
}

fn expected_xattrs(inode: &Inode) -> Vec<Xattr> {
    let common = matches!(inode.node.kind, Kind::File(_) | Kind::Directory);
    let link = matches!(inode.node.kind, Kind::Symlink(_));
    let mut all = inode.node.attributes.xattrs.clone();
    all.retain(|xattr| match xattr.name.as_slice() {
        name if name.starts_with(b"other.") => false,
        name if name.starts_with(b"user.") => common,
        name if name.starts_with(b"system.") => !link,
        _ => true,
    });
    all
}
