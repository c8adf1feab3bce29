#![no_main]
//! The reader of archives of snapshots: any bytes as one.
//!
//! A change in a tar's header almost always makes its checksum wrong, so the checksums are put right first.
//! Whatever the archive is, nothing but passing directories appears beside it and nothing stays; what is found right
//! is what its digests say, and can be put in its place.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use msb_image::snapshot::always;
use msb_image::snapshot::archive::{Limits, NoImage, read};

/// A directory of this process, in memory.
fn dir() -> &'static PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = PathBuf::from(format!("/dev/shm/fuzz-snapshots-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("memory");
        dir
    })
}

/// Puts right the checksums of what may be headers, one after the other as their sizes say.
fn check_headers(tar: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = tar.get_mut(at..at + 512) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).unwrap_or_default();
        let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        at = at.saturating_add(512).saturating_add(size.next_multiple_of(512));
        // The end is two blocks of zeros, which have no checksum.
        if tar.get(at..).is_none_or(|rest| rest.iter().all(|byte| *byte == 0)) {
            break;
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut archive = bytes.to_vec();
    if archive.first() != Some(&0x28) {
        check_headers(&mut archive);
    }
    let limits = Limits { data_bytes: 1 << 20, extents: 64, image_files: 8 };
    let unpacked = read(&archive[..], dir(), &limits, &mut NoImage, &mut always);
    if let Ok(unpacked) = unpacked {
        for (index, snapshot) in unpacked.snapshots.into_iter().enumerate() {
            let target = dir().join(format!("s{index}"));
            let placed = snapshot
                .staging
                .complete(&snapshot.sealed, &target, false)
                .expect("it was found right");
            placed.verify(&mut always).expect("it was found right");
            placed.remove().expect("it is ours");
        }
    }
    assert_eq!(fs::read_dir(dir()).expect("memory").count(), 0);
});
