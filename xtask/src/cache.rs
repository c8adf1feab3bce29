//! The content-addressed cache: an artefact's directory is named by a hash of all that it was made
//! from, so it is either right or absent, and never has to be invalidated.
//!
//! A builder holds a lock on the kind of artefact, makes it in a temporary directory beside its
//! final place, and renames it in when it is complete. Whoever looks without the lock sees the whole
//! artefact or none.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::paths;

/// One kind of artefact: `<cache>/<kind>/<key>/`.
#[derive(Debug)]
pub(crate) struct Kind {
    dir: PathBuf,
}

impl Kind {
    /// Opens the part of the cache that holds this kind.
    pub(crate) fn open(kind: &str) -> Result<Self> {
        let dir = paths::cache()?.join(kind);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// The directory of the kind itself, for notes that belong to no single artefact.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The artefact of this key, when it is there.
    pub(crate) fn get(&self, key: &str) -> Option<PathBuf> {
        let path = self.dir.join(key);
        path.is_dir().then_some(path)
    }

    /// The artefact of this key; when it is not there, `make` fills an empty directory with it.
    pub(crate) fn get_or_make(
        &self,
        key: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        if let Some(path) = self.get(key) {
            return Ok(path);
        }
        let _lock = self.lock()?;
        // Another builder may have made it while we waited.
        if let Some(path) = self.get(key) {
            return Ok(path);
        }
        self.clear_leftovers()?;
        let scratch = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempdir_in(&self.dir)
            .context("cannot make a temporary directory in the cache")?;
        let made = scratch.path().join("made");
        fs::create_dir(&made).context("cannot make a directory in the cache")?;
        make(&made)?;
        let path = self.dir.join(key);
        fs::rename(&made, &path)
            .with_context(|| format!("cannot move the finished artefact to {}", path.display()))?;
        Ok(path)
    }

    /// Takes the builder's lock; the kernel lets go of it when we end, however we end.
    fn lock(&self) -> Result<File> {
        let path = self.dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("waiting for another build that holds {}", path.display());
            file.lock()
                .with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }

    /// Removes what builders that were killed left behind. Only called with the lock held.
    fn clear_leftovers(&self) -> Result<()> {
        for entry in fs::read_dir(&self.dir).context("cannot list the cache")? {
            let entry = entry.context("cannot list the cache")?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("cannot remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

const TEMPORARY: &str = ".tmp-";

/// A key from the parts that an artefact is made of; the order matters, and no two lists of parts
/// run together into the same bytes.
pub(crate) fn key(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    }
    let mut text = hex::encode(hash.finalize());
    text.truncate(24);
    text
}

/// Writes a file so that its name never stands for half of it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("the file has no directory")?;
    let mut file = tempfile::NamedTempFile::new_in(dir)
        .with_context(|| format!("cannot write in {}", dir.display()))?;
    std::io::Write::write_all(&mut file, bytes)
        .and_then(|()| file.as_file().sync_all())
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.persist(path)
        .with_context(|| format!("cannot rename to {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_separates_parts() {
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_eq!(key(&[b"ab", b"c"]), key(&[b"ab", b"c"]));
        assert_eq!(key(&[]).len(), 24);
    }

    #[test]
    fn artefact_is_made_once_and_failure_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let kind = Kind {
            dir: dir.path().to_path_buf(),
        };
        assert!(kind.get_or_make("k", |_| anyhow::bail!("no")).is_err());
        assert!(kind.get("k").is_none());
        let made = kind
            .get_or_make("k", |dir| Ok(fs::write(dir.join("f"), "1")?))
            .unwrap();
        let again = kind
            .get_or_make("k", |_| anyhow::bail!("made twice"))
            .unwrap();
        assert_eq!(made, again);
        assert_eq!(fs::read(again.join("f")).unwrap(), b"1");
    }

    #[test]
    fn leftovers_of_killed_builders_go() {
        let dir = tempfile::tempdir().unwrap();
        let kind = Kind {
            dir: dir.path().to_path_buf(),
        };
        fs::create_dir(dir.path().join(".tmp-dead")).unwrap();
        kind.get_or_make("k", |_| Ok(())).unwrap();
        assert!(!dir.path().join(".tmp-dead").exists());
    }
}
