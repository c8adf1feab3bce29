//! Whatever is patched: the layer, put over the tree, is the tree that the patches made.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::node::Device;

fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "up", "..", "."]);
    vec(name, 1..4).prop_map(|names| format!("/{}", names.join("/")))
}

fn patch() -> impl Strategy<Value = Patch> {
    let mode = prop::option::of(0..0o10000u32);
    prop_oneof![
        3 => (path(), "[a-z]{0,5}", mode.clone(), any::<bool>()).prop_map(
            |(path, content, mode, replace)| Patch::Text { path, content, mode, replace }
        ),
        2 => (path(), mode).prop_map(|(path, mode)| Patch::Mkdir { path, mode }),
        2 => path().prop_map(|path| Patch::Remove { path }),
        2 => (path(), "[a-z]{0,5}")
            .prop_map(|(path, content)| Patch::Append { path, content }),
        2 => (path(), path(), any::<bool>()).prop_map(
            |(target, link, replace)| Patch::Symlink { target, link, replace }
        ),
    ]
}

/// A tree in which these paths mean something, and the blob of its one layer.
fn image() -> (Tree, File) {
    let mut file = tempfile::tempfile().unwrap();
    let mut blob = BlobWriter::new(&mut file);
    let mut writer = blob.file();
    writer.data(b"content").unwrap();
    let content = writer.finish().unwrap();
    let put = |path: &str, kind| Change {
        path: path.into(),
        action: Action::Put(Node {
            attributes: Attributes::default(),
            kind,
        }),
    };
    let target = b"a/b".to_vec();
    let changes = vec![
        put("a", Kind::Directory),
        put("a/b", Kind::File(content)),
        put("a/c", Kind::CharDevice(Device { major: 1, minor: 3 })),
        put("a/up", Kind::Symlink(b"..".to_vec())),
        put("b/a/b", Kind::Fifo),
        Change {
            path: b"b/c".to_vec(),
            action: Action::Link { target },
        },
        put("up", Kind::Symlink(b"/b/./a".to_vec())),
    ];
    let layer = Layer {
        changes,
        data_bytes: blob.finish().unwrap(),
    };
    let tree = Tree::merge([&layer], &Limits::default()).unwrap();
    (tree, file)
}

proptest! {
    #[test]
    fn the_layer_makes_the_tree(patches in vec(patch(), 0..12)) {
        let limits = Limits::default();
        let (tree, blob) = image();
        // What cannot be done is left out, so that the rest is still something.
        let mut done: Vec<Patch> = Vec::new();
        let mut last = (Layer::default(), tree.clone());
        for patch in patches {
            done.push(patch);
            let data = tempfile::tempfile().unwrap();
            match patched(&tree, &[&blob], &done, &data, &limits) {
                Ok(made) => last = made,
                Err(_) => {
                    done.pop();
                }
            }
        }
        let (layer, made) = last;
        let mut after = tree;
        after.apply(&layer, 1, &limits).unwrap();
        prop_assert_eq!(&after, &made);
        prop_assert_eq!(after.names(), made.names());
    }
}
