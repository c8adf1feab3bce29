//! Where sandboxes are: on this machine, or one day elsewhere.
//!
//! [`Sandbox`](crate::Sandbox) and [`SandboxHandle`](crate::sandbox::SandboxHandle) never touch a
//! store or a process themselves: they ask a [`Backend`]. The part that a backend has to bring,
//! [`SandboxBackend`], is small; whatever can be made of it (a stop with its escalation, a buffered
//! command) is made once, above it.
//!
//! A program uses the *ambient* backend unless it says otherwise: the innermost
//! [`with_backend`] around the call, else what [`set_default_backend`] set, else this machine.

mod ambient;
mod info;
pub(crate) mod local;

pub use ambient::{default_backend, set_default_backend, swap_default_backend, with_backend};
pub use info::{SandboxHandleCloudState, SandboxHandleLocalState, SandboxInfo};
pub use local::{LocalBackend, LocalBackendBuilder};

use std::time::Duration;

use futures::future::BoxFuture;
use msb_runtime::conversation::Conversation;

use crate::error::MicrosandboxResult;
use crate::logs::{LogOptions, LogSnapshot, LogStream, LogStreamOptions};
use crate::sandbox::{
    PullReporter, SandboxConfig, SandboxFilter, SandboxLocalState, SandboxMetrics, SandboxStatus,
    SandboxStopResult,
};

/// The kinds of backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// This machine.
    Local,
    /// A server.
    Cloud,
}

/// A place where sandboxes are.
pub trait Backend: std::fmt::Debug + Send + Sync + 'static {
    /// What kind of place it is.
    fn kind(&self) -> BackendKind;

    /// Its sandboxes.
    fn sandboxes(&self) -> &dyn SandboxBackend;

    /// Itself, if it is this machine.
    fn as_local(&self) -> Option<&LocalBackend> {
        None
    }
}

/// What can be asked of a sandbox that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SandboxRequest {
    /// To end gracefully; by force when that takes longer than this.
    Stop(Duration),
    /// To end at once.
    Kill,
    /// To refuse new commands, let running ones finish, and then end.
    Drain,
    /// To stand still.
    Pause,
    /// To go on.
    Resume,
}

/// A sandbox that was brought up, or reached.
#[derive(Debug)]
pub struct Launched {
    /// What it was made from.
    pub(crate) config: SandboxConfig,
    /// What is known of it on this host.
    pub(crate) local: Option<SandboxLocalState>,
    /// What tells of its end, and ties its life to this program if it does.
    pub(crate) link: local::Link,
}

/// What a sandbox is to be made from, where it will be made.
pub struct Prepared {
    /// The configuration, with what its image says.
    pub(crate) config: SandboxConfig,
    /// What must stay until the sandbox is there.
    pub(crate) held: Option<Box<dyn Send>>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A backend's sandboxes. Names are valid ones: the callers check.
pub trait SandboxBackend: Send + Sync {
    /// Brings what a sandbox is to be made from to where it will be made, which can take long, and puts what
    /// that says of itself into the configuration.
    fn prepare(
        &self,
        config: SandboxConfig,
        reporter: PullReporter,
    ) -> BoxFuture<'_, MicrosandboxResult<Prepared>>;

    /// Makes a sandbox and boots it. Unless `detached`, its life is tied to this program.
    fn create(
        &self,
        config: SandboxConfig,
        detached: bool,
    ) -> BoxFuture<'_, MicrosandboxResult<Launched>>;

    /// Boots a sandbox that is there and does not run.
    fn start<'a>(
        &'a self,
        name: &'a str,
        detached: bool,
    ) -> BoxFuture<'a, MicrosandboxResult<Launched>>;

    /// Reaches a sandbox that runs.
    fn connect<'a>(&'a self, name: &'a str) -> BoxFuture<'a, MicrosandboxResult<Launched>>;

    /// What is true of a sandbox now.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, MicrosandboxResult<SandboxInfo>>;

    /// What is true now of all sandboxes that the filter lets pass, the oldest first.
    fn list(&self, filter: SandboxFilter) -> BoxFuture<'_, MicrosandboxResult<Vec<SandboxInfo>>>;

    /// Removes a sandbox that does not run.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, MicrosandboxResult<()>>;

    /// Asks something of a sandbox, and returns when that is done or, for an end, under way.
    /// Asking one to end that is over is fine.
    fn request<'a>(
        &'a self,
        name: &'a str,
        request: SandboxRequest,
    ) -> BoxFuture<'a, MicrosandboxResult<()>>;

    /// Ends a sandbox whose supervisor does not answer.
    fn force_kill<'a>(&'a self, name: &'a str) -> BoxFuture<'a, MicrosandboxResult<()>>;

    /// Waits until it is over.
    fn wait_until_stopped<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, MicrosandboxResult<SandboxStopResult>>;

    /// Waits until it is in this state, or cannot come to it in its present run.
    fn wait_until<'a>(
        &'a self,
        name: &'a str,
        status: SandboxStatus,
    ) -> BoxFuture<'a, MicrosandboxResult<()>>;

    /// Opens a conversation with its agent.
    fn dial<'a>(&'a self, name: &'a str) -> BoxFuture<'a, MicrosandboxResult<Conversation>>;

    /// What it printed.
    fn logs<'a>(
        &'a self,
        name: &'a str,
        options: LogOptions,
    ) -> BoxFuture<'a, MicrosandboxResult<LogSnapshot>>;

    /// What it printed and prints.
    fn log_stream<'a>(
        &'a self,
        name: &'a str,
        options: LogStreamOptions,
    ) -> BoxFuture<'a, MicrosandboxResult<LogStream>>;

    /// What it uses.
    fn metrics<'a>(&'a self, name: &'a str) -> BoxFuture<'a, MicrosandboxResult<SandboxMetrics>>;
}
