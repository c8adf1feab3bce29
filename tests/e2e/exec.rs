//! Commands: their output, their ends, and how they fail to start.

use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use microsandbox::{ExecFailedKind, Exit, MicrosandboxError, RlimitResource, Sandbox};
use msb_tests::{Fixture, within};

const NO_ARGS: [&str; 0] = [];

fn failed_kind(result: Result<microsandbox::ExecOutput, MicrosandboxError>) -> ExecFailedKind {
    match result {
        Err(MicrosandboxError::ExecFailed(failed)) => failed.kind,
        other => panic!("expected ExecFailed, got {other:?}"),
    }
}

#[tokio::test]
async fn codes_signals_and_streams_are_told_apart() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("ends").await?;
    let output = sandbox.shell("echo out; echo err >&2; exit 3").await?;
    assert_eq!(
        (output.stdout()?.as_str(), output.stderr()?.as_str()),
        ("out\n", "err\n")
    );
    let status = output.status();
    assert_eq!((status.code, status.success), (3, false));
    assert_eq!(output.exit(), Exit::Code(3));

    assert!(sandbox.exec("true", NO_ARGS).await?.status().success);

    let output = sandbox.shell("kill -9 $$").await?;
    let status = output.status();
    assert_eq!((status.code, status.success), (137, false));
    assert_eq!(output.exit(), Exit::Signal(9));
    // The same number, but a code: the two are not mixed up.
    assert_eq!(sandbox.shell("exit 137").await?.exit(), Exit::Code(137));

    let mut handle = sandbox.exec_stream("sleep", ["1000"]).await?;
    handle.signal(15).await?;
    assert_eq!(within(handle.wait()).await?.code, 143);
    assert_eq!(handle.exit(), Some(Exit::Signal(15)));
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_start_says_why() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("failures").await?;
    let exec = |program: &'static str| sandbox.exec(program, NO_ARGS);
    assert_eq!(
        failed_kind(exec("no-such-program").await),
        ExecFailedKind::NotFound
    );
    assert_eq!(
        failed_kind(exec("/no/such/program").await),
        ExecFailedKind::NotFound
    );
    assert_eq!(
        failed_kind(exec("/etc/passwd").await),
        ExecFailedKind::PermissionDenied
    );
    assert_eq!(
        failed_kind(exec("/etc").await),
        ExecFailedKind::PermissionDenied
    );

    sandbox
        .shell("head -c 100 /dev/urandom > /tmp/noise; chmod +x /tmp/noise")
        .await?;
    assert_eq!(
        failed_kind(exec("/tmp/noise").await),
        ExecFailedKind::NotExecutable
    );

    let bad = sandbox
        .exec_with("true", |options| options.cwd("/no/such/directory"))
        .await;
    assert_eq!(failed_kind(bad), ExecFailedKind::BadCwd);
    let bad = sandbox
        .exec_with("true", |options| options.cwd("/etc/passwd"))
        .await;
    assert_eq!(failed_kind(bad), ExecFailedKind::BadCwd);
    let bad = sandbox
        .exec_with("true", |options| options.user("nobody-knows"))
        .await;
    assert_eq!(failed_kind(bad), ExecFailedKind::BadUser);

    let bad = sandbox
        .exec_with("true", |options| options.user("root:nobodies"))
        .await;
    assert_eq!(failed_kind(bad), ExecFailedKind::BadUser);
    let bad = sandbox.exec("true", ["a\0b"]).await;
    assert_eq!(failed_kind(bad), ExecFailedKind::BadArguments);
    let bad = sandbox
        .exec_with("true", |options| options.env("A=B", "c"))
        .await;
    assert_eq!(failed_kind(bad), ExecFailedKind::BadArguments);

    // A program that somebody is writing.
    let mut writer = sandbox
        .shell_stream("cp /bin/busybox /tmp/busy; exec 3>>/tmp/busy; echo open; sleep 1000")
        .await?;
    while !matches!(
        within(writer.recv()).await,
        Some(microsandbox::ExecEvent::Stdout(_))
    ) {}
    assert_eq!(failed_kind(exec("/tmp/busy").await), ExecFailedKind::Other);
    drop(writer);

    // A user who may have no more processes than one.
    let only = sandbox.exec_stream_with("sleep", |options| options.arg("1000").user("4321"));
    let _only = only.await?;
    let bad = sandbox
        .exec_with("true", |options| {
            options.user("4321").rlimit(RlimitResource::Nproc, 0)
        })
        .await;
    assert_eq!(failed_kind(bad), ExecFailedKind::ResourceExhausted);

    // None of it has hurt the agent.
    assert!(exec("true").await?.status().success);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_command_runs_as_who_and_where_it_is_told() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("user").await?;
    let output = sandbox.exec_with("sh", |o| {
        o.args(["-c", "id -u; id -g; pwd"]).user("user").cwd("/usr")
    });
    assert_eq!(output.await?.stdout()?, "1000\n1000\n/usr\n");
    let output = sandbox.exec_with("id", |o| o.user("7:50"));
    assert!(output.await?.stdout()?.starts_with("uid=7 gid=50"));
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_thousand_commands_in_a_row() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("row").await?;
    for i in 0..1000 {
        let output = within(sandbox.exec("echo", [i.to_string()])).await?;
        assert_eq!(output.stdout()?, format!("{i}\n"));
    }
    // Nothing of them stays: no zombie, no descriptor.
    let zombies = sandbox.shell("ps -o stat | grep -c '^Z'; true").await?;
    assert_eq!(zombies.stdout()?.trim(), "0");
    let descriptors = sandbox.shell("ls /proc/1/fd | wc -l").await?.stdout()?;
    assert!(
        descriptors.trim().parse::<u32>()? < 40,
        "{descriptors} descriptors"
    );
    sandbox.stop().await?;
    Ok(())
}

async fn own_number(sandbox: &Sandbox, i: u32) -> Result<()> {
    let script = format!("echo {i}; sleep 1; echo {i} >&2; exit {}", i % 100);
    let output = within(sandbox.shell(script)).await?;
    assert_eq!(output.stdout()?, format!("{i}\n"));
    assert_eq!(output.stderr()?, format!("{i}\n"));
    assert_eq!(output.status().code, i32::try_from(i % 100)?);
    Ok(())
}

#[tokio::test]
async fn thirty_two_commands_at_once() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("crowd").await?;
    try_join_all((0..32).map(|i| own_number(&sandbox, i))).await?;
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_orphan_is_reaped() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("orphans").await?;
    // The inner shell ends at once; its child becomes PID 1's, and ends later.
    sandbox
        .shell("for i in 1 2 3 4 5; do (exec sleep 0.2 & ) ; done")
        .await?;
    let script = "while ps -o comm | grep -q '^sleep'; do usleep 100000; done; ps -o stat,comm | grep '^Z'; true";
    let output = within(sandbox.shell(script)).await?;
    assert_eq!(output.stdout()?, "", "zombies are left");
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_background_child_does_not_hold_the_exit_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("background").await?;
    let output = within(sandbox.shell("sleep 10000 & echo started")).await?;
    assert_eq!(output.stdout()?, "started\n");
    assert!(output.status().success);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_timeout_kills_the_command() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("timeout").await?;
    let limit = Duration::from_secs(3);
    let result = within(sandbox.exec_with("sleep", |o| o.arg("4321").timeout(limit))).await;
    assert!(
        matches!(result, Err(MicrosandboxError::ExecTimeout(t)) if t == limit),
        "{result:?}"
    );
    let gone = "while ps -o args | grep -q '^sleep 4321'; do sleep 0.1; done";
    assert!(within(sandbox.exec("sh", ["-c", gone])).await.is_ok());
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_dropped_handle_kills_its_command() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("dropped").await?;
    drop(sandbox.exec_stream("sleep", ["5432"]).await?);
    let gone = "while ps -o args | grep -q '^sleep 5432'; do sleep 0.1; done";
    within(sandbox.exec("sh", ["-c", gone])).await?;
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_terminal_is_one() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("terminal").await?;
    let output = sandbox
        .exec_with("sh", |o| o.args(["-c", "tty; stty size"]).tty(true))
        .await?;
    assert_eq!(output.stdout()?, "/dev/pts/0\r\n24 80\r\n");
    let output = sandbox.exec("tty", NO_ARGS).await?;
    assert_eq!(output.stdout()?, "not a tty\n");
    sandbox.stop().await?;
    Ok(())
}
