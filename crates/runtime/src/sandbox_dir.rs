//! A sandbox's directory, `<home>/sandboxes/<name>/`: what is its own and outlives its runs.
//!
//! | file | what |
//! | --- | --- |
//! | `config.json` | name, configuration, when it was made: enough to write its record anew |
//! | `run.json` | the latest run, and once that is over how it ended |
//! | `upper.ext4` | its writable layer, where its root is not a disk of its own |
//! | `root.erofs`, `patch/` | its image with its patches, where it has any |
//! | `logs/` | what it printed |
//!
//! A sandbox exists when its record *and* its directory do. Making one fills a directory of another
//! name ([`Nascent`]), writes the record, and renames the directory in; removing one renames the
//! directory away, and then removes the record. The two renames are the instants at which it is
//! there and gone: a record without a directory, while nobody holds the lock, is no sandbox.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use msb_types::SandboxConfig;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::durable::{self, sync_dir};
use crate::end::EndRecord;
use crate::isolation::Isolation;
use crate::rundir::RunDir;

/// The longest file that is read back, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// What directories on their way out are called. No sandbox's name begins with a dot.
const REMOVED: &str = ".removed-";

/// What a directory is called that is being filled, before the sandbox's name.
const NASCENT: &str = ".creating-";

/// The directory of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxDir {
    path: PathBuf,
}

/// What `config.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// When the sandbox was made.
    pub created_at: DateTime<Utc>,
    /// Its configuration.
    pub config: SandboxConfig,
}

/// What `run.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// A random number that tells this run from any other.
    pub id: u64,
    /// The supervisor's process.
    pub pid: u32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How it ended, once it has.
    pub ended: Option<EndRecord>,
    /// What its VMM had given up when it booted, once it has.
    #[serde(default, skip_serializing_if = "Isolation::is_none")]
    pub isolation: Isolation,
}

impl SandboxDir {
    /// The directory of the sandbox `name` under `home`. The name must be a valid one.
    pub fn of(home: &Path, name: &str) -> Self {
        Self {
            path: sandboxes(home).join(name),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the logs are.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Whether it is there. An error is no answer: what cannot be looked at may be there.
    pub fn exists(&self) -> io::Result<bool> {
        match fs::metadata(&self.path) {
            Ok(found) => Ok(found.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Gone is what is missing in its place; where the place is missing, who knows.
                fs::metadata(self.parent()).map(|_| false)
            }
            Err(error) => Err(error),
        }
    }

    /// Fills a directory that [`Nascent::complete`] makes the sandbox's. Only for who holds the lock.
    pub fn prepare(&self, config: &ConfigFile, run: &RunFile) -> io::Result<Nascent> {
        let mut name = std::ffi::OsString::from(NASCENT);
        name.push(self.path.file_name().unwrap_or_default());
        let path = self.path.with_file_name(name);
        delete(&path)?;
        let nascent = Nascent {
            dir: Self { path },
            target: self.path.clone(),
            kept: false,
        };
        private_dir(&nascent.dir.path)?;
        private_dir(&nascent.dir.logs())?;
        nascent.dir.write("config.json", config)?;
        nascent.dir.write_run(run)?;
        Ok(nascent)
    }

    /// Writes `run.json`, whole or not at all.
    pub fn write_run(&self, run: &RunFile) -> io::Result<()> {
        self.write("run.json", run)
    }

    /// What `run.json` says; `None` when there is none.
    pub fn read_run(&self) -> io::Result<Option<RunFile>> {
        self.read("run.json")
    }

    /// What `config.json` says; `None` when there is none.
    pub fn read_config(&self) -> io::Result<Option<ConfigFile>> {
        self.read("config.json")
    }

    /// Renames it away: from here on the sandbox is gone, whatever happens next. `None` when it
    /// was gone already.
    pub fn set_aside(&self) -> io::Result<Option<SetAside>> {
        let parent = self.parent();
        // An empty directory of a free name, which the rename replaces.
        let aside = match tempfile::Builder::new().prefix(REMOVED).tempdir_in(parent) {
            Ok(dir) => dir.keep(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match fs::rename(&self.path, &aside) {
            Ok(()) => {
                sync_dir(parent)?;
                Ok(Some(SetAside(aside)))
            }
            Err(error) => {
                let _ = fs::remove_dir(&aside);
                match error.kind() {
                    io::ErrorKind::NotFound => Ok(None),
                    _ => Err(error),
                }
            }
        }
    }

    /// Removes it at once.
    pub fn remove(&self) -> io::Result<()> {
        match self.set_aside()? {
            Some(aside) => aside.delete(),
            None => Ok(()),
        }
    }

    fn parent(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        serde_json::to_writer_pretty(&mut file, value)?;
        file.write_all(b"\n")?;
        durable::persist(file, &self.path.join(name))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let file = match File::open(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(Some(serde_json::from_slice(&bytes)?))
    }
}

/// A directory that is about to be a sandbox's. Dropping it deletes it.
#[derive(Debug)]
pub struct Nascent {
    dir: SandboxDir,
    target: PathBuf,
    kept: bool,
}

impl Nascent {
    /// Where it is while it is being filled.
    pub fn path(&self) -> &Path {
        &self.dir.path
    }

    /// Makes it the sandbox's: from here on the sandbox exists.
    pub fn complete(mut self) -> io::Result<()> {
        // One of this name without a record is of an older release's creation cut short.
        let target = SandboxDir {
            path: self.target.clone(),
        };
        target.remove()?;
        fs::rename(&self.dir.path, &self.target)?;
        self.kept = true;
        sync_dir(target.parent())
    }
}

impl Drop for Nascent {
    fn drop(&mut self) {
        if !self.kept {
            // The next creation of this name, or a sweep, tries again.
            let _ = delete(&self.dir.path);
        }
    }
}

/// A directory that is no sandbox's any more and waits to be deleted.
#[derive(Debug)]
#[must_use = "it takes space until it is deleted"]
pub struct SetAside(PathBuf);

impl SetAside {
    /// Deletes it. Should this be cut short, [`sweep`] goes on with it.
    pub fn delete(self) -> io::Result<()> {
        delete(&self.0)
    }
}

/// Deletes what removals and creations that were cut short left under `home`.
pub fn sweep(home: &Path) {
    for path in entries(home) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(REMOVED) {
            // Whoever comes next tries again.
            let _ = delete(&path);
        } else if let Some(sandbox) = name.strip_prefix(NASCENT) {
            // It may be filled right now; who holds the lock knows that it is not.
            if let Ok(lock) = RunDir::of(home, sandbox).lock() {
                let _ = delete(&path);
                let _ = lock.remove();
            }
        }
    }
}

/// The names of all directories under `home` that may be sandboxes'.
pub fn names(home: &Path) -> Vec<String> {
    entries(home)
        .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
        .filter(|name| msb_types::validate_sandbox_name(name).is_ok())
        .collect()
}

fn entries(home: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(sandboxes(home))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

fn sandboxes(home: &Path) -> PathBuf {
    home.join("sandboxes")
}

fn delete(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str) -> ConfigFile {
        ConfigFile {
            created_at: Utc::now(),
            config: SandboxConfig {
                name: name.to_owned(),
                ..SandboxConfig::default()
            },
        }
    }

    fn run() -> RunFile {
        RunFile {
            id: 7,
            pid: 1,
            started_at: Utc::now(),
            ended: None,
            isolation: Default::default(),
        }
    }

    fn create(home: &Path, name: &str) -> SandboxDir {
        let dir = SandboxDir::of(home, name);
        let nascent = dir.prepare(&config(name), &run()).unwrap();
        nascent.complete().unwrap();
        dir
    }

    fn left(home: &Path) -> usize {
        fs::read_dir(sandboxes(home)).unwrap().count()
    }

    #[test]
    fn what_is_written_is_read_and_removal_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let dir = create(home.path(), "web");
        assert_eq!(dir.read_config().unwrap().unwrap().config.name, "web");
        assert_eq!(dir.read_run().unwrap().unwrap().id, 7);
        assert_eq!(names(home.path()), ["web"]);
        assert!(dir.exists().unwrap());
        dir.remove().unwrap();
        assert!(!dir.exists().unwrap());
        dir.remove().unwrap();
        assert_eq!(left(home.path()), 0);
    }

    #[test]
    fn a_removal_cut_short_is_gone_at_once_and_swept_later() {
        let home = tempfile::tempdir().unwrap();
        let dir = create(home.path(), "web");
        let _cut_short = dir.set_aside().unwrap();
        assert!(!dir.exists().unwrap());
        assert!(names(home.path()).is_empty());
        sweep(home.path());
        assert_eq!(left(home.path()), 0);
    }

    #[test]
    fn a_creation_cut_short_is_nothing_and_swept_unless_it_goes_on() {
        let home = tempfile::tempdir().unwrap();
        let dir = SandboxDir::of(home.path(), "web");
        let lock = RunDir::of(home.path(), "web").lock().unwrap();
        let nascent = dir.prepare(&config("web"), &run()).unwrap();
        sweep(home.path());
        assert_eq!(left(home.path()), 1, "its maker holds the lock");
        drop(lock);
        std::mem::forget(nascent);
        assert!(!dir.exists().unwrap());
        sweep(home.path());
        assert_eq!(left(home.path()), 0);
        assert!(!RunDir::of(home.path(), "web").path().exists());
    }

    #[test]
    fn a_creation_given_up_leaves_nothing_and_one_completed_starts_afresh() {
        let home = tempfile::tempdir().unwrap();
        let dir = create(home.path(), "web");
        fs::write(dir.logs().join("exec.log"), "old").unwrap();
        drop(dir.prepare(&config("web"), &run()).unwrap());
        assert_eq!(left(home.path()), 1);
        create(home.path(), "web");
        assert_eq!(fs::read_dir(dir.logs()).unwrap().count(), 0);
        assert_eq!(left(home.path()), 1);
    }

    #[test]
    fn a_place_that_is_gone_says_nothing_about_a_sandbox() {
        let home = tempfile::tempdir().unwrap();
        assert!(SandboxDir::of(home.path(), "web").exists().is_err());
    }

    #[test]
    fn garbage_is_an_error_and_not_a_panic() {
        let home = tempfile::tempdir().unwrap();
        let dir = create(home.path(), "web");
        fs::write(dir.path().join("run.json"), b"{\"id\": \xff").unwrap();
        assert!(dir.read_run().is_err());
    }
}
