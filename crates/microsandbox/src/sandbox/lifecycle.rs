//! What can be made of a backend's few requests, once for every backend and for sandboxes and
//! handles alike: a stop that escalates, a kill that is seen to happen.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::backend::{SandboxBackend, SandboxRequest};
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::sandbox::SandboxStatus;

/// How long a stop gives the guest when nobody says.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a kill waits to see the end when nobody says.
pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long reaching a sandbox may take when nobody says.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a stop waits, after it has killed, to see the end.
pub(crate) const OBSERVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a kill waits for a supervisor's answer before it goes past it.
const ACKNOWLEDGE: Duration = Duration::from_secs(2);

/// Stops a sandbox gracefully within `limit`, and by force after that.
pub(crate) async fn stop(
    sandboxes: &dyn SandboxBackend,
    name: &str,
    limit: Duration,
) -> MicrosandboxResult<()> {
    if !sandboxes.get(name).await?.status.is_active() {
        return Ok(());
    }
    if limit.is_zero() {
        return kill(sandboxes, name, KILL_TIMEOUT).await;
    }
    let asked = sandboxes.request(name, SandboxRequest::Stop(limit));
    let graceful = async {
        gone(asked.await)?;
        // The supervisor kills by itself when the guest takes longer.
        gone(sandboxes.wait_until_stopped(name).await.map(drop))
    };
    match timeout(limit.saturating_add(OBSERVE_TIMEOUT), graceful).await {
        Ok(stopped) => stopped,
        Err(_) => {
            tracing::warn!(
                name,
                "the sandbox did not stop in time; its supervisor is killed"
            );
            kill(sandboxes, name, OBSERVE_TIMEOUT).await
        }
    }
}

/// Ends a sandbox at once, and waits at most `limit` to see that.
pub(crate) async fn kill(
    sandboxes: &dyn SandboxBackend,
    name: &str,
    limit: Duration,
) -> MicrosandboxResult<()> {
    if !sandboxes.get(name).await?.status.is_active() {
        return Ok(());
    }
    let began = Instant::now();
    match timeout(ACKNOWLEDGE, sandboxes.request(name, SandboxRequest::Kill)).await {
        Ok(asked) => gone(asked)?,
        Err(_) => {
            tracing::warn!(
                name,
                "the sandbox's supervisor does not answer and is killed"
            );
            sandboxes.force_kill(name).await?;
        }
    }
    let left = limit.saturating_sub(began.elapsed());
    match timeout(left, sandboxes.wait_until_stopped(name)).await {
        Ok(stopped) => gone(stopped.map(drop)),
        Err(_) => Err(MicrosandboxError::Runtime(format!(
            "timed out observing stopped state of sandbox {name:?} after {limit:?}"
        ))),
    }
}

/// Waits until a sandbox is in a state.
pub(crate) async fn wait_until(
    sandboxes: &dyn SandboxBackend,
    name: &str,
    status: SandboxStatus,
    deadline: Duration,
) -> MicrosandboxResult<()> {
    match timeout(deadline, sandboxes.wait_until(name, status)).await {
        Ok(reached) => reached,
        Err(_) => Err(MicrosandboxError::Runtime(format!(
            "timed out waiting for sandbox {name:?} to be {status} after {deadline:?}"
        ))),
    }
}

/// A sandbox that was seen, and whose record went with its run, has ended.
fn gone(result: MicrosandboxResult<()>) -> MicrosandboxResult<()> {
    match result {
        Err(MicrosandboxError::SandboxNotFound(_)) => Ok(()),
        result => result,
    }
}
