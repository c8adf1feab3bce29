//! Archives that nobody should have written: refused, with nothing left and nothing touched.

use tar::{EntryType, Header};

use super::*;
use crate::snapshot::archive::sparse;
use crate::snapshot::manifest::Sealed;

/// A member of a tar, as bytes.
#[derive(Clone)]
struct Part {
    name: String,
    kind: EntryType,
    link: Option<&'static str>,
    size: u64,
    bytes: Vec<u8>,
}

fn part(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Part {
    let bytes = bytes.into();
    Part {
        name: name.into(),
        kind: EntryType::Regular,
        link: None,
        size: bytes.len() as u64,
        bytes,
    }
}

fn pax(records: &[(&str, &str)]) -> Part {
    let mut bytes = String::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut long = rest + 1;
        while long != rest + long.to_string().len() {
            long = rest + long.to_string().len();
        }
        bytes.push_str(&format!("{long} {key}={value}\n"));
    }
    Part {
        kind: EntryType::XHeader,
        ..part("x", bytes)
    }
}

fn tar_of(parts: &[Part]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for part in parts {
        let mut header = Header::new_ustar();
        // Whatever it is called: the library would refuse some of these.
        let name = part.name.as_bytes();
        if name.len() <= 100 {
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
        } else {
            header.set_path(&part.name).unwrap();
        }
        header.set_entry_type(part.kind);
        if let Some(link) = part.link {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_size(part.size);
        header.set_cksum();
        tar.append(&header, &part.bytes[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

/// The parts of an archive with one small snapshot, to be changed.
struct Parts {
    digest: Digest,
    contents: Part,
    manifest: Part,
    header: Part,
    upper: Part,
    end: Part,
}

const SIZE: u64 = 1 << 20;

impl Parts {
    fn new() -> Self {
        let image = ImageRef {
            manifest_digest: Digest::of(b"image").to_string(),
            reference: "python:3.12".to_owned(),
        };
        Self::of(&Manifest::new(image, None, SIZE).seal().unwrap())
    }

    fn of(sealed: &Sealed) -> Self {
        let digest = sealed.digest();
        let contents = Contents::new(
            vec![Entry {
                digest,
                name: "base".to_owned(),
            }],
            false,
        );
        let mut upper = sparse::write_map(std::slice::from_ref(&(4096..8192)), SIZE);
        upper.extend([7; 4096]);
        let mut hasher = crate::snapshot::integrity::SparseHasher::new(SIZE);
        hasher.update(4096, &[7; 4096]);
        let end = End {
            uppers: BTreeMap::from([(digest.to_string(), hasher.finish().to_string())]),
        };
        let name = Name::Upper(digest);
        Self {
            digest,
            contents: part(
                "snapshot.json",
                serde_json::to_vec(&contents.unwrap()).unwrap(),
            ),
            manifest: part(Name::Manifest(digest).to_string(), sealed.bytes()),
            header: sparse_header(&name, SIZE),
            upper: part(name.sparse_header(), upper),
            end: part("end.json", serde_json::to_vec(&end).unwrap()),
        }
    }

    fn parts(&self) -> Vec<Part> {
        let Self {
            contents,
            manifest,
            header,
            upper,
            end,
            ..
        } = self;
        [contents, manifest, header, upper, end]
            .into_iter()
            .cloned()
            .collect()
    }
}

fn sparse_header(name: &Name, size: u64) -> Part {
    pax(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", &name.to_string()),
        ("GNU.sparse.realsize", &size.to_string()),
    ])
}

/// Reads it and sees that it is refused as an archive, with this in what it says.
#[track_caller]
fn refused(parts: &[Part], expected: &str) {
    refused_bytes(&tar_of(parts), expected);
}

#[track_caller]
fn refused_bytes(archive: &[u8], expected: &str) {
    let home = tempfile::tempdir().unwrap();
    let into = home.path().join("snapshots");
    fs::create_dir(&into).unwrap();
    let error = unpack(archive, &into, &mut NoImage).map(drop).unwrap_err();
    assert!(
        matches!(
            error,
            SnapshotError::Archive { .. } | SnapshotError::Manifest { .. }
        ),
        "{error:?}"
    );
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        text.push_str(&source.to_string());
    }
    assert!(text.contains(expected), "{expected}: {text}");
    assert_eq!(fs::read_dir(&into).unwrap().count(), 0, "{expected}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "{expected}");
}

#[test]
fn the_parts_as_they_are_make_an_archive() {
    let parts = Parts::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let restored = restored(&tar_of(&parts.parts()), elsewhere.path());
    assert_eq!(restored[0].sealed().digest(), parts.digest);
}

#[test]
fn names_that_lead_elsewhere() {
    let parts = Parts::new();
    for name in [
        "../../../.ssh/authorized_keys",
        "/etc/passwd",
        "snapshots/../../x",
        "./snapshot.json",
        "snapshots/base/upper.ext4",
        "",
    ] {
        for at in 0..=parts.parts().len() {
            let mut some = parts.parts();
            some.insert(at, part(name, "x"));
            // Behind an extended header it is the file that that speaks of.
            refused(&some, "");
        }
    }
    let mut some = parts.parts();
    some.insert(1, part("../x", "x"));
    refused(&some, "\"../x\" is in it");
    some = parts.parts();
    let digest = parts.digest.hex();
    some[2] = pax(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", &format!("snapshots/{digest}/../../x")),
        ("GNU.sparse.realsize", "1048576"),
    ]);
    refused(&some, "none that this library writes");
}

#[test]
fn what_is_no_file() {
    let parts = Parts::new();
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::GNUSparse,
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XGlobalHeader,
        EntryType::Continuous,
    ] {
        for (at, original) in parts.parts().into_iter().enumerate() {
            if original.kind == EntryType::XHeader {
                continue;
            }
            let mut some = parts.parts();
            some[at].kind = kind;
            some[at].link = Some("/etc/passwd");
            refused(&some, "");
            some = parts.parts();
            some.insert(at, some[at].clone());
            some[at].kind = kind;
            refused(&some, "");
        }
    }
}

#[test]
fn what_is_missing_twice_or_elsewhere() {
    let parts = Parts::new();
    let all = parts.parts();
    for at in 0..all.len() {
        let mut some = all.clone();
        some.remove(at);
        refused(&some, "");
        let mut some = all.clone();
        some.insert(at, some[at].clone());
        refused(&some, "");
        for other in 0..all.len() {
            let mut some = all.clone();
            some.swap(at, other);
            if at != other {
                refused(&some, "");
            }
        }
    }
    refused(&[], "ends in the middle");
    let mut some = all.clone();
    some.push(part("snapshot.json", "{}"));
    refused(&some, "more behind its end");
    let mut bytes = tar_of(&all);
    bytes.extend([1; 512]);
    refused_bytes(&bytes, "more behind its end");
    let mut bytes = tar_of(&all);
    bytes.resize(bytes.len() + (2 << 20), 0);
    refused_bytes(&bytes, "more behind its end");
}

#[test]
fn one_that_was_cut_off() {
    let mut place = Place::new();
    place.add(&disk(1 << 20, &[(0, 1), (200, 2)]), true, false);
    for plain in [true, false] {
        let archive = place.archive(plain, &[]);
        // The two empty blocks of a tar's end are for others.
        let end = archive.len() - if plain { 1024 } else { 0 };
        for at in (0..end).step_by(if plain { 509 } else { 13 }) {
            refused_bytes(&archive[..at], "");
        }
        if !plain {
            refused_bytes(&archive[..archive.len() - 1], "");
        }
    }
}

#[test]
fn digests_that_do_not_hold() {
    let mut some = Parts::new().parts();
    some[1].bytes[40] ^= 1;
    refused(&some, "was changed");
    some = Parts::new().parts();
    let last = some[3].bytes.len() - 1;
    some[3].bytes[last] = 8;
    refused(&some, "not what they were");
    some = Parts::new().parts();
    some[4] = part("end.json", r#"{"uppers":{}}"#);
    refused(&some, "not what they were");

    // Another manifest under its own name is another snapshot than the one that was promised.
    let other = Parts::new();
    let mut some = Parts::new().parts();
    some[1] = other.manifest.clone();
    refused(&some, "is missing");
    // The digest holds, and it is no manifest.
    let odd = br#"{"schema":1}"#;
    let digest = Digest::of(odd);
    let contents = Contents::new(
        vec![Entry {
            digest,
            name: "base".to_owned(),
        }],
        false,
    );
    let contents = serde_json::to_vec(&contents.unwrap()).unwrap();
    let manifest = part(Name::Manifest(digest).to_string(), *odd);
    refused(&[part("snapshot.json", contents), manifest], "no manifest");
}

#[test]
fn sizes_that_lie() {
    let parts = Parts::new();
    let name = Name::Upper(parts.digest);
    let mut some = parts.parts();
    some[2] = sparse_header(&name, SIZE * 2);
    refused(&some, "another size");
    some = parts.parts();
    some[1].size = 1 << 40;
    refused(&some, "");
    some = parts.parts();
    some[3].size = u64::MAX / 2;
    refused(&some, "");
    some = parts.parts();
    some[0].size = 1 << 60;
    refused(&some, "");
    // As a file without holes, which it never is.
    some = parts.parts();
    some.remove(2);
    some[2] = part(name.to_string(), vec![7; 4096]);
    refused(&some, "another size");
}

#[test]
fn maps_that_lie() {
    let parts = Parts::new();
    for (map, data, expected) in [
        ("", 0, "no list of numbers"),
        ("x\n", 0, "no list of numbers"),
        ("-1\n", 0, "no list of numbers"),
        ("1\n0\n99999999999999999999999\n", 0, "no list of numbers"),
        ("1\n18446744073709551615\n4096\n", 4096, "beyond the disk"),
        ("1\n1048576\n4096\n", 4096, "beyond the disk"),
        ("1\n0\n2097152\n", 4096, "beyond the disk"),
        ("2\n0\n8192\n4096\n4096\n", 12288, "not in order"),
        ("2\n8192\n4096\n0\n4096\n", 8192, "not in order"),
        ("2\n1048576\n0\n1048576\n0\n", 0, "not in order"),
        ("1\n4096\n0\n", 0, "no bytes"),
        ("1\n1\n4096\n", 4096, "whole blocks"),
        ("1\n0\n4097\n", 4097, "whole blocks"),
        ("1\n0\n4096\n", 8192, "what the entry has"),
        ("1\n0\n8192\n", 4096, "what the entry has"),
        ("18446744073709551615\n", 0, "more stretches"),
        ("2000000\n", 0, "more stretches"),
        ("1\n0\n4096\nx", 4096, "no list of numbers"),
    ] {
        let mut bytes = map.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(512).max(512), 0);
        bytes.resize(bytes.len() + data, 7);
        let mut some = parts.parts();
        some[3] = part(some[3].name.clone(), bytes);
        refused(&some, expected);
    }
}

#[test]
fn extended_headers_that_say_other_things() {
    let parts = Parts::new();
    let name = Name::Upper(parts.digest).to_string();
    let (major, minor) = (("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"));
    let (name, size) = (
        ("GNU.sparse.name", name.as_str()),
        ("GNU.sparse.realsize", "1048576"),
    );
    for records in [
        vec![major, minor, name],
        vec![major, minor, size],
        vec![major, name, size],
        vec![("GNU.sparse.major", "2"), minor, name, size],
        vec![major, minor, name, size, ("path", "../x")],
        vec![major, minor, name, size, ("size", "1")],
        vec![major, minor, name, size, ("linkpath", "/etc/passwd")],
        vec![major, minor, name, size, size],
        vec![major, minor, name, ("GNU.sparse.realsize", "-1")],
    ] {
        let mut some = parts.parts();
        some[2] = pax(&records);
        refused(&some, "none that this library writes");
    }
    let mut some = parts.parts();
    some[2].size = 1 << 40;
    refused(&some, "none that this library writes");
}

#[test]
fn contents_that_lie() {
    let digest = Parts::new().digest;
    let entry = |name: &str| format!(r#"{{"digest":"{digest}","name":"{name}"}}"#);
    let of = |entries: &[String], rest: &str| {
        format!(
            r#"{{"format":1,"image":false,"snapshots":[{}]{rest}}}"#,
            entries.join(",")
        )
    };
    let many: Vec<_> = (0..65).map(|number| entry(&format!("s{number}"))).collect();
    for (contents, expected) in [
        (
            of(&[entry("base")], ",\"more\":1"),
            "snapshot.json is wrong",
        ),
        (of(&[], ""), "may have 1 to 64"),
        (of(&many, ""), "may have 1 to 64"),
        (of(&[entry("a"), entry("b")], ""), "twice"),
        (of(&[entry("../../etc")], ""), "has no name"),
        (of(&[entry("")], ""), "has no name"),
        (of(&[entry("base")], "").replace(":1,", ":2,"), "format 2"),
        ("[]".to_owned(), "snapshot.json is wrong"),
        ("x".repeat(300_000), "has 300000 bytes"),
    ] {
        let mut some = Parts::new().parts();
        some[0] = part("snapshot.json", contents);
        refused(&some, expected);
    }
}

#[test]
fn snapshots_that_are_no_line() {
    let mut place = Place::new();
    place.add(&disk(1 << 20, &[(0, 1)]), false, false);
    let mut other = Place::new();
    other.add(&disk(1 << 20, &[(0, 2)]), false, false);
    let entry = |snapshot: &SnapshotDir, name: &str| Entry {
        digest: snapshot.sealed().digest(),
        name: name.to_owned(),
    };
    let (a, b) = (&place.snapshots[0], &other.snapshots[0]);
    let contents = Contents::new(vec![entry(a, "a"), entry(b, "b")], false).unwrap();
    let mut writer = Writer::begin(Vec::new(), true, &contents).unwrap();
    writer.snapshot(a, &mut always).unwrap();
    writer.snapshot(b, &mut always).unwrap();
    refused_bytes(&writer.finish().unwrap(), "do not come from one another");
}

#[test]
fn images_that_lie() {
    let mut place = Place::new();
    place.add(&disk(1 << 20, &[(0, 1)]), false, false);
    let layout = (ImagePath::Layout, b"{}".to_vec());
    let archive = place.archive(true, &[layout.clone(), layout.clone()]);
    refused_bytes(&archive, "twice in its image");

    // An image that nobody said would come.
    let mut some = Parts::new().parts();
    some.insert(4, part("image/oci-layout", "{}"));
    refused(&some, "not where it belongs");

    let limits = Limits {
        image_files: 1,
        ..Limits::default()
    };
    let archive = place.archive(true, &[layout, (ImagePath::Index, Vec::new())]);
    let into = tempfile::tempdir().unwrap();
    let read = read(
        &archive[..],
        into.path(),
        &limits,
        &mut NoImage,
        &mut always,
    );
    assert!(matches!(read, Err(SnapshotError::Archive { .. })));
}

#[test]
fn more_data_than_may_be() {
    let mut place = Place::new();
    place.add(&disk(1 << 20, &[(0, 1), (9, 1)]), true, false);
    let archive = place.archive(false, &[]);
    let into = tempfile::tempdir().unwrap();
    for limits in [
        Limits {
            data_bytes: 20_000,
            ..Limits::default()
        },
        Limits {
            extents: 0,
            ..Limits::default()
        },
    ] {
        let read = read(
            &archive[..],
            into.path(),
            &limits,
            &mut NoImage,
            &mut always,
        );
        assert!(
            matches!(read, Err(SnapshotError::Archive { .. })),
            "{read:?}"
        );
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);
    }
}

#[test]
fn compressed_ones_that_are_damaged() {
    let mut place = Place::new();
    place.add(&disk(1 << 20, &[(0, 1), (9, 1)]), false, false);
    let archive = place.archive(false, &[]);
    // Its very end is its checksum.
    let mut changed = archive.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    refused_bytes(&changed, "cannot be read");
    let mut twice = archive.clone();
    twice.extend(&archive);
    // What follows the frame is not looked at, and not unpacked.
    let into = tempfile::tempdir().unwrap();
    drop(unpack(&twice, into.path(), &mut NoImage).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn bytes_that_changed_are_refused_or_mean_the_same(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let parts = Parts::new();
        let mut archive = tar_of(&parts.parts());
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        let into = tempfile::tempdir().unwrap();
        if let Ok(unpacked) = unpack(&archive, into.path(), &mut NoImage) {
            prop_assert_eq!(unpacked.snapshots[0].sealed.digest(), parts.digest);
        }
        prop_assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);
    }
}
