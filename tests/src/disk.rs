//! Root disks for tests: copies of a small one that is made here, or of a Debian that
//! `cargo xtask test` has made.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::busybox;

/// Size of the small disk in MiB.
const DISK_MIB: u32 = 32;
/// What is either a hole of a copy or not.
const BLOCK: usize = 4096;
/// How much is read at a time.
const CHUNK: usize = 256 * BLOCK;

/// Copies `from` to `to` and leaves holes where it has none but zeros: fifty disks are to fit
/// into memory.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let copy = || -> std::io::Result<()> {
        let (mut from, to) = (File::open(from)?, File::create(to)?);
        let (mut chunk, mut at) = (Vec::with_capacity(CHUNK), 0);
        loop {
            chunk.clear();
            let read = from.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
            if read == 0 {
                return to.set_len(at);
            }
            for block in chunk.chunks(BLOCK) {
                if block.iter().any(|byte| *byte != 0) {
                    to.write_all_at(block, at)?;
                }
                at += block.len() as u64;
            }
        }
    };
    copy().with_context(|| {
        format!(
            "cannot copy the disk {} to {}",
            from.display(),
            to.display()
        )
    })
}

/// The small disk with busybox, made once for each process.
pub fn small() -> Result<&'static Path> {
    static TEMPLATE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    if TEMPLATE.get().is_none() {
        let dir = tempfile::tempdir()?;
        let disk = dir.path().join("template.ext4");
        busybox::make_disk(&disk, DISK_MIB)?;
        // Another thread may have been quicker; then this copy goes.
        let _ = TEMPLATE.set((dir, disk));
    }
    TEMPLATE
        .get()
        .map(|(_, disk)| disk.as_path())
        .context("the template was just made")
}

/// The disk with a Debian: Python, pip, an ssh server, socat.
pub fn debian() -> Result<PathBuf> {
    std::env::var_os("MSB_TEST_DEBIAN")
        .map(PathBuf::from)
        .context("MSB_TEST_DEBIAN is not set; use cargo xtask test")
}
