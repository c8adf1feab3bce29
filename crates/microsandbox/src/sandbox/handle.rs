//! A light handle on a sandbox, by name.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::Stream;

use super::{
    Sandbox, SandboxConfig, SandboxFilter, SandboxHandleCloudState, SandboxHandleLocalState,
    SandboxMetrics, SandboxStatus, SandboxStopResult, lifecycle, metrics, validate_sandbox_name,
};
use crate::backend::{Backend, BackendKind, SandboxBackend, SandboxInfo, SandboxRequest};
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::logs::{LogEntry, LogOptions, LogStream, LogStreamOptions};
use crate::snapshot::{self, Snapshot, SnapshotDestination};

/// A handle on a sandbox, which need not run.
///
/// It holds what was true when it was made, and does things by the sandbox's name: any program may
/// have one, at any time, and dropping it means nothing. Whatever it does is decided on what is
/// true then, never on what it remembers; [`refresh`](Self::refresh) makes one that knows better.
#[derive(Clone)]
pub struct SandboxHandle {
    backend: Arc<dyn Backend>,
    info: SandboxInfo,
}

impl fmt::Debug for SandboxHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxHandle")
            .field("name", &self.info.name)
            .field("backend_kind", &self.backend_kind())
            .field("status", &self.info.status)
            .finish()
    }
}

impl SandboxHandle {
    pub(crate) async fn get(backend: Arc<dyn Backend>, name: &str) -> MicrosandboxResult<Self> {
        validate_sandbox_name(name)?;
        let info = backend.sandboxes().get(name).await?;
        Ok(Self { backend, info })
    }

    pub(crate) async fn list(
        backend: Arc<dyn Backend>,
        filter: SandboxFilter,
    ) -> MicrosandboxResult<Vec<Self>> {
        let found = backend.sandboxes().list(filter).await?;
        let handle = |info| Self {
            backend: Arc::clone(&backend),
            info,
        };
        Ok(found.into_iter().map(handle).collect())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// What kind of place it is in.
    pub fn backend_kind(&self) -> BackendKind {
        self.backend.kind()
    }

    /// What is known of it on this machine.
    pub fn local(&self) -> Option<&SandboxHandleLocalState> {
        self.info.local.as_ref()
    }

    /// What is known of it on a server.
    pub fn cloud(&self) -> Option<&SandboxHandleCloudState> {
        self.info.cloud.as_ref()
    }

    /// The state it was in when this handle was made.
    pub fn status_snapshot(&self) -> SandboxStatus {
        self.info.status
    }

    /// What had last gone wrong when this handle was made.
    pub fn last_error_snapshot(&self) -> Option<String> {
        self.info.last_error.clone()
    }

    /// Its configuration, as it is stored.
    pub fn config_json(&self) -> &str {
        &self.info.config_json
    }

    /// Its configuration.
    ///
    /// # Errors
    ///
    /// When what is stored is no configuration of this release.
    pub fn config(&self) -> MicrosandboxResult<SandboxConfig> {
        Ok(serde_json::from_str(&self.info.config_json)?)
    }

    /// When it was created.
    pub fn created_at(&self) -> Option<DateTime<Utc>> {
        self.info.created_at
    }

    /// When anything about it had last changed when this handle was made.
    pub fn updated_at(&self) -> Option<DateTime<Utc>> {
        self.info.updated_at
    }

    /// A handle on what is true now.
    pub async fn refresh(&self) -> MicrosandboxResult<SandboxHandle> {
        Self::get(Arc::clone(&self.backend), self.name()).await
    }

    /// What its commands have printed, whether it runs or not.
    pub async fn logs(&self, options: &LogOptions) -> MicrosandboxResult<Vec<LogEntry>> {
        let snapshot = self.sandboxes().logs(self.name(), options.clone()).await?;
        Ok(snapshot.entries)
    }

    /// What its commands have printed and print.
    pub async fn log_stream(&self, options: &LogStreamOptions) -> MicrosandboxResult<LogStream> {
        self.sandboxes()
            .log_stream(self.name(), options.clone())
            .await
    }

    /// What it uses now, while it runs.
    ///
    /// # Errors
    ///
    /// [`MetricsDisabled`](MicrosandboxError::MetricsDisabled) when its configuration turned them
    /// off, [`MetricsUnavailable`](MicrosandboxError::MetricsUnavailable) when it does not run.
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

    /// Boots it from its stored configuration; it then belongs to this program.
    ///
    /// # Errors
    ///
    /// [`SandboxStillRunning`](MicrosandboxError::SandboxStillRunning) when it runs, or another
    /// program starts it at the same moment.
    pub async fn start(&self) -> MicrosandboxResult<Sandbox> {
        Sandbox::start_on(Arc::clone(&self.backend), self.name(), false).await
    }

    /// Boots it from its stored configuration; it outlives this program.
    pub async fn start_detached(&self) -> MicrosandboxResult<Sandbox> {
        Sandbox::start_on(Arc::clone(&self.backend), self.name(), true).await
    }

    /// Reaches it while it runs, without owning it, within 10 seconds.
    ///
    /// # Errors
    ///
    /// [`SandboxNotRunning`](MicrosandboxError::SandboxNotRunning) with the state it is in.
    pub async fn connect(&self) -> MicrosandboxResult<Sandbox> {
        self.connect_with_timeout(lifecycle::CONNECT_TIMEOUT).await
    }

    /// Reaches it while it runs, without owning it, within `timeout`.
    pub async fn connect_with_timeout(&self, timeout: Duration) -> MicrosandboxResult<Sandbox> {
        match tokio::time::timeout(timeout, self.sandboxes().connect(self.name())).await {
            Ok(launched) => Ok(Sandbox::new(Arc::clone(&self.backend), launched?)),
            Err(_) => Err(MicrosandboxError::Runtime(format!(
                "sandbox {:?} could not be reached within {timeout:?}",
                self.name()
            ))),
        }
    }

    /// Makes a snapshot of what it has written, under this name, while it does not run
    /// ([`Snapshot::create`]).
    ///
    /// # Errors
    ///
    /// [`SnapshotSandboxRunning`](MicrosandboxError::SnapshotSandboxRunning) while it runs,
    /// [`SnapshotAlreadyExists`](MicrosandboxError::SnapshotAlreadyExists), and
    /// [`InvalidConfig`](MicrosandboxError::InvalidConfig) when it is made of no image.
    pub async fn snapshot(&self, name: &str) -> MicrosandboxResult<Snapshot> {
        self.taken(SnapshotDestination::Name(name.to_owned())).await
    }

    /// Makes a snapshot of what it has written, in this directory, which is made.
    ///
    /// # Errors
    ///
    /// Those of [`snapshot`](Self::snapshot).
    pub async fn snapshot_to(&self, path: impl AsRef<Path>) -> MicrosandboxResult<Snapshot> {
        self.taken(SnapshotDestination::Path(path.as_ref().to_owned()))
            .await
    }

    async fn taken(&self, destination: SnapshotDestination) -> MicrosandboxResult<Snapshot> {
        let config = Snapshot::builder(self.name()).destination(destination);
        let config = config.build()?;
        snapshot::local(&self.backend)?
            .snapshot_create(config)
            .await
    }

    /// Stops it gracefully within 10 seconds, and by force after that. Fine when it is over.
    pub async fn stop(&self) -> MicrosandboxResult<()> {
        self.stop_with_timeout(lifecycle::STOP_TIMEOUT).await
    }

    /// Stops it gracefully within `timeout`, and by force after that; a zero timeout kills.
    pub async fn stop_with_timeout(&self, timeout: Duration) -> MicrosandboxResult<()> {
        lifecycle::stop(self.sandboxes(), self.name(), timeout).await
    }

    /// Asks it to stop, and does not wait.
    pub async fn request_stop(&self) -> MicrosandboxResult<()> {
        self.ask(SandboxRequest::Stop(lifecycle::STOP_TIMEOUT))
            .await
    }

    /// Ends it at once, and waits 5 seconds to see that.
    pub async fn kill(&self) -> MicrosandboxResult<()> {
        self.kill_with_timeout(lifecycle::KILL_TIMEOUT).await
    }

    /// Ends it at once, and waits at most `timeout` to see that.
    pub async fn kill_with_timeout(&self, timeout: Duration) -> MicrosandboxResult<()> {
        lifecycle::kill(self.sandboxes(), self.name(), timeout).await
    }

    /// Ends it at once, and does not wait.
    pub async fn request_kill(&self) -> MicrosandboxResult<()> {
        self.ask(SandboxRequest::Kill).await
    }

    /// Lets the commands that run finish, refuses new ones, and has it stop after that.
    pub async fn request_drain(&self) -> MicrosandboxResult<()> {
        self.ask(SandboxRequest::Drain).await
    }

    /// The same, and waits until it has stopped.
    pub async fn drain(&self) -> MicrosandboxResult<()> {
        self.request_drain().await?;
        match self.wait_until_stopped().await {
            // It went with its run.
            Ok(_) | Err(MicrosandboxError::SandboxNotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Stops its processors; it keeps its memory and uses no CPU time until it is resumed.
    pub async fn pause(&self) -> MicrosandboxResult<()> {
        self.ask(SandboxRequest::Pause).await
    }

    /// Sets its processors running again.
    pub async fn resume(&self) -> MicrosandboxResult<()> {
        self.ask(SandboxRequest::Resume).await
    }

    /// Waits until it is over, and says what is known of that. Cancel-safe.
    pub async fn wait_until_stopped(&self) -> MicrosandboxResult<SandboxStopResult> {
        self.sandboxes().wait_until_stopped(self.name()).await
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

    /// Removes it: its record, its directory, its logs.
    ///
    /// # Errors
    ///
    /// [`SandboxStillRunning`](MicrosandboxError::SandboxStillRunning) while it runs, drains or is
    /// paused.
    pub async fn remove(&self) -> MicrosandboxResult<()> {
        self.sandboxes().remove(self.name()).await
    }

    async fn ask(&self, request: SandboxRequest) -> MicrosandboxResult<()> {
        self.sandboxes().request(self.name(), request).await
    }

    fn sandboxes(&self) -> &dyn SandboxBackend {
        self.backend.sandboxes()
    }
}
