//! What a command runs with: its own options over the sandbox's, streams, signals, deadlines.

use std::time::Duration;

use anyhow::Result;
use microsandbox::{ExecEvent, Exit, MicrosandboxError, RlimitResource, Sandbox};
use msb_tests::sessions::until;
use msb_tests::{Fixture, within};

async fn says(sandbox: &Sandbox, script: &str) -> Result<String> {
    let output = within(sandbox.shell(script)).await?;
    assert!(output.status().success, "{output:?}");
    Ok(output.stdout()?)
}

#[tokio::test]
async fn the_sandboxs_settings_apply_under_the_commands_own() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture
        .builder("settings")?
        .env("FROM", "sandbox")
        .env("KEPT", "sandbox")
        .workdir("/usr")
        .user("user")
        .rlimit(RlimitResource::Nofile, 100)
        .rlimit(RlimitResource::Core, 0)
        .create()
        .await?;
    let script = "echo $FROM $KEPT; pwd; id -un; ulimit -n; ulimit -c";
    assert_eq!(
        says(&sandbox, script).await?,
        "sandbox sandbox\n/usr\nuser\n100\n0\n"
    );
    let own = sandbox.shell_with(script, |options| {
        options
            .env("FROM", "command")
            .cwd("/etc")
            .user("root")
            .rlimit_range(RlimitResource::Nofile, 50, 200)
    });
    assert_eq!(
        within(own).await?.stdout()?,
        "command sandbox\n/etc\nroot\n50\n0\n"
    );
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_sandboxs_shell_runs_its_scripts() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.builder("shell")?.shell("/bin/ash").create().await?;
    let name = says(
        &sandbox,
        // The shell becomes the last command, were it one.
        "tr '\\0' ' ' < /proc/$$/cmdline; :",
    )
    .await?;
    assert!(name.contains("/bin/ash -c"), "{name}");
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn users_and_groups_are_the_guests_own() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("users").await?;
    let script = "id -u; id -g; id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' '; echo; echo $HOME";
    for (user, seen) in [
        ("user", "1000\n1000\n50 1000 \n/home\n"),
        ("1000", "1000\n1000\n50 1000 \n/home\n"),
        ("user:staff", "1000\n50\n50 \n/home\n"),
        ("user:7", "1000\n7\n7 \n/home\n"),
        ("77", "77\n0\n0 \n/\n"),
        ("77:78", "77\n78\n78 \n/\n"),
        ("root", "0\n0\n0 \n/root\n"),
    ] {
        let output = sandbox.shell_with(script, |options| options.user(user));
        assert_eq!(within(output).await?.stdout()?, seen, "{user}");
    }
    // A user whom the guest makes while it runs is known from then on.
    says(
        &sandbox,
        "echo 'late:x:2000:2000::/tmp:/bin/sh' >> /etc/passwd",
    )
    .await?;
    let late = sandbox.shell_with("id -u; pwd", |options| options.user("late").cwd("/tmp"));
    assert_eq!(within(late).await?.stdout()?, "2000\n/tmp\n");
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn null_is_dev_null_and_a_terminals_input_ends() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("null").await?;
    let device = says(&sandbox, "readlink /proc/self/fd/0").await?;
    assert_eq!(device, "/dev/null\n");
    // Nobody types on this terminal, and whoever reads it is told so.
    let output = sandbox.exec_with("cat", |options| options.tty(true));
    let output = within(output).await?;
    assert!(output.status().success, "{output:?}");
    for (typed, read) in [
        ("a line\n", "a line\r\na line\r\n"),
        ("no line", "no lineno line"),
    ] {
        let cat = sandbox.exec_with("cat", |options| options.tty(true).stdin_bytes(typed));
        assert_eq!(within(cat).await?.stdout()?, read);
    }
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_terminal_has_a_size_and_a_controlling_process() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("sizes").await?;
    let script = "trap 'stty size' WINCH; trap 'echo interrupted; exit 5' INT; echo ready; \
                  while :; do sleep 0.1; done";
    let shell = sandbox.shell_stream_with(script, |options| options.tty(true).stdin_pipe());
    let mut handle = shell.await?;
    let stdin = handle.take_stdin().unwrap();
    until(&mut handle, "ready").await?;
    handle.control().resize(50, 132).await?;
    until(&mut handle, "50 132").await?;
    // The key that interrupts.
    stdin.write([3]).await?;
    until(&mut handle, "interrupted").await?;
    assert_eq!(within(handle.wait()).await?.code, 5);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn signals_reach_the_whole_group() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("group").await?;
    let script = "(exec sleep 7654) & (exec sleep 7654) & echo ready; wait";
    let mut handle = sandbox.shell_stream(script).await?;
    until(&mut handle, "ready").await?;
    let both = "until [ $(ps -o args | grep -c '^sleep 7654') = 2 ]; do sleep 0.1; done";
    says(&sandbox, both).await?;
    let control = handle.control();
    assert_eq!(control.id(), handle.id());
    control.clone().kill().await?;
    let status = within(handle.wait()).await?;
    assert_eq!((status.code, status.success), (137, false));
    assert_eq!(handle.exit(), Some(Exit::Signal(9)));
    let gone = "while ps -o args | grep -q '^sleep 7654'; do sleep 0.1; done";
    says(&sandbox, gone).await?;
    // It is over: a signal has nobody to reach, and that is no error.
    control.signal(15).await?;
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_stream_has_its_deadline_whether_it_is_read_or_not() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("late").await?;
    let limit = Duration::from_secs(2);
    let late = |error: &Result<_, MicrosandboxError>| matches!(error, Err(MicrosandboxError::ExecTimeout(t)) if *t == limit);
    // Nobody looks at these handles until their commands are gone.
    let silent = sandbox.exec_stream_with("sleep", |o| o.arg("6543").timeout(limit));
    let mut silent = silent.await?;
    let loud = sandbox.exec_stream_with("yes", |o| o.arg("6543").timeout(limit));
    let mut loud = loud.await?;
    let gone = "while ps -o args | grep -qE '^(sleep|yes) 6543'; do sleep 0.1; done";
    says(&sandbox, gone).await?;
    let waited = within(silent.wait()).await;
    assert!(late(&waited), "{waited:?}");
    let waited = within(loud.wait()).await;
    assert!(late(&waited), "{waited:?}");
    // As an event, it is the last.
    let brief = sandbox.exec_stream_with("sleep", |o| o.arg("6543").timeout(limit));
    let mut brief = brief.await?;
    assert!(matches!(
        within(brief.recv()).await,
        Some(ExecEvent::Started { .. })
    ));
    assert!(matches!(
        within(brief.recv()).await,
        Some(ExecEvent::Failed(_))
    ));
    assert_eq!(within(brief.recv()).await, None);
    // One that is quick enough is not hurt by it.
    let quick = sandbox.exec_with("true", |o| o.timeout(Duration::MAX));
    assert!(within(quick).await?.status().success);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn every_limit_reaches_the_kernel() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("rlimits").await?;
    use RlimitResource as R;
    for (resource, line) in [
        (R::Cpu, "Max cpu time"),
        (R::Fsize, "Max file size"),
        (R::Data, "Max data size"),
        (R::Stack, "Max stack size"),
        (R::Core, "Max core file size"),
        (R::Rss, "Max resident set"),
        (R::Nproc, "Max processes"),
        (R::Nofile, "Max open files"),
        (R::Memlock, "Max locked memory"),
        (R::As, "Max address space"),
        (R::Locks, "Max file locks"),
        (R::Sigpending, "Max pending signals"),
        (R::Msgqueue, "Max msgqueue size"),
        (R::Nice, "Max nice priority"),
        (R::Rtprio, "Max realtime priority"),
        (R::Rttime, "Max realtime timeout"),
    ] {
        // Large enough to run in, for those that are sizes.
        let (soft, hard) = match resource {
            R::Nice | R::Rtprio => (3, 7),
            _ => (300_000_000, 400_000_000),
        };
        let (soft, hard) = match resource {
            R::Nofile => (300, 400),
            _ => (soft, hard),
        };
        let limits = sandbox
            .exec_with("cat", |options| {
                options
                    .arg("/proc/self/limits")
                    .rlimit_range(resource, soft, hard)
            })
            .await?
            .stdout()?;
        let found = limits.lines().find(|found| found.starts_with(line));
        let numbers: Vec<_> = found.unwrap_or("").split_whitespace().collect();
        let (soft, hard) = (soft.to_string(), hard.to_string());
        assert!(
            numbers.contains(&soft.as_str()) && numbers.contains(&hard.as_str()),
            "{resource:?}: {limits}"
        );
    }
    sandbox.stop().await?;
    Ok(())
}
