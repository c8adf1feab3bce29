//! Written by `mkfs.erofs`, read by us.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use msb_image::erofs::{FileType, Reader};
use msb_image::limits::Limits;

use crate::model::{installed, run};

#[test]
fn what_another_implementation_writes_is_read() {
    if !installed("mkfs.erofs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("usr/bin")).unwrap();
    fs::write(tree.join("empty"), b"").unwrap();
    fs::write(tree.join("small"), b"small").unwrap();
    fs::hard_link(tree.join("small"), tree.join("usr/same")).unwrap();
    let odd: Vec<u8> = (0..100_003u32)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    fs::write(tree.join("usr/bin/odd"), &odd).unwrap();
    fs::write(tree.join("whole"), &odd[..8192]).unwrap();
    symlink("usr/bin", tree.join("bin")).unwrap();
    fs::create_dir(tree.join("many")).unwrap();
    for n in 0..300 {
        fs::write(tree.join(format!("many/{n:040}")), b"").unwrap();
    }
    let mut expected = BTreeMap::new();
    let mut todo = vec![tree.clone()];
    while let Some(path) = todo.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        if found.is_dir() {
            todo.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        let name = path
            .strip_prefix(&tree)
            .unwrap()
            .to_str()
            .unwrap()
            .as_bytes()
            .to_vec();
        let bytes = found.is_file().then(|| fs::read(&path).unwrap());
        expected.insert(
            name,
            (u64::from(found.mode() & 0o7777), found.nlink(), bytes),
        );
    }

    let image = dir.path().join("image");
    let forms: [&[&str]; 4] = [
        &[],
        &["-Eforce-inode-extended"],
        &["-Enoinline_data"],
        &["--chunksize=4096"],
    ];
    for form in forms {
        run("mkfs.erofs", form, &[&image, &tree]);
        let reader = Reader::open(fs::File::open(&image).unwrap()).unwrap();
        let checked = reader.check(&Limits::default()).unwrap();
        assert_eq!(checked.names, expected.len() as u64, "{form:?}");
        for found in reader.walk(&Limits::default()) {
            let (path, inode) = found.unwrap();
            let (mode, links, bytes) = &expected[&path];
            assert_eq!(
                (u64::from(inode.mode), u64::from(inode.links)),
                (*mode, *links),
                "{form:?} {path:?}"
            );
            match inode.kind {
                FileType::File => {
                    let mut read = vec![0; usize::try_from(inode.size).unwrap()];
                    reader.read(&inode, 0, &mut read).unwrap();
                    assert!(bytes.as_ref() == Some(&read), "{form:?} {path:?}");
                }
                FileType::Symlink => assert_eq!(reader.link(&inode).unwrap(), b"usr/bin"),
                _ => assert_eq!(inode.kind, FileType::Directory),
            }
        }
    }
    run("mkfs.erofs", &["-zlz4"], &[&image, &tree]);
    let compressed = Reader::open(fs::File::open(&image).unwrap());
    let checked = compressed.and_then(|reader| reader.check(&Limits::default()));
    assert!(checked.unwrap_err().to_string().contains("compress"));
}
