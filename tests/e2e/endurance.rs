//! A conversation that goes on and on: many commands at once, many one after the other, many that
//! nobody waits for, and one that changes hands again and again. Each says its own, and nothing builds up.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use microsandbox::{ExecEvent, ExecHandle, Exit, Sandbox, SessionState};
use msb_tests::bulk::{Check, Source};
use msb_tests::holdings::Holdings;
use msb_tests::sessions::{attach, not_found, over, session};
use msb_tests::{Fixture, agent, soak, within};

/// Commands that run at once.
const AT_ONCE: u32 = 200;

/// And so many of them are started at once.
const STARTING: usize = 32;

/// Lines of each.
const LINES: u32 = 50;

/// One command of many: it says that it is there, waits for the gate, and speaks of itself.
async fn arrive(sandbox: &Sandbox, i: u32) -> Result<ExecHandle> {
    let script = format!(
        "echo {i}; : < /tmp/gate; j=0; while [ $j -lt {LINES} ]; do echo {i}.$j; j=$((j+1)); done
         echo error {i} >&2; exit {}",
        i % 256
    );
    let mut handle = within(sandbox.shell_stream(script)).await?;
    let started = within(handle.recv()).await;
    ensure!(
        matches!(started, Some(ExecEvent::Started { .. })),
        "{started:?}"
    );
    let first = within(handle.recv()).await;
    let own = format!("{i}\n");
    ensure!(
        matches!(&first, Some(ExecEvent::Stdout(bytes)) if *bytes == own),
        "command {i} began with {first:?}"
    );
    Ok(handle)
}

/// The rest of it.
async fn depart(i: u32, mut handle: ExecHandle) -> Result<()> {
    let output = within(handle.collect()).await?;
    let lines: String = (0..LINES).map(|j| format!("{i}.{j}\n")).collect();
    ensure!(
        output.stdout()? == lines,
        "command {i} went on with {output:?}"
    );
    ensure!(
        output.stderr()? == format!("error {i}\n"),
        "command {i}: {output:?}"
    );
    let code = i32::try_from(i % 256)?;
    ensure!(output.exit() == Exit::Code(code), "command {i}: {output:?}");
    Ok(())
}

#[tokio::test]
async fn two_hundred_commands_run_at_once_beside_one_that_nobody_reads() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.builder("at-once")?.memory(512u32).create().await?;
    sandbox.shell("mkfifo /tmp/gate").await?;
    let unread = sandbox.exec_stream("cat", ["/dev/zero"]).await?;
    let handles: Vec<ExecHandle> = stream::iter(0..AT_ONCE)
        .map(|i| arrive(&sandbox, i))
        .buffered(STARTING)
        .try_collect()
        .await?;

    // All of them are there, and none can go: whoever opens the gate to read waits for one to write.
    let listed = within(sandbox.sessions()).await?;
    let waiting = listed.iter().filter(|session| {
        session.state == SessionState::Running && session.command.contains("/tmp/gate")
    });
    assert_eq!(waiting.count(), handles.len());
    let script = "exec 3> /tmp/gate; read line";
    let gate = sandbox.shell_stream_with(script, |options| options.stdin_pipe());
    let gate = within(gate).await?;
    let all = (0..).zip(handles);
    try_join_all(all.map(|(i, handle)| depart(i, handle))).await?;

    // Who is not read stands where it stood.
    let still = session(&sandbox, &unread.id()).await?;
    assert!(
        still.is_some_and(|session| session.state == SessionState::Running),
        "it ended"
    );
    drop((unread, gate));
    within(sandbox.stop()).await?;
    Ok(())
}

/// Commands of the soak, and those after which nothing may grow any more.
const IN_A_ROW: u32 = 10_000;
const SETTLED: u32 = 500;

/// `cargo xtask soak endurance::soak_ten_thousand_commands --seconds 7200`, which is only how long it may
/// take.
#[tokio::test]
#[ignore = "takes long"]
async fn soak_ten_thousand_commands() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("ten-thousand").await?;
    let mut before = None;
    for i in 0..IN_A_ROW {
        if i == SETTLED {
            let held = Holdings::of(&sandbox).await?;
            println!("after {i} commands: {held}");
            before = Some(held);
        }
        let code = i % 256;
        let script = format!("echo {i}; echo error {i} >&2; exit {code}");
        let output = within(sandbox.shell(script)).await?;
        ensure!(
            output.stdout()? == format!("{i}\n")
                && output.stderr()? == format!("error {i}\n")
                && output.exit() == Exit::Code(i32::try_from(code)?),
            "command {i}: {output:?}"
        );
    }
    let before = before.context("there were enough commands")?;
    let after = before.again(&sandbox, 1.0).await?;
    println!("after {IN_A_ROW} commands: {after}");
    within(sandbox.stop()).await?;
    Ok(())
}

/// Sessions of the soak.
const SESSIONS: usize = 2_000;

/// Sessions that end without anybody are kept, but no more than these.
const KEPT: usize = 256;

/// What each says, in bytes: 256 times that is four times what the guest keeps of all together.
const SAID: usize = 256 << 10;

/// What the guest keeps of all sessions' output, and what that may cost beside its bytes, in MiB.
const KEPT_MIB: f64 = 16.0;
const BESIDE_MIB: f64 = 16.0;

/// What the agent's memory may vary by once that is full, in MiB: the pieces are of other sizes each time.
const VARIES_MIB: f64 = 8.0;

/// Starts a command that says its number again and again, and leaves it alone.
async fn leave(sandbox: &Sandbox, i: usize) -> Result<String> {
    let script = format!("yes {i} 2> /dev/null | head -c {SAID}");
    let handle = within(sandbox.shell_stream(script)).await?;
    let id = handle.id();
    within(handle.detach()).await?;
    Ok(id)
}

/// Collects it: what is kept of it is its end, and what is missing is counted.
async fn collect(sandbox: &Sandbox, i: usize, id: &str) -> Result<()> {
    let mut handle = attach(sandbox, id).await?;
    let output = within(handle.collect()).await?;
    ensure!(output.status().success, "session {i}: {:?}", output.exit());
    let kept = output.stdout_bytes();
    let missing = usize::try_from(handle.dropped_bytes())?;
    ensure!(
        kept.len() + missing == SAID,
        "session {i}: {} bytes are kept, and {missing} missing",
        kept.len()
    );
    let line = format!("{i}\n");
    let expected = line.bytes().cycle().skip(missing % line.len());
    ensure!(
        expected.zip(kept.iter()).all(|(want, is)| want == *is),
        "session {i} has the words of another"
    );
    not_found(sandbox.attach_session(id).await, id)
}

/// `cargo xtask soak endurance::soak_two_thousand_sessions --seconds 7200`, which is only how long it may
/// take.
#[tokio::test]
#[ignore = "takes long"]
async fn soak_two_thousand_sessions() -> Result<()> {
    const BATCH: usize = 50;
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("two-thousand").await?;
    let empty = agent::begin_peak(&sandbox).await?;
    let mut before = None;
    let mut kept = Vec::new();
    for first in (0..SESSIONS).step_by(BATCH) {
        let mut ids = Vec::new();
        for i in first..first + BATCH {
            ids.push((i, leave(&sandbox, i).await?));
        }
        // One in three is collected, whether it runs or has ended; the others end, and are kept.
        for (i, id) in ids {
            if i % 3 == 0 {
                collect(&sandbox, i, &id).await?;
            } else {
                over(&sandbox, &id).await?;
                kept.push((i, id));
            }
        }
        let held = Holdings::of(&sandbox).await?;
        println!("after {} sessions: {held}", first + BATCH);
        // By now more have been kept than are.
        if before.is_none() && kept.len() > KEPT {
            before = Some(held);
        }
    }
    let before = before.context("there were enough sessions")?;
    before.again(&sandbox, VARIES_MIB).await?;
    let most = agent::usage(&sandbox).await?.peak_mib - empty;
    println!("agent: {most:.2} MiB at the most");
    assert!(
        most < KEPT_MIB + BESIDE_MIB,
        "the agent took {most:.2} MiB for what it keeps"
    );

    // The newest are still to be had, and nobody else. One that had ended before it was collected was
    // kept until then, and an older one had to go for it: as many of the last batch as were collected.
    let listed = within(sandbox.sessions()).await?;
    let ended = listed.iter().filter(|session| {
        session.state == SessionState::Exited && session.command.contains("head -c")
    });
    let there = ended.count();
    ensure!(
        (KEPT - BATCH..=KEPT).contains(&there),
        "{there} sessions are kept"
    );
    let gone = kept.len() - there;
    for (n, (i, id)) in kept.iter().enumerate() {
        if n < gone {
            not_found(sandbox.attach_session(id).await, id)?;
        } else {
            collect(&sandbox, *i, id).await?;
        }
    }
    within(sandbox.stop()).await?;
    Ok(())
}

/// How often the command changes hands.
const HANDS: u64 = 100;

/// What it says whenever it is asked to, in bytes.
const ANSWER: u64 = 256 << 10;

/// How many answers may be on their way: the guest keeps 1 MiB of a session that nobody reads, so
/// nothing of this has to go.
const UNREAD: u64 = 3;

/// A command that prints a file a piece at a time, and is asked for each.
struct Asked {
    answers: u64,
    check: Check,
}

impl Asked {
    /// Asks for so many answers more, as far as there are any and nobody is late.
    async fn ask(&mut self, handle: &AskedHandle, answers: u64) -> Result<()> {
        for _ in 0..answers {
            let unread = self.answers * ANSWER - self.check.seen();
            if self.answers == HANDS || unread + ANSWER > UNREAD * ANSWER {
                break;
            }
            within(handle.stdin.write("go\n")).await?;
            self.answers += 1;
        }
        Ok(())
    }

    /// Reads until so many bytes have come in all, or a little more.
    async fn read(&mut self, handle: &mut AskedHandle, seen: u64) -> Result<()> {
        while self.check.seen() < seen {
            match within(handle.handle.recv()).await {
                Some(ExecEvent::Started { .. }) => {}
                Some(ExecEvent::Stdout(bytes)) => self.check.take(&bytes)?,
                other => anyhow::bail!("after {} bytes came {other:?}", self.check.seen()),
            }
        }
        ensure!(handle.handle.dropped_bytes() == 0, "something was dropped");
        Ok(())
    }
}

/// It, in somebody's hands.
struct AskedHandle {
    handle: ExecHandle,
    stdin: microsandbox::ExecSink,
}

impl AskedHandle {
    fn new(mut handle: ExecHandle) -> Result<Self> {
        let stdin = handle.take_stdin().context("its input is open")?;
        Ok(Self { handle, stdin })
    }
}

#[tokio::test]
async fn a_command_changes_hands_a_hundred_times_and_no_byte_is_lost_or_doubled() -> Result<()> {
    let seed = soak::seed()?;
    println!("MSB_TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let fixture = Fixture::with_disk(96)?;
    let sandbox = fixture.sandbox("hands").await?;
    let mut source = Source::new(seed, HANDS * ANSWER);
    let file = sandbox.fs().write_stream("/root/said").await?;
    while let Some(piece) = source.piece() {
        within(file.write(piece)).await?;
    }
    within(file.close()).await?;
    let there = within(sandbox.shell("sha256sum < /root/said")).await?;
    let sum = source.sum();
    assert!(there.stdout()?.starts_with(&sum), "{there:?} is not {sum}");

    let blocks = ANSWER / 65_536;
    let script = format!(
        "exec 3< /root/said; while read go; do dd bs=65536 count={blocks} <&3 2> /dev/null; done"
    );
    let command = sandbox.shell_stream_with(script, |options| options.stdin_pipe());
    let mut held = AskedHandle::new(within(command).await?)?;
    let id = held.handle.id();
    let mut asked = Asked {
        answers: 0,
        check: Check::new(seed, HANDS * ANSWER),
    };
    for _ in 0..HANDS {
        let seen = random.u64(asked.check.seen()..=asked.answers * ANSWER);
        asked.read(&mut held, seen).await?;
        // What is asked for last is said while nobody is there.
        asked.ask(&held, random.u64(0..=2)).await?;
        within(held.handle.detach()).await?;
        held = AskedHandle::new(attach(&sandbox, &id).await?)?;
    }
    while asked.check.seen() < HANDS * ANSWER {
        asked.ask(&held, 1).await?;
        let all = asked.answers * ANSWER;
        asked.read(&mut held, all).await?;
    }
    held.stdin.close().await?;
    let mut rest = held.handle;
    let last = within(rest.collect()).await?;
    // Not a byte more, and a good end.
    assert!(
        last.stdout_bytes().is_empty() && last.stderr_bytes().is_empty(),
        "{last:?}"
    );
    assert_eq!((last.exit(), rest.dropped_bytes()), (Exit::Code(0), 0));
    assert_eq!(asked.check.finish()?, sum);
    within(sandbox.stop()).await?;
    Ok(())
}
