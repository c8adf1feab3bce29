//! Somebody who is not root: all works with what is theirs, and what is another's is refused.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, Result};
use msb_tests::{Fixture, host, within};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Nobody in particular.
const USER: u32 = 65534;

/// The product's parts, which may lie where this user may not go.
const PARTS: [&str; 5] = [
    "MSB_RUNTIME_PATH",
    "MSB_VMM_PATH",
    "MSB_KERNEL_PATH",
    "MSB_INITRAMFS_PATH",
    "MSB_UPPER_TEMPLATE_PATH",
];

/// The program that owns a sandbox, run by that user with this home.
fn owner(home: &Path, fixture: &Fixture) -> Result<Command> {
    let public = |file: &Path| -> Result<PathBuf> {
        let name = file.file_name().context("it is no file")?;
        let copy = fixture.path().join(name);
        if !copy.exists() {
            fs::copy(file, &copy)?;
            fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
        }
        Ok(copy)
    };
    let program = public(Path::new(env!("CARGO_BIN_EXE_msb-test-owner")))?;
    let mut command = Command::new(program);
    for part in PARTS {
        let file = std::env::var_os(part).with_context(|| format!("{part} is not set"))?;
        command.env(part, public(Path::new(&file))?);
    }
    command
        .arg("theirs")
        .arg(fixture.disk()?)
        .env("MSB_HOME", home)
        .env("RUST_BACKTRACE", "0")
        .uid(USER)
        .gid(USER)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

/// A directory that everybody may enter, with a disk in it that everybody may use.
fn open_fixture() -> Result<Fixture> {
    let fixture = Fixture::new()?;
    fs::set_permissions(fixture.path(), Permissions::from_mode(0o755))?;
    fs::set_permissions(fixture.disk()?, Permissions::from_mode(0o666))?;
    Ok(fixture)
}

/// A home in it that belongs to this user.
fn home_of(fixture: &Fixture, user: u32, mode: u32) -> Result<PathBuf> {
    let home = fixture.path().join("home");
    fs::create_dir(&home)?;
    chown(&home, Some(user), Some(user))?;
    fs::set_permissions(&home, Permissions::from_mode(mode))?;
    Ok(home)
}

async fn refused(home: &Path, fixture: &Fixture) -> Result<String> {
    let Output { status, stderr, .. } = within(owner(home, fixture)?.output()).await?;
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "{stderr}");
    Ok(stderr)
}

#[tokio::test]
async fn with_a_home_and_a_disk_of_their_own_sandboxes_run() -> Result<()> {
    // Where the host's administrator let them: membership of a group, as a rule.
    fs::set_permissions("/dev/kvm", Permissions::from_mode(0o666))?;
    let fixture = open_fixture()?;
    let home = home_of(&fixture, USER, 0o700)?;
    let mut program = owner(&home, &fixture)?.spawn()?;
    let stdout = program.stdout.take().context("it has no output")?;
    let line = within(BufReader::new(stdout).lines().next_line()).await?;
    if line.as_deref() != Some("up") {
        let output = within(program.wait_with_output()).await?;
        panic!("{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let vmms: Vec<_> = host::processes()
        .into_iter()
        .filter(|process| process.name == "msb-vmm")
        .collect();
    assert_eq!(vmms.len(), 1, "{vmms:?}");
    crate::jail::life::assert_jailed(vmms[0].pid, false)?;
    program.kill().await?;
    // What it had goes with it.
    let run = home.join("run");
    let gone = async {
        while fs::read_dir(&run)?.next().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    within(gone).await
}

#[tokio::test]
async fn anothers_home_is_refused_and_left_as_it_was() -> Result<()> {
    let fixture = open_fixture()?;
    for mode in [0o755, 0o700] {
        let home = home_of(&fixture, 0, mode)?;
        let said = refused(&home, &fixture).await?;
        assert!(said.contains("Permission denied"), "{said}");
        assert_eq!(fs::read_dir(&home)?.count(), 0);
        fs::remove_dir(&home)?;
    }
    Ok(())
}

#[tokio::test]
async fn anothers_disk_is_refused() -> Result<()> {
    let fixture = open_fixture()?;
    fs::set_permissions(fixture.disk()?, Permissions::from_mode(0o600))?;
    let home = home_of(&fixture, USER, 0o700)?;
    let said = refused(&home, &fixture).await?;
    assert!(said.contains("Permission denied"), "{said}");
    Ok(())
}
