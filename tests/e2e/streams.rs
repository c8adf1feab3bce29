//! Bytes in and out, in bulk and under pressure.

use anyhow::Result;
use futures::future::try_join_all;
use microsandbox::{ExecEvent, Exit, Sandbox};
use msb_tests::bulk::hex;
use msb_tests::{Fixture, within};
use sha2::{Digest, Sha256};

const MIB: usize = 1 << 20;
const BULK: usize = 64 * MIB;

/// Bytes that no two places share, cheap to make.
fn pattern(offset: usize, length: usize) -> Vec<u8> {
    (offset / 8..(offset + length) / 8)
        .flat_map(|word| (word as u64).to_le_bytes())
        .collect()
}

#[tokio::test]
async fn sixty_four_mebibytes_through_stdout() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.builder("stdout")?.memory(256u32).create().await?;
    sandbox
        .shell("mount -t tmpfs tmpfs /tmp; head -c 67108864 /dev/urandom > /tmp/data")
        .await?;
    let expected = sandbox.shell("sha256sum < /tmp/data").await?.stdout()?;

    let mut handle = sandbox.exec_stream("cat", ["/tmp/data"]).await?;
    let (mut digest, mut total) = (Sha256::new(), 0);
    while let Some(event) = within(handle.recv()).await {
        match event {
            ExecEvent::Stdout(bytes) => {
                total += bytes.len();
                digest.update(&bytes);
            }
            ExecEvent::Exited { code } => assert_eq!(code, 0),
            ExecEvent::Started { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(total, BULK);
    assert_eq!(hex(digest.finalize()), expected.split(' ').next().unwrap());
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn sixty_four_mebibytes_through_stdin() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("stdin").await?;
    let mut handle = sandbox
        .exec_stream_with("sha256sum", |o| o.stdin_pipe())
        .await?;
    let stdin = handle.take_stdin().unwrap();
    let mut digest = Sha256::new();
    for offset in (0..BULK).step_by(MIB) {
        let chunk = pattern(offset, MIB);
        digest.update(&chunk);
        within(stdin.write(&chunk)).await?;
    }
    stdin.close().await?;
    let output = within(handle.collect()).await?;
    assert_eq!(
        output.stdout()?.split(' ').next().unwrap(),
        hex(digest.finalize())
    );
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn bytes_of_any_size_go_in_and_come_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("echo").await?;
    for length in [0, 8, 65_536, 5 * MIB] {
        let bytes = pattern(0, length);
        let output = within(sandbox.exec_with("cat", |o| o.stdin_bytes(bytes.clone()))).await?;
        assert_eq!(output.stdout_bytes().len(), length);
        assert!(
            output.stdout_bytes() == &bytes,
            "{length} bytes came back changed"
        );
    }
    // Null is /dev/null: the end of the input, at once.
    let output = within(sandbox.exec("cat", [""; 0])).await?;
    assert!(output.status().success);
    assert!(output.stdout_bytes().is_empty());
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_command_that_never_reads_holds_nobody_up() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("deaf").await?;
    let mut deaf = sandbox
        .exec_stream_with("sleep", |o| o.arg("9999").stdin_pipe())
        .await?;
    let stdin = deaf.take_stdin().unwrap();
    let writer = tokio::spawn(async move { stdin.write(vec![0; 4 * MIB]).await });

    for i in 0..20 {
        let output = within(sandbox.exec("echo", [i.to_string()])).await?;
        assert_eq!(output.stdout()?, format!("{i}\n"));
    }
    assert!(!writer.is_finished(), "nobody has read what was written");
    // A signal still gets through on the same connection.
    deaf.signal(15).await?;
    within(deaf.wait()).await?;
    assert_eq!(deaf.exit(), Some(Exit::Signal(15)));
    assert!(within(writer).await?.is_err(), "the rest had nowhere to go");
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_program_that_never_reads_holds_nobody_up() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("unread").await?;
    let unread = sandbox.exec_stream("cat", ["/dev/zero"]).await?;
    for i in 0..20 {
        let output = within(sandbox.exec("echo", [i.to_string()])).await?;
        assert_eq!(output.stdout()?, format!("{i}\n"));
    }
    drop(unread);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test]
async fn output_comes_while_the_command_runs() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("live").await?;
    let mut handle = sandbox.exec_stream_with("cat", |o| o.stdin_pipe()).await?;
    let stdin = handle.take_stdin().unwrap();
    assert!(matches!(within(handle.recv()).await, Some(ExecEvent::Started { pid }) if pid > 1));
    for word in ["one", "two", "three"] {
        // Each answer arrives before the next question is put.
        stdin.write(word).await?;
        let Some(ExecEvent::Stdout(bytes)) = within(handle.recv()).await else {
            panic!("no answer to {word}");
        };
        assert_eq!(bytes, word);
    }
    stdin.close().await?;
    assert!(within(handle.wait()).await?.success);
    sandbox.stop().await?;
    Ok(())
}

/// Sends `length` bytes of its own through a command and back.
async fn echo(sandbox: &Sandbox, i: usize, length: usize) -> Result<()> {
    let bytes = pattern(i * length, length);
    let output = within(sandbox.exec_with("cat", |o| o.stdin_bytes(bytes.clone()))).await?;
    assert!(
        output.stdout_bytes() == &bytes,
        "echo {i} came back changed"
    );
    Ok(())
}

#[tokio::test]
async fn many_streams_at_once_do_not_mix() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.builder("mix")?.memory(256u32).create().await?;
    try_join_all((0..48).map(|i| echo(&sandbox, i, MIB))).await?;
    sandbox.stop().await?;
    Ok(())
}

/// `cargo xtask soak streams::soak --seconds N`
#[tokio::test]
#[ignore = "runs for as long as MSB_SOAK_SECONDS says"]
async fn soak() -> Result<()> {
    let seconds = std::env::var("MSB_SOAK_SECONDS")?.parse()?;
    let started = std::time::Instant::now();
    let fixture = Fixture::new()?;
    let sandbox = fixture
        .builder("soak")?
        .cpus(2)
        .memory(1024u32)
        .create()
        .await?;
    let mut rounds = 0;
    while started.elapsed() < std::time::Duration::from_secs(seconds) {
        try_join_all((0..100).map(|i| echo(&sandbox, i, MIB))).await?;
        rounds += 1;
    }
    println!("{rounds} rounds of 100 streams");
    sandbox.stop().await?;
    Ok(())
}
