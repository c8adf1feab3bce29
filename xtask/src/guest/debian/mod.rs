//! A small Debian, for the tests and benchmarks that want a guest as people have them: with Python,
//! pip, an ssh server, and systemd. It is made once, as a tree in a tar file ([`tree`]); a root disk is
//! made of that here, and images are in [`super::images`].
//!
//! Names and contents follow the archive of the day on which it is made; tests rely on neither.

pub(crate) mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::progress::Progress;
use crate::{cache, proc};
use tree::Tree;

/// Tells tests where the disk is.
pub(crate) const VARIABLE: &str = "MSB_TEST_DEBIAN";

/// Changes when the step below does, beyond what is hashed anyway.
const RECIPE: &str = "2: from the tree";
/// Half of it is in use.
const DISK: &str = "448M";

/// Makes the disk `$2` of the size `$3` from the tar file `$1`. `$0` is a directory to unpack in.
///
/// Device files are left out, which only root could unpack; the agent mounts a /dev. So are the
/// host's name and name servers, and the keys of an ssh server that many copies would share.
const TO_DISK: &str = r#"set -e
mount -t tmpfs -o mode=755 tmpfs "$0" 2> /dev/null || true
tar --extract --file "$1" --directory "$0" --same-owner --same-permissions --exclude './dev/*'
rm -f "$0"/etc/hostname "$0"/etc/resolv.conf "$0"/etc/ssh/ssh_host_*
mke2fs -q -t ext4 -b 4096 -i 16384 -O ^has_journal -E root_owner=0:0,lazy_itable_init=1 -d "$0" "$2" "$3"
"#;

/// The disk in the cache, made first when it is not there.
pub(crate) fn build() -> Result<PathBuf> {
    let kind = cache::Kind::open("debian")?;
    let key = |tree: &str| {
        cache::key(&[
            RECIPE.as_bytes(),
            tree.as_bytes(),
            DISK.as_bytes(),
            TO_DISK.as_bytes(),
        ])
    };
    let recipe = tree::Recipe::of_this_host()?;
    // The tree is not needed while the disk is there.
    let dir = kind.get_or_make(&key(recipe.key()), |made| make(&recipe.build()?, made))?;
    Ok(dir.join("root.ext4"))
}

fn make(tree: &Tree, made: &Path) -> Result<()> {
    let memory = made
        .parent()
        .context("the build has no scratch directory")?
        .join("memory");
    fs::create_dir(&memory)?;
    let progress = Progress::new("making a disk of the Debian", 1);
    proc::output(
        tree::as_root(&memory, TO_DISK)
            .arg(tree.tar())
            .arg(made.join("root.ext4"))
            .arg(DISK),
    )?;
    progress.finish();
    Ok(())
}
