//! Sessions: commands that outlive their handle, their program, and are attached again.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use microsandbox::logs::{LogOptions, read_logs};
use microsandbox::{EndReason, Exit, MicrosandboxError, Sandbox, SessionState};
use msb_tests::sessions::{attach, not_found, over, session, until};
use msb_tests::{Fixture, PATIENCE, host, within};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::Instant;

/// A sandbox that a failed test leaves behind ends by itself after so many seconds.
const LEASH: u64 = 300;

/// The bytes that a guest keeps of a session that nobody reads.
const KEPT: usize = 1024 * 1024;

#[tokio::test]
async fn a_detached_command_is_listed_attached_and_collected() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("detached").await?;
    let before = chrono_now();
    let script = "echo one; read line; echo \"two $line\"; exit 7";
    let mut first = sandbox
        .shell_stream_with(script, |options| options.stdin_pipe())
        .await?;
    let id = first.id();
    until(&mut first, "one\n").await?;
    within(first.detach()).await?;

    let info = session(&sandbox, &id).await?.context("it is not listed")?;
    assert_eq!((info.state, info.exit), (SessionState::Running, None));
    assert!(!info.attached && !info.tty && info.pid > 1, "{info:?}");
    assert!(info.command.starts_with("/bin/sh -c echo one"), "{info:?}");
    // By the guest's clock, which is near the host's.
    let away = info.started_at.timestamp().abs_diff(before);
    assert!(away < 600, "{info:?}");

    let mut second = attach(&sandbox, &id).await?;
    assert_eq!(second.id(), id);
    let stdin = second.take_stdin().context("its input is open")?;
    stdin.write("words\n").await?;
    let output = within(second.collect()).await?;
    // What the first handle received does not come again.
    assert_eq!(output.stdout()?, "two words\n");
    assert_eq!((output.exit(), second.dropped_bytes()), (Exit::Code(7), 0));
    assert_eq!(session(&sandbox, &id).await?, None);
    not_found(sandbox.attach_session(&id).await, &id)?;
    not_found(sandbox.attach_session("no number").await, "no number")?;
    sandbox.stop().await?;
    Ok(())
}

fn chrono_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

#[tokio::test]
async fn output_that_was_not_received_comes_with_the_next_handle() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("unreceived").await?;
    // All of it is on its way before the handle goes, and nothing of it was asked for.
    let script = "seq 1 5000; read line";
    let first = sandbox.shell_stream_with(script, |options| options.stdin_pipe());
    let first = first.await?;
    let id = first.id();
    sandbox.exec("sleep", ["0.5"]).await?;
    within(first.detach()).await?;
    let mut second = attach(&sandbox, &id).await?;
    let text = until(&mut second, "5000\n").await?;
    let expected: String = (1..=5000).map(|n| format!("{n}\n")).collect();
    assert_eq!(text, expected);
    drop(second);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_dropped_handle_kills_its_command_however_it_came_by_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("dropped-session").await?;
    let gone = "while ps -o args | grep -q '^sleep 8765'; do sleep 0.1; done";
    let detachable = sandbox
        .exec_stream_with("sleep", |options| options.arg("8765").detachable(true))
        .await?;
    let id = detachable.id();
    drop(detachable);
    within(sandbox.shell(gone)).await?;
    assert_eq!(session(&sandbox, &id).await?, None);

    let first = sandbox.exec_stream("sleep", ["8765"]).await?;
    let id = first.id();
    within(first.detach()).await?;
    drop(attach(&sandbox, &id).await?);
    within(sandbox.shell(gone)).await?;
    assert_eq!(session(&sandbox, &id).await?, None);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn one_handle_at_a_time() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("one-handle").await?;
    let mut handle = sandbox.exec_stream("sleep", ["1000"]).await?;
    let id = handle.id();
    assert!(session(&sandbox, &id).await?.is_some_and(|s| s.attached));
    let second = within(sandbox.attach_session(&id)).await;
    assert!(
        matches!(&second, Err(MicrosandboxError::SessionAttached(of)) if *of == id),
        "{second:?}"
    );
    // The first one is not disturbed.
    handle.signal(15).await?;
    assert_eq!(within(handle.wait()).await?.code, 143);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_command_that_nobody_reads_writes_on_and_the_newest_is_kept() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("unread-session").await?;
    // Some 7 MiB of lines with their numbers.
    let script = "seq 1 1000000; echo done";
    let handle = sandbox.shell_stream(script).await?;
    let id = handle.id();
    within(handle.detach()).await?;
    let info = over(&sandbox, &id).await?;
    assert_eq!(info.exit, Some(Exit::Code(0)));
    let mut handle = attach(&sandbox, &id).await?;
    let output = within(handle.collect()).await?;
    let kept = output.stdout_bytes();
    assert!(
        (KEPT / 2..=KEPT).contains(&kept.len()),
        "{} bytes are kept",
        kept.len()
    );
    let expected: String = (1..=1_000_000)
        .map(|n| format!("{n}\n"))
        .chain(["done\n".to_owned()])
        .collect();
    assert!(expected.as_bytes().ends_with(kept));
    let missing = u64::try_from(expected.len() - kept.len())?;
    assert_eq!(handle.dropped_bytes(), missing);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_handle_that_is_not_read_stops_its_command_and_nobody_else() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("backpressure").await?;
    let script = "i=0; while [ $i -lt 600 ]; do head -c 65536 /dev/zero; i=$((i+1)); \
                  echo $i > /tmp/progress; done";
    let detachable = |options: microsandbox::ExecOptionsBuilder| options.detachable(true);
    let unread = sandbox.shell_stream_with(script, detachable).await?;
    let id = unread.id();
    let progress = async || -> Result<u64> {
        let output = within(sandbox.exec("cat", ["/tmp/progress"])).await?;
        Ok(output.stdout()?.trim().parse().unwrap_or(0))
    };
    // It comes to a stand, long before its end; others have the guest to themselves.
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut still) = (progress().await?, 0);
    while still < 10 {
        ensure!(Instant::now() < deadline, "it does not stop writing");
        within(sandbox.exec("sleep", ["0.2"])).await?;
        let now = progress().await?;
        still = if now == last { still + 1 } else { 0 };
        last = now;
    }
    assert!(last < 300, "{last} of 600 went where nobody read");
    // Without a handle nothing holds it up.
    within(unread.detach()).await?;
    assert_eq!(over(&sandbox, &id).await?.exit, Some(Exit::Code(0)));
    let mut handle = attach(&sandbox, &id).await?;
    let output = within(handle.collect()).await?;
    let all = u64::try_from(output.stdout_bytes().len())? + handle.dropped_bytes();
    assert_eq!(all, 600 * 65536);
    sandbox.stop().await?;
    Ok(())
}

/// A program that visits a sandbox.
struct Visitor {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    session: String,
}

async fn visit(name: &str, mode: &str, script: &str) -> Result<Visitor> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_msb-test-visitor"))
        .args([name, mode, script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("it is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let first = within(lines.next_line()).await?.context("it failed")?;
    let session = first.strip_prefix("session ").context(first.clone())?;
    Ok(Visitor {
        child,
        session: session.to_owned(),
        lines,
    })
}

impl Visitor {
    async fn line(&mut self) -> Result<String> {
        within(self.lines.next_line()).await?.context("it ended")
    }

    /// Kills it, and returns what it had printed by then.
    async fn kill(mut self) -> Result<Vec<String>> {
        let pid = i32::try_from(self.child.id().context("it runs")?)?;
        host::kill(pid);
        within(self.child.wait()).await?;
        let mut rest = Vec::new();
        while let Some(line) = within(self.lines.next_line()).await? {
            rest.push(line);
        }
        Ok(rest)
    }
}

#[tokio::test]
async fn a_program_that_is_killed_leaves_what_was_to_outlive_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let builder = fixture.builder("visited")?.max_duration(LEASH);
    let sandbox = builder.create_detached().await?;
    let script =
        "echo begun; i=0; while [ $i -lt 50 ]; do sleep 0.1; i=$((i+1)); echo $i; done; exit 9";
    let mut visitor = visit("visited", "detachable", script).await?;
    let id = visitor.session.clone();
    assert_eq!(visitor.line().await?, "begun");
    let printed = visitor.kill().await?;
    let mut handle = attach(&sandbox, &id).await?;
    let output = within(handle.collect()).await?;
    assert_eq!(output.exit(), Exit::Code(9));
    // Nothing is missing: what the program had not dealt with comes again.
    let text = output.stdout()?;
    let lines: Vec<_> = text.lines().skip_while(|line| *line == "begun").collect();
    let first: usize = lines.first().context("there are lines")?.parse()?;
    let expected: Vec<_> = (first..=50).map(|n| n.to_string()).collect();
    assert_eq!(
        (lines, handle.dropped_bytes()),
        (expected.iter().map(String::as_str).collect(), 0)
    );
    let last: usize = printed.last().map_or(Ok(0), |line| line.parse())?;
    assert!(first <= last + 1, "after {last} comes {first}");

    // What was not made for that ends with its program.
    let mut visitor = visit("visited", "tied", "echo begun; exec sleep 9876").await?;
    assert_eq!(visitor.line().await?, "begun");
    visitor.kill().await?;
    let gone = "while ps -o args | grep -q '^sleep 9876'; do sleep 0.1; done";
    within(sandbox.shell(gone)).await?;
    within(sandbox.stop()).await?;
    host::nothing_left().await
}

#[tokio::test]
async fn a_terminal_is_left_and_taken_up_again() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("terminal-session").await?;
    // A signal with a trap ends a `read`, without a line.
    let script = "trap 'stty size' WINCH; echo ready; while :; do read x && echo \"got $x\"; done";
    let options = |options: microsandbox::ExecOptionsBuilder| options.tty(true).stdin_pipe();
    let mut first = sandbox.shell_stream_with(script, options).await?;
    let id = first.id();
    until(&mut first, "ready").await?;
    within(first.detach()).await?;
    assert!(session(&sandbox, &id).await?.is_some_and(|s| s.tty));
    let mut second = attach(&sandbox, &id).await?;
    let stdin = second.take_stdin().context("its input is open")?;
    stdin.write("again\n").await?;
    until(&mut second, "got again").await?;
    second.resize(30, 90).await?;
    stdin.write("\n").await?;
    until(&mut second, "30 90").await?;
    second.kill().await?;
    assert_eq!(within(second.wait()).await?.code, 137);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_timeout_goes_on_without_a_handle() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("late-session").await?;
    let limit = std::time::Duration::from_secs(1);
    let handle = sandbox
        .exec_stream_with("sleep", |options| options.arg("1000").timeout(limit))
        .await?;
    let id = handle.id();
    within(handle.detach()).await?;
    assert_eq!(over(&sandbox, &id).await?.exit, Some(Exit::Signal(9)));
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_session_without_a_handle_is_logged_like_any() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("logged-session")?.create().await?;
    let script = "read line; echo said in private";
    let handle = sandbox.shell_stream_with(script, |options| options.stdin_bytes("go\n"));
    let handle = handle.await?;
    let id = handle.id();
    within(handle.detach()).await?;
    over(&sandbox, &id).await?;
    let number: u64 = id.parse()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let entries = read_logs("logged-session", &LogOptions::default()).await?;
        let of = entries.iter().filter(|e| e.session_id == Some(number));
        let text: Vec<u8> = of.flat_map(|entry| entry.data.to_vec()).collect();
        if text == b"said in private\n" {
            break;
        }
        ensure!(Instant::now() < deadline, "{entries:?}");
        sandbox.exec("sleep", ["0.1"]).await?;
    }
    within(sandbox.stop()).await?;
    Sandbox::remove("logged-session").await?;
    Ok(())
}

#[tokio::test]
async fn a_session_without_a_handle_is_not_idle_and_a_drain_waits_for_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture
        .builder("idle-session")?
        .idle_timeout(3)
        .create()
        .await?;
    let handle = sandbox.exec_stream("sleep", ["12"]).await?;
    let id = handle.id();
    within(handle.detach()).await?;
    // The list is asked for once, so that only the command itself can be what goes on.
    let ended = within(sandbox.wait_until_ended());
    let (reason, took) = {
        let began = Instant::now();
        (ended.await, began.elapsed())
    };
    assert_eq!(reason, EndReason::Idle);
    assert!(
        took.as_secs() >= 12,
        "it was idle after {took:?} with session {id}"
    );

    let sandbox = fixture.sandbox("drain-session").await?;
    let script = "sleep 3; echo finished > /root/mark; sync";
    let handle = sandbox.shell_stream(script).await?;
    let id = handle.id();
    within(handle.detach()).await?;
    sandbox.request_drain().await?;
    // It can be attached while it is waited for, but no other may come.
    let mut handle = attach(&sandbox, &id).await?;
    assert!(sandbox.exec("true", [""; 0]).await.is_err());
    assert!(within(handle.wait()).await?.success);
    assert_eq!(within(sandbox.wait_until_ended()).await, EndReason::Drained);
    host::nothing_left().await
}

#[tokio::test]
async fn many_sessions_are_kept_and_the_oldest_go() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("many-sessions").await?;
    let mut ids = Vec::new();
    for i in 0..260 {
        let handle = sandbox.exec_stream("echo", [i.to_string()]).await?;
        ids.push(handle.id());
        within(handle.detach()).await?;
    }
    let last = ids.last().context("there are some")?;
    over(&sandbox, last).await?;
    let listed = within(sandbox.sessions()).await?;
    let kept: Vec<_> = listed
        .iter()
        .filter(|s| s.command.starts_with("echo"))
        .collect();
    assert_eq!(kept.len(), 256);
    not_found(sandbox.attach_session(&ids[0]).await, &ids[0])?;
    let mut handle = attach(&sandbox, last).await?;
    assert_eq!(within(handle.collect()).await?.stdout()?, "259\n");
    // Numbers are not given twice in a run.
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
    sandbox.stop().await?;
    Ok(())
}
