//! From the layout of an image to its disk, on this host: by the library, by `umoci unpack`, and, from the tree
//! that umoci has made, by `mkfs.erofs`. And what ten images take.
//!
//! All of it is in one directory, on the disk of the checkout, and in turns. What the library does includes what the
//! others leave out: it checks every digest, keeps the layers as they came, and syncs all it writes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use super::Measured;
use crate::guest::images;
use crate::{paths, proc};

/// The image that is unpacked.
const IMAGE: &str = "debian";
/// What a layout of one image calls it.
const NAME: &str = "image";

/// Measures so many times each.
pub(super) fn measure(program: &Path, rounds: u32) -> Result<Measured> {
    let files = images::build()?;
    let dir = tempfile::Builder::new()
        .prefix("image-")
        .tempdir_in(paths::target().join("bench"))?;
    let bench = Bench {
        program,
        files: &files,
        dir: dir.path(),
    };
    let mut measured = Measured::new();
    let layout = bench.alone(IMAGE)?;
    for round in 0..rounds {
        bench.round(&layout, round, &mut measured)?;
    }
    bench.disks(&mut measured)?;
    Ok(measured)
}

struct Bench<'a> {
    program: &'a Path,
    files: &'a Path,
    dir: &'a Path,
}

impl Bench<'_> {
    /// A layout of one image. Its bytes are in the page cache then.
    fn alone(&self, tag: &str) -> Result<std::path::PathBuf> {
        let layout = self.dir.join(tag);
        proc::output(self.library().args(["alone", tag]).arg(&layout).arg(NAME))?;
        Ok(layout)
    }

    fn library(&self) -> Command {
        let mut command = Command::new(self.program);
        command.env(images::VARIABLE, self.files);
        command
    }

    fn load(&self, home: &Path, layout: &Path, reference: &str) -> Result<f64> {
        let mut load = self.library();
        load.arg("load").args([home, layout]).arg(reference);
        timed(&mut load)
    }

    fn unpack(&self, layout: &Path, bundle: &Path) -> Result<f64> {
        let mut unpack = Command::new("umoci");
        unpack.args(["unpack", "--image"]);
        unpack.arg(format!("{}:{NAME}", layout.display()));
        if !rustix::process::geteuid().is_root() {
            unpack.arg("--rootless");
        }
        timed(unpack.arg(bundle))
    }

    fn round(&self, layout: &Path, round: u32, measured: &mut Measured) -> Result<()> {
        let (home, bundle) = (self.dir.join("home"), self.dir.join("bundle"));
        let disk = self.dir.join("disk.erofs");
        let load = self.load(&home, layout, IMAGE)?;
        let umoci = self.unpack(layout, &bundle)?;
        let rootfs = bundle.join("rootfs");
        let mkfs = timed(Command::new("mkfs.erofs").arg(&disk).arg(&rootfs))?;
        let (bytes, _) = sizes(&rootfs)?;
        for (what, value) in [
            ("load_ms", load),
            ("umoci_ms", umoci),
            ("mkfs_ms", mkfs),
            ("load_mib_s", mib(bytes)? / load * 1e3),
        ] {
            println!("round {round}: {what} {value:.1}");
            measured.entry(what.to_owned()).or_default().push(value);
        }
        fs::remove_dir_all(&home)?;
        fs::remove_dir_all(&bundle)?;
        Ok(fs::remove_file(&disk)?)
    }

    /// The bytes on the disk of all images that share a Debian, with everything that is kept of them, and of their
    /// trees. These differ in what is in two small files, so one of them stands for all.
    fn disks(&self, measured: &mut Measured) -> Result<()> {
        let (home, bundle) = (self.dir.join("home"), self.dir.join("bundle"));
        for number in 0..images::APPS {
            let tag = format!("app-{number}");
            let layout = self.alone(&tag)?;
            self.load(&home, &layout, &tag)?;
            if number == 0 {
                self.unpack(&layout, &bundle)?;
            }
            fs::remove_dir_all(&layout)?;
        }
        let (_, of_images) = sizes(&home.join("images"))?;
        let (_, of_tree) = sizes(&bundle.join("rootfs"))?;
        let trees = of_tree * u64::try_from(images::APPS)?;
        for (what, bytes) in [("images_mib", of_images), ("trees_mib", trees)] {
            println!("{what} {:.1}", mib(bytes)?);
            measured.insert(what.to_owned(), vec![mib(bytes)?]);
        }
        Ok(())
    }
}

/// Milliseconds that a command takes, from its start to its end. What others have written before is on the disk.
fn timed(command: &mut Command) -> Result<f64> {
    rustix::fs::sync();
    let started = Instant::now();
    proc::output(command)?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

fn mib(bytes: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(bytes >> 10)?) / 1024.0)
}

/// Bytes of all files in a directory and below, and bytes that they and the directories take on the disk. A
/// file with several names counts once.
fn sizes(dir: &Path) -> Result<(u64, u64)> {
    let (mut bytes, mut on_disk) = (0, 0);
    let mut seen = std::collections::HashSet::new();
    let mut rest = vec![dir.to_path_buf()];
    while let Some(path) = rest.pop() {
        let found = path.symlink_metadata()?;
        if found.nlink() > 1 && !found.is_dir() && !seen.insert(found.ino()) {
            continue;
        }
        on_disk += found.blocks() * 512;
        if found.is_dir() {
            for entry in
                fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?
            {
                rest.push(entry?.path());
            }
        } else if found.is_file() {
            bytes += found.len();
        }
    }
    Ok((bytes, on_disk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/one"), vec![1; 10_000]).unwrap();
        fs::hard_link(dir.path().join("d/one"), dir.path().join("two")).unwrap();
        let (bytes, on_disk) = sizes(dir.path()).unwrap();
        assert_eq!(bytes, 10_000);
        assert!((10_000..100_000).contains(&on_disk), "{on_disk}");
    }
}
