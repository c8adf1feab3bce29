//! Measures commands in a Debian guest, through the public API and by ssh: the half of
//! `cargo xtask bench exec` that is a program of the library.
//!
//! `msb-test-exec-bench measure ROUNDS` writes one JSON object in each line, `{"what": .., "value":
//! ..}`. What ends in `_ms` is a time in milliseconds, what ends in `_mib_s` is MiB in a second.
//! The other mode is for ssh (`msb_tests::ssh`).

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use microsandbox::agent::{Message, MessageType};
use microsandbox::{ExecEvent, Sandbox};
use msb_tests::ssh::{self, Server, Shared};
use msb_tests::{Fixture, within};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

const NAME: &str = "exec-bench";
const TRUE: &str = "/bin/true";
const NO_ARGS: [&str; 0] = [];
const MIB: usize = 1 << 20;
/// How much goes in or out at a time.
const BULK: usize = 64 * MIB;
/// How often it does.
const BULK_ROUNDS: usize = 3;
/// Says when it begins to read, and then how much it has read.
const COUNT: &str = "echo ready; wc -c";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // ssh waits for this one: it has no business with an event loop.
        [ssh::PROXY, socket] => ssh::hand_over(Path::new(socket)),
        ["measure", rounds] => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(measure(rounds.parse()?)),
        _ => bail!("what is it to do?"),
    }
}

async fn measure(rounds: u32) -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.debian(NAME)?.create().await?;
    let server = Server::start(&sandbox).await?;
    let shared = server.share().await?;
    // Once for the guest's caches; then in turns, so that what else the host does falls on all.
    commands(&sandbox, &server, &shared).await?;
    for _ in 0..rounds {
        for (what, value) in commands(&sandbox, &server, &shared).await? {
            tell(what, value)?;
        }
    }
    for _ in 0..BULK_ROUNDS {
        tell("stdout_mib_s", stdout(&sandbox).await?)?;
        tell("ssh_stdout_mib_s", ssh_stdout(shared.command()).await?)?;
        tell("stdin_mib_s", stdin(&sandbox).await?)?;
        tell("ssh_stdin_mib_s", ssh_stdin(shared.command()).await?)?;
    }
    drop(shared);
    drop(server);
    sandbox.stop_with_timeout(Duration::from_secs(60)).await?;
    Ok(())
}

/// Each of the small things once, in milliseconds.
async fn commands(
    sandbox: &Sandbox,
    server: &Server,
    shared: &Shared<'_>,
) -> Result<[(&'static str, f64); 4]> {
    let started = Instant::now();
    let answer = within(sandbox.client().request(MessageType::Ping, &())).await?;
    let ping = ms(started);
    ensure!(
        answer == Message::Pong,
        "{answer:?} is the answer to a ping"
    );

    let started = Instant::now();
    let output = within(sandbox.exec(TRUE, NO_ARGS)).await?;
    let spawn = ms(started);
    ensure!(output.status().success, "{TRUE} failed");

    let ssh_spawn = ssh_true(server.connecting()?).await?;
    let mux_spawn = ssh_true(shared.command()).await?;
    Ok([
        ("ping_ms", ping),
        ("spawn_ms", spawn),
        ("ssh_spawn_ms", ssh_spawn),
        ("mux_spawn_ms", mux_spawn),
    ])
}

async fn ssh_true(mut command: Command) -> Result<f64> {
    command.arg(TRUE).stdin(Stdio::null());
    let started = Instant::now();
    let status = within(command.status()).await.context("cannot run ssh")?;
    let time = ms(started);
    ensure!(status.success(), "ssh failed: {status}");
    Ok(time)
}

async fn stdout(sandbox: &Sandbox) -> Result<f64> {
    let length = BULK.to_string();
    let mut handle = sandbox
        .exec_stream("head", ["-c", &length, "/dev/zero"])
        .await?;
    let mut meter = Meter::default();
    while let Some(event) = within(handle.recv()).await {
        match event {
            ExecEvent::Stdout(bytes) => meter.count(bytes.len()),
            ExecEvent::Started { .. } | ExecEvent::Exited { code: 0 } => {}
            other => bail!("{other:?}"),
        }
    }
    meter.rate()
}

async fn ssh_stdout(mut command: Command) -> Result<f64> {
    command.arg(format!("head -c {BULK} /dev/zero"));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run ssh")?;
    let mut output = child.stdout.take().context("it has no output")?;
    let (mut meter, mut buffer) = (Meter::default(), vec![0; MIB]);
    loop {
        match within(output.read(&mut buffer)).await? {
            0 => break,
            length => meter.count(length),
        }
    }
    let status = within(child.wait()).await?;
    ensure!(status.success(), "ssh failed: {status}");
    meter.rate()
}

async fn stdin(sandbox: &Sandbox) -> Result<f64> {
    let mut handle = sandbox
        .exec_stream_with("sh", |options| options.args(["-c", COUNT]).stdin_pipe())
        .await?;
    let sink = handle.take_stdin().context("it has no input")?;
    let mut said = String::new();
    while said != "ready\n" {
        match within(handle.recv()).await {
            Some(ExecEvent::Stdout(bytes)) => said.push_str(std::str::from_utf8(&bytes)?),
            Some(ExecEvent::Started { .. }) => {}
            other => bail!("{other:?}"),
        }
    }
    let zeros = vec![0; MIB];
    let started = Instant::now();
    for _ in 0..BULK / MIB {
        within(sink.write(&zeros)).await?;
    }
    sink.close().await?;
    let output = within(handle.collect()).await?;
    let seconds = started.elapsed().as_secs_f64();
    taken(&output.stdout()?)?;
    Ok(mib(BULK) / seconds)
}

async fn ssh_stdin(mut command: Command) -> Result<f64> {
    command.arg(COUNT);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run ssh")?;
    let mut input = child.stdin.take().context("it has no input")?;
    let mut output = BufReader::new(child.stdout.take().context("it has no output")?);
    let mut line = String::new();
    within(output.read_line(&mut line)).await?;
    ensure!(line == "ready\n", "{line:?}");
    let zeros = vec![0; MIB];
    let started = Instant::now();
    for _ in 0..BULK / MIB {
        within(input.write_all(&zeros)).await?;
    }
    drop(input);
    line.clear();
    within(output.read_line(&mut line)).await?;
    let seconds = started.elapsed().as_secs_f64();
    let status = within(child.wait()).await?;
    ensure!(status.success(), "ssh failed: {status}");
    taken(&line)?;
    Ok(mib(BULK) / seconds)
}

/// That all of it arrived.
fn taken(count: &str) -> Result<()> {
    ensure!(count.trim() == BULK.to_string(), "{count:?} bytes arrived");
    Ok(())
}

/// From the first bytes to the last: how a command was started does not count.
#[derive(Debug, Default)]
struct Meter {
    first: Option<Instant>,
    last: Option<Instant>,
    total: usize,
}

impl Meter {
    fn count(&mut self, bytes: usize) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.total += bytes;
    }

    fn rate(&self) -> Result<f64> {
        ensure!(self.total == BULK, "{} bytes arrived", self.total);
        let (first, last) = self.first.zip(self.last).context("nothing arrived")?;
        Ok(mib(self.total) / last.duration_since(first).as_secs_f64())
    }
}

fn mib(bytes: usize) -> f64 {
    u32::try_from(bytes / MIB).map_or(f64::NAN, f64::from)
}

fn ms(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}

fn tell(what: &str, value: f64) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", json!({ "what": what, "value": value }))?;
    Ok(stdout.flush()?)
}
