//! The archive format of an initramfs: cpio "newc", as Documentation/driver-api/early-userspace/
//! buffer-format.rst of Linux defines it.
//!
//! The same contents give the same bytes: no times, no owners, and inode numbers that count up.

use std::io::{self, Write};

use cpio::newc::{Builder, ModeFileType};

/// An archive being written in memory.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A directory, 0755.
    pub(crate) fn dir(&mut self, name: &str) -> io::Result<()> {
        let builder = Builder::new(name)
            .mode(0o755)
            .set_mode_file_type(ModeFileType::Directory);
        self.add(builder, &[])
    }

    /// A regular file that may be executed.
    pub(crate) fn executable(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let builder = Builder::new(name)
            .mode(0o755)
            .set_mode_file_type(ModeFileType::Regular);
        self.add(builder, content)
    }

    /// A symbolic link.
    pub(crate) fn symlink(&mut self, name: &str, to: &str) -> io::Result<()> {
        let builder = Builder::new(name)
            .mode(0o777)
            .set_mode_file_type(ModeFileType::Symlink);
        self.add(builder, to.as_bytes())
    }

    /// A character device. An archive may hold one though its maker may not create one.
    pub(crate) fn char_device(&mut self, name: &str, major: u32, minor: u32) -> io::Result<()> {
        let builder = Builder::new(name)
            .mode(0o600)
            .set_mode_file_type(ModeFileType::Char)
            .rdev_major(major)
            .rdev_minor(minor);
        self.add(builder, &[])
    }

    /// Ends the archive, padded so that another may follow it.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        let mut bytes = cpio::newc::trailer(self.bytes)?;
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        Ok(bytes)
    }

    fn add(&mut self, builder: Builder, content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len())
            .map_err(|_| io::Error::other("a file in a cpio archive must be under 4 GiB"))?;
        let mut writer = builder.ino(self.entries).write(&mut self.bytes, size);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.dir("dev").unwrap();
        archive.char_device("dev/console", 5, 1).unwrap();
        archive.executable("init", b"#!/bin/sh\n").unwrap();
        archive.symlink("bin", "usr/bin").unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn same_contents_same_bytes() {
        assert_eq!(sample(), sample());
        assert_eq!(sample().len() % 512, 0);
        assert!(sample().starts_with(b"070701"));
    }

    #[test]
    fn entries_are_read_back() {
        let bytes = sample();
        let mut input: &[u8] = &bytes;
        let mut seen = Vec::new();
        loop {
            let reader = cpio::NewcReader::new(&mut input).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let entry = reader.entry();
            seen.push((entry.name().to_owned(), entry.mode(), entry.rdev_major()));
            reader.finish().unwrap();
        }
        assert_eq!(
            seen,
            [
                ("dev".to_owned(), 0o040_755, 0),
                ("dev/console".to_owned(), 0o020_600, 5),
                ("init".to_owned(), 0o100_755, 0),
                ("bin".to_owned(), 0o120_777, 0),
            ]
        );
    }

    #[test]
    fn the_common_tool_reads_it() {
        let Ok(mut child) = Command::new("cpio")
            .arg("-t")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        else {
            return; // no cpio on this machine: the test above has said enough
        };
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"dev\ndev/console\ninit\nbin\n");
    }
}
