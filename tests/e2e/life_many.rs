//! Many programs and many sandboxes in one home: nothing is lost, and all agrees in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use microsandbox::Sandbox;
use microsandbox::sandbox::SandboxStatus;
use msb_tests::{Fixture, soak, truth};
use tokio::process::Command;

const PROGRAMS: u64 = 8;
const NAMES: u32 = 20;

/// Steps of each program.
const OPS: u32 = 12;
const SOAK_OPS: u32 = 100;

/// How many sandboxes are created or asked at a time.
const AT_A_TIME: usize = 4;

/// How often each record was made or removed.
type Counts = BTreeMap<String, u32>;

fn count(told: &serde_json::Value, what: &str, counts: &mut Counts) -> Result<()> {
    let said: Counts = serde_json::from_value(told[what].clone())?;
    for (name, times) in said {
        *counts.entry(name).or_default() += times;
    }
    Ok(())
}

async fn crowd(ops: u32) -> Result<()> {
    let seed = soak::seed()?;
    println!("MSB_TEST_SEED={seed}");
    let fixture = Fixture::new()?;
    for number in 0..NAMES {
        fixture.disk_of(&format!("crowd-{number}"))?;
    }
    let programs = (0..PROGRAMS).map(|program| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msb-test-driver"));
        command
            .args(["crowd", &seed.wrapping_add(program).to_string(), "crowd"])
            .args([NAMES.to_string(), ops.to_string()])
            .arg(fixture.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        async move {
            // Each of its steps has a deadline.
            let output = command.spawn()?.wait_with_output().await?;
            let stderr = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.success(),
                "program {program} found a fault: {}\n{}",
                output.status,
                stderr.trim()
            );
            Ok(output.stdout)
        }
    });
    let (mut created, mut removed) = (Counts::new(), Counts::new());
    for told in try_join_all(programs).await? {
        let told = serde_json::from_slice(&told).context("a program did not say what it did")?;
        count(&told, "created", &mut created)?;
        count(&told, "removed", &mut removed)?;
    }

    let there: BTreeSet<String> = truth::settled()
        .await?
        .iter()
        .map(|handle| handle.name().to_owned())
        .collect();
    println!("{created:?} created, {removed:?} removed, {there:?} there");
    // Those whose records come and go by a create and a remove alone.
    for name in (0..NAMES)
        .step_by(2)
        .map(|number| format!("crowd-{number}"))
    {
        let of = |counts: &Counts| counts.get(&name).copied().unwrap_or_default();
        let (created, removed) = (of(&created), of(&removed));
        if there.contains(&name) {
            ensure!(created > 0, "{name} is there, and nobody made it");
        } else {
            ensure!(created <= removed, "{name} was lost");
        }
    }
    truth::emptied().await
}

#[tokio::test]
async fn eight_programs_share_twenty_sandboxes() -> Result<()> {
    crowd(OPS).await
}

/// `cargo xtask soak life_many::soak_crowd --seconds N`, N being only how long it may take.
#[tokio::test]
#[ignore = "takes long"]
async fn soak_crowd() -> Result<()> {
    crowd(SOAK_OPS).await
}

/// So many sandboxes at once.
async fn at_once(count: usize) -> Result<()> {
    let fixture = Fixture::new()?;
    let names: Vec<String> = (0..count).map(|number| format!("many-{number}")).collect();
    stream::iter(&names)
        .map(async |name| -> Result<()> {
            Sandbox::builder(name)
                .image(fixture.disk_of(name)?)
                .memory(64u32)
                .create_detached()
                .await
                .with_context(|| format!("cannot create {name}"))?;
            Ok(())
        })
        .buffer_unordered(AT_A_TIME)
        .try_collect::<()>()
        .await?;
    println!("{count} run");

    stream::iter(&names)
        .map(async |name| -> Result<()> {
            let sandbox = Sandbox::get(name).await?.connect().await?;
            let output = sandbox
                .exec("hostname", [""; 0])
                .await
                .with_context(|| format!("{name} does not answer"))?;
            ensure!(output.stdout()?.trim() == name, "{name} said {output:?}");
            Ok(())
        })
        .buffer_unordered(AT_A_TIME)
        .try_collect::<()>()
        .await?;
    println!("{count} answer");

    let all_are = |handles: &[microsandbox::sandbox::SandboxHandle], status| {
        let listed: BTreeSet<&str> = handles.iter().map(|handle| handle.name()).collect();
        ensure!(
            handles.len() == count && names.iter().all(|name| listed.contains(name.as_str())),
            "{listed:?}"
        );
        ensure!(
            handles
                .iter()
                .all(|handle| handle.status_snapshot() == status),
            "not all are {status}: {handles:?}"
        );
        Ok(())
    };
    all_are(&truth::settled().await?, SandboxStatus::Running)?;
    truth::stopped().await?;
    all_are(&truth::settled().await?, SandboxStatus::Stopped)?;
    truth::emptied().await
}

#[tokio::test]
async fn six_at_once_all_answer() -> Result<()> {
    at_once(6).await
}

/// `cargo xtask soak life_many::soak_fifty --seconds N`, N being only how long it may take.
#[tokio::test]
#[ignore = "takes 50 sandboxes' memory"]
async fn soak_fifty() -> Result<()> {
    at_once(50).await
}
