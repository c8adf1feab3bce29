#![no_main]
//! The reader of EROFS disks: any bytes as a disk.
//!
//! The superblock's checksum is taken not to be there, or no change would get past it. Whatever can be
//! reached is read; of a disk that is in order each name is found where the walk has met it.

use libfuzzer_sys::fuzz_target;
use msb_image::erofs::Reader;
use msb_image::limits::Limits;

fuzz_target!(|bytes: &[u8]| {
    let mut disk = bytes.to_vec();
    if let Some(features) = disk.get_mut(1024 + 8) {
        *features &= !1;
    }
    let limits = Limits {
        tree_entries: 1000,
        path_bytes: 1000,
        depth: 32,
        ..Limits::default()
    };
    let Ok(reader) = Reader::open(disk) else {
        return;
    };
    let checked = reader.check(&limits);
    let mut buf = vec![0; 8192];
    let mut names = 0;
    for found in reader.walk(&limits) {
        let Ok((path, inode)) = found else {
            assert!(checked.is_err());
            return;
        };
        names += 1;
        let _ = reader.node(&inode);
        for offset in [0, 4095, inode.size / 2, inode.size.saturating_sub(1)] {
            let read = reader.read(&inode, offset, &mut buf);
            let left = inode.size.saturating_sub(offset).min(8192);
            assert!(read.is_err() || read.is_ok_and(|read| read as u64 == left));
        }
        let again = reader.find(&path);
        if checked.is_ok() {
            let again = again
                .expect("it was read before")
                .expect("it was met before");
            assert_eq!(again.nid, inode.nid);
        }
    }
    assert!(checked.is_err() || checked.is_ok_and(|checked| checked.names == names));
});
