//! The initramfs: the agent, built static, as `/init`, with the few directories that it mounts on.
//!
//! It is an uncompressed archive: unpacking two megabytes is a copy, decompressing them is not.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::{cache, cargo};

/// Changes when the layout below does.
const RECIPE: &str = "1: init, dev/console, mount points";
const MOUNT_POINTS: [&str; 7] = ["dev", "proc", "sys", "run", "tmp", "mnt", "newroot"];

/// The initramfs in the cache, made first when the agent has changed.
pub(crate) fn build() -> Result<PathBuf> {
    let agent =
        fs::read(cargo::static_program("msb-agent")?).context("cannot read the built agent")?;
    let kind = cache::Kind::open("initramfs")?;
    let key = cache::key(&[RECIPE.as_bytes(), &agent]);
    let dir = kind.get_or_make(&key, |made| {
        Ok(fs::write(made.join("initramfs.cpio"), pack(&agent)?)?)
    })?;
    Ok(dir.join("initramfs.cpio"))
}

/// An initramfs with these bytes as `/init`.
pub(crate) fn pack(init: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in MOUNT_POINTS {
        archive.dir(dir)?;
    }
    // The kernel opens /dev/console for /init before anything is mounted.
    archive.char_device("dev/console", 5, 1)?;
    archive.char_device("dev/null", 1, 3)?;
    archive.executable("init", init)?;
    Ok(archive.finish()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn init_is_in_it() {
        let bytes = super::pack(b"the agent").unwrap();
        assert!(bytes.windows(9).any(|window| window == b"the agent"));
        assert_eq!(bytes, super::pack(b"the agent").unwrap());
    }
}
