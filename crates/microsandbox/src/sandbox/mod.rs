//! The sandbox: a machine of its own, and the handle that owns it.

mod builder;
mod check;
mod commands;
mod filter;
mod handle;
mod image;
mod init;
mod lifecycle;
mod merge;
pub mod metrics;
mod mount;
mod named_volume;
mod patch;
mod pull;
mod registry;
mod stop_result;

pub use builder::SandboxBuilder;
pub(crate) use check::supported;
pub(crate) use commands::DEFAULT_TERMINAL;
pub use filter::SandboxFilter;
pub use handle::SandboxHandle;
pub use image::{ImageBuilder, IntoImage};
pub use init::InitOptionsBuilder;
pub(crate) use merge::with_image;
pub use metrics::SandboxMetrics;
pub use mount::MountBuilder;
pub use msb_types::{
    DiskImageFormat, EnvVar, HandoffInit, HostPermissions, LifecycleOptions, LogLevel,
    MountOptions, MountSource, NamedVolume, NamedVolumeMode, NetworkSpec, Patch, PullPolicy,
    RegistryAuth, ResourceLimit, Resources, RootfsSource, RuntimeOptions, SandboxConfig,
    SandboxStatus, SecurityProfile, StatVirtualization, VolumeKind, VolumeMount,
};
pub use named_volume::NamedVolumeBuilder;
pub use patch::PatchBuilder;
pub use pull::{PullProgress, PullProgressHandle, PullReporter};
pub use registry::RegistryConfigBuilder;
pub use stop_result::SandboxStopResult;

pub use crate::backend::{SandboxHandleCloudState, SandboxHandleLocalState};
pub use crate::fs;
pub use crate::fs::{
    FsEntry, FsEntryKind, FsMetadata, FsReadStream, FsSetAttrs, FsWriteSink, SandboxFs,
};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use msb_runtime::boot::BootTimings;
use msb_runtime::end::EndReason;

use crate::agent::AgentClient;
use crate::backend::local::{End, Link};
use crate::backend::{
    Backend, BackendKind, Launched, Prepared, SandboxBackend, SandboxRequest, default_backend,
};
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::exec::ExitStatus;
use crate::fs::FsErrorKind;
use crate::isolation::Isolation;
use crate::logs::{LogEntry, LogOptions, LogStream, LogStreamOptions};

/// How often a sandbox that is to be replaced may come back in between.
const REPLACE_TRIES: u32 = 8;

/// A running sandbox.
///
/// One that this program created or started attached belongs to it: dropping it ends the machine,
/// and so does this program's death. One that it connected to, or detached, lives on.
#[derive(Debug)]
pub struct Sandbox {
    config: SandboxConfig,
    backend: Arc<dyn Backend>,
    link: Link,
    client: Arc<AgentClient>,
    local: Option<SandboxLocalState>,
}

/// What is known of a sandbox that runs on this host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SandboxLocalState {
    /// Process id of its supervisor, if this program started it.
    pub pid: Option<u32>,
    /// Its run directory, which holds its sockets.
    pub run_dir: PathBuf,
    /// Where the time of its boot went, if this program booted it.
    pub boot: BootTimings,
    /// What stands around its VMM, layer by layer; `None` when that is not known.
    pub isolation: Option<Isolation>,
}

/// What is known of a sandbox that runs on a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SandboxCloudState {
    /// Its id there.
    pub id: String,
}

/// Checks a sandbox name: 1 to 128 bytes of `[A-Za-z0-9][A-Za-z0-9._-]*`.
pub fn validate_sandbox_name(name: &str) -> MicrosandboxResult<()> {
    msb_types::validate_sandbox_name(name)
        .map_err(|error| MicrosandboxError::InvalidConfig(format!("sandbox name: {error}")))
}

/// Creating and finding sandboxes.
impl Sandbox {
    /// Starts to describe a sandbox.
    pub fn builder(name: impl Into<String>) -> SandboxBuilder {
        SandboxBuilder::new(name)
    }

    /// Creates and boots a sandbox that belongs to this program. Its image is pulled before, by its
    /// [`PullPolicy`]; dropping the future meanwhile stops the pull, and the next one goes on from there.
    ///
    /// # Errors
    ///
    /// [`SandboxAlreadyExists`](MicrosandboxError::SandboxAlreadyExists) when there is one of this
    /// name and it is not to be replaced; [`ImageNotFound`](MicrosandboxError::ImageNotFound) when its
    /// image may not be pulled and is not here, [`Image`](MicrosandboxError::Image) when it could not be
    /// pulled; [`BootStart`](MicrosandboxError::BootStart) when it does
    /// not come up, [`InvalidConfig`](MicrosandboxError::InvalidConfig) when its own `workdir` is no directory in
    /// it; both leave nothing of it.
    pub async fn create(config: SandboxConfig) -> MicrosandboxResult<Self> {
        Self::create_on(default_backend(), config, false, PullReporter::default()).await
    }

    /// Creates and boots a sandbox that outlives this program.
    pub async fn create_detached(config: SandboxConfig) -> MicrosandboxResult<Self> {
        Self::create_on(default_backend(), config, true, PullReporter::default()).await
    }

    async fn create_on(
        backend: Arc<dyn Backend>,
        config: SandboxConfig,
        detached: bool,
        reporter: PullReporter,
    ) -> MicrosandboxResult<Self> {
        check::check(&config)?;
        supported(&config)?;
        let sandboxes = backend.sandboxes();
        if !config.replace_existing && matches!(config.image, RootfsSource::Oci { .. }) {
            absent(sandboxes, &config.name).await?;
        }
        // What the image says comes into the configuration next.
        let own_dir = config.runtime.workdir.clone();
        // A sandbox that is replaced stays until there is something to replace it with.
        let Prepared { config, held } = sandboxes.prepare(config, reporter).await?;
        check::check(&config)?;
        let launched = Self::launch(sandboxes, config, detached).await?;
        drop(held);
        let sandbox = Self::new(backend, launched);
        if let Some(dir) = own_dir
            && let Err(error) = sandbox.has_dir(&dir).await
        {
            let cleared = clear(sandbox.sandboxes(), sandbox.name(), Duration::ZERO).await;
            if let Err(error) = cleared {
                tracing::warn!(%error, name = sandbox.name(), "a sandbox that was not to be is left");
            }
            return Err(error);
        }
        Ok(sandbox)
    }

    /// Whether commands can begin in this directory.
    async fn has_dir(&self, dir: &str) -> MicrosandboxResult<()> {
        let found = match self.fs().stat(dir).await {
            Ok(found) => found.kind == FsEntryKind::Directory,
            Err(MicrosandboxError::SandboxFsOps(error))
                if matches!(
                    error.kind,
                    FsErrorKind::NotFound | FsErrorKind::NotADirectory
                ) =>
            {
                false
            }
            Err(error) => return Err(error),
        };
        match found {
            true => Ok(()),
            false => Err(MicrosandboxError::InvalidConfig(format!(
                "workdir: there is no directory {dir:?} in the sandbox; name one that is there, or have a patch \
                 make it"
            ))),
        }
    }

    async fn launch(
        sandboxes: &dyn SandboxBackend,
        config: SandboxConfig,
        detached: bool,
    ) -> MicrosandboxResult<Launched> {
        if !config.replace_existing {
            return sandboxes.create(config, detached).await;
        }
        let mut tries = 0;
        loop {
            clear(sandboxes, &config.name, config.replace_with_timeout).await?;
            match sandboxes.create(config.clone(), detached).await {
                // Another program was quicker; its sandbox too is to be replaced.
                Err(MicrosandboxError::SandboxAlreadyExists(_)) if tries < REPLACE_TRIES => {
                    tries += 1;
                }
                launched => return launched,
            }
        }
    }

    fn new(backend: Arc<dyn Backend>, launched: Launched) -> Self {
        let name = launched.config.name.clone();
        let client = AgentClient::of_run(Arc::clone(&backend), name, launched.link.end());
        Self {
            client: Arc::new(client),
            config: launched.config,
            backend,
            link: launched.link,
            local: launched.local,
        }
    }

    /// Boots a sandbox that is there and does not run; it then belongs to this program.
    pub async fn start(name: &str) -> MicrosandboxResult<Self> {
        Self::start_on(default_backend(), name, false).await
    }

    /// Boots a sandbox that is there and does not run; it outlives this program.
    pub async fn start_detached(name: &str) -> MicrosandboxResult<Self> {
        Self::start_on(default_backend(), name, true).await
    }

    async fn start_on(
        backend: Arc<dyn Backend>,
        name: &str,
        detached: bool,
    ) -> MicrosandboxResult<Self> {
        validate_sandbox_name(name)?;
        let launched = backend.sandboxes().start(name, detached).await?;
        Ok(Self::new(backend, launched))
    }

    /// A handle on the sandbox of this name, whether it runs or not.
    pub async fn get(name: &str) -> MicrosandboxResult<SandboxHandle> {
        SandboxHandle::get(default_backend(), name).await
    }

    /// Handles on all sandboxes, the oldest first.
    pub async fn list() -> MicrosandboxResult<Vec<SandboxHandle>> {
        Self::list_with(SandboxFilter::new()).await
    }

    /// Handles on all sandboxes that the filter lets pass, the oldest first.
    pub async fn list_with(filter: SandboxFilter) -> MicrosandboxResult<Vec<SandboxHandle>> {
        SandboxHandle::list(default_backend(), filter).await
    }

    /// Removes a sandbox that does not run: its record, its directory, its logs.
    pub async fn remove(name: &str) -> MicrosandboxResult<()> {
        validate_sandbox_name(name)?;
        default_backend().sandboxes().remove(name).await
    }
}

/// Refuses a name that is taken, before anything is pulled for it. Its creation looks again.
async fn absent(sandboxes: &dyn SandboxBackend, name: &str) -> MicrosandboxResult<()> {
    match sandboxes.get(name).await {
        Ok(_) => Err(MicrosandboxError::SandboxAlreadyExists(name.to_owned())),
        Err(MicrosandboxError::SandboxNotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Stops and removes the sandbox of this name, if there is one.
async fn clear(
    sandboxes: &dyn SandboxBackend,
    name: &str,
    timeout: Duration,
) -> MicrosandboxResult<()> {
    let mut tries = 0;
    loop {
        match lifecycle::stop(sandboxes, name, timeout).await {
            Err(MicrosandboxError::SandboxNotFound(_)) => return Ok(()),
            stopped => stopped?,
        }
        match sandboxes.remove(name).await {
            Err(MicrosandboxError::SandboxStillRunning(_)) if tries < REPLACE_TRIES => tries += 1,
            Err(MicrosandboxError::SandboxNotFound(_)) => return Ok(()),
            removed => return removed,
        }
    }
}

/// What it is.
impl Sandbox {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The configuration it was created with.
    pub fn config(&self) -> &SandboxConfig {
        &self.config
    }

    /// What kind of place it runs in.
    pub fn backend_kind(&self) -> BackendKind {
        self.backend.kind()
    }

    /// The place it runs in.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Direct access to its agent. Nothing is connected before that is needed.
    pub fn client(&self) -> &AgentClient {
        &self.client
    }

    /// The same, to be kept.
    pub fn client_arc(&self) -> Arc<AgentClient> {
        Arc::clone(&self.client)
    }

    /// What is known of it on this host.
    pub fn local(&self) -> Option<&SandboxLocalState> {
        self.local.as_ref()
    }

    /// What is known of it on its server; nothing for one that runs here.
    pub fn cloud(&self) -> Option<&SandboxCloudState> {
        None
    }

    /// Whether its life is tied to this program's.
    pub fn owns_lifecycle(&self) -> bool {
        self.link.owner
    }

    /// The state it is in now.
    pub async fn status(&self) -> MicrosandboxResult<SandboxStatus> {
        Ok(self.sandboxes().get(self.name()).await?.status)
    }

    /// What last went wrong with it, as is known now.
    pub async fn last_error(&self) -> MicrosandboxResult<Option<String>> {
        Ok(self.sandboxes().get(self.name()).await?.last_error)
    }

    /// A handle on it.
    pub async fn handle(&self) -> MicrosandboxResult<SandboxHandle> {
        SandboxHandle::get(Arc::clone(&self.backend), self.name()).await
    }

    /// Its files.
    pub fn fs(&self) -> SandboxFs<'_> {
        SandboxFs::of(self)
    }

    fn sandboxes(&self) -> &dyn SandboxBackend {
        self.backend.sandboxes()
    }
}

/// Its life.
impl Sandbox {
    /// Stops it gracefully: its processes are asked to end, file systems are synced and
    /// unmounted, then the machine powers off. After 10 seconds it is killed.
    pub async fn stop(&self) -> MicrosandboxResult<()> {
        self.stop_with_timeout(lifecycle::STOP_TIMEOUT).await
    }

    /// Stops it gracefully within `timeout`, and by force after that; a zero timeout kills
    /// at once. Fine when it is over already.
    pub async fn stop_with_timeout(&self, timeout: Duration) -> MicrosandboxResult<()> {
        self.end_by(lifecycle::stop(self.sandboxes(), self.name(), timeout))
            .await
    }

    /// Asks it to stop, as [`stop`](Self::stop) does, and does not wait.
    pub async fn request_stop(&self) -> MicrosandboxResult<()> {
        self.ask(SandboxRequest::Stop(lifecycle::STOP_TIMEOUT))
            .await
    }

    /// Stops it and says how its VMM process ended.
    pub async fn stop_and_wait(&self) -> MicrosandboxResult<ExitStatus> {
        self.stop().await?;
        self.wait().await
    }

    /// Ends it at once.
    pub async fn kill(&self) -> MicrosandboxResult<()> {
        self.kill_with_timeout(lifecycle::KILL_TIMEOUT).await
    }

    /// Ends it at once, and waits at most `timeout` to see that.
    pub async fn kill_with_timeout(&self, timeout: Duration) -> MicrosandboxResult<()> {
        self.end_by(lifecycle::kill(self.sandboxes(), self.name(), timeout))
            .await
    }

    /// Ends it at once, and does not wait.
    pub async fn request_kill(&self) -> MicrosandboxResult<()> {
        self.ask(SandboxRequest::Kill).await
    }

    /// Lets the commands that run finish, refuses new ones, and waits until it has stopped.
    pub async fn drain(&self) -> MicrosandboxResult<()> {
        self.request_drain().await?;
        self.link.wait().await;
        Ok(())
    }

    /// The same, and does not wait.
    pub async fn request_drain(&self) -> MicrosandboxResult<()> {
        self.ask(SandboxRequest::Drain).await
    }

    /// Stops its processors; it keeps its memory and uses no CPU time until
    /// [`resume`](Self::resume). Its clocks are right afterwards.
    pub async fn pause(&self) -> MicrosandboxResult<()> {
        self.ask(SandboxRequest::Pause).await
    }

    /// Sets its processors running again.
    pub async fn resume(&self) -> MicrosandboxResult<()> {
        self.ask(SandboxRequest::Resume).await
    }

    /// Waits until it is over, and says how its VMM process ended. Cancel-safe.
    pub async fn wait(&self) -> MicrosandboxResult<ExitStatus> {
        let status = match self.link.wait().await {
            End::Told(end) => match (end.exit_code, end.signal) {
                (Some(code), _) => Some(ExitStatus {
                    code,
                    success: code == 0,
                }),
                (None, Some(signal)) => Some(crate::exec::Exit::Signal(signal).into()),
                (None, None) => None,
            },
            End::Lost => None,
        };
        status.ok_or_else(|| MicrosandboxError::SandboxNotRunning {
            name: self.name().to_owned(),
            status: None,
            reason: self.end_reason(),
        })
    }

    /// Waits until it is over, and says what is known of that. Cancel-safe.
    pub async fn wait_until_stopped(&self) -> MicrosandboxResult<SandboxStopResult> {
        match self.link.wait().await {
            End::Told(end) => Ok(SandboxStopResult::of(self.name(), &end)),
            End::Lost => match self.sandboxes().wait_until_stopped(self.name()).await {
                // It went with its run.
                Err(MicrosandboxError::SandboxNotFound(_)) => {
                    Ok(SandboxStopResult::lost(self.name()))
                }
                stopped => stopped,
            },
        }
    }

    /// Waits until it is in this state.
    ///
    /// # Errors
    ///
    /// When it is not there after `deadline`, or cannot come there in its present run.
    pub async fn wait_until(
        &self,
        status: SandboxStatus,
        deadline: Duration,
    ) -> MicrosandboxResult<()> {
        lifecycle::wait_until(self.sandboxes(), self.name(), status, deadline).await
    }

    /// Waits until it is over, and says why it ended. Cancel-safe.
    pub async fn wait_until_ended(&self) -> EndReason {
        self.link.wait().await.reason()
    }

    /// Why it ended, if it is over.
    pub fn end_reason(&self) -> Option<EndReason> {
        self.link.ended().as_ref().map(End::reason)
    }

    /// Lets go of it: it lives on without this program.
    pub async fn detach(mut self) {
        if let Err(error) = self.link.detach().await {
            tracing::warn!(%error, name = self.name(), "the sandbox may end with this program");
        }
    }

    /// Removes it once it is over: its record, its directory, its logs.
    pub async fn remove_persisted(&self) -> MicrosandboxResult<()> {
        self.sandboxes().remove(self.name()).await
    }

    async fn ask(&self, request: SandboxRequest) -> MicrosandboxResult<()> {
        let ends = matches!(request, SandboxRequest::Stop(_) | SandboxRequest::Kill);
        // Another run may have its name by now, which is not this program's to ask.
        match self.not_running() {
            Some(_) if ends => Ok(()),
            Some(error) => Err(error),
            None => match self.sandboxes().request(self.name(), request).await {
                // It ended meanwhile, and its record went with it.
                Err(MicrosandboxError::SandboxNotFound(_)) if ends => Ok(()),
                asked => asked,
            },
        }
    }

    /// Ends this run, and waits until this program has heard how it ended.
    async fn end_by(
        &self,
        ending: impl Future<Output = MicrosandboxResult<()>>,
    ) -> MicrosandboxResult<()> {
        if self.link.ended().is_some() {
            return Ok(());
        }
        match ending.await {
            Err(MicrosandboxError::SandboxNotFound(_)) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        self.hear_end().await;
        Ok(())
    }

    /// Waits a little for the word of an end that has happened.
    async fn hear_end(&self) -> Option<End> {
        tokio::time::timeout(lifecycle::OBSERVE_TIMEOUT, self.link.wait())
            .await
            .ok()
    }

    /// The error for a call on a run that is over.
    pub(crate) fn not_running(&self) -> Option<MicrosandboxError> {
        self.link.ended().map(|end| self.ended_error(&end))
    }

    fn ended_error(&self, end: &End) -> MicrosandboxError {
        let reason = end.reason();
        MicrosandboxError::SandboxNotRunning {
            name: self.name().to_owned(),
            status: SandboxStatus::Running.after(reason.event()).ok(),
            reason: Some(reason),
        }
    }
}

/// What it prints and uses.
impl Sandbox {
    /// What its commands have printed.
    pub async fn logs(&self, options: &LogOptions) -> MicrosandboxResult<Vec<LogEntry>> {
        let snapshot = self.sandboxes().logs(self.name(), options.clone()).await?;
        Ok(snapshot.entries)
    }

    /// What its commands print, as it comes.
    pub async fn log_stream(&self, options: &LogStreamOptions) -> MicrosandboxResult<LogStream> {
        self.sandboxes()
            .log_stream(self.name(), options.clone())
            .await
    }

    /// What it uses now.
    pub async fn metrics(&self) -> MicrosandboxResult<SandboxMetrics> {
        self.sandboxes().metrics(self.name()).await
    }

    /// What it uses, every `interval`, until it is over.
    pub fn metrics_stream(
        &self,
        interval: Duration,
    ) -> impl Stream<Item = MicrosandboxResult<SandboxMetrics>> + Send + 'static + use<> {
        metrics::stream(Arc::clone(&self.backend), self.name().to_owned(), interval)
    }
}
