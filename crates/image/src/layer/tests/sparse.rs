//! Files with holes, in each of the ways that archives have them.

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader};

use super::build::Archive;
use super::*;
use crate::limits::BLOCK;

/// What all of the archives here hold: data at the beginning of the second block, and within the tenth.
const SIZE: usize = 50_000;
const PARTS: [(usize, &[u8]); 2] = [(4096, b"second"), (9 * 4096 + 100, b"tenth")];

fn expected() -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    for (at, part) in PARTS {
        bytes[at..at + part.len()].copy_from_slice(part);
    }
    bytes
}

fn data() -> Vec<u8> {
    PARTS.map(|(_, part)| part).concat()
}

#[track_caller]
fn holds(archive: Archive) {
    let (layer, data) = unpacked(&archive.end());
    assert_eq!(file_at(&layer, &data, "sparse"), expected());
    let Kind::File(content) = &put_at(&layer, "sparse").kind else {
        unreachable!()
    };
    let at: Vec<_> = content
        .pieces
        .iter()
        .map(|piece| piece.at / BLOCK)
        .collect();
    assert_eq!(at, [1, 9], "{content:?}");
    assert_eq!(data.len(), 2 * 4096 + 4096);
    // The entry after it is where it should be.
    assert_eq!(file_at(&layer, &data, "next"), b"x");
}

/// An entry with the data that there is, and one after it.
fn finish(archive: &mut Archive, path: &str, data: &[u8]) {
    archive.entry(path, EntryType::Regular, data);
    archive.entry("next", EntryType::Regular, b"x");
}

fn numbers() -> String {
    let pairs = PARTS.map(|(at, part)| format!("{at},{}", part.len()));
    format!("{},{SIZE},0", pairs.join(","))
}

#[test]
fn records_0_0() {
    let mut archive = Archive::default();
    let size = SIZE.to_string();
    let mut records: Vec<(&str, Vec<u8>)> = vec![
        ("GNU.sparse.size", size.clone().into()),
        ("GNU.sparse.numblocks", b"3".to_vec()),
    ];
    for (at, part) in PARTS {
        records.push(("GNU.sparse.offset", at.to_string().into()));
        records.push(("GNU.sparse.numbytes", part.len().to_string().into()));
    }
    records.push(("GNU.sparse.offset", size.into()));
    records.push(("GNU.sparse.numbytes", b"0".to_vec()));
    let records: Vec<(&str, &[u8])> = records.iter().map(|(k, v)| (*k, &**v)).collect();
    archive.records(&records);
    finish(&mut archive, "sparse", &data());
    holds(archive);
}

#[test]
fn records_0_1() {
    let mut archive = Archive::default();
    archive.records(&[
        ("GNU.sparse.size", SIZE.to_string().as_bytes()),
        ("GNU.sparse.numblocks", b"3"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.map", numbers().as_bytes()),
    ]);
    finish(&mut archive, "GNUSparseFile.1/sparse", &data());
    holds(archive);
}

fn records_1_0(map: &str, data: &[u8]) -> Archive {
    let mut archive = Archive::default();
    archive.records(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", SIZE.to_string().as_bytes()),
    ]);
    let mut stored = map.as_bytes().to_vec();
    stored.resize(stored.len().next_multiple_of(512), 0);
    stored.extend_from_slice(data);
    finish(&mut archive, "GNUSparseFile.1/sparse", &stored);
    archive
}

#[test]
fn records_1_0_with_the_map_in_the_data() {
    let map = format!("3\n{}\n", numbers().replace(',', "\n"));
    holds(records_1_0(&map, &data()));
    // A map of more than a block.
    let mut long = map.replacen('3', "203", 1);
    long.push_str(&format!("{SIZE}\n0\n").repeat(200));
    holds(records_1_0(&long, &data()));
}

fn place(place: &mut GnuSparseHeader, at: usize, len: usize) {
    place.set_offset(at as u64);
    place.set_length(len as u64);
}

#[test]
fn the_old_way_of_gnu() {
    for empty in [0, 1, 30] {
        let mut archive = Archive::default();
        let mut places = vec![(4096, 0); empty];
        places.extend(PARTS.map(|(at, part)| (at, part.len())));
        places.sort_unstable();
        let (first, more) = places.split_at(places.len().min(4));
        let (first, extended) = (first.to_vec(), !more.is_empty());
        archive.with(move |header| {
            header.set_size(data().len() as u64);
            let gnu = header.as_gnu_mut().unwrap();
            gnu.set_real_size(SIZE as u64);
            gnu.set_is_extended(extended);
            for ((at, len), header) in first.iter().zip(&mut gnu.sparse) {
                place(header, *at, *len);
            }
        });
        archive.raw("sparse", EntryType::GNUSparse, b"");
        let blocks: Vec<_> = more.chunks(21).collect();
        for (index, block) in blocks.iter().enumerate() {
            let mut header = GnuExtSparseHeader::new();
            for ((at, len), header) in block.iter().zip(&mut header.sparse) {
                place(header, *at, *len);
            }
            header.set_is_extended(index + 1 < blocks.len());
            archive.bytes.extend_from_slice(header.as_bytes());
        }
        archive.data(&data());
        archive.entry("next", EntryType::Regular, b"x");
        holds(archive);
    }
}

#[test]
fn maps_that_do_not_fit_are_refused() {
    let cases = [
        // Backwards, and over one another.
        "2\n8192\n6\n4096\n5\n",
        "2\n4096\n6\n4100\n5\n",
        // Past the end of the file, and past all numbers.
        "2\n4096\n6\n49996\n5\n",
        "2\n4096\n6\n9223372036854775807\n5\n",
        // Not all of the data, and more than that.
        "1\n4096\n6\n",
        "3\n0\n1\n4096\n6\n8192\n5\n",
        // No numbers.
        "2\n4096\n-6\n8192\n17\n",
        "x\n",
        "\n",
        "99999999999999999999999999\n",
        "2000000\n",
        // Not all of the map.
        "9\n4096\n6\n",
    ];
    for map in cases {
        let refused = unpack_with(&records_1_0(map, &data()).end(), &Limits::default());
        assert!(
            matches!(refused, Err(LayerError::Damaged(_))),
            "{map:?}: {refused:?}"
        );
    }
}

#[test]
fn a_map_of_another_time_is_none() {
    // A version that is not known: the file is what is stored, under the name in the header.
    let mut archive = Archive::default();
    archive.records(&[
        ("GNU.sparse.major", b"2"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
    ]);
    archive.entry("stored", EntryType::Regular, b"data");
    let (layer, data) = unpacked(&archive.end());
    assert_eq!(file_at(&layer, &data, "stored"), b"data");
}

#[test]
fn the_size_of_a_hole_counts_against_the_limit() {
    let limits = Limits {
        layer_bytes: SIZE as u64 - 1,
        ..Limits::default()
    };
    let map = format!("3\n{}\n", numbers().replace(',', "\n"));
    let refused = unpack_with(&records_1_0(&map, &data()).end(), &limits);
    assert!(
        matches!(refused, Err(LayerError::TooLarge { .. })),
        "{refused:?}"
    );
}
