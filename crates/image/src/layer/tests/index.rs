//! Indexes: bytes that must not change, and bytes that must not be believed.

use super::*;
use crate::node::{Attributes, Content, Device, Piece, Xattr};

/// A change of each kind.
fn sample() -> Layer {
    let attributes = Attributes {
        mode: 0o4755,
        uid: 1000,
        gid: 70_000,
        mtime: -2,
        mtime_nsec: 750_000_000,
        xattrs: vec![Xattr {
            name: b"user.a".to_vec(),
            value: vec![0xff],
        }],
    };
    let put = |path: &str, kind| Change {
        path: path.into(),
        action: Action::Put(Node {
            attributes: attributes.clone(),
            kind,
        }),
    };
    let device = Device {
        major: 8,
        minor: 300,
    };
    let content = Content {
        size: 10_000,
        pieces: vec![
            Piece {
                at: 0,
                blob: 4096,
                len: 4096,
            },
            Piece {
                at: 8192,
                blob: 0,
                len: 1808,
            },
        ],
    };
    let link = Action::Link {
        target: b"a/file".to_vec(),
    };
    let changed = |path: &str, action| Change {
        path: path.into(),
        action,
    };
    Layer {
        changes: vec![
            put("", Kind::Directory),
            put("a/file", Kind::File(content)),
            put("link", Kind::Symlink(b"a/file".to_vec())),
            put("char", Kind::CharDevice(device)),
            put("block", Kind::BlockDevice(device)),
            put("fifo", Kind::Fifo),
            put("socket", Kind::Socket),
            changed("hard", link),
            changed("gone", Action::Whiteout),
            changed("new", Action::Opaque),
        ],
        data_bytes: 8192,
    }
}

/// An index of which every digest is right, whatever is in it.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

fn read(layer: &Layer) -> Result<Layer, IndexError> {
    Layer::from_bytes(&layer.to_bytes().unwrap(), &Limits::default())
}

#[test]
fn an_index_reads_as_it_was_written() {
    assert_eq!(read(&sample()).unwrap(), sample());
    assert_eq!(read(&Layer::default()).unwrap(), Layer::default());
}

#[test]
fn the_bytes_of_an_index_are_fixed() {
    // Other bytes for the same layer are another version: stores have indexes like this one.
    let golden = include_str!("index.hex");
    let bytes = hex::decode(golden.split_whitespace().collect::<String>()).unwrap();
    assert_eq!(
        hex::encode(sample().to_bytes().unwrap()),
        hex::encode(&bytes)
    );
    assert_eq!(
        Layer::from_bytes(&bytes, &Limits::default()).unwrap(),
        sample()
    );
}

#[test]
fn damaged_indexes_are_refused() {
    let bytes = sample().to_bytes().unwrap();
    for index in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[index] ^= 0x10;
        assert!(
            Layer::from_bytes(&wrong, &Limits::default()).is_err(),
            "{index}"
        );
        assert!(Layer::from_bytes(&bytes[..index], &Limits::default()).is_err());
    }
    let read = |bytes: &[u8]| Layer::from_bytes(bytes, &Limits::default());
    assert!(matches!(read(b"something else"), Err(IndexError::NoIndex)));
    let mut newer = bytes.clone();
    newer[8] = 2;
    assert!(matches!(read(&newer), Err(IndexError::Version(2))));
    let signed = &bytes[..bytes.len() - 32];
    let longer = sealed([signed, &[0]].concat());
    assert!(matches!(read(&longer), Err(IndexError::Damaged)));
    let mut more = signed.to_vec();
    more[20] += 1;
    assert!(matches!(read(&sealed(more)), Err(IndexError::Malformed(_))));
    let mut endless = signed.to_vec();
    endless[20..28].fill(0xff);
    assert!(matches!(read(&sealed(endless)), Err(IndexError::TooLarge)));
    // A length that nothing could follow.
    let mut header = signed[..28].to_vec();
    header.extend_from_slice(&[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert!(matches!(
        read(&sealed(header)),
        Err(IndexError::Malformed(_))
    ));
}

#[test]
fn impossible_changes_are_refused() {
    let flaw = |change: fn(&mut Layer)| {
        let mut layer = sample();
        change(&mut layer);
        match read(&layer) {
            Err(IndexError::Impossible { flaw, .. }) => {
                assert_eq!(layer.check(&Limits::default()).unwrap_err().1, flaw);
                flaw
            }
            other => panic!("{other:?}"),
        }
    };
    fn attributes(layer: &mut Layer) -> &mut Attributes {
        let Action::Put(node) = &mut layer.changes[0].action else {
            unreachable!()
        };
        &mut node.attributes
    }
    fn content(layer: &mut Layer) -> &mut Content {
        let Action::Put(node) = &mut layer.changes[1].action else {
            unreachable!()
        };
        let Kind::File(content) = &mut node.kind else {
            unreachable!()
        };
        content
    }
    fn kind(layer: &mut Layer, kind: Kind<Content>) {
        let Action::Put(node) = &mut layer.changes[2].action else {
            unreachable!()
        };
        node.kind = kind;
    }
    assert_eq!(
        flaw(|l| l.changes[1].path = b"/a".to_vec()),
        LayerFlaw::Path(PathProblem::NotPlain)
    );
    assert_eq!(
        flaw(|l| l.changes[1].path = b"a/../b".to_vec()),
        LayerFlaw::Path(PathProblem::Upwards)
    );
    assert_eq!(
        flaw(|l| l.changes[1].path.clear()),
        LayerFlaw::Path(PathProblem::Root)
    );
    assert_eq!(
        flaw(|l| l.changes[7].path.clear()),
        LayerFlaw::Path(PathProblem::Root)
    );
    assert_eq!(
        flaw(|l| l.changes[8].path.clear()),
        LayerFlaw::Path(PathProblem::Root)
    );
    assert_eq!(
        flaw(|l| l.changes[7].action = Action::Link {
            target: b"..".to_vec()
        }),
        LayerFlaw::Path(PathProblem::Upwards)
    );

    assert_eq!(
        flaw(|l| attributes(l).mode = 0o10000),
        LayerFlaw::Attributes
    );
    assert_eq!(
        flaw(|l| attributes(l).mtime_nsec = 1_000_000_000),
        LayerFlaw::Attributes
    );
    assert_eq!(
        flaw(|l| attributes(l).xattrs[0].name.clear()),
        LayerFlaw::Xattrs
    );
    assert_eq!(
        flaw(|l| attributes(l).xattrs[0].value = vec![0; 40_000]),
        LayerFlaw::Xattrs
    );
    let twice = |l: &mut Layer| {
        let first = attributes(l).xattrs[0].clone();
        attributes(l).xattrs.push(first);
    };
    assert_eq!(flaw(twice), LayerFlaw::Xattrs);

    assert_eq!(
        flaw(|l| kind(l, Kind::Symlink(Vec::new()))),
        LayerFlaw::Symlink
    );
    assert_eq!(
        flaw(|l| kind(l, Kind::Symlink(vec![b'x'; 4096]))),
        LayerFlaw::Symlink
    );
    let beyond = |l: &mut Layer| {
        let device = crate::node::Device {
            major: 4096,
            minor: 0,
        };
        kind(l, Kind::CharDevice(device));
    };
    assert_eq!(flaw(beyond), LayerFlaw::Device);

    assert_eq!(flaw(|l| content(l).size = 9_999), LayerFlaw::Content);
    assert_eq!(
        flaw(|l| content(l).pieces[0].len = 4095),
        LayerFlaw::Content
    );
    assert_eq!(flaw(|l| content(l).pieces[1].len = 0), LayerFlaw::Content);
    assert_eq!(flaw(|l| content(l).pieces[1].at = 4097), LayerFlaw::Content);
    assert_eq!(flaw(|l| content(l).pieces[1].at = 0), LayerFlaw::Content);
    assert_eq!(
        flaw(|l| content(l).pieces[1].blob = 100),
        LayerFlaw::Content
    );
    assert_eq!(
        flaw(|l| content(l).pieces[1].blob = 8192),
        LayerFlaw::Content
    );
    assert_eq!(
        flaw(|l| content(l).pieces[1].blob = u64::MAX - 4095),
        LayerFlaw::Content
    );
    assert_eq!(flaw(|l| content(l).size = 1 << 60), LayerFlaw::TooLarge);
}

#[test]
fn a_blob_is_whole_blocks() {
    let layer = Layer {
        data_bytes: 4095,
        ..Layer::default()
    };
    assert!(matches!(read(&layer), Err(IndexError::Damaged)));
}

#[test]
fn limits_hold_for_indexes() {
    let bytes = sample().to_bytes().unwrap();
    let few = Limits {
        layer_entries: 9,
        ..Limits::default()
    };
    assert!(matches!(
        Layer::from_bytes(&bytes, &few),
        Err(IndexError::TooLarge)
    ));
    let small = Limits {
        index_bytes: 1_000,
        ..Limits::default()
    };
    let refused = Layer::from_bytes(&bytes, &small);
    let flaw = LayerFlaw::TooLarge;
    assert!(matches!(refused, Err(IndexError::Impossible { flaw: found, .. }) if found == flaw));
    let long = vec![0; 3_000];
    assert!(matches!(
        Layer::from_bytes(&long, &small),
        Err(IndexError::TooLarge)
    ));
}
