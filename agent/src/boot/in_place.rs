//! Disks that are memory: a file system there need not read its files into memory, it uses them where they are (DAX).
//!
//! The kernel says of a disk whether that is possible. EROFS has to be asked for it when it is mounted; what is
//! on such a disk and cannot be used in place, compressed files for example, it reads as ever.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::path::Path;

/// Where the kernel lists its block devices.
const DISKS: &str = "/sys/class/block";

/// What of a process's memory is in a dump of it when it crashes. Programs inherit it.
const DUMPED: &str = "/proc/self/coredump_filter";
/// Private mappings of files that are used in place. The pages that a program has changed are among them: its data,
/// which without this would be missing from the dump.
const DUMP_IN_PLACE: u32 = 1 << 7;

/// What a file system on `disk` is told, so that it uses its files in place.
pub(super) fn options(disk: &Path, fstype: &str) -> Option<&'static CStr> {
    (fstype == "erofs" && is_possible(Path::new(DISKS), disk)).then_some(c"dax=always")
}

/// Whether files on `disk` can be used in place.
fn is_possible(disks: &Path, disk: &Path) -> bool {
    let Some(name) = disk.file_name() else {
        return false;
    };
    let said = fs::read_to_string(disks.join(name).join("queue/dax"));
    said.is_ok_and(|flag| flag.trim() == "1")
}

/// Has dumps of programs be whole though their files are used in place.
pub(super) fn whole_dumps() -> io::Result<()> {
    add(Path::new(DUMPED), DUMP_IN_PLACE)
}

fn add(file: &Path, bits: u32) -> io::Result<()> {
    let now = fs::read_to_string(file)?;
    let now = u32::from_str_radix(now.trim(), 16).map_err(io::Error::other)?;
    fs::write(file, format!("{:#x}", now | bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_the_kernel_says_so() {
        let disks = tempfile::tempdir().unwrap();
        for (name, flag) in [("pmem0", "1\n"), ("vda", "0\n")] {
            let queue = disks.path().join(name).join("queue");
            fs::create_dir_all(&queue).unwrap();
            fs::write(queue.join("dax"), flag).unwrap();
        }
        let possible = |disk| is_possible(disks.path(), Path::new(disk));
        assert!(possible("/dev/pmem0"));
        assert!(!possible("/dev/vda") && !possible("/dev/vdb") && !possible("/"));
        assert_eq!(options(Path::new("/dev/no-such-disk"), "erofs"), None);
    }

    #[test]
    fn bits_are_added_to_those_that_are_there() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("filter");
        fs::write(&file, "00000033\n").unwrap();
        add(&file, DUMP_IN_PLACE).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "0xb3");
        fs::write(&file, "no number").unwrap();
        assert!(add(&file, DUMP_IN_PLACE).is_err());
        // The kernel takes it in that form.
        whole_dumps().unwrap();
        let now = fs::read_to_string(DUMPED).unwrap();
        assert_ne!(
            u32::from_str_radix(now.trim(), 16).unwrap() & DUMP_IN_PLACE,
            0
        );
    }
}
