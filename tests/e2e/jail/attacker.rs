//! A VMM that its guest owns. Each attempt to get out is made in each role: with filters that let the thread go
//! on, with filters as they are, and with none.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use msb_tests::{Fixture, within};

#[path = "../../../vmm/tests/support/attack.rs"]
mod attack;
use super::support;

/// What the attacker's binary has in it, and no other.
const MARKER: &[u8] = b"THIS VMM ATTACKS ITS HOST WHEN ITS GUEST ASKS FOR IT";
/// And what else it cannot hide.
const ATTEMPTS: [&[u8]; 3] = [
    b"MSB_ATTACKER",
    b"msb-attacker-victim",
    b"open another sandbox's memory",
];

fn attacker() -> Result<PathBuf> {
    super::super::standalone::variable("MSB_TEST_ATTACKER")
}

fn has(file: &Path, words: &[u8]) -> Result<bool> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    Ok(bytes.windows(words.len()).any(|window| window == words))
}

#[test]
fn nothing_that_ships_can_attack() -> Result<()> {
    let attacker = attacker()?;
    for words in ATTEMPTS.into_iter().chain([MARKER]) {
        let text = String::from_utf8_lossy(words);
        ensure!(has(&attacker, words)?, "the attacker has no {text:?}");
        for part in [
            "MSB_VMM_PATH",
            "MSB_RUNTIME_PATH",
            "MSB_INITRAMFS_PATH",
            "MSB_KERNEL_PATH",
        ] {
            let part = super::super::standalone::variable(part)?;
            ensure!(!has(&part, words)?, "{text:?} is in {}", part.display());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_sandbox_says_which_call_it_was() -> Result<()> {
    let fixture = Fixture::new()?;
    // It asks for the first attempt, in its own thread, as soon as it runs.
    let kernel = fixture.path().join("kernel");
    std::fs::write(&kernel, attack::kernel_that_asks(2, 0))?;
    let mut owner = tokio::process::Command::new(env!("CARGO_BIN_EXE_msb-test-owner"));
    owner
        .arg("attacked")
        .arg(fixture.disk()?)
        .env("MSB_VMM_PATH", attacker()?)
        .env("MSB_KERNEL_PATH", kernel)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let output = within(owner.output()).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = "its VMM was ended: its vcpu thread called openat, which the jail forbids";
    ensure!(!output.status.success() && said.contains(reason), "{said}");
    Ok(())
}

#[test]
fn in_every_role_every_attempt_fails() -> Result<()> {
    attack::every_attempt_fails(&attacker()?);
    Ok(())
}

#[test]
fn without_filters_nothing_outside_is_reached() -> Result<()> {
    attack::nothing_is_reached_without_filters(&attacker()?);
    Ok(())
}

#[test]
fn the_first_attempt_is_the_last() -> Result<()> {
    attack::the_first_attempt_is_the_last(&attacker()?);
    Ok(())
}
