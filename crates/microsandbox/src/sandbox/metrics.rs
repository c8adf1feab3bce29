//! What sandboxes use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use tokio::time::{Interval, MissedTickBehavior};

pub use msb_runtime::metrics::Sample as SandboxMetrics;

use super::{SandboxFilter, SandboxStatus};
use crate::backend::{Backend, LocalBackend, SandboxBackend};
use crate::error::{MicrosandboxError, MicrosandboxResult};

/// The shortest interval of a stream: below it, reading costs more than it tells.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// What every sandbox of this machine uses that runs and is sampled, by name.
pub async fn all_sandbox_metrics(
    local: &LocalBackend,
) -> MicrosandboxResult<HashMap<String, SandboxMetrics>> {
    let mut all = HashMap::new();
    for info in local.list(SandboxFilter::new()).await? {
        if !matches!(
            info.status,
            SandboxStatus::Running | SandboxStatus::Draining
        ) {
            continue;
        }
        match local.metrics(&info.name).await {
            Ok(sample) => {
                all.insert(info.name, sample);
            }
            // It is not sampled, has just begun, or has just ended.
            Err(
                MicrosandboxError::MetricsDisabled(_)
                | MicrosandboxError::MetricsUnavailable(_)
                | MicrosandboxError::SandboxNotFound(_),
            ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Where a stream is.
enum Step {
    Next(Interval),
    Over,
}

/// A sample every `interval`, until the sandbox is over or cannot be sampled.
pub(crate) fn stream(
    backend: Arc<dyn Backend>,
    name: String,
    interval: Duration,
) -> impl Stream<Item = MicrosandboxResult<SandboxMetrics>> + Send + 'static {
    let mut ticks = tokio::time::interval(interval.max(MIN_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begin = (backend, name, Step::Next(ticks));
    unfold(begin, |(backend, name, step)| async move {
        let Step::Next(mut ticks) = step else {
            return None;
        };
        loop {
            ticks.tick().await;
            match backend.sandboxes().metrics(&name).await {
                Ok(sample) => return Some((Ok(sample), (backend, name, Step::Next(ticks)))),
                Err(MicrosandboxError::SandboxNotFound(_)) => return None,
                // Paused, just beginning, or over.
                Err(MicrosandboxError::MetricsUnavailable(_)) => {
                    match backend.sandboxes().get(&name).await {
                        Ok(info) if info.status.is_active() => {}
                        _ => return None,
                    }
                }
                Err(error) => return Some((Err(error), (backend, name, Step::Over))),
            }
        }
    })
}
