//! What is checked without running the project: format, lints, rules, licenses and advisories.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::{cargo, paths, proc, tidy};

/// All of them, the quick ones first.
pub(super) fn all() -> Result<()> {
    proc::run(cargo::command().args(["fmt", "--all", "--check"]))?;
    tidy::main()?;
    let lints = ["clippy", "--quiet", "--workspace", "--all-targets"];
    proc::run(cargo::command().args(lints).args(["--", "-D", "warnings"]))?;
    // What no other build has in it.
    let attacker = ["clippy", "--quiet", "-p", "msb-vmm", "--all-targets"];
    let attacker = attacker.iter().chain(&["--features", "attacker"]);
    proc::run(
        cargo::command()
            .args(attacker)
            .args(["--", "-D", "warnings"]),
    )?;
    deny()
}

/// cargo-deny, when it is there; CI installs it, for it takes minutes to compile.
fn deny() -> Result<()> {
    let Some(program) = find_deny()? else {
        eprintln!("cargo-deny is not installed: licenses and advisories are not checked here");
        return Ok(());
    };
    let deny = || {
        let mut command = Command::new(&program);
        command.current_dir(paths::workspace());
        command
    };
    proc::run(deny().args(["--workspace", "check", "bans", "licenses", "sources"]))?;
    if advisories_reachable() {
        proc::run(deny().args(["--workspace", "check", "advisories"]))?;
    } else {
        eprintln!("the advisory database cannot be reached: advisories are not checked here");
    }
    Ok(())
}

fn find_deny() -> Result<Option<PathBuf>> {
    if let Some(program) = proc::find_on_path("cargo-deny") {
        return Ok(Some(program));
    }
    let root = paths::cache()?.join("tools");
    let program = root.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(Some(program));
    }
    if std::env::var_os("CI").is_none_or(|ci| ci.is_empty()) {
        return Ok(None);
    }
    let mut install = cargo::command();
    install
        .args(["install", "--locked", "--quiet", "cargo-deny", "--root"])
        .arg(&root);
    proc::run(&mut install)?;
    Ok(Some(program))
}

/// The database is a git repository; without a network, or behind a proxy, it is not there.
fn advisories_reachable() -> bool {
    Command::new("timeout")
        .args(["20", "git", "ls-remote", "--exit-code"])
        .args(["https://github.com/rustsec/advisory-db", "HEAD"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
