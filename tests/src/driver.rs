//! A program that uses sandboxes at random: what the life tests start, many at a time, and kill.
//!
//! `msb-test-driver alone SEED NAME DISK` walks with one sandbox until its standard input ends, or
//! until it is killed. A line on its standard input says that a supervisor or VMM is about to be
//! killed: from then on the errors that this brings are no faults.
//!
//! `msb-test-driver crowd SEED PREFIX NAMES OPS DISKS` takes so many steps with so many sandboxes
//! that other programs use too, and says which records it made and removed.
//!
//! `msb-test-driver check NAME DISK` looks at the home as a program does that knows nothing of what
//! went before: all has to agree, and `NAME` has to start.
//!
//! Anything that is not as it should be is told on standard error, with exit code 3.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use microsandbox::{
    LocalBackend, MicrosandboxError, MicrosandboxResult, Sandbox, set_default_backend,
};
use msb_tests::walk::{STEP_DEADLINE, Step, Walker, Weather};
use msb_tests::{disk_in, home, truth};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const FAULT: u8 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "msb-test-driver: {error:#}");
            ExitCode::from(FAULT)
        }
    }
}

async fn run() -> Result<()> {
    let mut args = Args(std::env::args().skip(1));
    match args.next::<String>("a mode")?.as_str() {
        "alone" => {
            let seed = args.next("a seed")?;
            alone(seed, args.next("a name")?, args.next("a disk")?).await
        }
        "crowd" => {
            let seed = args.next("a seed")?;
            let prefix: String = args.next("a prefix")?;
            let (names, ops) = (
                args.next("a number of names")?,
                args.next("a number of steps")?,
            );
            crowd(
                seed,
                &prefix,
                names,
                ops,
                args.next("a directory of disks")?,
            )
            .await
        }
        "check" => check(args.next("a name")?, args.next("a disk")?).await,
        other => bail!("there is no mode {other:?}"),
    }
}

struct Args<I>(I);

impl<I: Iterator<Item = String>> Args<I> {
    fn next<T: FromStr>(&mut self, what: &str) -> Result<T> {
        let text = self
            .0
            .next()
            .with_context(|| format!("{what} is missing"))?;
        match text.parse() {
            Ok(value) => Ok(value),
            Err(_) => bail!("{text:?} is not {what}"),
        }
    }
}

async fn alone(seed: u64, name: String, disk: PathBuf) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut walker = Walker::default();
    let mut orders = Orders::default();
    while !orders.end {
        let step = Step::random(&mut random);
        let taken = in_time(step, walker.take(step, &name, &disk)).await?;
        // Only now: what was about to be killed was told before.
        orders.look()?;
        let weather = Weather {
            hurt: orders.hurt,
            ..Weather::default()
        };
        judge(weather, step, &name, taken)?;
    }
    Ok(())
}

async fn crowd(seed: u64, prefix: &str, names: u32, ops: u32, disks: PathBuf) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut walker = Walker::default();
    let (mut created, mut removed) = (BTreeMap::new(), BTreeMap::new());
    let weather = Weather {
        crowd: true,
        ..Weather::default()
    };
    for _ in 0..ops {
        let number = random.u32(..names);
        let name = format!("{prefix}-{number}");
        let mut step = Step::random(&mut random);
        // Of every other one the records are counted.
        if number.is_multiple_of(2) {
            step = step.plain();
        }
        let disk = disk_in(&disks, &name);
        let taken = in_time(step, walker.take(step, &name, &disk)).await?;
        if taken.is_ok() {
            match step {
                Step::Create { .. } => *created.entry(name.clone()).or_insert(0) += 1,
                Step::Remove => *removed.entry(name.clone()).or_insert(0) += 1,
                _ => {}
            }
        }
        judge(weather, step, &name, taken)?;
    }
    let told = serde_json::json!({ "created": created, "removed": removed });
    writeln!(std::io::stdout(), "{told}")?;
    Ok(())
}

async fn check(name: String, disk: PathBuf) -> Result<()> {
    let backend = LocalBackend::builder().home(home()?).build().await;
    set_default_backend(Arc::new(backend.context("the catalog does not open")?));
    truth::stopped().await?;

    let sandbox = match Sandbox::get(&name).await {
        Ok(handle) => handle.start().await.context("it does not start")?,
        Err(MicrosandboxError::SandboxNotFound(_)) => Sandbox::builder(&name)
            .image(disk)
            .memory(64u32)
            .create()
            .await
            .context("it cannot be created")?,
        Err(error) => return Err(error).context("it cannot be looked up"),
    };
    let limit = Duration::from_secs(60);
    let output = sandbox
        .exec_with("echo", |options| options.arg("alive").timeout(limit))
        .await
        .context("it runs no command")?;
    ensure!(output.stdout()? == "alive\n", "it said {output:?}");
    sandbox.stop_with_timeout(limit).await?;
    drop(sandbox);
    truth::stopped().await?;
    truth::tidy().await
}

async fn in_time<T>(step: Step, taken: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(STEP_DEADLINE, taken)
        .await
        .with_context(|| format!("{step:?} took longer than {STEP_DEADLINE:?}"))
}

fn judge(weather: Weather, step: Step, name: &str, taken: MicrosandboxResult<()>) -> Result<()> {
    match taken {
        Err(error) if !weather.excuses(step, &error) => {
            let what = format!("{step:?} of {name}, {weather:?}: {error:?}");
            Err(error).context(what)
        }
        _ => Ok(()),
    }
}

/// What the test says on standard input.
#[derive(Debug, Default)]
struct Orders {
    hurt: bool,
    end: bool,
}

impl Orders {
    /// Reads what is there, and waits for nothing.
    fn look(&mut self) -> Result<()> {
        let mut stdin = std::io::stdin().lock();
        let mut bytes = [0; 64];
        loop {
            let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
            if self.end || poll(&mut ready, Some(&Timespec::default()))? == 0 {
                return Ok(());
            }
            match stdin.read(&mut bytes)? {
                0 => self.end = true,
                _ => self.hurt = true,
            }
        }
    }
}
