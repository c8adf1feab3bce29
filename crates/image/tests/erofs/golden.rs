//! The bytes of a small disk, frozen: sandboxes name disks by their digest, so the same image must give the
//! same bytes in every build. `MSB_BLESS=1 cargo test -p msb-image --test erofs` writes them anew.
//!
//! The file has a line for each sixteen bytes that are not zeros, so that a change can be read; `*` stands for
//! lines that are like the one before.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use msb_image::node::{Attributes, Device, Kind, Xattr};

use crate::model::{Model, WHOLE};

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), name].iter().collect()
}

/// A disk with one of everything.
pub(crate) fn small() -> Model {
    let mut model = Model::new(2);
    let root = model.tree.root();
    let attributes = Attributes {
        mode: 0o4751,
        uid: 1000,
        gid: 100_000,
        mtime: -1,
        mtime_nsec: 999_999_999,
        xattrs: vec![
            Xattr {
                name: b"security.capability".to_vec(),
                value: b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
            },
            Xattr {
                name: b"user.mime".to_vec(),
                value: b"text/plain".to_vec(),
            },
        ],
    };
    let block = vec![1; WHOLE];
    let kind = model.data(0, b"plain");
    let file = model.put_with(root, b"file", attributes.clone(), kind);
    let kind = model.sparse(1, &[None, Some(&block), None, Some(b"end")]);
    model.put_with(root, b"sparse", attributes, kind);
    let kind = model.data(0, b"");
    model.put(root, b"empty", kind);
    let directory = model.put(root, b"dev", Kind::Directory);
    model.tree.link(directory, b"same", file).unwrap();
    let (null, disk) = (
        Device { major: 1, minor: 3 },
        Device {
            major: 259,
            minor: 70_000,
        },
    );
    model.put(directory, b"null", Kind::CharDevice(null));
    model.put(directory, b"disk", Kind::BlockDevice(disk));
    model.put(directory, b"fifo", Kind::Fifo);
    model.put(directory, b"socket", Kind::Socket);
    model.put(root, b"link", Kind::Symlink(b"dev/null".to_vec()));
    model.put(root, b"long", Kind::Symlink(vec![b'x'; 4095]));
    model
}

/// Two blocks of names, and a third that stands behind its inode.
fn many() -> Model {
    let mut model = Model::new(0);
    for n in 0..40 {
        model.put(
            model.tree.root(),
            format!("{n:0200}").as_bytes(),
            Kind::Fifo,
        );
    }
    model
}

fn dump(bytes: &[u8]) -> String {
    let (mut text, mut last) = (String::new(), &[0; 16][..]);
    for (line, row) in bytes.chunks(16).enumerate() {
        if row == last {
            if row.iter().any(|byte| *byte != 0) && !text.ends_with("*\n") {
                text.push_str("*\n");
            }
            continue;
        }
        last = row;
        if row.iter().all(|byte| *byte == 0) {
            continue;
        }
        write!(text, "{:06x}:", line * 16).unwrap();
        for byte in row {
            write!(text, " {byte:02x}").unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_bytes_of_a_small_disk_stay_the_same() {
    let golden = path("tests/erofs/golden.txt");
    let found = dump(&small().metadata());
    if std::env::var_os("MSB_BLESS").is_some() {
        fs::write(&golden, &found).unwrap();
        let seeds = path("../../tests/fuzz/corpus/erofs_reader");
        fs::create_dir_all(&seeds).unwrap();
        for (name, model) in [
            ("small", small()),
            ("many", many()),
            ("empty", Model::new(0)),
        ] {
            fs::write(seeds.join(name), model.disk_bytes()).unwrap();
        }
    }
    let expected = fs::read_to_string(&golden).unwrap();
    assert!(found == expected, "the bytes have changed:\n{found}");
}
