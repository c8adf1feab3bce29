//! Small file systems in memory, that are full soon. It takes root to mount them.

use std::ffi::CString;
use std::path::Path;

use anyhow::Result;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

/// A small file system of its own, which goes with this.
#[derive(Debug)]
pub struct Tmpfs {
    dir: TempDir,
}

impl Tmpfs {
    /// One that holds so much: `1m`.
    pub fn new(size: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let options = CString::new(format!("size={size}"))?;
        mount(
            "tmpfs",
            dir.path(),
            "tmpfs",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )?;
        Ok(Self { dir })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = unmount(self.dir.path(), UnmountFlags::DETACH);
    }
}
