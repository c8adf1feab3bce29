//! One digest for one content, wherever its holes are.

use proptest::prelude::*;

use super::*;
use crate::snapshot::always;

fn of(file: &File) -> Digest {
    digest(file, &mut always).unwrap()
}

/// A file with these bytes at these blocks, and holes elsewhere.
fn sparse(size: u64, blocks: &[(u64, u8)]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    for (block, byte) in blocks {
        file.write_all_at(&[*byte; 4096], block * BLOCK).unwrap();
    }
    file.set_len(size).unwrap();
    file
}

/// The same bytes, all of them written.
fn dense(of: &File) -> File {
    let size = usize::try_from(of.metadata().unwrap().len()).unwrap();
    let mut bytes = vec![0; size];
    of.read_exact_at(&mut bytes, 0).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    file
}

/// By the letter of what the module says, from all bytes.
fn by_the_letter(bytes: &[u8]) -> Digest {
    let mut all = b"msb-sparse-sha256-v1\0".to_vec();
    all.extend((bytes.len() as u64).to_le_bytes());
    for (number, block) in bytes.chunks(4096).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            all.extend((number as u64).to_le_bytes());
            all.extend(block);
        }
    }
    Digest::of(&all)
}

#[test]
fn the_algorithm_is_frozen() {
    let empty = of(&sparse(0, &[]));
    assert_eq!(empty, by_the_letter(b""));
    assert_eq!(
        empty.to_string(),
        "sha256:56ffc9cabb52975b3fa212d61cc53f5fa3b4ff87de8bd70b4ed4c156701e3931"
    );
    let some = of(&sparse(1 << 20, &[(0, 1), (7, 2), (255, 3)]));
    assert_eq!(
        some.to_string(),
        "sha256:adfea5d6b602c781773485bfa0f0790f978b3210ad6139cb81daa730ffdaedda"
    );
}

#[test]
fn a_terabyte_of_holes_is_read_in_no_time() {
    let size = 1 << 40;
    let file = sparse(size, &[(0, 1), (size / BLOCK - 1, 2)]);
    let mut steps = 0;
    let mut count = || {
        steps += 1;
        Ok(())
    };
    digest(&file, &mut count).unwrap();
    assert!(steps < 10, "{steps}");
}

#[test]
fn any_change_is_seen() {
    let blocks = [(0, 1), (7, 2), (255, 3)];
    let original = of(&sparse(1 << 20, &blocks));
    let changed = [
        sparse((1 << 20) + 4096, &blocks),
        sparse((1 << 20) - 1, &blocks),
        sparse(1 << 20, &blocks[..2]),
        sparse(1 << 20, &[(0, 1), (8, 2), (255, 3)]),
        sparse(1 << 20, &[(0, 1), (7, 3), (255, 2)]),
    ];
    for changed in changed {
        assert_ne!(of(&changed), original);
    }
    let bit = sparse(1 << 20, &blocks);
    bit.write_all_at(&[1], 100_000).unwrap();
    assert_ne!(of(&bit), original);
}

#[test]
fn whoever_wants_it_ended_ends_it() {
    let file = sparse(8 << 20, &[(0, 1)]);
    let ended = digest(&file, &mut || Err(io::ErrorKind::Interrupted.into()));
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::Interrupted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn holes_and_zeros_are_the_same(
        size in 0_u64..600_000,
        blocks in proptest::collection::vec((0_u64..150, 0_u8..3), 0..20),
    ) {
        let file = sparse(size, &blocks);
        let dense = dense(&file);
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        prop_assert_eq!(of(&file), by_the_letter(&bytes));
        prop_assert_eq!(of(&dense), by_the_letter(&bytes));
    }
}
