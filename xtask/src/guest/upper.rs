//! The template of writable layers: an ext4 file system of 32 MiB that takes some kilobytes of disk.
//!
//! A sandbox gets a copy, extended to the size that it asks for, and the agent grows the file system when it
//! mounts it. So nobody who runs sandboxes needs mke2fs. What cannot be changed by growing is fixed here:
//!
//! - inodes of a group: 8192 for 128 MiB, so a grown file system has one for each 16 KiB;
//! - room for the descriptors of groups: enough for 2 TiB. Beyond that Linux lays out new ones elsewhere;
//! - the journal: 8 MiB. It is reserved once in each sandbox and takes room on the host as it is used;
//!   a larger one would be written through as a whole in time, a smaller one makes the guest wait for the
//!   host's disk more often.
//!
//! Every copy has the same identifier and the same seed for the hashes of its directories. Two copies
//! never meet in one guest.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{cache, proc};

/// The variable by which the library finds it.
pub(crate) const VARIABLE: &str = "MSB_UPPER_TEMPLATE_PATH";
/// Its name where it is installed.
pub(crate) const FILE: &str = "upper.ext4";

const CONFIG: &str = include_str!("../../guest/upper.conf");
/// Changes when the steps below do, beyond what is hashed anyway.
const RECIPE: &str = "1: mke2fs, holes";
/// As the library has it (`MIN_UPPER_MIB`): no writable layer is smaller.
const BYTES: u64 = 32 << 20;
const ARGUMENTS: [&str; 12] = [
    "-q",
    "-F",
    "-t",
    "ext4",
    "-N",
    "8192",
    "-J",
    "size=8",
    "-U",
    "6d736200-0000-4000-8000-000000000001",
    "-E",
    // Blocks of 4 KiB: 2 TiB. The journal is zeros already, as all of a new file is.
    "resize=536870912,lazy_journal_init=1,root_owner=0:0,\
     hash_seed=6d736200-0000-4000-8000-000000000002",
];

/// The template in the cache, made first when it is not there.
pub(crate) fn build() -> Result<PathBuf> {
    let kind = cache::Kind::open("upper")?;
    let key = cache::key(&[
        RECIPE.as_bytes(),
        CONFIG.as_bytes(),
        &BYTES.to_le_bytes(),
        ARGUMENTS.join("\n").as_bytes(),
    ]);
    let dir = kind.get_or_make(&key, make)?;
    Ok(dir.join(FILE))
}

fn make(made: &Path) -> Result<()> {
    let config = made.join("mke2fs.conf");
    std::fs::write(&config, CONFIG)?;
    let full = made.join("full");
    File::create(&full)?.set_len(BYTES)?;
    proc::output(
        Command::new("mke2fs")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("MKE2FS_CONFIG", &config)
            // Both are read, by releases before 1.47.1 and since.
            .env("E2FSPROGS_FAKE_TIME", "1")
            .env("SOURCE_DATE_EPOCH", "1")
            .args(ARGUMENTS)
            .arg(&full),
    )?;
    copy_with_holes(&full, &made.join(FILE))?;
    std::fs::remove_file(full)?;
    Ok(std::fs::remove_file(config)?)
}

/// Copies a file so that what is zeros in it takes no room.
pub(crate) fn copy_with_holes(from: &Path, to: &Path) -> Result<()> {
    proc::output(Command::new("cp").arg("--sparse=always").arg(from).arg(to))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn tool(program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn number(superblock: &str, name: &str) -> u64 {
        let line = superblock.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split(':').nth(1));
        value.unwrap().trim().parse().unwrap()
    }

    #[test]
    fn it_is_small_the_same_each_time_and_sound() {
        if !proc::on_path("mke2fs") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let dir = dir.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            make(&dir).unwrap();
            assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
            dir.join(FILE)
        };
        let (one, two) = (make("one"), make("two"));
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
        let found = std::fs::metadata(&one).unwrap();
        assert_eq!(found.len(), BYTES);
        assert!(
            found.blocks() * 512 <= 256 << 10,
            "{} blocks",
            found.blocks()
        );
        proc::output(tool("e2fsck").args(["-f", "-n"]).arg(&one)).unwrap();
    }

    #[test]
    fn grown_it_has_an_inode_for_each_16_kib_and_reaches_2_tib() {
        if !proc::on_path("resize2fs") {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        make(dir.path()).unwrap();
        let file = dir.path().join(FILE);
        for bytes in [1 << 30, 4 << 30, 2 << 40] {
            File::options()
                .write(true)
                .open(&file)
                .unwrap()
                .set_len(bytes)
                .unwrap();
            proc::output(tool("resize2fs").arg("-f").arg(&file)).unwrap();
            let superblock = proc::text(tool("dumpe2fs").arg("-h").arg(&file)).unwrap();
            assert_eq!(number(&superblock, "Block count") * 4096, bytes);
            assert!(number(&superblock, "Inode count") >= bytes / 16384);
            assert_eq!(number(&superblock, "Reserved block count"), 0);
            assert!(!superblock.contains("meta_bg"), "{superblock}");
        }
        let found = std::fs::metadata(&file).unwrap();
        assert!(
            found.blocks() * 512 <= 64 << 20,
            "{} blocks",
            found.blocks()
        );
    }
}
