//! Metrics: what a running sandbox uses, and that nobody else has any.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use microsandbox::sandbox::SandboxMetrics;
use microsandbox::sandbox::metrics::all_sandbox_metrics;
use microsandbox::{MicrosandboxError, Sandbox, SandboxBuilder, default_backend};
use msb_tests::{Fixture, within};

use super::{removed, stop, until};

/// How often the sandboxes here are sampled.
const INTERVAL: Duration = Duration::from_millis(200);

/// The memory of the sandboxes here.
const MEMORY: u64 = 128 << 20;

/// What the guest writes to its disk, in one go.
const WRITTEN: u64 = 4 << 20;

fn measured(fixture: &Fixture, name: &str) -> Result<SandboxBuilder> {
    Ok(fixture.kept(name)?.metrics_sample_interval(INTERVAL))
}

#[track_caller]
fn unavailable(result: Result<SandboxMetrics, MicrosandboxError>) {
    assert!(
        matches!(result, Err(MicrosandboxError::MetricsUnavailable(_))),
        "{result:?}"
    );
}

/// The next sample that is as it should be, while the guest does `work` again and again.
async fn sample(
    sandbox: &Sandbox,
    work: &str,
    wanted: impl Fn(&SandboxMetrics) -> bool,
) -> Result<SandboxMetrics> {
    until("a sample", async || {
        assert!(within(sandbox.shell(work)).await?.status().success);
        match sandbox.metrics().await {
            Ok(sample) => Ok(Some(sample).filter(&wanted)),
            // Its first sample is still to come.
            Err(MicrosandboxError::MetricsUnavailable(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

#[tokio::test]
async fn what_is_used_is_counted() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = measured(&fixture, "metrics")?.create().await?;
    let busy = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
    let first = sample(&sandbox, busy, |sample| {
        sample.memory_available_bytes.is_some() && sample.upper_free_bytes.is_some()
    })
    .await?;
    assert_eq!(first.memory_limit_bytes, MEMORY);
    assert!((1..=MEMORY).contains(&first.memory_bytes), "{first:?}");
    let available = first.memory_available_bytes.context("the guest has said")?;
    assert!((1..=MEMORY).contains(&available), "{first:?}");
    assert!(first.memory_host_resident_bytes > Some(0), "{first:?}");
    assert!(first.upper_used_bytes > Some(0), "{first:?}");
    assert!(first.cpu_percent >= 0.0, "{first:?}");
    assert!(!first.uptime.is_zero());
    assert_eq!((first.net_rx_bytes, first.net_tx_bytes), (0, 0));

    let worked = sample(&sandbox, busy, |sample| {
        sample.vcpu_time_ns > first.vcpu_time_ns && sample.cpu_percent > 0.0
    })
    .await?;
    assert!(worked.uptime > first.uptime);
    assert!(worked.timestamp > first.timestamp);

    let write = "dd if=/dev/zero of=/root/blob bs=1M count=4 conv=fsync 2> /dev/null";
    let wrote = sample(&sandbox, write, |sample| {
        sample.disk_write_bytes >= worked.disk_write_bytes + WRITTEN
    })
    .await?;
    // Its program was read from the disk to begin with.
    assert!(wrote.disk_read_bytes > 0, "{wrote:?}");
    let handle = Sandbox::get("metrics").await?;
    let same = handle.metrics().await?;
    assert!(same.disk_write_bytes >= wrote.disk_write_bytes);
    stop(&sandbox).await?;
    removed("metrics").await
}

#[tokio::test]
async fn only_what_runs_has_any() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = measured(&fixture, "metrics-state")?.create().await?;
    let handle = sandbox.handle().await?;
    let running = sample(&sandbox, "true", |_| true).await?;
    sandbox.pause().await?;
    unavailable(sandbox.metrics().await);
    unavailable(handle.metrics().await);
    sandbox.resume().await?;
    let resumed = sample(&sandbox, "true", |sample| sample.uptime > running.uptime).await?;
    assert_eq!(resumed.memory_limit_bytes, MEMORY);
    stop(&sandbox).await?;
    unavailable(sandbox.metrics().await);
    unavailable(handle.metrics().await);
    removed("metrics-state").await
}

#[tokio::test]
async fn one_that_is_not_to_be_measured_says_so() -> Result<()> {
    let fixture = Fixture::new()?;
    let builder = fixture.kept("unmeasured")?.disable_metrics_sample();
    let sandbox = builder.create().await?;
    let disabled = |result: &Result<SandboxMetrics, MicrosandboxError>| matches!(result, Err(MicrosandboxError::MetricsDisabled(name)) if name == "unmeasured");
    assert!(disabled(&sandbox.metrics().await));
    let samples: Vec<_> = within(sandbox.metrics_stream(INTERVAL).collect()).await;
    assert!(
        matches!(samples.as_slice(), [one] if disabled(one)),
        "{samples:?}"
    );
    stop(&sandbox).await?;
    assert!(disabled(&sandbox.handle().await?.metrics().await));
    removed("unmeasured").await
}

#[tokio::test]
async fn a_stream_of_them_ends_with_the_run() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = measured(&fixture, "metrics-stream")?.create().await?;
    let handle = sandbox.handle().await?;
    let mut streams = [
        sandbox.metrics_stream(INTERVAL).boxed(),
        handle.metrics_stream(INTERVAL).boxed(),
    ];
    for stream in &mut streams {
        let mut uptime = Duration::ZERO;
        for _ in 0..5 {
            let sample = within(stream.next()).await.context("it runs")??;
            assert_eq!(sample.memory_limit_bytes, MEMORY);
            assert!(sample.uptime >= uptime, "{sample:?}");
            uptime = sample.uptime;
        }
        assert!(!uptime.is_zero());
    }
    stop(&sandbox).await?;
    for stream in streams {
        let rest: Vec<_> = within(stream.collect()).await;
        assert!(rest.iter().all(Result::is_ok), "{rest:?}");
    }
    removed("metrics-stream").await
}

#[tokio::test]
async fn all_that_run_are_told_of_at_once() -> Result<()> {
    let fixtures = [
        Fixture::new()?,
        Fixture::new()?,
        Fixture::new()?,
        Fixture::new()?,
    ];
    let [one, two, three, four] = &fixtures;
    let running = measured(one, "all-running")?.create().await?;
    let other = measured(two, "all-other")?.create().await?;
    let stopped = measured(three, "all-stopped")?.create().await?;
    stop(&stopped).await?;
    let unmeasured = four.kept("all-unmeasured")?.disable_metrics_sample();
    let unmeasured = unmeasured.create().await?;
    for sandbox in [&running, &other] {
        sample(sandbox, "true", |_| true).await?;
    }

    let backend = default_backend();
    let local = backend
        .as_local()
        .context("sandboxes are of this machine")?;
    let names = async || {
        let all = all_sandbox_metrics(local).await?;
        assert!(
            all.values()
                .all(|sample| sample.memory_limit_bytes == MEMORY)
        );
        anyhow::Ok(all.into_keys().collect::<BTreeSet<_>>())
    };
    let both = ["all-other", "all-running"].map(str::to_owned);
    assert_eq!(names().await?, BTreeSet::from(both));
    other.pause().await?;
    assert_eq!(names().await?, BTreeSet::from(["all-running".to_owned()]));
    other.resume().await?;

    for sandbox in [&running, &other, &unmeasured] {
        stop(sandbox).await?;
    }
    assert_eq!(names().await?, BTreeSet::new());
    for sandbox in [&running, &other, &stopped, &unmeasured] {
        sandbox.remove_persisted().await?;
    }
    for name in ["all-running", "all-other", "all-stopped", "all-unmeasured"] {
        super::nothing_of(name).await?;
    }
    Ok(())
}
