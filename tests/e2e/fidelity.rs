//! What goes into a guest is what was sent, and what comes out is what was there, whatever the amount; and
//! no process on the way holds more of it than its buffers.
//!
//! One file makes the rounds: it is written from the host, read back, and printed by a command; as
//! much again goes to a command's standard input. What the guest has, the guest's own `sha256sum` says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use microsandbox::{ExecEvent, Sandbox};
use msb_tests::bulk::{Check, Source};
use msb_tests::memory::grown_by;
use msb_tests::{Fixture, in_time, soak, within};

const MIB: u64 = 1 << 20;

/// The file in the guest.
const FILE: &str = "/root/bulk";

/// By how much less than so many MiB each process may grow.
const LIMIT_MIB: f64 = 32.0;

/// How long the guest may take for a checksum of the most that it is given here.
const COUNTING: Duration = Duration::from_secs(1800);

/// So many MiB each way.
async fn each_way(mebibytes: u32) -> Result<()> {
    let seed = soak::seed()?;
    println!("MSB_TEST_SEED={seed}");
    let length = u64::from(mebibytes) * MIB;
    // Little more than the file takes, so that its blocks can lie in no more places than that.
    let fixture = Fixture::with_disk(mebibytes + mebibytes / 8 + 48)?;
    let sandbox = fixture.sandbox("fidelity").await?;

    let sent = measured(&sandbox, "a file written", write(&sandbox, seed, length)).await?;
    let kept = sandbox.shell(format!("sha256sum < {FILE}"));
    let kept = sum(&in_time(COUNTING, kept).await?.stdout()?)?;
    ensure!(
        kept == sent,
        "the file that was written has {kept}, and was {sent}"
    );

    let read = measured(&sandbox, "a file read", read(&sandbox, seed, length)).await?;
    ensure!(
        read == kept,
        "the file that was read has {read}, not {kept}"
    );

    let printed = measured(&sandbox, "standard output", print(&sandbox, seed, length)).await?;
    ensure!(printed == kept, "the output has {printed}, not {kept}");

    let other = seed.wrapping_add(1);
    let (sent, heard) = measured(&sandbox, "standard input", tell(&sandbox, other, length)).await?;
    ensure!(
        sent == heard,
        "the input was {sent}, and arrived as {heard}"
    );
    within(sandbox.stop()).await?;
    Ok(())
}

/// Does it, says what memory it took, and fails if that was too much.
async fn measured<T>(
    sandbox: &Sandbox,
    what: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let (done, growth) = grown_by(sandbox, work)
        .await
        .with_context(|| what.to_owned())?;
    println!("{what}: {growth}");
    growth
        .ensure_below(LIMIT_MIB)
        .with_context(|| what.to_owned())?;
    Ok(done)
}

/// The checksum in what `sha256sum` says.
fn sum(said: &str) -> Result<String> {
    let sum = said.split(' ').next().unwrap_or_default();
    ensure!(sum.len() == 64, "this is no checksum: {said:?}");
    Ok(sum.to_owned())
}

/// Writes the file. The checksum of what was sent.
async fn write(sandbox: &Sandbox, seed: u64, length: u64) -> Result<String> {
    let mut source = Source::new(seed, length);
    let file = sandbox.fs().write_stream(FILE).await?;
    while let Some(piece) = source.piece() {
        within(file.write(piece)).await?;
    }
    within(file.close()).await?;
    Ok(source.sum())
}

/// Reads the file. The checksum of what arrived.
async fn read(sandbox: &Sandbox, seed: u64, length: u64) -> Result<String> {
    let mut check = Check::new(seed, length);
    let mut file = sandbox.fs().read_stream(FILE).await?;
    while let Some(piece) = within(file.recv()).await? {
        check.take(&piece)?;
    }
    check.finish()
}

/// Has a command print the file. The checksum of what arrived.
async fn print(sandbox: &Sandbox, seed: u64, length: u64) -> Result<String> {
    let mut check = Check::new(seed, length);
    let mut command = sandbox.exec_stream("cat", [FILE]).await?;
    while let Some(event) = within(command.recv()).await {
        match event {
            ExecEvent::Stdout(bytes) => check.take(&bytes)?,
            ExecEvent::Started { .. } | ExecEvent::Exited { code: 0 } => {}
            other => anyhow::bail!("after {} bytes came {other:?}", check.seen()),
        }
    }
    check.finish()
}

/// Gives a command its standard input. The checksum of what was sent, and the command's own.
async fn tell(sandbox: &Sandbox, seed: u64, length: u64) -> Result<(String, String)> {
    let mut source = Source::new(seed, length);
    let command = sandbox.exec_stream_with("sha256sum", |options| options.stdin_pipe());
    let mut command = command.await?;
    let stdin = command.take_stdin().context("its input is a pipe")?;
    while let Some(piece) = source.piece() {
        within(stdin.write(piece)).await?;
    }
    stdin.close().await?;
    let output = within(command.collect()).await?;
    ensure!(output.status().success, "{output:?}");
    Ok((source.sum(), sum(&output.stdout()?)?))
}

#[tokio::test]
async fn forty_eight_mebibytes_each_way_are_the_same_on_both_sides() -> Result<()> {
    each_way(48).await
}

/// `cargo xtask soak fidelity::soak_gibibyte --seconds 7200`, which is only how long it may take. The
/// disk takes a good GiB of what /tmp holds.
#[tokio::test]
#[ignore = "takes long, and a GiB of /tmp"]
async fn soak_gibibyte() -> Result<()> {
    each_way(1024).await
}

/// What the rest of this file relies on.
#[test]
fn a_check_finds_a_byte_that_is_wrong_missing_or_too_much() -> Result<()> {
    let length = 2 * MIB + 777;
    let mut source = Source::new(7, length);
    let mut all = Vec::new();
    while let Some(piece) = source.piece() {
        all.extend(piece);
    }
    let heard = |bytes: &[u8]| -> Result<String> {
        let mut check = Check::new(7, length);
        // In pieces that are not those that it was made in.
        for piece in bytes.chunks(65_535) {
            check.take(piece)?;
        }
        check.finish()
    };
    assert_eq!(heard(&all)?, source.sum());
    let says = |bytes: &[u8], what: &str| {
        let error = heard(bytes).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    says(&all[..all.len() - 1], "2097928 of 2097929 bytes");
    says(&[&all[..], b"x"].concat(), "after the end");
    says(&[&all[..5], &all[6..], b"x"].concat(), "byte 5 ");
    all[1_500_000] ^= 1;
    says(&all, "byte 1500000 ");
    Ok(())
}
