//! Settings, in a root of one's own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use msb_types::{MAX_SCRIPT_BYTES, MAX_SCRIPTS};
use proptest::prelude::*;
use rustix::fs::{StatVfs, StatVfsMountFlags, statvfs};

use super::*;
use crate::sys::private::in_root;

fn memory_at(path: &str) -> Tmpfs {
    Tmpfs {
        path: path.to_owned(),
        size_bytes: None,
        read_only: false,
        noexec: false,
        nosuid: false,
        nodev: false,
    }
}

fn applied(settings: impl IntoIterator<Item = Setting>) -> Result<(), String> {
    let mut wanted = Wanted::default();
    for setting in settings {
        wanted.take(setting);
    }
    let all = wanted.check().and_then(|()| wanted.apply());
    all.map_err(|error| {
        assert_eq!(error.stage, BootStage::Settings);
        error.message
    })
}

fn mounted(paths: &[&str]) -> Result<(), String> {
    applied(paths.iter().map(|path| Setting::Tmpfs(memory_at(path))))
}

fn looked_at(path: &str) -> StatVfs {
    statvfs(path).unwrap()
}

fn is_mount(path: &str) -> bool {
    fs::metadata(path).unwrap().dev() != fs::metadata("/").unwrap().dev()
}

fn script(name: &str, data: &str) -> Setting {
    Setting::Script {
        name: name.to_owned(),
        data: data.to_owned().into(),
    }
}

#[test]
fn memory_is_as_large_and_as_strict_as_was_asked_for() {
    in_root(|| {
        let strict = Tmpfs {
            size_bytes: Some(1 << 20),
            noexec: true,
            nosuid: true,
            nodev: true,
            ..memory_at("/a/strict")
        };
        let fixed = Tmpfs {
            read_only: true,
            ..memory_at("/fixed")
        };
        let settings = [strict, fixed, memory_at("/plain")];
        applied(settings.map(Setting::Tmpfs)).unwrap();

        let seen = looked_at("/a/strict");
        assert_eq!(seen.f_blocks * seen.f_frsize, 1 << 20);
        let all = StatVfsMountFlags::NOEXEC | StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV;
        assert!(seen.f_flag.contains(all));
        assert!(!seen.f_flag.contains(StatVfsMountFlags::RDONLY));
        let mode = fs::metadata("/a/strict").unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
        assert!(fs::write("/a/strict/much", vec![1; 2 << 20]).is_err());

        assert!(
            looked_at("/fixed")
                .f_flag
                .contains(StatVfsMountFlags::RDONLY)
        );
        assert!(fs::write("/fixed/x", "").is_err());
        assert!(!looked_at("/plain").f_flag.intersects(all));
        fs::write("/plain/x", "").unwrap();
    });
}

#[test]
fn in_a_restricted_guest_memory_has_no_set_uid_and_no_devices() {
    in_root(|| {
        applied([Setting::Restricted, Setting::Tmpfs(memory_at("/x"))]).unwrap();
        let flags = looked_at("/x").f_flag;
        assert!(flags.contains(StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV));
        assert!(!flags.contains(StatVfsMountFlags::NOEXEC));
    });
}

#[test]
fn memory_in_memory_is_not_hidden_whatever_comes_first() {
    in_root(|| {
        mounted(&["/a/b/c", "/a-b", "/a", "//a/./b/"]).unwrap();
        for path in ["/a", "/a-b", "/a/b", "/a/b/c"] {
            assert!(is_mount(path), "{path}");
        }
        assert_ne!(looked_at("/a").f_fsid, looked_at("/a/b").f_fsid);
    });
}

#[test]
fn links_of_the_image_are_followed_within_it() {
    in_root(|| {
        fs::create_dir_all("/real/run").unwrap();
        symlink("/real", "/var").unwrap();
        mounted(&["/var/run", "/var/made/here"]).unwrap();
        assert!(is_mount("/real/run") && is_mount("/real/made/here"));
    });
}

#[test]
fn an_image_that_is_in_the_way_is_an_error_that_says_where() {
    in_root(|| {
        symlink("/loop", "/loop").unwrap();
        symlink("/nowhere", "/dangling").unwrap();
        symlink("/dev", "/kernels").unwrap();
        symlink("/", "/all").unwrap();
        fs::write("/file", "").unwrap();
        for path in [
            "/loop",
            "/dangling",
            "/kernels",
            "/all",
            "/file",
            "/file/x",
            "/dev",
        ] {
            let error = mounted(&[path]).unwrap_err();
            assert!(error.contains(path), "{error}");
        }
        assert!(!is_mount("/dev"));
        // There it is anyone's.
        mounted(&["/dev/shm"]).unwrap();
    });
}

#[test]
fn what_makes_no_sense_is_refused_before_the_root_is_there() {
    for path in ["", "x", "/", "/.", "/a/../b", "/.msb/x", "/a\0b"] {
        assert!(mounted(&[path]).is_err(), "{path:?}");
    }
    assert!(mounted(&[&"/x".repeat(MAX_TMPFS_PATH)]).is_err());
    assert!(mounted(&["/a", "/a/"]).unwrap_err().contains("twice"));
    let nothing = Tmpfs {
        size_bytes: Some(0),
        ..memory_at("/x")
    };
    assert!(applied([Setting::Tmpfs(nothing)]).is_err());
    let many = (0..=MAX_TMPFS).map(|n| Setting::Tmpfs(memory_at(&format!("/{n}"))));
    let mut wanted = Wanted::default();
    many.for_each(|setting| wanted.take(setting));
    assert!(wanted.check().is_err());
}

#[test]
fn scripts_are_roots_and_executable_and_whole() {
    in_root(|| {
        fs::create_dir_all("/etc/profile.d").unwrap();
        // A link of our name leads nowhere, and is replaced.
        fs::write("/victim", "untouched").unwrap();
        symlink("/victim", "/etc/profile.d/microsandbox.sh").unwrap();
        let parts = [
            script("tool", "#!/bin/sh\n"),
            script("tool", "echo tool\n"),
            script("empty", ""),
        ];
        applied(parts.clone()).unwrap();
        let file = fs::metadata("/.msb/scripts/tool").unwrap();
        assert_eq!((file.uid(), file.gid()), (0, 0));
        assert_eq!(file.permissions().mode() & 0o7777, 0o755);
        let text = fs::read_to_string("/.msb/scripts/tool").unwrap();
        assert_eq!(text, "#!/bin/sh\necho tool\n");
        assert_eq!(fs::read("/.msb/scripts/empty").unwrap(), b"");
        assert!(is_mount("/.msb"));
        let flags = looked_at("/.msb").f_flag;
        assert!(flags.contains(StatVfsMountFlags::NOSUID | StatVfsMountFlags::NODEV));

        let profile = "/etc/profile.d/microsandbox.sh";
        assert!(
            fs::read_to_string(profile)
                .unwrap()
                .contains("/.msb/scripts")
        );
        assert!(fs::symlink_metadata(profile).unwrap().is_file());
        assert_eq!(fs::read_to_string("/victim").unwrap(), "untouched");
        assert_eq!(fs::read_dir("/etc/profile.d").unwrap().count(), 1);
        // The next boot finds it written.
        let written = fs::metadata(profile).unwrap().ino();
        applied(parts).unwrap();
        assert_eq!(fs::metadata(profile).unwrap().ino(), written);
    });
}

#[test]
fn scripts_need_no_profile_and_make_none() {
    in_root(|| {
        applied([script("tool", "")]).unwrap();
        assert!(fs::metadata("/.msb/scripts/tool").is_ok());
        assert!(fs::metadata("/etc").is_err());
    });
}

#[test]
fn a_link_in_the_place_of_the_scripts_is_an_error() {
    in_root(|| {
        fs::create_dir("/elsewhere").unwrap();
        symlink("/elsewhere", "/.msb").unwrap();
        let error = applied([script("tool", "")]).unwrap_err();
        assert!(error.contains("/.msb"), "{error}");
        assert!(!is_mount("/elsewhere"));
    });
}

#[test]
fn scripts_have_limits() {
    in_root(|| {
        assert!(applied([script("a/b", "")]).is_err());
        assert!(applied([script("..", "")]).is_err());
        let half = "x".repeat(MAX_SCRIPT_BYTES / 2 + 1);
        assert!(applied([script("a", &half), script("a", &half)]).is_err());
        let again = applied([script("a", ""), script("b", ""), script("a", "")]);
        assert!(again.unwrap_err().contains("twice"));
        let many = (0..=MAX_SCRIPTS).map(|n| script(&n.to_string(), ""));
        assert!(applied(many).is_err());
    });
}

proptest! {
    #[test]
    fn a_path_becomes_plain_or_is_refused(path in "[/.a]{0,12}") {
        if let Ok(to) = plain(&path) {
            prop_assert!(to.starts_with('/') && to.len() > 1);
            let names: Vec<_> = to.split('/').skip(1).collect();
            prop_assert!(!names.iter().any(|name| matches!(*name, "" | "." | "..")));
            prop_assert_eq!(plain(&to), Ok(to.clone()));
        }
    }
}

#[test]
fn the_images_working_directory_is_made_where_it_is_missing() {
    in_root(|| {
        let dir = |path: &str| Setting::WorkingDir(path.to_owned());
        // After memory, whatever comes first.
        applied([dir("/cache/app"), Setting::Tmpfs(memory_at("/cache"))]).unwrap();
        assert!(is_mount("/cache/app"));
        // Through a link of the root's, and never out of the root.
        fs::create_dir("/srv").unwrap();
        symlink("/srv", "/link").unwrap();
        symlink("../../../../up", "/out").unwrap();
        fs::create_dir("/up").unwrap();
        applied([dir("/link/a/b/")]).unwrap();
        applied([dir("/out/a")]).unwrap();
        assert!(fs::metadata("/up/a").unwrap().is_dir());
        for path in ["/srv/a", "/srv/a/b"] {
            let made = fs::metadata(path).unwrap();
            assert!(made.is_dir());
            assert_eq!((made.uid(), made.gid()), (0, 0));
            assert_eq!(made.permissions().mode() & 0o7777, 0o755);
        }
        // What is there stays as it is.
        fs::set_permissions("/srv/a", fs::Permissions::from_mode(0o700)).unwrap();
        applied([dir("/srv/a")]).unwrap();
        let kept = fs::metadata("/srv/a").unwrap();
        assert_eq!(kept.permissions().mode() & 0o7777, 0o700);
        // What cannot be is no boot that fails.
        fs::write("/file", "").unwrap();
        symlink("/nowhere", "/dangling").unwrap();
        let long = format!("/{}", "a/".repeat(4000));
        for path in [
            "/file",
            "/file/a",
            "/dangling",
            "relative",
            "/a\0b",
            "",
            &long,
        ] {
            applied([dir(path)]).unwrap();
        }
        assert!(!fs::exists("/nowhere").unwrap() && !fs::exists("/a").unwrap());
    });
}
