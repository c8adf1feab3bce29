//! Another init beside the agent: busybox's, and scripts that make one.

use anyhow::{Context, Result};
use microsandbox::sandbox::{SandboxStatus, SecurityProfile};
use microsandbox::{EndReason, Sandbox, SandboxBuilder};
use msb_tests::{Fixture, PATIENCE, host, within};

use super::{create, prepare, prints, succeeds, until};

/// What busybox's init is to do: a service that it keeps up, and words in a file at both ends.
const INITTAB: &str = "printf '%s\\n' '::sysinit:/bin/sh -c \"echo begun >> /root/log\"' \
    '::respawn:/bin/sleep 100000' '::shutdown:/bin/sh -c \"echo ended >> /root/log\"' > /etc/inittab";

/// A sandbox with busybox's init, which was looked for.
async fn busybox(fixture: &Fixture, name: &str) -> Result<Sandbox> {
    prepare(fixture.builder(name)?, INITTAB).await?;
    let sandbox = create(fixture.kept(name)?.init("auto")).await?;
    until(&sandbox, "pidof sleep && [ -s /root/log ]").await?;
    Ok(sandbox)
}

/// A sandbox whose init is a script.
async fn script(builder: SandboxBuilder, script: &str) -> Result<Sandbox> {
    let builder = builder.init_with("/bin/sh", |options| {
        options.args(["-c", script]).env("OWN", "init")
    });
    Ok(create(builder).await?)
}

/// What is in the log of a disk whose sandbox is over.
async fn log(fixture: &Fixture, name: &str) -> Result<String> {
    let sandbox = fixture.sandbox(name).await?;
    let log = prints(&sandbox, "cat /root/log").await?;
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    Ok(log)
}

#[tokio::test]
async fn commands_run_beside_an_init_and_a_stop_goes_through_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = busybox(&fixture, "init-stop").await?;
    let pid_1 = prints(
        &sandbox,
        "tr '\\0' ' ' < /proc/1/cmdline; readlink /proc/1/exe",
    )
    .await?;
    // busybox's init writes its name anew.
    assert!(
        pid_1.starts_with("init") || pid_1.starts_with("/sbin/init"),
        "{pid_1}"
    );
    assert!(pid_1.trim_end().ends_with("/bin/busybox"), "{pid_1}");
    // An init that sets the name sets the guest's.
    assert!(succeeds(&sandbox, "[ \"$(cat /etc/hostname)\" = \"$(hostname)\" ]").await?);
    // What it keeps up is up again.
    let service = prints(&sandbox, "pidof sleep").await?;
    prints(&sandbox, "kill -9 $(pidof sleep)").await?;
    let again = format!("new=$(pidof sleep) && [ \"$new\" != {} ]", service.trim());
    until(&sandbox, &again).await?;

    let output = sandbox
        .exec_with("tty", |options| options.tty(true))
        .await?;
    assert!(output.stdout()?.starts_with("/dev/pts/"));
    prints(&sandbox, "for i in 1 2 3; do (sleep 0.2 &); done").await?;
    until(
        &sandbox,
        "! grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null",
    )
    .await?;
    sandbox.pause().await?;
    sandbox.resume().await?;
    assert!(succeeds(&sandbox, "true").await?);

    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    assert_eq!(sandbox.end_reason(), Some(EndReason::Stopped));
    sandbox.remove_persisted().await?;
    assert_eq!(log(&fixture, "init-stop").await?, "begun\nended\n");
    host::nothing_left().await
}

#[tokio::test]
async fn a_start_after_a_stop_has_its_init_again() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = busybox(&fixture, "init-again").await?;
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    let again = within(sandbox.handle().await?.start()).await?;
    until(&again, "pidof sleep").await?;
    within(again.kill()).await?;
    assert_eq!(again.end_reason(), Some(EndReason::Killed));
    again.remove_persisted().await?;
    host::nothing_left().await
}

#[tokio::test]
async fn a_drain_goes_through_it_when_the_last_command_has_ended() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = busybox(&fixture, "init-drain").await?;
    let mut cat = sandbox
        .exec_stream_with("cat", |options| options.stdin_pipe())
        .await?;
    let input = cat.take_stdin().context("it has a standard input")?;
    sandbox.request_drain().await?;
    input.write("last").await?;
    input.close().await?;
    assert_eq!(within(cat.collect()).await?.stdout()?, "last");
    assert_eq!(within(sandbox.wait_until_ended()).await, EndReason::Drained);
    sandbox.remove_persisted().await?;
    host::nothing_left().await
}

#[tokio::test]
async fn a_guest_that_its_own_init_powers_off_has_powered_off() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = busybox(&fixture, "init-off").await?;
    // It asks the init, which ends everybody and then the machine.
    let _ = within(sandbox.shell("poweroff")).await;
    let reason = within(sandbox.wait_until_ended()).await;
    assert_eq!(reason, EndReason::GuestPowerOff);
    let status = sandbox.handle().await?.status_snapshot();
    assert_eq!(status, SandboxStatus::Stopped);
    sandbox.remove_persisted().await?;
    assert_eq!(log(&fixture, "init-off").await?, "begun\nended\n");
    Ok(())
}

#[tokio::test]
async fn an_init_has_its_arguments_and_environment_and_the_guests() -> Result<()> {
    let fixture = Fixture::new()?;
    let builder = fixture.builder("init-env")?.env("BOTH", "guest");
    let sandbox = script(
        builder,
        "trap 'poweroff -f' TERM; touch /tmp/up; while :; do sleep 0.1; done",
    )
    .await?;
    until(&sandbox, "[ -e /tmp/up ]").await?;
    let env = prints(&sandbox, "tr '\\0' '\\n' < /proc/1/environ").await?;
    for line in ["OWN=init", "BOTH=guest"] {
        assert!(env.lines().any(|found| found == line), "{line}: {env}");
    }
    // A command has the guest's, and not the init's.
    let env = prints(&sandbox, "env").await?;
    assert!(env.contains("BOTH=guest") && !env.contains("OWN="), "{env}");
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    assert_eq!(sandbox.end_reason(), Some(EndReason::Stopped));
    host::nothing_left().await
}

#[tokio::test]
async fn what_an_init_mounts_over_does_not_matter() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = script(
        fixture.builder("init-mounts")?,
        "mount -t tmpfs none /run; mount -t tmpfs none /dev; mount -t proc none /proc; \
         mkdir /run/up; trap 'poweroff -f' TERM; while :; do sleep 0.1; done",
    )
    .await?;
    until(&sandbox, "[ -d /run/up ]").await?;
    assert!(!succeeds(&sandbox, "[ -e /dev/null ]").await?);
    // Its standard input is the null device that is not there.
    let output = within(sandbox.exec("cat", [""; 0])).await?;
    assert_eq!(output.stdout()?, "");
    let output = sandbox
        .exec_with("echo", |options| options.arg("terminal").tty(true))
        .await?;
    assert_eq!(output.stdout()?, "terminal\r\n");
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    assert_eq!(sandbox.end_reason(), Some(EndReason::Stopped));
    host::nothing_left().await
}

#[tokio::test]
async fn commands_beside_an_init_can_be_restricted() -> Result<()> {
    let fixture = Fixture::new()?;
    let builder = fixture
        .builder("init-restricted")?
        .security(SecurityProfile::Restricted)
        .script("greet", "#!/bin/sh\necho hi\n");
    let sandbox = script(builder, "greet > /tmp/up; while :; do sleep 0.1; done").await?;
    until(&sandbox, "grep hi /tmp/up").await?;
    assert!(!succeeds(&sandbox, "mount -t tmpfs none /tmp").await?);
    assert_eq!(prints(&sandbox, "greet").await?, "hi\n");
    within(sandbox.kill()).await?;
    host::nothing_left().await
}
