//! The whole of the library in one sitting: `cargo xtask demo`.
//!
//! Makes a small disk, starts a sandbox from it, and shows what a program can do with one:
//! run a command, watch a stream, feed standard input, tell an exit code from a signal.
//! Then it stops the sandbox and checks that nothing of it is left.

mod busybox;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use microsandbox::{ExecEvent, Sandbox};

/// Starts a sandbox and shows what can be done with it.
#[derive(Debug, Parser)]
struct Options {
    /// Number of virtual CPUs
    #[arg(long, default_value_t = 2)]
    cpus: u8,
    /// Memory in MiB
    #[arg(long, default_value_t = 256)]
    memory: u32,
    /// A raw disk image to boot from, instead of a small one made of busybox
    #[arg(long)]
    disk: Option<PathBuf>,
    /// A command to run in the sandbox, instead of the tour
    #[arg(last = true)]
    command: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let work = tempfile::tempdir()?;
    let disk = match &options.disk {
        Some(disk) => std::path::absolute(disk)?,
        None => {
            let disk = work.path().join("root.ext4");
            busybox::make_disk(&disk, 32)?;
            say(&format!("made a root disk of busybox: {}", disk.display()));
            disk
        }
    };

    let sandbox = Sandbox::builder(format!("demo-{}", std::process::id()))
        .image(disk)
        .cpus(options.cpus)
        .memory(options.memory)
        .create()
        .await?;
    say(&format!("sandbox {} is up", sandbox.name()));

    if let Some((program, args)) = options.command.split_first() {
        let code = run_command(&sandbox, program, args).await?;
        stop(sandbox).await?;
        // Not `exit`: the temporary directory goes with this function.
        return Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)));
    }
    let first_output = tour(&sandbox).await?;
    show_times(&sandbox, first_output);
    stop(sandbox).await?;
    Ok(ExitCode::SUCCESS)
}

/// What a program does with a sandbox. Returns how long the first command took to speak.
async fn tour(sandbox: &Sandbox) -> Result<Duration> {
    say("run a command and take its output: uname -a");
    let asked = Instant::now();
    let output = sandbox.exec("uname", ["-a"]).await?;
    let first_output = asked.elapsed();
    show("  ", output.stdout()?.trim_end());

    say("watch a loop's output as it appears");
    let mut handle = sandbox
        .shell_stream("for i in 1 2 3 4 5; do echo line $i; sleep 0.3; done; echo done >&2")
        .await?;
    let started = Instant::now();
    while let Some(event) = handle.recv().await {
        let at = started.elapsed().as_secs_f32();
        match event {
            ExecEvent::Stdout(bytes) => {
                show(
                    &format!("  {at:4.1} s  stdout  "),
                    &String::from_utf8_lossy(&bytes),
                );
            }
            ExecEvent::Stderr(bytes) => {
                show(
                    &format!("  {at:4.1} s  stderr  "),
                    &String::from_utf8_lossy(&bytes),
                );
            }
            _ => {}
        }
    }

    say("feed standard input: wc");
    let mut handle = sandbox
        .exec_stream_with("wc", |options| options.stdin_pipe())
        .await?;
    let stdin = handle
        .take_stdin()
        .context("stdin was asked for as a pipe")?;
    for line in 1..=1000 {
        stdin.write(format!("this is line {line}\n")).await?;
    }
    stdin.close().await?;
    show("  ", handle.collect().await?.stdout()?.trim_end());

    say("an exit code: sh -c 'exit 42'");
    let status = sandbox.shell("exit 42").await?.status();
    show(
        "  ",
        &format!("code {}, success {}", status.code, status.success),
    );

    say("a signal: sleep 1000, and then SIGTERM");
    let mut handle = sandbox.exec_stream("sleep", ["1000"]).await?;
    handle.signal(15).await?;
    let status = handle.wait().await?;
    show("  ", &format!("code {}, {:?}", status.code, handle.exit()));
    Ok(first_output)
}

/// Runs one command, its output passed on as it comes.
async fn run_command(sandbox: &Sandbox, program: &str, args: &[String]) -> Result<i32> {
    let mut handle = sandbox.exec_stream(program, args).await?;
    let mut code = 1;
    while let Some(event) = handle.recv().await {
        match event {
            ExecEvent::Stdout(bytes) => std::io::stdout().write_all(&bytes)?,
            ExecEvent::Stderr(bytes) => std::io::stderr().write_all(&bytes)?,
            ExecEvent::Exited { code: exited } => code = exited,
            ExecEvent::Failed(failure) => anyhow::bail!("{}", failure.message),
            _ => {}
        }
        std::io::stdout().flush()?;
    }
    Ok(code)
}

fn show_times(sandbox: &Sandbox, first_output: Duration) {
    let Some(local) = sandbox.local() else { return };
    let boot = &local.boot;
    say("where the time went");
    for (part, time) in [
        ("supervisor", boot.supervisor),
        ("VMM", boot.vmm),
        ("guest kernel", boot.kernel),
        ("agent", boot.agent),
        ("first output", first_output),
        ("total", boot.total() + first_output),
    ] {
        show(
            "  ",
            &format!("{part:<14}{:>9.1} ms", time.as_secs_f64() * 1e3),
        );
    }
}

async fn stop(sandbox: Sandbox) -> Result<()> {
    say("stop it, and see that nothing is left");
    let local = sandbox.local().context("this sandbox runs here")?.clone();
    sandbox.stop().await?;
    let process = local.pid.map(|pid| PathBuf::from(format!("/proc/{pid}")));
    ensure!(
        !process.is_some_and(|process| process.exists()),
        "its supervisor still runs"
    );
    ensure!(
        !local.run_dir.exists(),
        "{} is still there",
        local.run_dir.display()
    );
    // Its record and logs stay, so that it can be started again; this one has done its work.
    sandbox.remove_persisted().await?;
    show("  ", "no process, no socket, no directory");
    Ok(())
}

fn say(what: &str) {
    show("", &format!("\n== {what}"));
}

fn show(prefix: &str, text: &str) {
    for line in text.split_inclusive('\n') {
        let _ = writeln!(std::io::stdout(), "{prefix}{}", line.trim_end_matches('\n'));
    }
    let _ = std::io::stdout().flush();
}
