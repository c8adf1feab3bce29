//! Patches by example, on a small image: what a guest would then see, and that the layer says just that.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::node::Device;
use crate::tree::TreeError;

/// An image of one layer, and the blob of that.
struct Image {
    tree: Tree,
    blob: File,
}

/// What patches made of an image.
#[derive(Debug)]
struct Patched {
    tree: Tree,
    layer: Layer,
    blobs: [File; 2],
}

fn put(path: &str, kind: Kind<Content>) -> Change {
    let attributes = Attributes {
        mode: 0o750,
        uid: 7,
        mtime: 1_000,
        ..Attributes::default()
    };
    Change {
        path: path.into(),
        action: Action::Put(Node { attributes, kind }),
    }
}

fn image() -> Image {
    let mut file = tempfile::tempfile().unwrap();
    let mut blob = BlobWriter::new(&mut file);
    let mut content = |parts: &[(&[u8], u64)]| {
        let mut file = blob.file();
        for (bytes, hole) in parts {
            file.data(bytes).unwrap();
            file.hole(*hole).unwrap();
        }
        Kind::File(file.finish().unwrap())
    };
    let link = |target: &str| Kind::Symlink(target.into());
    let mut changes = vec![
        put("etc/hosts", content(&[(b"localhost\n", 0)])),
        put(
            "usr/lib/holes",
            content(&[(b"begin", 1 << 20), (b"end", 0)]),
        ),
        put("lib", link("usr/lib")),
        put("etc/link", link("/etc/hosts")),
        put("etc/dangling", link("nowhere")),
        put("etc/loop", link("loop")),
        put("dev/null", Kind::CharDevice(Device { major: 1, minor: 3 })),
        put("var/empty", Kind::Directory),
    ];
    let target = b"etc/hosts".to_vec();
    changes.push(Change {
        path: b"etc/hosts.2".to_vec(),
        action: Action::Link { target },
    });
    let layer = Layer {
        changes,
        data_bytes: blob.finish().unwrap(),
    };
    let tree = Tree::merge([&layer], &Limits::default()).unwrap();
    Image { tree, blob: file }
}

fn patched_within(patches: &[Patch], limits: &Limits) -> Result<Patched> {
    let Image { tree, blob } = image();
    let data = tempfile::tempfile().unwrap();
    let layer = layer(&tree, &[&blob], patches, &data, limits)?;
    assert_eq!(data.metadata().unwrap().len(), layer.data_bytes);
    let bytes = layer.to_bytes().unwrap();
    assert_eq!(Layer::from_bytes(&bytes, limits).unwrap(), layer);
    let mut after = tree;
    after.apply(&layer, 1, limits).unwrap();
    Ok(Patched {
        tree: after,
        layer,
        blobs: [blob, data],
    })
}

fn patched(patches: &[Patch]) -> Result<Patched> {
    patched_within(patches, &Limits::default())
}

impl Patched {
    #[track_caller]
    fn node(&self, path: &str) -> &Node<FileContent> {
        let id = self.tree.lookup(path.as_bytes());
        &self
            .tree
            .inode(id.unwrap_or_else(|| panic!("no {path}")))
            .node
    }

    #[track_caller]
    fn text(&self, path: &str) -> String {
        let Kind::File(file) = &self.node(path).kind else {
            panic!("{path}: {:?}", self.node(path))
        };
        let length = usize::try_from(file.content.size).unwrap();
        let mut bytes = vec![0; length];
        for piece in &file.content.pieces {
            let at = usize::try_from(piece.at).unwrap();
            let end = at + usize::try_from(piece.len).unwrap();
            let blob = &self.blobs[file.layer];
            blob.read_exact_at(&mut bytes[at..end], piece.blob).unwrap();
        }
        String::from_utf8(bytes).unwrap()
    }

    fn has(&self, path: &str) -> bool {
        self.tree.lookup(path.as_bytes()).is_some()
    }

    /// The paths that the layer changes.
    fn paths(&self) -> Vec<String> {
        let changes = self.layer.changes.iter();
        changes
            .map(|change| String::from_utf8(change.path.clone()).unwrap())
            .collect()
    }
}

fn text(path: &str, content: &str, replace: bool) -> Patch {
    Patch::Text {
        path: path.into(),
        content: content.into(),
        mode: None,
        replace,
    }
}

fn append(path: &str, content: &str) -> Patch {
    Patch::Append {
        path: path.into(),
        content: content.into(),
    }
}

fn remove(path: &str) -> Patch {
    Patch::Remove { path: path.into() }
}

fn mkdir(path: &str, mode: Option<u32>) -> Patch {
    Patch::Mkdir {
        path: path.into(),
        mode,
    }
}

fn link(target: &str, link: &str, replace: bool) -> Patch {
    Patch::Symlink {
        target: target.into(),
        link: link.into(),
        replace,
    }
}

fn copy_dir(src: &Path, dst: &str, replace: bool) -> Patch {
    Patch::CopyDir {
        src: src.into(),
        dst: dst.into(),
        replace,
    }
}

fn copy_file(src: &Path, dst: &str) -> Patch {
    Patch::CopyFile {
        src: src.into(),
        dst: dst.into(),
        mode: None,
        replace: false,
    }
}

#[test]
fn no_patches_change_nothing() {
    let patched = patched(&[]).unwrap();
    assert_eq!(patched.layer, Layer::default());
}

#[test]
fn files_are_written_with_the_directories_above_them() {
    let patched = patched(&[
        text("/srv/app/conf.d/a", "hello", false),
        Patch::File {
            path: "/srv/b".into(),
            content: vec![0, 255],
            mode: Some(0o4711),
            replace: false,
        },
    ])
    .unwrap();
    assert_eq!(patched.text("srv/app/conf.d/a"), "hello");
    let paths = [
        "srv",
        "srv/app",
        "srv/app/conf.d",
        "srv/app/conf.d/a",
        "srv/b",
    ];
    assert_eq!(patched.paths(), paths);
    let modes = paths.map(|path| patched.node(path).attributes.mode);
    assert_eq!(modes, [0o755, 0o755, 0o755, 0o644, 0o4711]);
    for path in paths {
        let attributes = &patched.node(path).attributes;
        assert_eq!((attributes.uid, attributes.gid), (0, 0));
        assert!(attributes.mtime > 1_600_000_000);
    }
    // What was there is untouched.
    assert_eq!(patched.node("etc").attributes.mtime, 0);
}

#[test]
fn files_are_replaced_only_when_that_is_said() {
    let refused = patched(&[text("/etc/hosts", "mine", false)]);
    assert!(matches!(refused, Err(PatchError::Exists(path)) if path == "/etc/hosts"));
    let patched = patched(&[text("/etc/hosts", "mine", true)]).unwrap();
    assert_eq!(patched.text("etc/hosts"), "mine");
    // Another name of the old file is not of the new one.
    assert_eq!(patched.text("etc/hosts.2"), "localhost\n");
    assert_eq!(patched.paths(), ["etc/hosts"]);
}

#[test]
fn directories_are_never_replaced_by_files() {
    for path in ["/etc", "/", "/lib/.", "/new/", "/new/."] {
        for patch in [text(path, "x", true), link("x", path, true)] {
            let refused = patched(&[patch]);
            assert!(
                matches!(refused, Err(PatchError::IsADirectory(_))),
                "{path}: {refused:?}"
            );
        }
    }
}

#[test]
fn paths_lead_through_links_in_the_image_and_not_further() {
    let patched = patched(&[
        text("/lib/a", "a", false),
        link("/../../../etc", "/out", false),
        text("/out/b", "b", false),
        // The last name is not followed: the link is what is replaced.
        text("/etc/link", "c", true),
    ])
    .unwrap();
    assert_eq!(patched.text("usr/lib/a"), "a");
    assert_eq!(patched.text("etc/b"), "b");
    assert_eq!(patched.text("etc/link"), "c");
    assert_eq!(patched.text("etc/hosts"), "localhost\n");
    assert_eq!(patched.paths(), ["etc/b", "etc/link", "out", "usr/lib/a"]);
    let refused = self::patched(&[text("/etc/loop/x", "", false)]);
    assert!(
        matches!(refused, Err(PatchError::Unreachable { .. })),
        "{refused:?}"
    );
    let refused = self::patched(&[text("/etc/hosts/x", "", false)]);
    assert!(
        matches!(refused, Err(PatchError::Unreachable { .. })),
        "{refused:?}"
    );
}

#[test]
fn links_are_made_as_they_are_said() {
    let patched = patched(&[
        link("../anything at all", "/srv/link", false),
        link("x", "/etc/dangling", true),
    ])
    .unwrap();
    let target = |path| match &patched.node(path).kind {
        Kind::Symlink(target) => String::from_utf8(target.clone()).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(target("srv/link"), "../anything at all");
    assert_eq!(target("etc/dangling"), "x");
    assert_eq!(patched.node("srv/link").attributes.mode, 0o777);
    let refused = self::patched(&[link("x", "/etc/dangling", false)]);
    assert!(matches!(refused, Err(PatchError::Exists(_))));
    let refused = self::patched(&[link("", "/a", false)]);
    assert!(matches!(refused, Err(PatchError::BadTarget(_))));
}

#[test]
fn directories_are_made_unless_they_are_there() {
    let patched = patched(&[
        mkdir("/a/b", Some(0o1777)),
        mkdir("/var/empty", None),
        mkdir("/lib", None),
        mkdir("/etc", Some(0o700)),
    ])
    .unwrap();
    assert_eq!(patched.paths(), ["a", "a/b", "etc"]);
    let mode = |path| patched.node(path).attributes.mode;
    assert_eq!(
        [mode("a"), mode("a/b"), mode("etc")],
        [0o755, 0o1777, 0o700]
    );
    assert!(patched.has("etc/hosts"));
    for path in ["/etc/hosts", "/etc/dangling"] {
        let refused = self::patched(&[mkdir(path, None)]);
        assert!(
            matches!(refused, Err(PatchError::NotADirectory(_))),
            "{path}: {refused:?}"
        );
    }
    let refused = self::patched(&[mkdir("/a", Some(0o10000))]);
    assert!(matches!(refused, Err(PatchError::BadMode(0o10000))));
}

#[test]
fn what_is_removed_is_gone_and_what_is_not_there_may_be_removed() {
    let patched = patched(&[
        remove("/etc"),
        remove("/lib/holes"),
        remove("/lib"),
        remove("/nothing/at/all"),
        remove("/dev/null/x"),
    ])
    .unwrap();
    assert_eq!(patched.paths(), ["etc", "lib", "usr/lib/holes"]);
    assert!(!patched.has("etc") && !patched.has("lib") && patched.has("usr/lib"));
    let refused = self::patched(&[remove("/usr/..")]);
    assert!(matches!(refused, Err(PatchError::Root)));
}

#[test]
fn text_is_added_behind_what_was_there() {
    let patched = patched(&[
        append("/etc/link", "one\n"),
        append("/etc/hosts", "two\n"),
        append("/lib/holes", "!"),
    ])
    .unwrap();
    assert_eq!(patched.text("etc/hosts"), "localhost\none\ntwo\n");
    // By whichever name a file is written, all its names are of that file.
    assert_eq!(
        patched.tree.lookup(b"etc/hosts"),
        patched.tree.lookup(b"etc/hosts.2")
    );
    assert!(matches!(patched.node("etc/link").kind, Kind::Symlink(_)));
    let attributes = &patched.node("etc/hosts").attributes;
    assert_eq!((attributes.mode, attributes.uid), (0o750, 7));
    assert!(attributes.mtime > 1_600_000_000);
    let holes = patched.text("usr/lib/holes");
    assert_eq!(holes.len(), 5 + (1 << 20) + 4);
    assert!(holes.starts_with("begin\0") && holes.ends_with("\0end!"));
    assert!(patched.layer.data_bytes < 1 << 18);
    assert_eq!(
        patched.paths(),
        ["etc/hosts", "etc/hosts.2", "usr/lib/holes"]
    );
}

#[test]
fn text_is_added_to_files_alone() {
    let refused = patched(&[append("/etc/none", "x")]);
    assert!(
        matches!(refused, Err(PatchError::NotFound(_))),
        "{refused:?}"
    );
    let refused = patched(&[append("/etc/dangling", "x")]);
    assert!(
        matches!(refused, Err(PatchError::NotFound(_))),
        "{refused:?}"
    );
    for path in ["/etc", "/dev/null"] {
        let refused = patched(&[append(path, "x")]);
        assert!(
            matches!(refused, Err(PatchError::NotAFile(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn later_patches_see_what_earlier_ones_did() {
    let patched = patched(&[
        text("/a/file", "1", false),
        append("/a/file", "2"),
        text("/gone", "x", false),
        remove("/gone"),
        remove("/etc"),
        mkdir("/etc", None),
        text("/etc/hosts", "new", false),
        link("a", "/b", false),
        text("/b/other", "3", false),
        remove("/var"),
        text("/var", "a file now", false),
    ])
    .unwrap();
    assert_eq!(patched.text("a/file"), "12");
    assert_eq!(patched.text("a/other"), "3");
    assert_eq!(patched.text("etc/hosts"), "new");
    assert_eq!(patched.text("var"), "a file now");
    assert!(!patched.has("gone") && !patched.has("etc/link"));
    // Of what came and went nothing is left, and the other names in /etc are hidden one by one.
    assert!(!patched.paths().contains(&"gone".to_owned()));
    let twice = [text("/a", "1", false), text("/a", "2", false)];
    assert!(matches!(self::patched(&twice), Err(PatchError::Exists(_))));
}

#[test]
fn paths_are_absolute() {
    for path in ["", "a", "./a", "/a\0b"] {
        let refused = patched(&[text(path, "", true)]);
        assert!(matches!(refused, Err(PatchError::BadPath(_))), "{path:?}");
    }
    let long = format!("/{}", "x".repeat(256));
    let refused = patched(&[text(&long, "", true)]);
    assert!(
        matches!(refused, Err(PatchError::Tree(TreeError::BadName(_)))),
        "{refused:?}"
    );
}

/// A directory of the host with one of everything.
fn host() -> (tempfile::TempDir, PathBuf) {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("dir");
    fs::create_dir_all(dir.join("sub/empty")).unwrap();
    fs::create_dir(dir.join("lib")).unwrap();
    let write = |path: &str, content: &str, mode: u32| {
        let mut file = File::create(dir.join(path)).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.set_permissions(Permissions::from_mode(mode)).unwrap();
        let time = UNIX_EPOCH + Duration::new(1_234_567, 89);
        file.set_modified(time).unwrap();
    };
    write("sub/script", "#!/bin/sh\n", 0o4755);
    write("lib/new", "lib", 0o600);
    write("hosts", "from the host", 0o644);
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink("../secret", dir.join("escape")).unwrap();
    symlink("..", dir.join("sub/up")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    (outside, dir)
}

#[test]
fn a_file_of_the_host_is_copied() {
    let (_outside, dir) = host();
    let script = dir.join("sub/script");
    let patched = patched(&[
        copy_file(Path::new("/proc/self/limits"), "/limits"),
        copy_file(&script, "/bin/script"),
        copy_file(&dir.join("escape"), "/bin/secret"),
        Patch::CopyFile {
            src: script,
            dst: "/etc/hosts".into(),
            mode: Some(0o640),
            replace: true,
        },
    ])
    .unwrap();
    assert_eq!(patched.text("bin/script"), "#!/bin/sh\n");
    let attributes = &patched.node("bin/script").attributes;
    let expected = Attributes {
        mode: 0o755,
        mtime: 1_234_567,
        mtime_nsec: 89,
        ..Attributes::default()
    };
    assert_eq!(*attributes, expected);
    assert!(patched.text("limits").contains("Max open files"));
    // A link that is named itself is followed, like any path that somebody gives.
    assert_eq!(patched.text("bin/secret"), "secret");
    assert_eq!(patched.node("etc/hosts").attributes.mode, 0o640);

    let missing = self::patched(&[copy_file(&dir.join("none"), "/a")]);
    assert!(
        matches!(missing, Err(PatchError::Host { .. })),
        "{missing:?}"
    );
    for path in [dir.clone(), dir.join("pipe")] {
        let refused = self::patched(&[copy_file(&path, "/a")]);
        assert!(
            matches!(refused, Err(PatchError::HostKind { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_directory_of_the_host_is_copied_and_no_link_followed() {
    let (_outside, dir) = host();
    let patched = patched(&[copy_dir(&dir, "/srv/copy", false)]).unwrap();
    let names: Vec<_> = patched
        .tree
        .walk()
        .map(|(path, _)| String::from_utf8(path).unwrap())
        .filter(|path| path.starts_with("srv"))
        .collect();
    assert_eq!(
        names,
        [
            "srv",
            "srv/copy",
            "srv/copy/escape",
            "srv/copy/hosts",
            "srv/copy/lib",
            "srv/copy/lib/new",
            "srv/copy/sub",
            "srv/copy/sub/empty",
            "srv/copy/sub/script",
            "srv/copy/sub/up",
        ]
    );
    let target = |path| match &patched.node(path).kind {
        Kind::Symlink(target) => String::from_utf8(target.clone()).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(target("srv/copy/escape"), "../secret");
    assert_eq!(target("srv/copy/sub/up"), "..");
    let script = &patched.node("srv/copy/sub/script").attributes;
    assert_eq!(
        (script.mode, script.uid, script.mtime),
        (0o755, 0, 1_234_567)
    );
    assert_eq!(patched.text("srv/copy/lib/new"), "lib");
}

#[test]
fn a_directory_is_copied_into_one_that_is_there() {
    let (_outside, dir) = host();
    let refused = patched(&[copy_dir(&dir, "/etc", false)]);
    assert!(matches!(refused, Err(PatchError::Exists(_))), "{refused:?}");
    let patched = patched(&[
        link("../usr/lib", "/etc/lib", false),
        copy_dir(&dir, "/etc", true),
    ])
    .unwrap();
    assert_eq!(patched.text("etc/hosts"), "from the host");
    // What was there stays, with its attributes; a link to a directory is as good as one.
    assert!(patched.has("etc/loop"));
    assert_eq!(patched.node("etc").attributes.mtime, 0);
    assert_eq!(patched.text("usr/lib/new"), "lib");
    assert!(patched.has("usr/lib/holes"));

    let refused = self::patched(&[copy_dir(&dir, "/etc/hosts", true)]);
    assert!(
        matches!(refused, Err(PatchError::NotADirectory(_))),
        "{refused:?}"
    );
    let in_the_way = [mkdir("/a/hosts", None), copy_dir(&dir, "/a", true)];
    let refused = self::patched(&in_the_way);
    assert!(
        matches!(refused, Err(PatchError::IsADirectory(_))),
        "{refused:?}"
    );
    let in_the_way = [text("/a/sub", "", false), copy_dir(&dir, "/a", true)];
    let refused = self::patched(&in_the_way);
    assert!(
        matches!(refused, Err(PatchError::NotADirectory(_))),
        "{refused:?}"
    );
    let refused = self::patched(&[copy_dir(&dir.join("hosts"), "/b", true)]);
    assert!(
        matches!(refused, Err(PatchError::HostKind { .. })),
        "{refused:?}"
    );
}

#[test]
fn files_that_change_while_they_are_copied_are_noticed() {
    // A directory that has a name more once it was listed.
    let (_outside, dir) = host();
    let Image { tree, blob } = image();
    let data = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(dir.join("sub/data"))
        .unwrap();
    // The blob itself is in what is copied, so it grows under the eyes of whoever copies it.
    fs::write(dir.join("sub/aaa"), vec![b'x'; 3 << 20]).unwrap();
    let patches = [copy_dir(&dir, "/copy", false)];
    let changed = layer(&tree, &[&blob], &patches, &data, &Limits::default());
    assert!(
        matches!(changed, Err(PatchError::HostChanged(_))),
        "{changed:?}"
    );
}

#[test]
fn limits_hold() {
    let (_outside, dir) = host();
    let limits = Limits {
        layer_bytes: 100,
        depth: 4,
        layer_entries: 6,
        ..Limits::default()
    };
    let patched = |patches: &[Patch]| patched_within(patches, &limits);
    let large = "x".repeat(60);
    assert!(patched(&[text("/a", &large, false)]).is_ok());
    let twice = patched(&[text("/a", &large, false), text("/b", &large, false)]);
    assert!(matches!(twice, Err(PatchError::TooLarge(100))), "{twice:?}");
    let longer = patched(&[text("/a", &large, false), append("/a", "")]);
    assert!(
        matches!(longer, Err(PatchError::TooLarge(100))),
        "{longer:?}"
    );
    let deep = patched(&[copy_dir(&dir, "/a/b/c", false)]);
    assert!(
        matches!(deep, Err(PatchError::Tree(TreeError::TooDeep { .. }))),
        "{deep:?}"
    );
    let many = patched(&[copy_dir(&dir, "/a", false)]);
    assert!(
        matches!(many, Err(PatchError::Impossible { .. })),
        "{many:?}"
    );
}
