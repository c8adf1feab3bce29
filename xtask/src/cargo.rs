//! Asking cargo to build, and which executables came of it.

use std::io::BufReader;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;

use crate::{paths, proc};

/// glibc, linked in; naming the target keeps the flag away from build scripts and macros.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// A cargo, in the workspace.
///
/// `cargo xtask` was started by one, which left the name and the version of this package in the environment. Build
/// scripts that look at those would find another package than when a person runs cargo, and all that depends on
/// them would be built again each time the other of the two comes.
pub(crate) fn command() -> Command {
    let mut command = Command::new(paths::cargo());
    command.current_dir(paths::workspace());
    let left = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(left) {
            command.env_remove(name);
        }
    }
    command
}

/// An executable that cargo built.
#[derive(Debug)]
pub(crate) struct Executable {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Whether it is a test harness.
    pub(crate) test: bool,
}

/// Runs a cargo command with JSON messages and returns the executables it made or found fresh.
/// Compiler messages go to standard error as usual.
pub(crate) fn executables(command: &mut Command) -> Result<Vec<Executable>> {
    let mut child = command
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut found = Vec::new();
    for message in Message::parse_stream(BufReader::new(stdout)) {
        if let Message::CompilerArtifact(artifact) = message.context("cannot read from cargo")?
            && let Some(path) = artifact.executable
        {
            found.push(Executable {
                name: artifact.target.name,
                path: path.into(),
                test: artifact.profile.test,
            });
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("the build failed: {status}");
    }
    Ok(found)
}

/// The host's two programs in release form: the supervisor and the VMM.
pub(crate) fn host_programs() -> Result<Vec<Executable>> {
    executables(command().args(["build", "--release", "--bins"]).args([
        "--package",
        "msb-runtime",
        "--package",
        "msb-vmm",
    ]))
}

/// A program of the end-to-end package that is no test, in release form.
pub(crate) fn test_program(name: &str) -> Result<PathBuf> {
    release(&["--package", "msb-tests"], name)
}

/// The VMM that attacks its host when its guest asks for it, in release form. For tests alone.
pub(crate) fn attacker() -> Result<PathBuf> {
    let of = ["--package", "msb-vmm", "--features", "attacker"];
    release(&of, "msb-vmm-attacker")
}

/// One program in release form, built as `of` says.
fn release(of: &[&str], name: &str) -> Result<PathBuf> {
    let build = ["build", "--release", "--bin", name];
    let programs = executables(command().args(build).args(of))?;
    let program = programs.into_iter().find(|program| program.name == name);
    program
        .map(|program| program.path)
        .with_context(|| format!("the workspace builds no program `{name}`"))
}

/// The program of a package that runs in a guest whatever is there: in release form, and static.
pub(crate) fn static_program(package: &str) -> Result<PathBuf> {
    // A target directory of its own: other flags would make cargo rebuild the shared one in turns.
    let mut command = command();
    command
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .args(["build", "--release", "--bins", "--package", package])
        .args(["--target", STATIC_TARGET])
        .arg("--target-dir")
        .arg(paths::target().join("agent"));
    let built = executables(&mut command)?;
    let program = built
        .into_iter()
        .next()
        .with_context(|| format!("the package {package} builds no program"))?
        .path;
    let headers = proc::text(Command::new("readelf").arg("-lW").arg(&program))?;
    anyhow::ensure!(
        !headers.contains("INTERP"),
        "{} is not static: it asks for an interpreter",
        program.display()
    );
    Ok(program)
}

/// The binaries of the end-to-end tests. What they test is built in release form; they themselves are not.
pub(crate) fn end_to_end_tests() -> Result<Vec<Executable>> {
    let mut tests = executables(command().args([
        "test",
        "--profile=e2e",
        "--no-run",
        "--package",
        "msb-tests",
    ]))?;
    tests.retain(|executable| executable.test);
    if tests.is_empty() {
        bail!("the package msb-tests has no test binaries");
    }
    Ok(tests)
}

/// The variables by which the library finds the host's programs.
pub(crate) fn host_env(programs: &[Executable]) -> Result<Vec<(&'static str, PathBuf)>> {
    [
        ("MSB_RUNTIME_PATH", "msb-runtime"),
        ("MSB_VMM_PATH", "msb-vmm"),
    ]
    .into_iter()
    .map(|(variable, name)| {
        let program = programs
            .iter()
            .find(|program| program.name == name)
            .with_context(|| format!("the workspace builds no program `{name}`"))?;
        Ok((variable, program.path.clone()))
    })
    .collect()
}
