//! What this machine does for its sandboxes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use msb_runtime::boot::BootErrorKind;
use msb_runtime::clock::monotonic_ns;
use msb_runtime::control::{Launch, LaunchKind, Refusal, Request};
use msb_runtime::conversation::{Conversation, ConversationError};
use msb_runtime::end::EndReason;
use msb_runtime::metrics::MetricsReader;
use msb_runtime::registry::{self, RemoveError};
use msb_runtime::sandbox_dir::SandboxDir;
use msb_runtime::snapshots::Snapshots;
use msb_runtime::{VmErrorKind, logs, rundir, sandbox_dir};
use msb_store::{LabelFilter, SandboxRecord};
use msb_types::{LogLevel, RootfsSource, SandboxStatus};

use super::LocalBackend;
use super::control::{self, Answer};
use super::link::{Link, settle};
use crate::backend::info::RunEnd;
use crate::backend::{
    Launched, Prepared, SandboxBackend, SandboxHandleLocalState, SandboxInfo, SandboxRequest,
};
use crate::blocking::elsewhere;
use crate::error::{Component, MicrosandboxError, MicrosandboxResult};
use crate::home;
use crate::logs::{LogOptions, LogSnapshot, LogStream, LogStreamOptions};
use crate::sandbox::{
    PullReporter, SandboxConfig, SandboxFilter, SandboxLocalState, SandboxMetrics,
    SandboxStopResult, supported,
};

/// How long a sandbox may take to come up. Generous: a host without hardware
/// virtualization of its own, nested in another, is an order of magnitude slower.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// How often a start waits for somebody who has the sandbox and does not run it.
const START_TRIES: u32 = 8;

/// How often a removal waits for somebody who lets go of the sandbox.
const REMOVE_TRIES: u32 = 8;

/// How long the agent may take to answer a new connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

impl LocalBackend {
    /// Launches a sandbox of this configuration, which is a new one or the stored one.
    async fn launch(
        &self,
        what: LaunchKind,
        config: SandboxConfig,
        detached: bool,
    ) -> MicrosandboxResult<Launched> {
        let requested_ns = monotonic_ns();
        home::own_kernel()?;
        let home = self.home()?;
        let runtime = home::find(Component::Runtime, &home)?;
        let log = config.runtime.log_level;
        let launch = Launch {
            upper_template: template(&what, &home)?,
            map_images: home::map_images(),
            snapshot_upper: config.snapshot_upper_source.clone(),
            what,
            home: home.clone(),
            detached,
            vmm: home::find(Component::Vmm, &home)?,
            kernel: home::find(Component::Kernel, &home)?,
            initramfs: home::find(Component::Initramfs, &home)?,
            requested_ns,
            boot_timeout_ms: u64::try_from(BOOT_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
        };
        let dir = self.run_dir(&config.name)?;
        // What others left behind, and an owner who just went and leaves a supervisor that is
        // about to end.
        let swept = home.clone();
        let _ = tokio::task::spawn_blocking(move || {
            rundir::sweep(&swept);
            sandbox_dir::sweep(&swept);
            Snapshots::of(&swept).sweep();
        })
        .await;
        settle(&dir).await;

        let link = Link::launch(&runtime, launch, dir, log.map(LogLevel::as_str)).await;
        let link = link.map_err(|error| explained(error, &config))?;
        self.launched(config, link).await
    }

    async fn launched(&self, config: SandboxConfig, link: Link) -> MicrosandboxResult<Launched> {
        // Written down before anybody is told that it runs.
        let own = SandboxDir::of(&self.home()?, &config.name);
        let run = elsewhere(move || own.read_run()).await?.ok().flatten();
        let local = SandboxLocalState {
            pid: link.pid,
            run_dir: self.run_dir(&config.name)?.path().to_path_buf(),
            boot: link.timings.unwrap_or_default(),
            isolation: run.map(|run| run.isolation).filter(|it| !it.is_none()),
        };
        Ok(Launched {
            config,
            local: Some(local),
            link,
        })
    }

    async fn not_running(&self, name: &str) -> MicrosandboxError {
        match self.get(name).await {
            Ok(info) => MicrosandboxError::SandboxNotRunning {
                name: name.to_owned(),
                status: Some(info.status),
                reason: info.end.and_then(|end| end.reason),
            },
            Err(error) => error,
        }
    }
}

impl SandboxBackend for LocalBackend {
    fn prepare(
        &self,
        config: SandboxConfig,
        reporter: PullReporter,
    ) -> BoxFuture<'_, MicrosandboxResult<Prepared>> {
        self.prepared(config, reporter).boxed()
    }

    fn create(
        &self,
        config: SandboxConfig,
        detached: bool,
    ) -> BoxFuture<'_, MicrosandboxResult<Launched>> {
        let what = LaunchKind::Create(Box::new(config.clone()));
        self.launch(what, config, detached).boxed()
    }

    fn start<'a>(
        &'a self,
        name: &'a str,
        detached: bool,
    ) -> BoxFuture<'a, MicrosandboxResult<Launched>> {
        async move {
            // Before a process is spent on it; the supervisor looks again under its lock.
            let info = self.get(name).await?;
            let config = parse(&info.config_json)?;
            supported(&config)?;
            if info.status.is_active() {
                let dir = self.run_dir(name)?;
                settle(&dir).await;
                if self.get(name).await?.status.is_active() {
                    return Err(MicrosandboxError::SandboxStillRunning(name.to_owned()));
                }
            }
            let mut tries = 0;
            loop {
                let what = LaunchKind::Start(name.to_owned());
                match self.launch(what, config.clone(), detached).await {
                    // Nobody runs it: a snapshot is taken of it, or its last run lets go, in a while.
                    Err(MicrosandboxError::SandboxStillRunning(_))
                        if tries < START_TRIES && !self.get(name).await?.status.is_active() =>
                    {
                        tries += 1;
                    }
                    launched => return launched,
                }
            }
        }
        .boxed()
    }

    fn connect<'a>(&'a self, name: &'a str) -> BoxFuture<'a, MicrosandboxResult<Launched>> {
        async move {
            let info = self.get(name).await?;
            let reachable = matches!(
                info.status,
                SandboxStatus::Running | SandboxStatus::Draining | SandboxStatus::Paused
            );
            let link = match reachable {
                true => Link::reach(&self.run_dir(name)?).await?,
                false => None,
            };
            match link {
                Some(link) => self.launched(parse(&info.config_json)?, link).await,
                None => Err(self.not_running(name).await),
            }
        }
        .boxed()
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, MicrosandboxResult<SandboxInfo>> {
        async move {
            let wanted = name.to_owned();
            match self.look(move |registry| registry.get(&wanted)).await? {
                Some(record) => Ok(info(record)),
                None => Err(MicrosandboxError::SandboxNotFound(name.to_owned())),
            }
        }
        .boxed()
    }

    fn list(&self, filter: SandboxFilter) -> BoxFuture<'_, MicrosandboxResult<Vec<SandboxInfo>>> {
        async move {
            let filter: LabelFilter = filter.into_labels().into_iter().collect();
            let records = self.look(move |registry| registry.list(&filter)).await?;
            Ok(records.into_iter().map(info).collect())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, MicrosandboxResult<()>> {
        async move {
            let mut tries = 0;
            loop {
                let wanted = name.to_owned();
                let removed = self
                    .look(move |registry| match registry.remove(&wanted) {
                        Err(RemoveError::Registry(error)) => Err(error),
                        other => Ok(other),
                    })
                    .await?;
                return match removed {
                    Ok(()) => Ok(()),
                    Err(RemoveError::Missing) => {
                        Err(MicrosandboxError::SandboxNotFound(name.to_owned()))
                    }
                    // Its run is over, and whoever ran it lets go in a moment.
                    Err(RemoveError::Ending) if tries < REMOVE_TRIES => {
                        tries += 1;
                        settle(&self.run_dir(name)?).await;
                        continue;
                    }
                    Err(_) => Err(MicrosandboxError::SandboxStillRunning(name.to_owned())),
                };
            }
        }
        .boxed()
    }

    fn request<'a>(
        &'a self,
        name: &'a str,
        request: SandboxRequest,
    ) -> BoxFuture<'a, MicrosandboxResult<()>> {
        async move {
            let ends = matches!(request, SandboxRequest::Stop(_) | SandboxRequest::Kill);
            let asked = match request {
                SandboxRequest::Stop(timeout) => Request::Stop {
                    timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
                },
                SandboxRequest::Kill => Request::Kill,
                SandboxRequest::Drain => Request::Drain,
                SandboxRequest::Pause => Request::Pause,
                SandboxRequest::Resume => Request::Resume,
            };
            match control::ask(&self.run_dir(name)?, &asked).await? {
                Answer::Accepted => Ok(()),
                // It is over, or was never there.
                Answer::Gone | Answer::Ended(_) if ends => self.get(name).await.map(drop),
                // It had nothing left to wait for.
                Answer::Ended(Some(end))
                    if request == SandboxRequest::Drain && end.reason == EndReason::Drained =>
                {
                    Ok(())
                }
                Answer::Gone | Answer::Ended(_) => Err(self.not_running(name).await),
                Answer::Refused(Refusal::Status(status)) => {
                    Err(MicrosandboxError::SandboxNotRunning {
                        name: name.to_owned(),
                        status: Some(status),
                        reason: None,
                    })
                }
                Answer::Refused(refusal) => Err(MicrosandboxError::Runtime(format!(
                    "sandbox {name:?} did not do as asked: {refusal}"
                ))),
            }
        }
        .boxed()
    }

    fn force_kill<'a>(&'a self, name: &'a str) -> BoxFuture<'a, MicrosandboxResult<()>> {
        async move { Ok(control::kill(&self.run_dir(name)?).await?) }.boxed()
    }

    fn wait_until_stopped<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, MicrosandboxResult<SandboxStopResult>> {
        self.stopped(name).boxed()
    }

    fn wait_until<'a>(
        &'a self,
        name: &'a str,
        status: SandboxStatus,
    ) -> BoxFuture<'a, MicrosandboxResult<()>> {
        self.reached(name, status).boxed()
    }

    fn dial<'a>(&'a self, name: &'a str) -> BoxFuture<'a, MicrosandboxResult<Conversation>> {
        async move {
            let socket = self.run_dir(name)?.vsock_socket();
            match Conversation::connect(&socket, DIAL_TIMEOUT).await {
                Err(ConversationError::Unreachable(_)) => Err(self.not_running(name).await),
                dialed => Ok(dialed?),
            }
        }
        .boxed()
    }

    fn logs<'a>(
        &'a self,
        name: &'a str,
        options: LogOptions,
    ) -> BoxFuture<'a, MicrosandboxResult<LogSnapshot>> {
        async move {
            self.get(name).await?;
            let dir = self.sandbox_dir(name)?.logs();
            let read = move || logs::read_logs_snapshot(&dir, &options);
            Ok(elsewhere(read).await??)
        }
        .boxed()
    }

    fn log_stream<'a>(
        &'a self,
        name: &'a str,
        options: LogStreamOptions,
    ) -> BoxFuture<'a, MicrosandboxResult<LogStream>> {
        async move {
            self.get(name).await?;
            let dir = self.sandbox_dir(name)?.logs();
            let (backend, watched) = (self.clone(), name.to_owned());
            let over = async move {
                // If it cannot be watched any more, there is nothing to follow either.
                let _ = backend.stopped(&watched).await;
            };
            let stream = logs::log_stream(&dir, options, over);
            Ok(stream.map(|entry| entry.map_err(Into::into)).boxed())
        }
        .boxed()
    }

    fn metrics<'a>(&'a self, name: &'a str) -> BoxFuture<'a, MicrosandboxResult<SandboxMetrics>> {
        async move {
            let wanted = name.to_owned();
            let record = self.look(move |registry| registry.get(&wanted)).await?;
            let record =
                record.ok_or_else(|| MicrosandboxError::SandboxNotFound(name.to_owned()))?;
            let config = parse(&record.config_json)?;
            if config.runtime.metrics_interval().is_none() {
                return Err(MicrosandboxError::MetricsDisabled(name.to_owned()));
            }
            let unavailable = || MicrosandboxError::MetricsUnavailable(name.to_owned());
            if !matches!(
                record.status,
                SandboxStatus::Running | SandboxStatus::Draining
            ) {
                return Err(unavailable());
            }
            // The page lies in the run's own directory and goes with it.
            let page = self.run_dir(name)?.metrics();
            let read = move || MetricsReader::open(&page)?.read();
            match tokio::task::spawn_blocking(read).await {
                Ok(Ok(sample)) => Ok(sample),
                _ => Err(unavailable()),
            }
        }
        .boxed()
    }
}

/// What stopped a boot because of the sandbox's image or of what it requires, in the type that there is for it.
fn explained(error: MicrosandboxError, config: &SandboxConfig) -> MicrosandboxError {
    match error {
        MicrosandboxError::BootStart { err, name } => match (err.kind, &config.image) {
            (BootErrorKind::ImageMissing, RootfsSource::Oci { reference, .. }) => {
                match config.snapshot_upper_source {
                    Some(_) => MicrosandboxError::SnapshotImageMissing(reference.clone()),
                    None => MicrosandboxError::ImageNotFound(reference.clone()),
                }
            }
            (BootErrorKind::Vmm(VmErrorKind::Isolation), _) => match config.require_isolation {
                Some(required) => MicrosandboxError::Isolation {
                    name,
                    required,
                    message: err.message,
                },
                None => MicrosandboxError::BootStart { err, name },
            },
            (BootErrorKind::Patch, _) => MicrosandboxError::PatchFailed(err.message),
            _ => MicrosandboxError::BootStart { err, name },
        },
        other => other,
    }
}

/// The template of the writable layer, if one is to be made. Whether a disk image needs one shows when it is
/// looked at.
fn template(what: &LaunchKind, home: &Path) -> MicrosandboxResult<Option<PathBuf>> {
    let found = home::find(Component::UpperTemplate, home);
    match what {
        LaunchKind::Create(config)
            if matches!(config.image, RootfsSource::Oci { .. })
                && config.snapshot_upper_source.is_none() =>
        {
            found.map(Some)
        }
        _ => Ok(found.ok()),
    }
}

/// The configuration that a record holds.
fn parse(json: &str) -> MicrosandboxResult<SandboxConfig> {
    Ok(serde_json::from_str(json)?)
}

/// A record as handles have it.
fn info(record: SandboxRecord) -> SandboxInfo {
    let run = record.run.as_ref();
    let end = run.and_then(|run| run.ended.as_ref()).map(|end| RunEnd {
        at: end.at,
        reason: registry::end_reason(end),
        exit_code: end.exit_code,
        signal: end.signal,
        source: end.source.clone(),
    });
    let end = end.filter(|_| !record.status.is_active());
    let failed = end.as_ref().is_some_and(|end| match &end.reason {
        Some(EndReason::BootFailed(_)) => true,
        _ => record.status == SandboxStatus::Crashed,
    });
    SandboxInfo {
        last_error: failed
            .then(|| run.and_then(|run| run.ended.as_ref()?.detail.clone()))
            .flatten(),
        local: Some(SandboxHandleLocalState {
            db_id: record.id,
            status: record.status,
            config_json: record.config_json.clone(),
            created_at: record.created_at,
            updated_at: record.updated_at,
            pid: run
                .filter(|_| record.status.is_active())
                .and_then(|run| run.pid),
            isolation: run.and_then(registry::isolation),
        }),
        cloud: None,
        run: run.map(|run| run.id),
        name: record.name,
        status: record.status,
        config_json: Arc::from(record.config_json),
        created_at: Some(record.created_at),
        updated_at: Some(record.updated_at),
        end,
    }
}

#[cfg(test)]
mod tests {
    use msb_runtime::boot::{BootError, BootStage};
    use msb_types::IsolationLevel;

    use super::*;

    #[test]
    fn what_an_image_stops_has_a_type_of_its_own() {
        let config = SandboxConfig {
            image: RootfsSource::Oci {
                reference: "app:1".to_owned(),
                upper_size_mib: None,
            },
            ..SandboxConfig::default()
        };
        let about = |kind, config: &SandboxConfig| {
            let err = BootError::new(BootStage::Supervisor, kind, "why");
            let name = "web".to_owned();
            explained(MicrosandboxError::BootStart { name, err }, config)
        };
        let missing = about(BootErrorKind::ImageMissing, &config);
        assert!(matches!(missing, MicrosandboxError::ImageNotFound(name) if name == "app:1"));
        let patch = about(BootErrorKind::Patch, &config);
        assert!(matches!(patch, MicrosandboxError::PatchFailed(why) if why == "why"));
        let weak = BootErrorKind::Vmm(VmErrorKind::Isolation);
        let requiring = SandboxConfig {
            require_isolation: Some(IsolationLevel::Full),
            ..config.clone()
        };
        assert!(matches!(
            about(weak, &requiring),
            MicrosandboxError::Isolation { required: IsolationLevel::Full, message, .. } if message == "why"
        ));
        let other = about(BootErrorKind::Image, &config);
        assert!(matches!(other, MicrosandboxError::BootStart { .. }));
        let gone = explained(
            MicrosandboxError::SandboxNotFound("web".to_owned()),
            &config,
        );
        assert!(matches!(gone, MicrosandboxError::SandboxNotFound(_)));
    }
}
