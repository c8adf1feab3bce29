//! Indexes that nobody wrote: whatever the bytes are, reading them is an error, or gives a layer that is one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use msb_image::Digest;
use msb_image::layer::{Action, Change, Layer};
use msb_image::limits::Limits;
use msb_image::node::{Attributes, Content, Kind, Node, Piece};
use msb_image::tree::Tree;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

fn sample() -> Layer {
    let put = |path: &str, kind| Change {
        path: path.into(),
        action: Action::Put(Node {
            attributes: Attributes::default(),
            kind,
        }),
    };
    let content = Content {
        size: 5000,
        pieces: vec![Piece {
            at: 0,
            blob: 0,
            len: 5000,
        }],
    };
    let target = b"a/file".to_vec();
    Layer {
        changes: vec![
            put("a", Kind::Directory),
            put("a/file", Kind::File(content)),
            put("b", Kind::Symlink(b"a".to_vec())),
            Change {
                path: b"link".to_vec(),
                action: Action::Link { target },
            },
            Change {
                path: b"b/gone".to_vec(),
                action: Action::Whiteout,
            },
        ],
        data_bytes: 8192,
    }
}

/// The bytes with a digest that fits, as whoever can write the file can make it.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

fn read(bytes: &[u8]) -> Result<(), TestCaseError> {
    let limits = Limits::default();
    if let Ok(layer) = Layer::from_bytes(bytes, &limits) {
        prop_assert_eq!(layer.check(&limits), Ok(()));
        let _ = Tree::merge([&layer], &limits);
        let again = layer.to_bytes().unwrap();
        prop_assert_eq!(Layer::from_bytes(&again, &limits).unwrap(), layer);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..500)) {
        read(&bytes)?;
        let header = &sample().to_bytes().unwrap()[..12];
        read(&sealed([header, &bytes].concat()))?;
    }

    #[test]
    fn an_index_with_some_bytes_changed(
        changes in vec((any::<Index>(), any::<u8>()), 1..6),
        length in any::<Index>(),
    ) {
        let mut bytes = sample().to_bytes().unwrap();
        bytes.truncate(bytes.len() - 32);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        read(&sealed(bytes.clone()))?;
        bytes.truncate(length.index(bytes.len()));
        read(&sealed(bytes))?;
    }
}
