//! Layers as tar files, entry by entry, with whatever owners and attributes a test wants: nobody has to
//! be root to write that they are somebody else's.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

/// The time of an entry that has none of its own.
const TIME: i64 = 1_700_000_000;

/// Who may do what with an entry, when it was changed, and what else is said of it.
#[derive(Clone, Debug)]
pub(super) struct Look {
    mode: u32,
    owner: (u64, u64),
    time: (i64, u32),
    xattrs: Vec<(String, Vec<u8>)>,
}

/// Root's, with this mode.
pub(super) fn mode(mode: u32) -> Look {
    Look {
        mode,
        owner: (0, 0),
        time: (TIME, 0),
        xattrs: Vec::new(),
    }
}

impl Look {
    pub(super) fn owner(mut self, user: u64, group: u64) -> Self {
        self.owner = (user, group);
        self
    }

    /// In seconds since 1970, and nanoseconds.
    pub(super) fn time(mut self, seconds: i64, nanoseconds: u32) -> Self {
        self.time = (seconds, nanoseconds);
        self
    }

    pub(super) fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.xattrs.push((name.to_owned(), value.to_vec()));
        self
    }
}

/// A layer that is being written.
pub(super) struct Layer {
    builder: Builder<BufWriter<File>>,
}

impl Layer {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file =
            File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            builder: Builder::new(BufWriter::new(file)),
        })
    }

    pub(super) fn finish(self) -> Result<()> {
        Ok(self.builder.into_inner()?.flush()?)
    }

    pub(super) fn dir(&mut self, path: impl AsRef<[u8]>, look: Look) -> Result<()> {
        self.entry(EntryType::Directory, path.as_ref(), &look, &[])
    }

    pub(super) fn file(
        &mut self,
        path: impl AsRef<[u8]>,
        look: Look,
        content: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.entry(EntryType::Regular, path.as_ref(), &look, content.as_ref())
    }

    pub(super) fn fifo(&mut self, path: &str, look: Look) -> Result<()> {
        self.entry(EntryType::Fifo, path.as_bytes(), &look, &[])
    }

    pub(super) fn device(
        &mut self,
        kind: EntryType,
        path: &str,
        look: Look,
        (major, minor): (u32, u32),
    ) -> Result<()> {
        let mut header = self.described(kind, &look, 0)?;
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
        Ok(self.builder.append_data(&mut header, path, io::empty())?)
    }

    pub(super) fn symlink(&mut self, path: impl AsRef<[u8]>, target: &str) -> Result<()> {
        self.link(EntryType::Symlink, path.as_ref(), target, &mode(0o777))
    }

    /// Another name of what is called `target`. The look is that of the file, as `tar` writes it.
    pub(super) fn hard_link(&mut self, path: &str, target: &str, look: Look) -> Result<()> {
        self.link(EntryType::Link, path.as_bytes(), target, &look)
    }

    /// Takes away what lower layers have at this path.
    pub(super) fn whiteout(&mut self, path: &str) -> Result<()> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = if dir.is_empty() { "." } else { dir };
        self.file(format!("{dir}/.wh.{name}"), mode(0o644), "")
    }

    /// Takes away all that lower layers have in this directory.
    pub(super) fn opaque(&mut self, dir: &str) -> Result<()> {
        self.file(format!("{dir}/.wh..wh..opq"), mode(0o644), "")
    }

    fn entry(&mut self, kind: EntryType, path: &[u8], look: &Look, content: &[u8]) -> Result<()> {
        let mut header = self.described(kind, look, content.len() as u64)?;
        let path = Path::new(OsStr::from_bytes(path));
        let appended = self.builder.append_data(&mut header, path, content);
        appended.with_context(|| format!("cannot add {}", path.display()))
    }

    fn link(&mut self, kind: EntryType, path: &[u8], target: &str, look: &Look) -> Result<()> {
        let mut header = self.described(kind, look, 0)?;
        let path = Path::new(OsStr::from_bytes(path));
        let appended = self.builder.append_link(&mut header, path, target);
        appended.with_context(|| format!("cannot add {}", path.display()))
    }

    /// The header of the next entry. What it has no room for is written at once, in an entry before it.
    fn described(&mut self, kind: EntryType, look: &Look, size: u64) -> Result<Header> {
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        let (seconds, nanoseconds) = look.time;
        let whole = u64::try_from(seconds).ok();
        if whole.is_none() || nanoseconds != 0 {
            records.push(("mtime".to_owned(), decimal(seconds, nanoseconds).into()));
        }
        for (name, value) in &look.xattrs {
            records.push((format!("SCHILY.xattr.{name}"), value.clone()));
        }
        let records = records.iter();
        let records = records.map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records)?;

        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(look.mode);
        header.set_uid(look.owner.0);
        header.set_gid(look.owner.1);
        header.set_mtime(whole.unwrap_or_default());
        header.set_size(size);
        Ok(header)
    }
}

/// A time as a record has it: a decimal number, also before 1970.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    let (seconds, nanoseconds) = (-(seconds + 1), 1_000_000_000 - nanoseconds);
    format!("-{seconds}.{nanoseconds:09}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_decimal_numbers() {
        assert_eq!(decimal(5, 7), "5.000000007");
        assert_eq!(decimal(-5, 0), "-5.000000000");
        // A quarter of a second after the fifth second before 1970 began.
        assert_eq!(decimal(-5, 250_000_000), "-4.750000000");
        assert_eq!(decimal(-1, 999_999_999), "-0.000000001");
    }

    #[test]
    fn entries_are_read_back_by_tar_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layer.tar");
        let mut layer = Layer::create(&path).unwrap();
        layer.dir("d", mode(0o1777).owner(7, 8)).unwrap();
        let long = "n".repeat(255);
        layer.file(format!("d/{long}"), mode(0o4755), "x").unwrap();
        layer.whiteout("d/gone").unwrap();
        layer.whiteout("gone").unwrap();
        layer.finish().unwrap();
        let list = crate::proc::text(
            std::process::Command::new("tar")
                .args(["--list", "--verbose", "--numeric-owner", "--file"])
                .arg(&path),
        )
        .unwrap();
        let lines: Vec<&str> = list.lines().collect();
        assert!(lines[0].starts_with("drwxrwxrwt 7/8"), "{list}");
        assert!(lines[1].starts_with("-rwsr-xr-x 0/0"), "{list}");
        assert!(lines[1].ends_with(&long), "{list}");
        assert!(lines[2].ends_with("d/.wh.gone"), "{list}");
        assert!(lines[3].ends_with(" .wh.gone"), "{list}");
    }
}
