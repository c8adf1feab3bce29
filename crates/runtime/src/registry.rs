//! All sandboxes of a home: their records made true before anybody sees them.
//!
//! A record in the catalog is what was last written down. What is true is said by the run's
//! lock: a record that calls a sandbox active while nobody holds its lock is of a run whose
//! supervisor ended without a word. Every look at a record goes through [`Registry`], which
//! then writes down what happened: what the supervisor left in `run.json`, or that it was lost.
//!
//! Only whoever holds a sandbox's lock launches or removes it ([`Owned`]).

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::Utc;
use msb_store::{
    Catalog, LabelFilter, NewSandbox, OpenOptions, RunEnd, RunRecord, SandboxRecord, StoreError,
};
use msb_types::{SandboxConfig, SandboxStatus, StatusEvent};

use crate::chain::chain;
use crate::control::LaunchError;
use crate::end::{EndReason, EndRecord, EndSource};
use crate::isolation::Isolation;
use crate::rundir::{LockedRunDir, RunDir, RunDirError};
use crate::sandbox_dir::{self, ConfigFile, Nascent, RunFile, SandboxDir};

/// How long any look into the catalog may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// A home that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The catalog cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sandbox's directory cannot.
    #[error("cannot use {}", path.display())]
    Io {
        /// What was to be used.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The run directory cannot.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A configuration could not be written down.
    #[error("the configuration cannot be stored")]
    Config(#[from] serde_json::Error),
}

/// A sandbox that was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// It is not there.
    #[error("there is no sandbox of this name")]
    Missing,
    /// It runs.
    #[error("the sandbox is {0}")]
    Active(SandboxStatus),
    /// Who ran it, or launches or removes it right now, holds its lock still.
    #[error("the sandbox is being launched, ended or removed")]
    Ending,
    /// The home failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// A home's sandboxes.
#[derive(Clone, Debug)]
pub struct Registry {
    home: PathBuf,
    catalog: Catalog,
}

impl Registry {
    /// Opens the catalog under `home`, and makes it where there is none.
    pub fn open(home: &Path) -> Result<Self, RegistryError> {
        Ok(Self {
            home: home.to_path_buf(),
            catalog: Catalog::open(&catalog_path(home), OpenOptions::with_deadline(DEADLINE))?,
        })
    }

    /// Makes the catalog anew from the sandboxes' directories; what cannot be read of them is
    /// left out, and the damaged file is kept beside the new one.
    pub fn rebuild(home: &Path) -> Result<Self, RegistryError> {
        let records = sandbox_dir::names(home)
            .into_iter()
            .filter_map(|name| recovered(home, name));
        msb_store::rebuild(
            &catalog_path(home),
            records,
            OpenOptions::with_deadline(DEADLINE),
        )?;
        Self::open(home)
    }

    /// The home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The record of a sandbox, true; `None` when there is no such sandbox.
    pub fn get(&self, name: &str) -> Result<Option<SandboxRecord>, RegistryError> {
        match self.catalog.get(name)? {
            Some(record) => self.reconcile(record),
            None => Ok(None),
        }
    }

    /// The records of all sandboxes with these labels, true, the oldest first.
    pub fn list(&self, filter: &LabelFilter) -> Result<Vec<SandboxRecord>, RegistryError> {
        let mut records = Vec::new();
        for record in self.catalog.list(filter)? {
            records.extend(self.reconcile(record)?);
        }
        Ok(records)
    }

    /// Removes a sandbox that does not run: record, directory, logs.
    pub fn remove(&self, name: &str) -> Result<(), RemoveError> {
        let Some(record) = self.get(name)? else {
            return Err(RemoveError::Missing);
        };
        if record.status.is_active() {
            return Err(RemoveError::Active(record.status));
        }
        self.take_away(&record)
    }

    /// Removes a sandbox that did not run when it was looked at.
    fn take_away(&self, record: &SandboxRecord) -> Result<(), RemoveError> {
        let run_dir = RunDir::of(&self.home, &record.name);
        let lock = match run_dir.lock() {
            Ok(lock) => lock,
            // Somebody launches it right now, or is removing it too.
            Err(RunDirError::Held) => {
                let now = self
                    .catalog
                    .get(&record.name)
                    .map_err(RegistryError::from)?;
                return Err(match now {
                    Some(now) if now.id != record.id => RemoveError::Missing,
                    Some(now) if now.status.is_active() => RemoveError::Active(now.status),
                    Some(_) => RemoveError::Ending,
                    None => RemoveError::Missing,
                });
            }
            Err(error) => return Err(RegistryError::from(error).into()),
        };
        let owned = self.own(lock, record.name.clone());
        // It may be another's by now: removed, and made anew.
        let now = self
            .catalog
            .get(&record.name)
            .map_err(RegistryError::from)?;
        let removed = match now {
            Some(now) if now.id == record.id => owned.remove_record().map_err(Into::into),
            _ => Err(RemoveError::Missing),
        };
        let released = owned.lock.remove();
        removed?;
        released.map_err(|source| self.io(run_dir.path(), source))?;
        Ok(())
    }

    /// What the holder of a sandbox's lock may do with it.
    pub fn own(&self, lock: LockedRunDir, name: String) -> Owned {
        Owned {
            dir: SandboxDir::of(&self.home, &name),
            registry: self.clone(),
            lock,
            name,
        }
    }

    /// Makes a record true. Nothing is assumed of who calls: several may at once.
    fn reconcile(&self, record: SandboxRecord) -> Result<Option<SandboxRecord>, RegistryError> {
        let dir = SandboxDir::of(&self.home, &record.name);
        let exists = dir.exists().map_err(|source| self.io(dir.path(), source))?;
        if exists && !record.status.is_active() && !record.ephemeral {
            return Ok(Some(record));
        }
        let run_dir = RunDir::of(&self.home, &record.name);
        let held = run_dir
            .is_held()
            .map_err(|source| self.io(&run_dir.lock_path(), source))?;
        match (exists, held) {
            (true, true) => return Ok(Some(record)),
            (true, false) => {}
            // It is being made, or being removed, by who holds the lock.
            (false, true) => return Ok(Some(record).filter(|record| record.status.is_active())),
            (false, false) => {
                self.forget(&record)?;
                return Ok(None);
            }
        }
        let record = match record.status.is_active() {
            true => match self.conclude(&dir, record)? {
                Some(record) => record,
                None => return Ok(None),
            },
            false => record,
        };
        if record.ephemeral && record.status.is_terminal() {
            // Its supervisor would have, and cannot any more.
            return match self.take_away(&record) {
                Ok(()) | Err(RemoveError::Missing) => Ok(None),
                Err(RemoveError::Active(_) | RemoveError::Ending) => {
                    Ok(self.catalog.get(&record.name)?)
                }
                Err(RemoveError::Registry(error)) => {
                    // One that cannot be removed must not hide the others.
                    tracing::warn!(name = %record.name, %error, "an ephemeral sandbox cannot be removed");
                    Ok(Some(record))
                }
            };
        }
        Ok(Some(record))
    }

    /// Writes down how a run ended that nobody holds any more.
    fn conclude(
        &self,
        dir: &SandboxDir,
        record: SandboxRecord,
    ) -> Result<Option<SandboxRecord>, RegistryError> {
        let run = record.run.as_ref().map(|run| run.id);
        let end = match dir.read_run() {
            Ok(Some(file)) if Some(file.id) == run => file.ended,
            Ok(_) => None,
            // Half of it, or something else: then all that is known is that nobody runs it.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                None
            }
            Err(source) => return Err(self.io(dir.path(), source)),
        };
        let end = end.unwrap_or_else(lost);
        let id = record.id;
        let updated = self.catalog.update(&record.name, move |now| {
            // Another may have been quicker, and somebody may have launched it since.
            if now.id == id && now.run.as_ref().map(|run| run.id) == run {
                apply_end(now, &end);
            }
            Ok::<_, Infallible>(())
        });
        match updated {
            Ok(Ok(record)) => Ok(Some(record)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a record whose directory is gone.
    fn forget(&self, record: &SandboxRecord) -> Result<(), RegistryError> {
        let id = record.id;
        let removed =
            self.catalog.remove_if(
                &record.name,
                move |now| if now.id == id { Ok(()) } else { Err(()) },
            );
        match removed {
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn io(&self, path: &Path, source: io::Error) -> RegistryError {
        RegistryError::Io {
            path: path.to_path_buf(),
            source,
        }
    }
}

/// A sandbox whose lock is held: nobody else launches or removes it.
#[derive(Debug)]
pub struct Owned {
    registry: Registry,
    dir: SandboxDir,
    /// The run's lock and directory.
    pub lock: LockedRunDir,
    name: String,
}

impl Owned {
    /// The sandbox's directory.
    pub fn dir(&self) -> &SandboxDir {
        &self.dir
    }

    /// Does something in the thread that works for the catalog: what each thread can only do to itself.
    pub fn in_catalogs_thread(
        &self,
        what: impl FnOnce() + Send + 'static,
    ) -> Result<(), RegistryError> {
        Ok(self.registry.catalog.in_its_thread(what)?)
    }

    /// Makes a new sandbox and begins its first run.
    pub fn create(&self, config: &SandboxConfig, run: &RunFile) -> Result<(), LaunchError> {
        self.create_with(config, run, |_| Ok(()))
    }

    /// Makes a new sandbox, whose directory `fill` puts more into before it exists, and begins its first
    /// run. Should `fill` fail, or anything after it, nothing is left.
    pub fn create_with(
        &self,
        config: &SandboxConfig,
        run: &RunFile,
        fill: impl FnOnce(&Path) -> Result<(), LaunchError>,
    ) -> Result<(), LaunchError> {
        if self.current()?.is_some() {
            return Err(LaunchError::Exists);
        }
        let file = ConfigFile {
            created_at: run.started_at,
            config: config.clone(),
        };
        let nascent = self
            .dir
            .prepare(&file, run)
            .map_err(|source| home(self.registry.io(self.dir.path(), source)))?;
        fill(nascent.path())?;
        self.make(config, run, nascent).map_err(home)
    }

    fn make(
        &self,
        config: &SandboxConfig,
        run: &RunFile,
        nascent: Nascent,
    ) -> Result<(), RegistryError> {
        let record = NewSandbox {
            status: SandboxStatus::Starting,
            labels: config.labels.clone(),
            ephemeral: config.lifecycle.ephemeral,
            run: Some(run_record(run)),
            ..NewSandbox::new(&config.name, serde_json::to_string(config)?)
        };
        // Whatever becomes of these two: a record without a directory is no sandbox.
        self.registry.catalog.insert(record)?;
        nascent
            .complete()
            .map_err(|source| self.registry.io(self.dir.path(), source))
    }

    /// Begins another run of a sandbox that is there, and returns its configuration.
    pub fn start(&self, run: &RunFile) -> Result<SandboxConfig, LaunchError> {
        let record = self.current()?.ok_or(LaunchError::Missing)?;
        let config = serde_json::from_str(&record.config_json)
            .map_err(|error| LaunchError::Config(error.to_string()))?;
        self.dir
            .write_run(run)
            .map_err(|source| home(self.registry.io(self.dir.path(), source)))?;
        let begun = run_record(run);
        let updated = self.registry.catalog.update(&self.name, move |now| {
            now.status = now.status.after(StatusEvent::Launch)?;
            now.run = Some(begun);
            Ok(())
        });
        match updated {
            Ok(Ok(_)) => Ok(config),
            Ok(Err(msb_types::InvalidTransition { .. })) => Err(LaunchError::Running),
            Err(StoreError::NotFound { .. }) => Err(LaunchError::Missing),
            Err(error) => Err(home(error.into())),
        }
    }

    /// Writes down the state that the run is in.
    pub fn note(&self, run: &RunFile, status: SandboxStatus) -> Result<(), RegistryError> {
        let isolation = isolation_json(run);
        self.update(run.id, move |now| {
            now.status = status;
            if let Some(now) = &mut now.run {
                now.isolation = isolation;
            }
            // Somebody could not see the lock and took the run for lost. It is ours to say.
            if let Some(run) = &mut now.run {
                run.ended = None;
            }
        })
        .map(drop)
    }

    /// Writes down what else is known of the run, where the sandbox is.
    pub fn describe(&self, run: &RunFile) -> Result<(), RegistryError> {
        let written = self.dir.write_run(run);
        written.map_err(|source| self.registry.io(self.dir.path(), source))
    }

    /// Writes down how the run ended: where the sandbox is, and in the catalog. What was to be removed
    /// with it is.
    pub fn end(&self, run: &mut RunFile, end: &EndRecord) -> Result<(), RegistryError> {
        run.ended = Some(end.clone());
        let written = self
            .dir
            .write_run(run)
            .map_err(|source| self.registry.io(self.dir.path(), source));
        let told = end.clone();
        let isolation = isolation_json(run);
        let record = self.update(run.id, move |now| {
            if let Some(run) = &mut now.run {
                run.ended = None;
                run.isolation = isolation;
            }
            // From wherever it was, it is over.
            if !now.status.is_active() {
                now.status = SandboxStatus::Running;
            }
            apply_end(now, &told);
        })?;
        match record {
            Some(record) if record.ephemeral => self.remove_record(),
            // Either of the two is enough for who looks next.
            Some(_) => Ok(()),
            None => written,
        }
    }

    /// Changes the record, if it is still of this run.
    fn update(
        &self,
        run: u64,
        change: impl FnOnce(&mut SandboxRecord) + Send + 'static,
    ) -> Result<Option<SandboxRecord>, RegistryError> {
        let updated = self.registry.catalog.update(&self.name, move |now| {
            if now.run.as_ref().is_some_and(|latest| latest.id == run) {
                change(now);
            }
            Ok::<_, Infallible>(())
        });
        match updated {
            Ok(Ok(record)) => Ok(Some(record)),
            Ok(Err(never)) => match never {},
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes directory and record, in the order that leaves no half of it.
    pub fn remove_record(&self) -> Result<(), RegistryError> {
        let aside = self
            .dir
            .set_aside()
            .map_err(|source| self.registry.io(self.dir.path(), source))?;
        match self
            .registry
            .catalog
            .remove_if(&self.name, |_| Ok::<_, Infallible>(()))
        {
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(aside) = aside {
            aside
                .delete()
                .map_err(|source| self.registry.io(self.dir.path(), source))?;
        }
        Ok(())
    }

    /// The record: true, since we hold the lock, and of a sandbox that does not run until we say so. `None` when
    /// there is no such sandbox.
    pub fn record(&self) -> Result<Option<SandboxRecord>, RegistryError> {
        let Some(record) = self.registry.catalog.get(&self.name)? else {
            return Ok(None);
        };
        let exists = self
            .dir
            .exists()
            .map_err(|source| self.registry.io(self.dir.path(), source))?;
        if !exists {
            self.registry.forget(&record)?;
            return Ok(None);
        }
        let record = if record.status.is_active() {
            self.registry.conclude(&self.dir, record)?
        } else {
            Some(record)
        };
        match record {
            Some(record) if record.ephemeral && record.status.is_terminal() => {
                self.remove_record()?;
                Ok(None)
            }
            record => Ok(record),
        }
    }

    fn current(&self) -> Result<Option<SandboxRecord>, LaunchError> {
        self.record().map_err(home)
    }
}

fn catalog_path(home: &Path) -> PathBuf {
    home.join("db").join("catalog.redb")
}

fn home(error: RegistryError) -> LaunchError {
    LaunchError::Home(error.into())
}

/// The end of the latest run. Whatever state it was in, it is over.
fn apply_end(record: &mut SandboxRecord, end: &EndRecord) {
    let status = record.status;
    if let Ok(status) = status
        .after(end.reason.event())
        .or_else(|_| status.after(StatusEvent::Lost))
    {
        record.status = status;
    }
    if let Some(run) = &mut record.run
        && run.ended.is_none()
    {
        run.ended = Some(run_end(end));
    }
}

fn lost() -> EndRecord {
    EndRecord {
        reason: EndReason::SupervisorLost,
        exit_code: None,
        signal: None,
        observed_at: Utc::now(),
        source: EndSource::Lock,
    }
}

fn run_record(run: &RunFile) -> RunRecord {
    RunRecord {
        id: run.id,
        pid: Some(run.pid),
        started_at: run.started_at,
        ended: run.ended.as_ref().map(run_end),
        isolation: isolation_json(run),
    }
}

fn isolation_json(run: &RunFile) -> Option<String> {
    let told = Some(&run.isolation).filter(|isolation| !isolation.is_none())?;
    serde_json::to_string(told).ok()
}

/// What stood around a run's VMM, as far as the catalog has it and this release knows it.
pub fn isolation(run: &RunRecord) -> Option<Isolation> {
    serde_json::from_str(run.isolation.as_deref()?).ok()
}

fn run_end(end: &EndRecord) -> RunEnd {
    RunEnd {
        at: end.observed_at,
        reason: serde_json::to_string(&end.reason).unwrap_or_default(),
        detail: Some(end.reason.to_string()),
        exit_code: end.exit_code,
        signal: end.signal,
        source: end.source.as_str().to_owned(),
    }
}

/// The reason that a catalog's entry stands for, if this release knows it.
pub fn end_reason(end: &RunEnd) -> Option<EndReason> {
    serde_json::from_str(&end.reason).ok()
}

/// A record made from what its directory has.
fn recovered(home: &Path, name: String) -> Option<SandboxRecord> {
    let dir = SandboxDir::of(home, &name);
    let config = dir.read_config().ok().flatten()?;
    let run = dir.read_run().ok().flatten();
    let ended = run.as_ref().and_then(|run| run.ended.as_ref());
    let status = match (&run, ended) {
        (None, _) => SandboxStatus::Created,
        // If it is not, the first look will tell.
        (Some(_), None) => SandboxStatus::Running,
        (Some(_), Some(end)) => SandboxStatus::Running
            .after(end.reason.event())
            .unwrap_or(SandboxStatus::Stopped),
    };
    Some(SandboxRecord {
        id: 0,
        status,
        config_json: serde_json::to_string(&config.config).ok()?,
        labels: config.config.labels,
        ephemeral: config.config.lifecycle.ephemeral,
        created_at: config.created_at,
        updated_at: Utc::now(),
        run: run.as_ref().map(run_record),
        name,
    })
}

impl From<RegistryError> for crate::control::HomeError {
    fn from(error: RegistryError) -> Self {
        use crate::control::HomeErrorKind as Kind;
        let kind = match &error {
            RegistryError::Store(error) => match error {
                StoreError::Damaged { .. } | StoreError::Foreign { .. } => Kind::Damaged,
                StoreError::NewerSchema { .. } | StoreError::Incompatible { .. } => Kind::Newer,
                StoreError::Busy { .. } | StoreError::InDoubt { .. } => Kind::Busy,
                StoreError::NoSpace { .. } => Kind::Full,
                StoreError::Permission { .. } | StoreError::ReadOnly { .. } => Kind::Forbidden,
                _ => Kind::Other,
            },
            RegistryError::Io { source, .. }
            | RegistryError::RunDir(RunDirError::Io { source, .. }) => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Full,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Kind::Forbidden
                }
                _ => Kind::Other,
            },
            RegistryError::RunDir(_) | RegistryError::Config(_) => Kind::Other,
        };
        let message = chain(&error);
        Self { kind, message }
    }
}

#[cfg(test)]
mod tests;
