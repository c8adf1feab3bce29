//! Copies of sparse files, by the kernel and by hand.

use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;

use super::*;
use crate::snapshot::always;

fn file_in(dir: &str) -> Option<File> {
    tempfile::tempfile_in(dir).ok()
}

fn sparse(file: &File, size: u64, data: &[(u64, Vec<u8>)]) {
    for (at, bytes) in data {
        file.write_all_at(bytes, *at).unwrap();
    }
    file.set_len(size).unwrap();
}

fn bytes(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn a_disk_of_holes_costs_what_is_in_it() {
    let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let places = [0, 1 << 30, (1 << 36) - 4096];
    let data: Vec<_> = places.iter().map(|at| (*at, vec![7; 4096])).collect();
    sparse(&from, 1 << 36, &data);
    let copied = copy_data(&from, &to, &mut always).unwrap();
    assert!(copied < 1 << 20, "{copied}");
    let found = to.metadata().unwrap();
    assert_eq!(found.len(), 1 << 36);
    assert!(found.blocks() * 512 < 1 << 21, "{}", found.blocks());
    for at in places {
        let mut read = [0; 4096];
        to.read_exact_at(&mut read, at).unwrap();
        assert_eq!(read, [7; 4096]);
    }
}

#[test]
fn from_one_file_system_to_another() {
    let Some(to) = file_in("/dev/shm") else {
        return;
    };
    let from = tempfile::tempfile().unwrap();
    sparse(
        &from,
        3 << 20,
        &[(1 << 20, vec![1; 5000]), (2 << 20, vec![2; 5000])],
    );
    copy(&from, &to, &mut always).unwrap();
    assert_eq!(bytes(&to), bytes(&from));
}

#[test]
fn where_the_kernel_does_not_copy_it_is_read_and_written() {
    let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    sparse(&from, 10_000, &[(0, vec![3; 9000])]);
    let mut way = Way::Buffer(vec![0; CHUNK]);
    assert_eq!(way.copy(&from, &to, 0, 9000).unwrap(), 9000);
    assert_eq!(way.copy(&from, &to, 10_000, 10).unwrap(), 0);
    assert_eq!(bytes(&to), vec![3; 9000]);
}

#[test]
fn whoever_wants_it_ended_ends_it() {
    let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    sparse(&from, 1 << 20, &[(0, vec![3; 9000])]);
    let ended = copy_data(&from, &to, &mut || Err(io::Error::other("enough")));
    assert_eq!(ended.unwrap_err().to_string(), "enough");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_copy_has_the_bytes_of_its_original(
        size in 0_u64..2_000_000,
        data in proptest::collection::vec(
            (0_u64..2_000_000, proptest::collection::vec(any::<u8>(), 1..9000)), 0..12
        ),
    ) {
        let from = tempfile::tempfile().unwrap();
        sparse(&from, size, &data);
        for which in [copy_all, only_data] {
            let to = tempfile::tempfile().unwrap();
            which(&from, &to);
            prop_assert_eq!(bytes(&to), bytes(&from));
        }
    }
}

fn copy_all(from: &File, to: &File) {
    copy(from, to, &mut always).unwrap();
}

fn only_data(from: &File, to: &File) {
    copy_data(from, to, &mut always).unwrap();
}
