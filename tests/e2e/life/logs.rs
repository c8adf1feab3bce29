//! Logs: what commands printed, whether the sandbox runs or not.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use microsandbox::logs::{LogEntry, LogOptions, LogSource, log_dir_for, read_logs};
use microsandbox::{ExecHandle, Sandbox};
use msb_tests::{Fixture, home, within};

use super::{removed, stop, until};

/// The log keeps milliseconds and leaves out the rest.
const GRAIN: Duration = Duration::from_millis(1);

fn only(source: LogSource) -> LogOptions {
    LogOptions {
        sources: vec![source],
        ..LogOptions::default()
    }
}

/// Entries as text.
pub(super) fn texts(entries: &[LogEntry]) -> Vec<String> {
    let text = |entry: &LogEntry| String::from_utf8_lossy(&entry.data).into_owned();
    entries.iter().map(text).collect()
}

/// All that was printed, once this is in it. Output is logged a little after it is delivered.
pub(super) async fn once_logged(name: &str, last: &str) -> Result<Vec<LogEntry>> {
    until("the log", async || {
        let entries = read_logs(name, &LogOptions::default()).await?;
        Ok(texts(&entries).concat().contains(last).then_some(entries))
    })
    .await
}

/// Runs a command to its end and returns its session.
async fn session(mut handle: ExecHandle) -> Result<Option<u64>> {
    let session = handle.id().parse()?;
    assert!(within(handle.wait()).await?.success);
    Ok(Some(session))
}

/// What one session printed, and where; fails if it was in more than one place.
fn printed(entries: &[LogEntry], session: Option<u64>) -> Result<(LogSource, String)> {
    let of = entries.iter().filter(|entry| entry.session_id == session);
    let of: Vec<_> = of.cloned().collect();
    let source = of.first().context("it printed nothing")?.source;
    assert!(of.iter().all(|entry| entry.source == source), "{of:?}");
    Ok((source, texts(&of).concat()))
}

#[tokio::test]
async fn every_command_is_logged_with_its_session_source_and_time() -> Result<()> {
    let fixture = Fixture::new()?;
    let before = SystemTime::now() - GRAIN;
    let sandbox = fixture.kept("logged")?.create().await?;
    let out = session(sandbox.shell_stream("echo one").await?).await?;
    let err = session(sandbox.shell_stream("echo two >&2").await?).await?;
    let terminal = sandbox.shell_stream_with("echo three", |options| options.tty(true));
    let terminal = session(terminal.await?).await?;

    let entries = once_logged("logged", "three\r\n").await?;
    assert_eq!(texts(&entries).concat(), "one\ntwo\nthree\r\n");
    assert_eq!(printed(&entries, out)?, (LogSource::Stdout, "one\n".into()));
    assert_eq!(printed(&entries, err)?, (LogSource::Stderr, "two\n".into()));
    let three = (LogSource::Output, "three\r\n".into());
    assert_eq!(printed(&entries, terminal)?, three);
    let times: Vec<_> = entries
        .iter()
        .map(|entry| SystemTime::from(entry.timestamp))
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    let window = before..=SystemTime::now();
    assert!(times.iter().all(|time| window.contains(time)), "{times:?}");

    // Every way to ask has the same answer.
    let handle = Sandbox::get("logged").await?;
    assert_eq!(handle.logs(&LogOptions::default()).await?, entries);
    assert_eq!(sandbox.logs(&LogOptions::default()).await?, entries);
    let errors = sandbox.logs(&only(LogSource::Stderr)).await?;
    assert_eq!(texts(&errors), ["two\n"]);
    stop(&sandbox).await?;
    removed("logged").await
}

#[tokio::test]
async fn the_log_outlives_the_run_and_the_next_one_goes_on_with_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("log-on")?.create().await?;
    sandbox.exec("echo", ["first run"]).await?;
    stop(&sandbox).await?;
    let first = read_logs("log-on", &LogOptions::default()).await?;
    assert_eq!(texts(&first).concat(), "first run\n");

    let again = within(Sandbox::start("log-on")).await?;
    again.exec("echo", ["second run"]).await?;
    stop(&again).await?;
    let both = again.logs(&LogOptions::default()).await?;
    assert_eq!(both.get(..first.len()), Some(first.as_slice()));
    assert_eq!(texts(&both).concat(), "first run\nsecond run\n");

    // What the supervisor said itself has to be asked for.
    let system = again.logs(&only(LogSource::System)).await?;
    let (started, stopped) = ("--- sandbox started ---", "--- sandbox stopped ---");
    assert_eq!(texts(&system), [started, stopped, started, stopped]);
    assert!(system.iter().all(|entry| entry.session_id.is_none()));
    removed("log-on").await
}

#[tokio::test]
async fn part_of_it_can_be_asked_for() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("log-part")?.create().await?;
    for i in 0..6 {
        sandbox.exec("echo", [i.to_string()]).await?;
    }
    let all = once_logged("log-part", "5\n").await?;
    assert_eq!(texts(&all), ["0\n", "1\n", "2\n", "3\n", "4\n", "5\n"]);

    let tail = async |count: usize| {
        let tail = Some(count);
        let options = LogOptions {
            tail,
            ..LogOptions::default()
        };
        sandbox.logs(&options).await
    };
    assert_eq!(tail(0).await?, []);
    assert_eq!(tail(2).await?, all[4..]);
    assert_eq!(tail(100).await?, all);

    let (from, to) = (all[1].timestamp, all[5].timestamp);
    let expected: Vec<_> = all
        .iter()
        .filter(|entry| (from..to).contains(&entry.timestamp))
        .cloned()
        .collect();
    let options = LogOptions {
        since: Some(from),
        until: Some(to),
        ..LogOptions::default()
    };
    assert_eq!(sandbox.logs(&options).await?, expected);
    assert!(expected.contains(&all[1]) && !expected.contains(&all[5]));
    // The last of those, and not those of the last.
    let options = LogOptions {
        tail: Some(1),
        ..options
    };
    let last = sandbox.logs(&options).await?;
    assert_eq!(last.first(), expected.last());
    assert_eq!(last.len(), 1);
    let options = LogOptions {
        since: Some(SystemTime::now().into()),
        ..LogOptions::default()
    };
    assert_eq!(sandbox.logs(&options).await?, []);
    stop(&sandbox).await?;
    removed("log-part").await
}

#[tokio::test]
async fn bytes_come_out_as_they_went_in() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("log-bytes")?.create().await?;
    let bytes: Vec<u8> = (0..=255).rev().collect();
    let output = sandbox
        .exec_with("cat", |options| options.stdin_bytes(bytes.clone()))
        .await?;
    assert_eq!(output.stdout_bytes(), &bytes);
    sandbox.shell("printf '\\303'; printf '\\251'").await?;
    stop(&sandbox).await?;
    let entries = sandbox.logs(&LogOptions::default()).await?;
    let logged: Vec<u8> = entries
        .iter()
        .flat_map(|entry| entry.data.to_vec())
        .collect();
    assert_eq!(logged, [bytes.as_slice(), "é".as_bytes()].concat());
    removed("log-bytes").await
}

#[tokio::test]
async fn it_lies_where_it_is_said_to_lie() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("log-place")?.create().await?;
    sandbox.exec("echo", ["here"]).await?;
    stop(&sandbox).await?;
    let dir = log_dir_for("log-place");
    assert_eq!(dir, home()?.join("sandboxes/log-place/logs"));
    let text = std::fs::read_to_string(dir.join("exec.log"))?;
    let line = text.lines().find(|line| line.contains("here"));
    let line: serde_json::Value = serde_json::from_str(line.context("it was logged")?)?;
    assert_eq!(line["s"], "stdout");
    assert_eq!(line["d"], "here\n");
    assert!(dir.join("kernel.log").is_file());
    removed("log-place").await
}
