//! A log that grows for ever takes only so much of the disk, and keeps what is newest.

use anyhow::{Context, Result};
use futures::StreamExt;
use microsandbox::MicrosandboxError;
use microsandbox::logs::{LogOptions, LogStreamOptions, LogStreamStart, log_dir_for, read_logs};
use msb_tests::{Fixture, within};

use super::logs::{once_logged, texts};
use super::{removed, stop, until};

/// How long a file of the log may be.
const FILE: u64 = 10 * 1024 * 1024;

/// `cargo xtask soak life::rotation::the_newest_is_kept_and_what_is_gone_is_said`; the log's own tests rotate small files.
#[tokio::test]
#[ignore = "writes some hundred MiB"]
async fn the_newest_is_kept_and_what_is_gone_is_said() -> Result<()> {
    let fixture = Fixture::new()?;
    let name = "log-rotated";
    let sandbox = fixture.kept(name)?.create().await?;
    sandbox.exec("echo", ["the first word"]).await?;
    let first = once_logged(name, "the first word").await?;
    let first = first.first().context("there is one")?.cursor;
    let dir = log_dir_for(name);
    let file = |number: u32| match number {
        0 => dir.join("exec.log"),
        _ => dir.join(format!("exec.log.{number}")),
    };

    // Each is several times as long in the log, where a zero byte is six characters.
    until("the oldest file to be dropped", async || {
        let output = within(sandbox.exec("head", ["-c", "4194304", "/dev/zero"])).await?;
        assert_eq!(output.stdout_bytes().len(), 4 << 20);
        if !file(3).exists() {
            return Ok(None);
        }
        let entries = read_logs(name, &LogOptions::default()).await?;
        let old = entries
            .iter()
            .any(|entry| entry.data.starts_with(b"the first"));
        Ok((!old).then_some(()))
    })
    .await?;
    let options = LogOptions {
        tail: Some(1),
        ..LogOptions::default()
    };
    // While so much waits to be written, what comes may still be left out.
    until("the last word", async || {
        sandbox.exec("echo", ["the last word"]).await?;
        let tail = sandbox.logs(&options).await?;
        Ok((texts(&tail) == ["the last word\n"]).then_some(()))
    })
    .await?;
    stop(&sandbox).await?;

    for number in 0..=3 {
        let length = std::fs::metadata(file(number))?.len();
        assert!(length <= FILE, "{number}: {length}");
    }
    assert!(!file(4).exists());
    let tail = sandbox.logs(&options).await?;
    assert_eq!(texts(&tail), ["the last word\n"]);

    // Whoever had come as far as the first word has missed something, is told so, and goes on.
    let options = LogStreamOptions {
        start: LogStreamStart::From(first),
        ..LogStreamOptions::default()
    };
    let mut stream = sandbox.log_stream(&options).await?;
    let missed = within(stream.next()).await;
    assert!(
        matches!(missed, Some(Err(MicrosandboxError::MissedRotation { .. }))),
        "{missed:?}"
    );
    let mut last = None;
    while let Some(entry) = within(stream.next()).await {
        last = Some(entry?);
    }
    assert_eq!(last, tail.into_iter().next());
    removed(name).await
}
