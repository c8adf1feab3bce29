//! `msb-test-tree ROOT [DIR]` writes the list of a tree, an entry in each line: `[PATH, ENTRY]`, as JSON, the
//! path in hexadecimal. With a directory it mounts the root's file system there first, and lists it without
//! what is mounted over it.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let root = args.next().context("which tree?")?;
    let tree = match args.next() {
        None => msb_test_tree::list(&root)?,
        Some(dir) => {
            mount_bind(&root, &dir).context("cannot mount the tree elsewhere")?;
            let listed = msb_test_tree::list(&dir);
            unmount(&dir, UnmountFlags::DETACH)?;
            listed?
        }
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    for (path, entry) in &tree {
        serde_json::to_writer(&mut out, &(hex::encode(path), entry))?;
        writeln!(out)?;
    }
    Ok(out.flush()?)
}
