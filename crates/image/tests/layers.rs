//! Layers of all shapes, written as archives, unpacked and put over one another: what comes out is what a plain
//! list of paths says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod model;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;

use model::{Entry, Model, What};
use msb_image::Digest;
use msb_image::layer::{Layer, unpack};
use msb_image::limits::Limits;
use msb_image::node::{Attributes, Kind, Xattr};
use msb_image::tree::{FileContent, InodeId, Tree};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::Index;

/// How an archive is written.
#[derive(Clone, Copy, Debug)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A layer to be: its entries, what it hides, and where among its entries that is said.
#[derive(Clone, Debug)]
struct Plan {
    entries: BTreeMap<String, Entry>,
    whiteouts: Vec<(String, Index)>,
    opaque: Vec<(String, Index)>,
    /// A name, and which of the files that there are it becomes a name of.
    links: Vec<(String, Index)>,
    compression: Compression,
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(String::from),
        1 => Just("n".repeat(120)),
        1 => Just("größe \\\u{1}".to_owned()),
    ]
}

fn path() -> impl Strategy<Value = String> {
    vec(name(), 1..4).prop_map(|names| names.join("/"))
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let xattr = ("user\\.[a-c]", vec(any::<u8>(), 1..20));
    (
        0..0o10000u16,
        0..u32::MAX,
        0..u32::MAX,
        -(1i64 << 33)..1 << 33,
        0..1_000_000_000u32,
        btree_map(xattr.0, xattr.1, 0..3),
    )
        .prop_map(|(mode, uid, gid, mtime, mtime_nsec, xattrs)| Attributes {
            mode,
            uid,
            gid,
            mtime,
            mtime_nsec,
            xattrs: xattrs
                .into_iter()
                .map(|(name, value)| Xattr {
                    name: name.into_bytes(),
                    value,
                })
                .collect(),
        })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    // Runs of one byte, zeros among them, about as long as blocks are.
    let run = (prop_oneof![Just(0), any::<u8>()], 0..9000usize);
    vec(run, 0..4).prop_map(|runs| {
        let runs = runs.into_iter().map(|(byte, length)| vec![byte; length]);
        runs.flatten().collect()
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let what = prop_oneof![
        4 => bytes().prop_map(What::File),
        3 => Just(What::Directory),
        // Nothing is ever made there, so nothing leads through it.
        1 => Just(What::Symlink("nowhere/at all".into())),
        1 => Just(What::Fifo),
    ];
    (attributes(), what).prop_map(|(attributes, what)| Entry { attributes, what })
}

fn plan() -> impl Strategy<Value = Plan> {
    let compression = prop_oneof![
        Just(Compression::None),
        Just(Compression::Gzip),
        Just(Compression::Zstd)
    ];
    (
        btree_map(path(), entry(), 0..6),
        attributes(),
        btree_set(path(), 0..4),
        btree_set(path(), 0..2),
        vec((path(), any::<Index>()), 0..2),
        vec(any::<Index>(), 6),
        compression,
    )
        .prop_map(
            |(wanted, directories, whiteouts, opaque, links, places, compression)| {
                let mut entries = BTreeMap::new();
                for (path, entry) in wanted {
                    // Real layers have an entry for each directory above an entry.
                    for (slash, _) in path.match_indices('/') {
                        let above = Entry {
                            attributes: directories.clone(),
                            what: What::Directory,
                        };
                        let above = entries.entry(path[..slash].to_owned()).or_insert(above);
                        above.what = What::Directory;
                    }
                    entries.entry(path).or_insert(entry);
                }
                let mut places = places.into_iter().cycle();
                let mut place = |path| (path, places.next().unwrap());
                Plan {
                    entries,
                    whiteouts: whiteouts.into_iter().map(&mut place).collect(),
                    opaque: opaque.into_iter().map(&mut place).collect(),
                    links,
                    compression,
                }
            },
        )
}

/// Appends an entry with records for what a header cannot say.
fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, entry: &Entry) {
    let attributes = &entry.attributes;
    let mtime = match (attributes.mtime, attributes.mtime_nsec) {
        (seconds, nanoseconds) if seconds < 0 && nanoseconds > 0 => {
            let (whole, rest) = (seconds + 1, 1_000_000_000 - nanoseconds);
            let sign = if whole == 0 { "-" } else { "" };
            format!("{sign}{whole}.{rest:09}")
        }
        (seconds, nanoseconds) => format!("{seconds}.{nanoseconds:09}"),
    };
    let mut records = vec![("mtime".to_owned(), mtime.into_bytes())];
    for xattr in &attributes.xattrs {
        let name = String::from_utf8(xattr.name.clone()).unwrap();
        records.push((format!("SCHILY.xattr.{name}"), xattr.value.clone()));
    }
    let records = records.iter().map(|(key, value)| (&**key, &**value));
    builder.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_mode(attributes.mode.into());
    header.set_uid(attributes.uid.into());
    header.set_gid(attributes.gid.into());
    let none = std::io::empty();
    match &entry.what {
        What::File(bytes) => {
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, path, &**bytes).unwrap();
        }
        What::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            builder
                .append_data(&mut header, format!("{path}/"), none)
                .unwrap();
        }
        What::Symlink(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut header, path, target).unwrap();
        }
        What::Fifo => {
            header.set_entry_type(tar::EntryType::Fifo);
            builder.append_data(&mut header, path, none).unwrap();
        }
    }
}

/// An empty file whose name says something.
fn append_marker(builder: &mut tar::Builder<Vec<u8>>, path: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    builder
        .append_data(&mut header, path, std::io::empty())
        .unwrap();
}

fn beside(path: &str, prefix: &str) -> String {
    match path.rsplit_once('/') {
        Some((above, name)) => format!("{above}/{prefix}{name}"),
        None => format!("{prefix}{path}"),
    }
}

/// Writes the archive, and does to the model what it says.
fn archive(plan: &Plan, model: &mut Model) -> Vec<u8> {
    let mut steps: Vec<Option<(&String, &Entry)>> = plan.entries.iter().map(Some).collect();
    let mut markers: Vec<(usize, String)> = Vec::new();
    for (path, place) in &plan.whiteouts {
        markers.push((place.index(steps.len() + 1), beside(path, ".wh.")));
    }
    for (path, place) in &plan.opaque {
        markers.push((place.index(steps.len() + 1), format!("{path}/.wh..wh..opq")));
    }
    let hidden = |list: &[(String, Index)]| list.iter().map(|(path, _)| path.clone()).collect();
    model.apply(&plan.entries, hidden(&plan.whiteouts), hidden(&plan.opaque));

    let mut builder = tar::Builder::new(Vec::new());
    steps.push(None);
    for (index, step) in steps.into_iter().enumerate() {
        for (_, marker) in markers.iter().filter(|(place, _)| *place == index) {
            append_marker(&mut builder, marker);
        }
        if let Some((path, entry)) = step {
            append(&mut builder, path, entry);
        }
    }
    for (path, target) in &plan.links {
        if let Some(target) = model.link(path, target) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Link);
            header.set_size(0);
            builder.append_link(&mut header, path, target).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn compressed(tar: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => tar.to_vec(),
        Compression::Gzip => {
            let level = flate2::Compression::fast();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(tar, 1).unwrap(),
    }
}

fn content(file: &FileContent, blobs: &[Vec<u8>]) -> Vec<u8> {
    let place = |number: u64| usize::try_from(number).unwrap();
    let mut bytes = vec![0; place(file.content.size)];
    for piece in &file.content.pieces {
        let (at, blob, len) = (place(piece.at), place(piece.blob), place(piece.len));
        let data = &blobs[file.layer][blob..blob + len.next_multiple_of(4096)];
        bytes[at..at + len].copy_from_slice(&data[..len]);
        assert!(data[len..].iter().all(|byte| *byte == 0));
    }
    bytes
}

/// What a tree is, as the model has it.
fn listed(tree: &Tree, blobs: &[Vec<u8>]) -> Model {
    let mut model = Model::default();
    let mut numbers: BTreeMap<InodeId, usize> = BTreeMap::new();
    for (path, id) in tree.walk().skip(1) {
        let node = &tree.inode(id).node;
        let what = match &node.kind {
            Kind::File(file) => What::File(content(file, blobs)),
            Kind::Directory => What::Directory,
            Kind::Symlink(target) => What::Symlink(String::from_utf8(target.clone()).unwrap()),
            Kind::Fifo => What::Fifo,
            other => panic!("{other:?}"),
        };
        let entry = Entry {
            attributes: node.attributes.clone(),
            what,
        };
        let next = numbers.len();
        let number = *numbers.entry(id).or_insert(next);
        model.insert(String::from_utf8(path).unwrap(), entry, number);
    }
    for (id, _) in tree.inodes() {
        let names = tree.walk().filter(|(_, other)| *other == id).count();
        assert_eq!(usize::try_from(tree.links(id)).unwrap(), names);
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn layers_make_the_tree_that_they_describe(plans in vec(plan(), 1..4)) {
        let limits = Limits::default();
        let mut model = Model::default();
        let (mut layers, mut blobs): (Vec<Layer>, Vec<Vec<u8>>) = Default::default();
        for plan in &plans {
            let tar = archive(plan, &mut model);
            let stored = compressed(&tar, plan.compression);
            let mut data = Vec::new();
            let mut tell = |_| ControlFlow::Continue(());
            let unpacked = unpack(&*stored, &mut data, &limits, &mut tell).unwrap();
            prop_assert_eq!(unpacked.diff_id, Digest::of(&tar));
            prop_assert_eq!(unpacked.bytes.read, stored.len() as u64);
            prop_assert_eq!(unpacked.layer.data_bytes, data.len() as u64);
            prop_assert_eq!(unpacked.layer.check(&limits), Ok(()));

            let index = unpacked.layer.to_bytes().unwrap();
            let read = Layer::from_bytes(&index, &limits).unwrap();
            prop_assert_eq!(&read, &unpacked.layer);
            layers.push(read);
            blobs.push(data);
        }
        let tree = Tree::merge(&layers, &limits).unwrap();
        prop_assert_eq!(listed(&tree, &blobs).plain(), model.plain());
        prop_assert_eq!(tree.inodes().count(), tree.slots());
        prop_assert_eq!(tree.walk().count() as u64, tree.names());
    }

    #[test]
    fn whatever_is_unpacked_does_not_panic(bytes in vec(any::<u8>(), 0..3000)) {
        let mut tell = |_| ControlFlow::Continue(());
        let _ = unpack(&*bytes, std::io::sink(), &Limits::default(), &mut tell);
    }

    #[test]
    fn a_damaged_archive_is_an_error_or_a_layer(
        plan in plan(),
        changes in vec((any::<Index>(), any::<u8>()), 1..5),
    ) {
        let mut tar = archive(&plan, &mut Model::default());
        for (place, byte) in changes {
            let place = place.index(tar.len());
            // Most checksums would be wrong at once: damage what they do not cover, or mend them.
            tar[place] = byte;
            let block = place / 512 * 512;
            if tar[block + 257..block + 262] == *b"ustar" {
                let mut header = tar::Header::new_old();
                header.as_mut_bytes().copy_from_slice(&tar[block..block + 512]);
                header.set_cksum();
                tar[block..block + 512].copy_from_slice(header.as_bytes());
            }
        }
        let limits = Limits::default();
        let mut tell = |_| ControlFlow::Continue(());
        if let Ok(unpacked) = unpack(&*tar, std::io::sink(), &limits, &mut tell) {
            prop_assert_eq!(unpacked.layer.check(&limits), Ok(()));
            let _ = Tree::merge([&unpacked.layer], &limits);
        }
    }
}
