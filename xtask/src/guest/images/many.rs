//! Two images of ten layers over the same base: one with everything that layers can do to one another,
//! one with other layers that change a little.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tar::EntryType;

use super::tar::{Layer, mode};
use crate::proc;

/// How many layers each has over the base.
pub(super) const LAYERS: usize = 9;

type Write = fn(&mut Layer) -> Result<()>;

/// Writes the layers of the first image, the lowest first.
pub(super) fn everything(dir: &Path) -> Result<Vec<PathBuf>> {
    let written: [Write; LAYERS - 1] = [
        modes_owners_times,
        hard_links,
        whiteouts,
        opaque_directories,
        changed_kinds,
        attributes,
        devices,
        names,
    ];
    let mut paths = Vec::new();
    for (number, write) in written.into_iter().enumerate() {
        let path = dir.join(format!("everything-{number}.tar"));
        let mut layer = Layer::create(&path)?;
        write(&mut layer)?;
        layer.finish()?;
        paths.push(path);
    }
    let path = dir.join("everything-sizes.tar");
    sizes(&path, dir)?;
    paths.push(path);
    Ok(paths)
}

/// Writes the layers of the second image.
pub(super) fn others(dir: &Path) -> Result<Vec<PathBuf>> {
    (0..LAYERS)
        .map(|number| {
            let path = dir.join(format!("other-{number}.tar"));
            let mut layer = Layer::create(&path)?;
            layer.dir(format!("other-{number}"), mode(0o755))?;
            layer.file(
                format!("other-{number}/file"),
                mode(0o644),
                noise(number as u64 + 1, 50_000),
            )?;
            layer.file("base/changed", mode(0o644), format!("by layer {number}"))?;
            layer.finish()?;
            Ok(path)
        })
        .collect()
}

fn modes_owners_times(layer: &mut Layer) -> Result<()> {
    layer.dir("modes", mode(0o755))?;
    for bits in [0o0, 0o400, 0o644, 0o1644, 0o2755, 0o4711, 0o6755, 0o7777] {
        layer.file(format!("modes/{bits:04o}"), mode(bits), format!("{bits:o}"))?;
    }
    layer.dir("modes/setgid", mode(0o2775).owner(0, 50))?;
    layer.dir("modes/secret", mode(0o700).owner(1000, 1000))?;
    layer.file("modes/secret/key", mode(0o600).owner(1000, 1000), "secret")?;
    // More than the header of an old archive has room for.
    layer.file("modes/far", mode(0o640).owner(3_000_000, 65534), "far")?;
    for (name, seconds, nanoseconds) in [
        ("epoch", 0, 0),
        ("exact", 1_600_000_000, 123_456_789),
        ("before-1970", -300_000_000, 500_000_000),
        ("after-2038", 4_200_000_000, 1),
        ("after-2106", 9_000_000_000, 999_999_999),
    ] {
        let look = mode(0o644).time(seconds, nanoseconds);
        layer.file(format!("modes/{name}"), look, name)?;
    }
    // Only what is said of a directory changes.
    layer.dir("base/dir", mode(0o711).owner(1, 2).time(1_500_000_000, 5))?;
    let mut deep = "deep".to_owned();
    for _ in 0..60 {
        layer.dir(&deep, mode(0o755))?;
        deep.push_str("/deeper");
    }
    layer.file(deep, mode(0o644), "bottom")
}

fn hard_links(layer: &mut Layer) -> Result<()> {
    layer.dir("links", mode(0o755))?;
    layer.file("links/one", mode(0o644), "three names")?;
    layer.hard_link("links/two", "links/one", mode(0o644))?;
    layer.hard_link("links/three", "links/two", mode(0o644))?;
    // Of what is in a layer below.
    layer.hard_link("links/of-base", "base/linked", mode(0o644))?;
    layer.hard_link("links/of-below", "modes/exact", mode(0o644))?;
    layer.symlink("links/soft", "../base/kept")?;
    layer.hard_link("links/of-soft", "links/soft", mode(0o777))?;
    layer.symlink("links/dangling", "/nowhere/at/all")?;
    layer.symlink("links/long", &"l".repeat(4000))
}

fn whiteouts(layer: &mut Layer) -> Result<()> {
    layer.whiteout("base/removed")?;
    layer.whiteout("base/dir/one")?;
    layer.whiteout("base/emptied")?;
    // The other names of what one name is taken from stay.
    layer.whiteout("links/two")?;
    layer.whiteout("nothing-of-that-name")?;
    // A file takes the place of one in the same layer.
    layer.whiteout("base/shadow")?;
    layer.dir("base/shadow", mode(0o755))?;
    layer.file("base/shadow/new", mode(0o644), "new")
}

fn opaque_directories(layer: &mut Layer) -> Result<()> {
    layer.dir("base/refilled", mode(0o750).owner(5, 6))?;
    // It is said of lower layers, wherever in the layer.
    layer.file("base/refilled/early", mode(0o644), "early")?;
    layer.opaque("base/refilled")?;
    layer.file("base/refilled/new", mode(0o644), "new")?;
    layer.opaque("modes/setgid")?;
    layer.dir("base/filled/deep", mode(0o755))?;
    layer.file("base/filled/deep/file", mode(0o644), "filled")
}

fn changed_kinds(layer: &mut Layer) -> Result<()> {
    // A directory becomes a file, a file a directory, another a link, and a name of several another file.
    layer.file("base/turning", mode(0o600), "was a directory")?;
    layer.dir("base/turned", mode(0o755))?;
    layer.file("base/turned/file", mode(0o644), "below what was a file")?;
    layer.file("base/changed", mode(0o755).owner(1000, 50), "changed")?;
    layer.file("links/one", mode(0o644), "only this name")?;
    layer.symlink("modes/epoch", "exact")
}

fn attributes(layer: &mut Layer) -> Result<()> {
    layer.dir("xattrs", mode(0o755).xattr("user.dir", b"of a directory"))?;
    let capable = mode(0o755).xattr("security.capability", &CAP_NET_RAW);
    layer.file("xattrs/capable", capable, "#!/bin/sh\n")?;
    let noted = mode(0o644)
        .xattr("user.empty", b"")
        .xattr("user.lines", b"one\ntwo=three\n")
        .xattr("user.binary", b"\x00\xff\x00")
        .xattr("user.long", &noise(77, 2000))
        .xattr("trusted.note", b"only root sees this");
    layer.file("xattrs/noted", noted, "noted")?;
    let listed = mode(0o640).xattr("system.posix_acl_access", &ACL);
    layer.file("xattrs/listed", listed, "listed")?;
    // What would be orders to the overlay that the guest mounts, were they believed.
    let opaque = mode(0o755).xattr("trusted.overlay.opaque", b"y");
    layer.dir("base/filled", opaque)?;
    let elsewhere = mode(0o644)
        .xattr("trusted.overlay.metacopy", b"")
        .xattr("trusted.overlay.redirect", b"/etc/passwd");
    layer.file("xattrs/elsewhere", elsewhere, "its own")
}

/// `cap_net_raw=ep`, in the form of the second version.
const CAP_NET_RAW: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// `u::rw-,u:1000:r--,g::r--,m::r--,o::---`
const ACL: [u8; 44] = [
    2, 0, 0, 0, // version
    0x01, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, // owner
    0x02, 0, 4, 0, 0xe8, 0x03, 0, 0, // user 1000
    0x04, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, // group
    0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, // mask
    0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, // others
];

fn devices(layer: &mut Layer) -> Result<()> {
    layer.dir("devices", mode(0o755))?;
    let (char, block) = (EntryType::Char, EntryType::Block);
    layer.device(char, "devices/null", mode(0o666), (1, 3))?;
    layer.device(block, "devices/loop", mode(0o660).owner(0, 6), (7, 0))?;
    layer.device(block, "devices/large", mode(0o600), (259, 300_000))?;
    layer.fifo("devices/fifo", mode(0o622))?;
    layer.hard_link("devices/null-again", "devices/null", mode(0o666))
}

fn names(layer: &mut Layer) -> Result<()> {
    layer.dir("names", mode(0o755))?;
    for name in [
        &b"not UTF-8: \xff\xfe\x80"[..],
        b"two\nlines\ttabbed",
        b" spaces around ",
        b"*?[!]'\"\\$(echo)`;&|<>",
        "\u{fc}\u{6f22}\u{1f980}".as_bytes(),
        b"-rf",
        b".hidden",
        b"...",
        &[b'n'; 255],
    ] {
        layer.file([&b"names/"[..], name].concat(), mode(0o644), name)?;
    }
    let mut long = "names".to_owned();
    for letter in ["a", "b", "c", "d", "e", "f"] {
        long = format!("{long}/{}", letter.repeat(200));
        layer.dir(&long, mode(0o755))?;
    }
    layer.file(format!("{long}/file"), mode(0o644), "far down")?;
    layer.hard_link("names/of-far", &format!("{long}/file"), mode(0o644))
}

/// Files of sizes around those that things are counted in, and files with holes in the three forms that there
/// are in archives of the POSIX format. GNU tar itself writes this layer.
fn sizes(layer: &Path, dir: &Path) -> Result<()> {
    let tree = dir.join("sizes");
    let sizes = tree.join("sizes");
    std::fs::create_dir_all(&sizes)?;
    for size in [0, 1, 511, 512, 513, 4095, 4096, 4097, 8192, 1 << 20] {
        std::fs::write(sizes.join(format!("of-{size}")), noise(size as u64, size))?;
    }
    let tar = |archive: &[&str], what: &str| {
        let mut command = Command::new("tar");
        command
            .args(archive)
            .args(["--format=posix", "--sort=name", "--numeric-owner"])
            .args(["--owner=1000", "--group=50", "--mode=u=rwX,go=rX"])
            .args(["--mtime=@1650000000", "--directory"])
            .arg(&tree)
            .arg("--file")
            .args([layer, Path::new(what)])
            .env("LC_ALL", "C");
        proc::output(&mut command).map(drop)
    };
    tar(&["--create"], "sizes")?;
    for version in ["0.0", "0.1", "1.0"] {
        for (name, pieces) in [
            ("in-the-middle", &[0, 900 << 10][..]),
            ("first", &[600 << 10]),
            ("last", &[0]),
            ("only", &[]),
        ] {
            let name = format!("hole-{name}-{version}");
            let file = File::create(sizes.join(&name))?;
            for at in pieces {
                file.write_all_at(&noise(*at + 1, 70_000), *at)?;
            }
            file.set_len(1 << 20)?;
            let version = format!("--sparse-version={version}");
            tar(
                &["--append", "--sparse", &version],
                &format!("sizes/{name}"),
            )?;
        }
    }
    Ok(())
}

/// Bytes that do not compress, the same for the same seed.
pub(super) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_layers_are_archives_that_tar_reads() {
        let dir = tempfile::tempdir().unwrap();
        let mut layers = everything(dir.path()).unwrap();
        layers.extend(others(dir.path()).unwrap());
        assert_eq!(layers.len(), 2 * LAYERS);
        for layer in layers {
            let list = proc::output(Command::new("tar").arg("-tvf").arg(&layer)).unwrap();
            assert!(!list.is_empty(), "{}", layer.display());
        }
    }

    #[test]
    fn noise_is_the_same_for_the_same_seed() {
        assert_eq!(noise(1, 13), noise(1, 13));
        assert_ne!(noise(1, 13), noise(2, 13));
        assert_eq!(noise(1, 13).len(), 13);
    }
}
