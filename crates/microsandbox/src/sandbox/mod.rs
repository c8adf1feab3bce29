//! The sandbox: a machine of its own, and the handle that owns it.

mod builder;
mod commands;
mod image;

pub use builder::SandboxBuilder;
pub use image::IntoImage;
pub use msb_types::{
    DiskImageFormat, EnvVar, Resources, RootfsSource, RuntimeOptions, SandboxConfig,
};

use std::path::PathBuf;
use std::time::Duration;

use msb_runtime::boot::BootTimings;
use msb_runtime::control::{EndReason, Request};

use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::supervisor::{End, Supervisor};

/// How long [`Sandbox::stop`] gives the guest.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long [`Sandbox::kill`] waits to see the end.
const DEFAULT_KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a stop waits, after it has killed, to see the end.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A running sandbox that belongs to this program.
///
/// Dropping it ends the machine, and so does this program's death.
#[derive(Debug)]
pub struct Sandbox {
    config: SandboxConfig,
    supervisor: Supervisor,
    local: SandboxLocalState,
}

/// What is known of a sandbox that runs on this host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SandboxLocalState {
    /// Process id of its supervisor.
    pub pid: Option<u32>,
    /// Its run directory, which holds its sockets.
    pub run_dir: PathBuf,
    /// Where the time of its boot went.
    pub boot: BootTimings,
}

/// Checks a sandbox name: 1 to 128 bytes of `[A-Za-z0-9][A-Za-z0-9._-]*`.
pub fn validate_sandbox_name(name: &str) -> MicrosandboxResult<()> {
    msb_types::validate_sandbox_name(name)
        .map_err(|error| MicrosandboxError::InvalidConfig(format!("sandbox name: {error}")))
}

impl Sandbox {
    /// Starts to describe a sandbox.
    pub fn builder(name: impl Into<String>) -> SandboxBuilder {
        SandboxBuilder::new(name)
    }

    /// Creates and boots a sandbox that belongs to this program.
    pub async fn create(config: SandboxConfig) -> MicrosandboxResult<Self> {
        builder::check(&config)?;
        let supervisor = Supervisor::launch(&config).await?;
        let local = SandboxLocalState {
            pid: supervisor.pid,
            run_dir: supervisor.dir.path().to_path_buf(),
            boot: supervisor.timings,
        };
        Ok(Self {
            config,
            supervisor,
            local,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The configuration it was created with.
    pub fn config(&self) -> &SandboxConfig {
        &self.config
    }

    /// What is known of it on this host.
    pub fn local(&self) -> Option<&SandboxLocalState> {
        Some(&self.local)
    }

    /// Whether its life is tied to this program. Always so for now.
    pub fn owns_lifecycle(&self) -> bool {
        true
    }

    /// Stops it gracefully: its processes are asked to end, file systems are synced and
    /// unmounted, then the machine powers off. After 10 seconds it is killed.
    pub async fn stop(&self) -> MicrosandboxResult<()> {
        self.stop_with_timeout(DEFAULT_STOP_TIMEOUT).await
    }

    /// Stops it gracefully within `timeout`, and by force after that; a zero timeout kills
    /// at once. Fine when it is over already.
    pub async fn stop_with_timeout(&self, timeout: Duration) -> MicrosandboxResult<()> {
        if timeout.is_zero() {
            return self.kill().await;
        }
        self.ask(&Request::Stop {
            timeout_ms: millis(timeout),
        })
        .await?;
        self.observe_end(timeout.saturating_add(OBSERVE_TIMEOUT))
            .await
    }

    /// Asks it to stop, as [`stop`](Self::stop) does, and does not wait.
    pub async fn request_stop(&self) -> MicrosandboxResult<()> {
        self.ask(&Request::Stop {
            timeout_ms: millis(DEFAULT_STOP_TIMEOUT),
        })
        .await
    }

    /// Ends it at once.
    pub async fn kill(&self) -> MicrosandboxResult<()> {
        self.kill_with_timeout(DEFAULT_KILL_TIMEOUT).await
    }

    /// Ends it at once, and waits at most `timeout` to see that.
    pub async fn kill_with_timeout(&self, timeout: Duration) -> MicrosandboxResult<()> {
        self.ask(&Request::Kill).await?;
        self.observe_end(timeout).await
    }

    /// Ends it at once, and does not wait.
    pub async fn request_kill(&self) -> MicrosandboxResult<()> {
        self.ask(&Request::Kill).await
    }

    /// Waits until it is over, and says why it ended. Cancel-safe.
    pub async fn wait_until_ended(&self) -> EndReason {
        reason(&self.supervisor.wait().await)
    }

    /// Why it ended, if it is over.
    pub fn end_reason(&self) -> Option<EndReason> {
        self.supervisor.ended().as_ref().map(reason)
    }

    async fn ask(&self, request: &Request) -> MicrosandboxResult<()> {
        if self.supervisor.ended().is_some() {
            return Ok(());
        }
        match self.supervisor.ask(request).await {
            // It ended in the meantime: what was asked for has happened.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            asked => Ok(asked?),
        }
    }

    async fn observe_end(&self, timeout: Duration) -> MicrosandboxResult<()> {
        match tokio::time::timeout(timeout, self.supervisor.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(MicrosandboxError::Runtime(format!(
                "sandbox {:?} was not seen to end within {timeout:?}; its supervisor is process {}",
                self.config.name,
                self.local
                    .pid
                    .map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()),
            ))),
        }
    }

    /// The error for a call on a sandbox that is over.
    fn not_running(&self) -> Option<MicrosandboxError> {
        let end = self.supervisor.ended()?;
        Some(MicrosandboxError::SandboxNotRunning {
            name: self.config.name.clone(),
            reason: Some(reason(&end)),
        })
    }
}

fn reason(end: &End) -> EndReason {
    match end {
        End::Told(record) => record.reason.clone(),
        End::Lost => EndReason::VmmLost,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
