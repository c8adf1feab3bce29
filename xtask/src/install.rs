//! `cargo xtask install`: the programs and the guest, where any program that uses the library finds
//! them: `MSB_HOME/bin/{msb-runtime,msb-vmm}` and `MSB_HOME/lib/{vmlinux,initramfs.cpio,upper.ext4}`.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::guest::upper;
use crate::product::Product;
use crate::{cache, cargo, paths, setup};

/// Options of `install`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to install [default: MSB_HOME, else ~/.microsandbox]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
}

/// Builds everything and installs it.
pub(crate) fn main(options: &Options) -> Result<()> {
    setup::run()?;
    let product = Product::build()?;
    let home = match &options.home {
        Some(home) => std::path::absolute(home).context("no absolute path for --home")?,
        None => paths::msb_home()?,
    };
    private_dir(&home)?;
    let (bin, lib) = (home.join("bin"), home.join("lib"));
    private_dir(&bin)?;
    private_dir(&lib)?;
    for (_, path) in cargo::host_env(&product.programs)? {
        let name = path.file_name().context("a program has no name")?;
        put(&path, &bin.join(name), 0o755)?;
    }
    put(&product.guest.kernel, &lib.join("vmlinux"), 0o644)?;
    put(&product.guest.initramfs, &lib.join("initramfs.cpio"), 0o644)?;
    put_with_holes(&product.guest.upper, &lib.join(upper::FILE), 0o644)
}

fn private_dir(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot create {}", dir.display()))
}

/// Copies a file so that a running program keeps the old one and no reader sees a part.
fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    cache::write_atomically(to, &bytes)?;
    finish(to, mode)
}

/// The same for a file that is zeros for the most part, which then take no room.
fn put_with_holes(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let dir = to.parent().context("the file has no directory")?;
    let new = tempfile::NamedTempFile::new_in(dir)
        .with_context(|| format!("cannot write in {}", dir.display()))?;
    upper::copy_with_holes(from, new.path())?;
    new.as_file()
        .sync_all()
        .with_context(|| format!("cannot write {}", to.display()))?;
    new.persist(to)
        .with_context(|| format!("cannot rename to {}", to.display()))?;
    finish(to, mode)
}

fn finish(to: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", to.display()))?;
    println!("{}", to.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_stay_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, vec![0; 1 << 20]).unwrap();
        put_with_holes(&from, &to, 0o644).unwrap();
        let found = fs::metadata(&to).unwrap();
        assert_eq!(found.len(), 1 << 20);
        assert_eq!(std::os::unix::fs::MetadataExt::blocks(&found), 0);
        assert_eq!(found.permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn files_are_replaced_whole_with_their_mode() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        private_dir(&home).unwrap();
        assert_eq!(
            fs::metadata(&home).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let (from, to) = (dir.path().join("from"), home.join("to"));
        for text in ["one", "two"] {
            fs::write(&from, text).unwrap();
            put(&from, &to, 0o755).unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), text);
        }
        assert_eq!(
            fs::metadata(&to).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
    }
}
