//! Machines of every size come up as what was asked for.

use anyhow::Result;
use msb_tests::{Fixture, host, within};

async fn nproc(cpus: u8) -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture
        .builder(&format!("cpus-{cpus}"))?
        .cpus(cpus)
        .create()
        .await?;
    let output = within(sandbox.exec("nproc", [""; 0])).await?;
    assert_eq!(output.stdout()?.trim(), cpus.to_string());
    sandbox.stop().await?;
    host::nothing_left().await
}

#[tokio::test]
async fn one_cpu() -> Result<()> {
    nproc(1).await
}

#[tokio::test]
async fn two_cpus() -> Result<()> {
    nproc(2).await
}

#[tokio::test]
async fn eight_cpus() -> Result<()> {
    nproc(8).await
}

/// The guest's MemTotal in MiB.
async fn mem_total(memory: u32) -> Result<u64> {
    let fixture = Fixture::new()?;
    let sandbox = fixture
        .builder(&format!("memory-{memory}"))?
        .memory(memory)
        .create()
        .await?;
    let output = within(sandbox.shell("awk '/MemTotal/ {print $2}' /proc/meminfo")).await?;
    let kib: u64 = output.stdout()?.trim().parse()?;
    sandbox.stop().await?;
    host::nothing_left().await?;
    Ok(kib / 1024)
}

#[tokio::test]
async fn sixty_four_mebibytes() -> Result<()> {
    let total = mem_total(64).await?;
    assert!((32..=64).contains(&total), "{total} MiB");
    Ok(())
}

#[tokio::test]
async fn four_gibibytes_reach_beyond_the_hole() -> Result<()> {
    let total = mem_total(4096).await?;
    assert!((3900..=4096).contains(&total), "{total} MiB");
    Ok(())
}

#[tokio::test]
async fn the_guest_is_called_as_asked_and_has_its_environment() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture
        .builder("names")?
        .hostname("brave-host")
        .env("COLOR", "green")
        .env("QUOTED", r#"{"a": "b c", "d": "$HOME"}"#)
        .workdir("/tmp")
        .create()
        .await?;
    let output = sandbox
        .shell("hostname; echo $COLOR; echo \"$QUOTED\"; pwd")
        .await?;
    assert_eq!(
        output.stdout()?,
        "brave-host\ngreen\n{\"a\": \"b c\", \"d\": \"$HOME\"}\n/tmp\n"
    );
    let output = sandbox.exec_with("sh", |o| o.args(["-c", "echo $COLOR"]).env("COLOR", "red"));
    assert_eq!(output.await?.stdout()?, "red\n");
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_large_environment_reaches_the_guest_whole() -> Result<()> {
    let fixture = Fixture::new()?;
    let vars = (0..500).map(|i| (format!("VAR_{i}"), "x".repeat(100)));
    let sandbox = fixture.builder("environment")?.envs(vars).create().await?;
    let output = sandbox
        .shell("env | grep -c '^VAR_[0-9]*=x\\{100\\}$'")
        .await?;
    assert_eq!(output.stdout()?.trim(), "500");
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_boot_says_where_its_time_went() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("times").await?;
    let boot = sandbox.local().unwrap().boot;
    for part in [boot.supervisor, boot.vmm, boot.kernel, boot.agent] {
        assert!(!part.is_zero(), "{boot:?}");
    }
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn limits_of_the_sandbox_hold_for_every_command_and_under_its_own() -> Result<()> {
    use microsandbox::RlimitResource::Nofile;
    let fixture = Fixture::new()?;
    let sandbox = fixture
        .builder("limits")?
        .rlimit_range(Nofile, 50, 60)
        .create()
        .await?;
    let script = "ulimit -Sn; ulimit -Hn";
    assert_eq!(within(sandbox.shell(script)).await?.stdout()?, "50\n60\n");
    let own = within(sandbox.shell_with(script, |options| options.rlimit(Nofile, 40))).await?;
    assert_eq!(own.stdout()?, "40\n40\n");
    sandbox.stop().await?;
    host::nothing_left().await
}
