//! Pausing and resuming real guests, over the control socket of a VMM that stands alone.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use msb_tests::{Fixture, PATIENCE, within};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType, connect, recv, send, socket,
    sockopt,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixListener;
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::{KILLED, POWER_OFF, initramfs, kernel, variable, vmm};

/// How long nothing may happen to say that nothing happens.
const A_WHILE: Duration = Duration::from_secs(2);

struct Machine {
    child: Child,
    input: ChildStdin,
    console: Lines<BufReader<ChildStdout>>,
    control: OwnedFd,
    next_id: u64,
    /// Events that came before a reply.
    events: Vec<Value>,
}

impl Machine {
    /// Boots `script` with further arguments, and waits until it has said `up`.
    async fn boot(fixture: &Fixture, script: &str, args: &[&str]) -> Result<Self> {
        let path = fixture.path().join("control.sock");
        let mut command = vmm(["--console", "stdio", "--memory", "128M"])?;
        command.arg("--kernel").arg(kernel()?);
        command.arg("--control").arg(&path);
        command
            .arg("--initrd")
            .arg(initramfs(fixture.path(), script)?);
        let mut child = command
            .args(args)
            .stdin(std::process::Stdio::piped())
            .spawn()?;
        let mut console = BufReader::new(child.stdout.take().context("piped")?).lines();
        while let Some(line) = within(console.next_line()).await? {
            if line.contains("up") {
                return Ok(Self {
                    input: child.stdin.take().context("piped")?,
                    child,
                    console,
                    control: dial(&path)?,
                    next_id: 1,
                    events: Vec::new(),
                });
            }
        }
        bail!("the machine did not come up")
    }

    /// The reply to a request.
    fn ask(&mut self, request: &str) -> Result<Value> {
        let id = self.next_id;
        self.next_id += 1;
        let datagram = json!({"id": id, "request": request}).to_string();
        send(&self.control, datagram.as_bytes(), SendFlags::NOSIGNAL)?;
        loop {
            let message = self.hear()?;
            if message["reply"]["id"] == id {
                return Ok(message["reply"]["reply"].clone());
            }
            self.events.push(message["event"].clone());
        }
    }

    fn hear(&self) -> Result<Value> {
        let mut buffer = vec![0; 65_536];
        let (_, length) = recv(&self.control, &mut buffer, RecvFlags::empty())?;
        Ok(serde_json::from_slice(&buffer[..length])?)
    }

    fn pause(&mut self) -> Result<()> {
        assert_eq!(self.ask("pause")?, "done");
        assert_eq!(std::mem::take(&mut self.events), ["paused"]);
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        assert_eq!(self.ask("resume")?, "done");
        assert_eq!(std::mem::take(&mut self.events), ["resumed"]);
        Ok(())
    }

    fn counters(&mut self) -> Result<Value> {
        Ok(self.ask("counters")?["counters"].clone())
    }

    /// Waits until the counters of the paused machine stand still: a thread that said that it is out
    /// of the guest falls asleep after that.
    async fn settled_counters(&mut self) -> Result<Value> {
        let end = Instant::now() + PATIENCE;
        let mut last = self.counters()?;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = self.counters()?;
            if now == last {
                return Ok(now);
            }
            ensure!(Instant::now() < end, "a paused machine works");
            last = now;
        }
    }

    /// The next line of the console.
    async fn line(&mut self) -> Result<String> {
        within(self.console.next_line())
            .await?
            .context("the machine ended")
    }

    /// Reads the console until nothing has come for a while; how many lines came before.
    async fn lines_until_silent(&mut self) -> Result<usize> {
        let end = Instant::now() + PATIENCE;
        let mut lines = 0;
        while let Ok(line) = tokio::time::timeout(A_WHILE, self.console.next_line()).await {
            line?.context("the machine ended")?;
            ensure!(Instant::now() < end, "a paused machine talks");
            lines += 1;
        }
        Ok(lines)
    }

    /// User and system time of the whole VMM, in ticks.
    fn cpu_ticks(&self) -> Result<u64> {
        let pid = self.child.id().context("it runs")?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(") ").context("a name")?;
        let field = |n: usize| -> Result<u64> {
            Ok(fields.split(' ').nth(n).context("too short")?.parse()?)
        };
        Ok(field(11)? + field(12)?)
    }

    async fn exit_code(&mut self) -> Result<Option<i32>> {
        Ok(within(self.child.wait()).await?.code())
    }
}

fn dial(path: &Path) -> Result<OwnedFd> {
    let control = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    connect(&control, &SocketAddrUnix::new(path)?)?;
    sockopt::set_socket_timeout(&control, sockopt::Timeout::Recv, Some(PATIENCE))?;
    Ok(control)
}

#[tokio::test]
async fn a_paused_guest_says_nothing_and_uses_no_cpu_time() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "echo up; i=0; while :; do echo tick $i; i=$((i+1)); done";
    let mut machine = Machine::boot(&fixture, script, &[]).await?;
    for _ in 0..3 {
        machine.line().await?;
        machine.pause()?;
        assert_eq!(machine.ask("state")?, json!({"state": "paused"}));
        assert_eq!(machine.ask("pause")?, "done");
        assert!(machine.events.is_empty(), "{:?}", machine.events);
        // What it said before is still on its way.
        machine.lines_until_silent().await?;
        let counters = machine.settled_counters().await?;
        let ticks = machine.cpu_ticks()?;
        assert_eq!(machine.lines_until_silent().await?, 0);
        assert_eq!(machine.cpu_ticks()?, ticks);
        assert_eq!(machine.counters()?, counters);

        machine.resume()?;
        assert_eq!(machine.ask("state")?, json!({"state": "running"}));
        assert!(machine.line().await?.starts_with("tick"));
        while machine.counters()?["vcpu_time_ns"] == counters["vcpu_time_ns"] {
            machine.line().await?;
        }
    }
    machine.ask("kill")?;
    assert_eq!(machine.exit_code().await?, Some(KILLED));
    Ok(())
}

/// The guest's clocks: seconds since 1970, and since its boot.
async fn clocks(machine: &mut Machine) -> Result<(f64, f64)> {
    machine.input.write_all(b"now?\n").await?;
    let line = machine.line().await?;
    let mut words = line.split(' ');
    let mut next = || -> Result<f64> {
        let word = words.next().context("two numbers")?;
        word.trim().parse().with_context(|| line.clone())
    };
    Ok((next()?, next()?))
}

fn host_clock() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

#[tokio::test]
async fn the_clocks_are_right_after_a_pause() -> Result<()> {
    /// The pause is longer by far than what the clocks may be wrong by.
    const PAUSE: Duration = Duration::from_secs(15);
    const WRONG: f64 = 5.0;
    let fixture = Fixture::new()?;
    let script = "echo up
        while read line; do echo $(date +%s) $(cut -d ' ' -f 1 /proc/uptime); done";
    let mut machine = Machine::boot(&fixture, script, &[]).await?;

    let begun = host_clock()?;
    let (date, uptime) = clocks(&mut machine).await?;
    let asked = host_clock()?;
    assert!(
        date > begun - WRONG && date < asked + WRONG,
        "{begun} {date} {asked}"
    );

    machine.pause()?;
    tokio::time::sleep(PAUSE).await;
    machine.resume()?;

    let asked_again = host_clock()?;
    let (date_again, uptime_again) = clocks(&mut machine).await?;
    let answered = host_clock()?;
    assert!(
        date_again > asked_again - WRONG && date_again < answered + WRONG,
        "{asked_again} {date_again} {answered}"
    );
    let passed = uptime_again - uptime;
    assert!(
        passed > asked_again - asked - WRONG && passed < answered - begun + WRONG,
        "{passed} of {asked} {asked_again}"
    );
    machine.ask("kill")?;
    assert_eq!(machine.exit_code().await?, Some(KILLED));
    Ok(())
}

#[tokio::test]
async fn twenty_pauses_under_disk_io_harm_no_byte() -> Result<()> {
    let fixture = Fixture::new()?;
    let disk = fixture.path().join("disk");
    fs::File::create(&disk)?.set_len(8 << 20)?;
    let script = r#"
        ( read line < /dev/hvc0; touch /stop ) &
        echo up
        n=0
        until [ -e /stop ]; do
            at=$((n % 8 * 16))
            head -c 1048576 /dev/urandom > /data
            want=$(sha256sum < /data)
            dd if=/data of=/dev/vda bs=64k seek=$at conv=fsync,notrunc 2>/dev/null || echo BAD write
            echo 3 > /proc/sys/vm/drop_caches
            got=$(dd if=/dev/vda bs=64k skip=$at count=16 2>/dev/null | sha256sum)
            [ "$want" = "$got" ] || echo BAD $n
            n=$((n + 1))
        done
        echo rounds=$n sum=$(sha256sum < /dev/vda)
        poweroff -f"#;
    let path = disk.to_str().context("a temporary path")?;
    let mut machine = Machine::boot(&fixture, script, &["--disk", path]).await?;
    let written = |counters: &Value| counters["disks"][0]["write_bytes"].as_u64().unwrap_or(0);
    for cycle in 0..20 {
        // Wherever the guest is in its round, it has written since the last time.
        let before = written(&machine.counters()?);
        let end = Instant::now() + PATIENCE;
        while written(&machine.counters()?) <= before {
            ensure!(Instant::now() < end, "cycle {cycle}: no disk I/O");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        machine.pause()?;
        machine.settled_counters().await?;
        machine.resume()?;
    }
    let counters = machine.counters()?;
    machine.input.write_all(b"enough\n").await?;
    let mut console = String::new();
    while let Some(line) = within(machine.console.next_line()).await? {
        console.push_str(&line);
        console.push('\n');
    }
    assert_eq!(machine.exit_code().await?, Some(POWER_OFF), "{console}");
    assert!(!console.contains("BAD"), "{console}");
    let sum = console
        .split("sum=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .with_context(|| console.clone())?;
    let digest = <sha2::Sha256 as sha2::Digest>::digest(fs::read(&disk)?);
    let ours: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(ours, sum);
    // It was the disk that was read, and made to keep what was written.
    let counted = |name: &str| counters["disks"][0][name].as_u64().unwrap_or(0);
    for name in ["read_bytes", "read_ops", "write_ops", "flushes"] {
        assert!(counted(name) > 0, "{name}: {counters}");
    }
    assert!(counted("write_bytes") >= 20 * 4096, "{counters}");
    Ok(())
}

#[tokio::test]
async fn eight_busy_cpus() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "for i in 1 2 3 4 5 6 7 8; do while :; do :; done & done
        echo up; while :; do echo tick; sleep 0.01; done";
    let mut machine = Machine::boot(&fixture, script, &["--cpus", "8"]).await?;
    for _ in 0..10 {
        machine.line().await?;
        machine.pause()?;
        let counters = machine.settled_counters().await?;
        machine.resume()?;
        while machine.counters()?["vcpu_time_ns"] == counters["vcpu_time_ns"] {
            machine.line().await?;
        }
    }
    // All at once, with no time in between for the vCPUs to get anywhere.
    for _ in 0..50 {
        machine.pause()?;
        machine.resume()?;
    }
    machine.line().await?;
    machine.ask("kill")?;
    assert_eq!(machine.exit_code().await?, Some(KILLED));
    Ok(())
}

#[tokio::test]
async fn a_vsock_connection_is_held_back_and_not_dropped() -> Result<()> {
    let fixture = Fixture::new()?;
    let listener = UnixListener::bind(fixture.path().join("vm.sock_1024"))?;
    let path = fixture.path().join("control.sock");
    let mut command = vmm(["--memory", "128M"])?;
    command.arg("--kernel").arg(kernel()?);
    command.arg("--initrd").arg(variable("MSB_INITRAMFS_PATH")?);
    command.arg("--vsock").arg(fixture.path().join("vm.sock"));
    let _vmm = command.arg("--control").arg(&path).spawn()?;
    let (mut stream, _) = within(listener.accept()).await?;
    // The agent's greeting. Then it waits for an answer.
    let mut hello = [0; 8];
    within(stream.read_exact(&mut hello)).await?;

    let control = dial(&path)?;
    let ask = |request: &str| -> Result<()> {
        let datagram = json!({"id": 1, "request": request}).to_string();
        send(&control, datagram.as_bytes(), SendFlags::NOSIGNAL)?;
        let mut buffer = [0; 4096];
        // The event, and then the reply.
        for _ in 0..2 {
            recv(&control, &mut buffer[..], RecvFlags::empty())?;
        }
        Ok(())
    };
    ask("pause")?;
    // No answer that the agent understands: it gives the connection up, when it sees it.
    stream.write_all(&[0xff; 64]).await?;
    let mut byte = [0];
    let early = tokio::time::timeout(A_WHILE, stream.read(&mut byte)).await;
    assert!(early.is_err(), "{early:?} while paused");
    ask("resume")?;
    let _ = within(stream.read(&mut byte)).await;
    Ok(())
}

#[tokio::test]
async fn killed_while_paused() -> Result<()> {
    let fixture = Fixture::new()?;
    for by_signal in [false, true] {
        let mut machine = Machine::boot(&fixture, "echo up; sleep 1000", &[]).await?;
        machine.pause()?;
        if by_signal {
            let pid = machine.child.id().context("it runs")?;
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        } else {
            assert_eq!(machine.ask("kill")?, "done");
        }
        assert_eq!(machine.hear()?, json!({"event": {"ended": "killed"}}));
        assert_eq!(machine.exit_code().await?, Some(KILLED));
        assert!(!fixture.path().join("control.sock").exists());
    }
    Ok(())
}

#[tokio::test]
async fn the_power_button_is_kept_while_paused() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "trap 'echo pressed; poweroff -f' 38; echo up; while :; do sleep 0.1; done";
    let mut machine = Machine::boot(&fixture, script, &[]).await?;
    machine.pause()?;
    for _ in 0..2 {
        assert_eq!(machine.ask("power_button")?, "done");
    }
    machine.lines_until_silent().await?;
    assert_eq!(machine.ask("state")?, json!({"state": "paused"}));
    machine.resume()?;
    assert_eq!(machine.hear()?, json!({"event": {"ended": "power_off"}}));
    assert_eq!(machine.exit_code().await?, Some(POWER_OFF));
    Ok(())
}
