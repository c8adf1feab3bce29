//! A command in a sandbox on a terminal of this side, as its user sees it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use msb_tests::screen::{PROMPT, Screen};
use msb_tests::{Fixture, PATIENCE, host, within};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_msb-test-terminal");

/// Starts a command in a sandbox, on a terminal.
fn attach(fixture: &Fixture, name: &str, command: &[&str], env: &[(&str, &str)]) -> Result<Screen> {
    let disk = fixture.disk()?;
    let mut args = vec![OsStr::new(name), disk.as_os_str()];
    args.extend(command.iter().map(OsStr::new));
    Screen::start(PROGRAM, args, env)
}

#[tokio::test]
async fn a_shell_is_used_as_any_other() -> Result<()> {
    let fixture = Fixture::new()?;
    let mut screen = attach(&fixture, "tty-shell", &["sh"], &[])?;
    screen.shows(PROMPT).await?;
    assert!(screen.is_raw()?);
    screen.answers("echo $((40 + 2))", "42\r\n").await?;
    screen.answers("stty size", "24 80\r\n").await?;
    screen.answers("echo $TERM", "xterm-256color\r\n").await?;
    screen.resize(40, 132)?;
    // The new size arrives when it does, and by a signal.
    screen
        .answers(
            "until [ \"$(stty size)\" = '40 132' ]; do sleep 0.1; done; echo re''sized",
            "resized\r\n",
        )
        .await?;

    // Ctrl-C is for what runs in there, and ends nothing else; so is Ctrl-Z.
    let job = "sh -c 'echo be\"\"gun; exec sleep 1000'";
    screen.starts(job, "begun\r\n").await?;
    screen.type_in("\x03")?;
    screen.shows(PROMPT).await?;
    screen.answers("echo code $?", "code 130\r\n").await?;

    let job = "sh -c 'echo ag\"\"ain; read -r line; exit 5'";
    screen.starts(job, "again\r\n").await?;
    screen.type_in("\x1a")?;
    screen.shows(PROMPT).await?;
    screen.answers("jobs", "Stopped").await?;
    screen.starts("fg", "sh -c").await?;
    screen.type_in("\r")?;
    screen.shows(PROMPT).await?;
    screen.answers("echo code $?", "code 5\r\n").await?;

    screen.type_in("exit 7\r")?;
    assert_eq!(screen.says("code ").await?, "7");
    assert_eq!(screen.ended().await?, 0);
    host::nothing_left().await
}

#[tokio::test]
async fn programs_that_paint_the_screen_work() -> Result<()> {
    let fixture = Fixture::new()?;
    let after = [("MSB_TEST_AFTER", "cat /root/note")];
    let mut screen = attach(&fixture, "tty-paint", &["sh"], &after)?;
    screen.shows(PROMPT).await?;

    screen.starts("vi /root/note", "~").await?;
    // Its last line says whether it inserts (I) or takes commands (-).
    screen.type_in("i")?;
    screen.shows("I /root/note").await?;
    screen.type_in("hello from vi\x1b")?;
    screen.shows("- /root/note").await?;
    screen.type_in(":wq\r")?;
    screen.shows(PROMPT).await?;

    for (program, shown) in [("top", "Mem:"), ("less /etc/passwd", "root:x:0:0")] {
        screen.starts(program, shown).await?;
        screen.type_in("q")?;
        screen.shows(PROMPT).await?;
        screen.answers("echo ou''t", "out\r\n").await?;
    }
    screen.type_in("exit\r")?;
    assert_eq!(screen.says("code ").await?, "0");
    assert_eq!(screen.says("after ").await?, "hello from vi");
    assert_eq!(screen.ended().await?, 0);
    Ok(())
}

#[tokio::test]
async fn the_detach_keys_leave_the_command_running() -> Result<()> {
    let fixture = Fixture::new()?;
    let env = [
        ("MSB_TEST_KEYS", "ctrl-p,ctrl-q"),
        (
            "MSB_TEST_AFTER",
            "ps -o args | grep -qx 'sleep 7777' && echo alive; cat /tmp/typed",
        ),
    ];
    let script = "echo go; read -r line; echo \"$line\" > /tmp/typed; echo ready; exec sleep 7777";
    let mut screen = attach(&fixture, "tty-detach", &["sh", "-c", script], &env)?;
    screen.shows("go\r\n").await?;
    // Half of the keys is the command's.
    screen.type_in("one\x10two\r")?;
    screen.shows("ready\r\n").await?;
    screen.type_in("\x10\x11")?;
    assert_eq!(screen.says("code ").await?, "-1");
    assert_eq!(screen.says("after ").await?, "alive");
    assert_eq!(screen.says("one").await?, "\x10two");
    assert_eq!(screen.ended().await?, 0);
    Ok(())
}

#[tokio::test]
async fn all_that_is_printed_is_shown() -> Result<()> {
    let fixture = Fixture::new()?;
    let mut screen = attach(&fixture, "tty-bulk", &["seq", "1", "100000"], &[])?;
    screen.says("code 0").await?;
    screen.shows("\n100000\r\n").await?;
    assert_eq!(screen.ended().await?, 0);
    let expected: String = (1..=100_000).map(|i| format!("{i}\r\n")).collect();
    // The line with which the shell was let go is echoed behind it.
    ensure!(
        screen.text().starts_with(&expected),
        "something is missing or out of order"
    );
    Ok(())
}

#[tokio::test]
async fn a_signal_is_an_exit_code() -> Result<()> {
    let fixture = Fixture::new()?;
    let mut screen = attach(&fixture, "tty-signal", &["sh", "-c", "kill -9 $$"], &[])?;
    assert_eq!(screen.says("code ").await?, "137");
    screen.ended().await?;

    let mut screen = attach(&fixture, "tty-none", &["/no/such/program"], &[])?;
    assert!(screen.says("error ").await?.starts_with("ExecFailed"));
    screen.ended().await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_program_leaves_its_terminal_as_it_was() -> Result<()> {
    let fixture = Fixture::new()?;
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        let mut screen = attach(&fixture, "tty-kill", &["sh"], &[])?;
        let pid = screen.says("pid ").await?.parse()?;
        screen.shows(PROMPT).await?;
        assert!(screen.is_raw()?);
        kill_process(Pid::from_raw(pid).context("no process")?, signal)?;
        assert_eq!(screen.ended().await?, 128 + signal.as_raw(), "{signal:?}");
        host::nothing_left().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_machine_that_ends_gives_the_terminal_back() -> Result<()> {
    let fixture = Fixture::new()?;
    let mut screen = attach(&fixture, "tty-lost", &["sh"], &[])?;
    screen.shows(PROMPT).await?;
    screen.type_in("poweroff -f\r")?;
    let error = screen.says("error ").await?;
    assert!(error.starts_with("SandboxNotRunning"), "{error}");
    screen.ended().await?;
    Ok(())
}

#[tokio::test]
async fn there_is_one_terminal_or_none() -> Result<()> {
    let fixture = Fixture::new()?;
    let twice = [("MSB_TEST_TWICE", "1")];
    let mut screen = attach(&fixture, "tty-twice", &["echo", "first"], &twice)?;
    assert_eq!(screen.says("second ").await?, "Err(Terminal(InUse))");
    assert_eq!(screen.says("code ").await?, "0");
    screen.ended().await?;

    let output = Command::new("setsid")
        .args(["--wait", PROGRAM, "tty-missing"])
        .arg(fixture.disk()?)
        .arg("sh")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = String::from_utf8(within(output).await?.stdout)?;
    assert!(output.contains("error Terminal(Missing)"), "{output}");
    Ok(())
}

/// A tmux of its own.
struct Tmux<'a> {
    socket: &'a Path,
}

impl Tmux<'_> {
    async fn run(&self, args: &[&str]) -> Result<String> {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(self.socket)
            .args(["-f", "/dev/null"])
            .args(args)
            .env("LC_ALL", "C.UTF-8")
            .output();
        let output = within(output).await?;
        ensure!(
            output.status.success(),
            "tmux {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Waits until a line of the screen is this.
    async fn shows(&self, line: &str) -> Result<()> {
        self.shows_line(line, |shown| shown == line).await
    }

    /// Waits until a line of the screen is what is `wanted`. tmux tells nobody of changes, so it is
    /// asked again and again.
    async fn shows_line(&self, wanted: &str, is_it: impl Fn(&str) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.run(&["capture-pane", "-p"]).await?;
            if screen.lines().any(|shown| is_it(shown.trim_end())) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("{wanted:?} is not shown; the screen:\n{screen}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn keys(&self, keys: &[&str]) -> Result<()> {
        self.run(&[&["send-keys"], keys].concat()).await?;
        Ok(())
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("tmux")
            .arg("-S")
            .arg(self.socket)
            .arg("kill-server")
            .stderr(Stdio::null())
            .status();
    }
}

#[tokio::test]
async fn it_works_in_tmux() -> Result<()> {
    let version = std::process::Command::new("tmux").arg("-V").output();
    if version.is_err() {
        println!("skipped: there is no tmux; `cargo xtask setup` installs it");
        return Ok(());
    }
    let fixture = Fixture::new()?;
    let disk = fixture.disk()?;
    let socket = fixture.path().join("tmux.sock");
    let tmux = Tmux { socket: &socket };
    let disk = disk.to_str().context("a path of text")?;
    // The pane is a shell's, so that its terminal outlives the program.
    let size = ["-x", "80", "-y", "24"];
    let start = [&["new-session", "-d"], &size[..], &["env PS1='host> ' sh"]].concat();
    tmux.run(&start).await?;
    tmux.run(&["set-option", "-g", "status", "off"]).await?;
    tmux.run(&["resize-window", "-x", "80", "-y", "24"]).await?;
    tmux.shows("host>").await?;
    let attach = format!("{PROGRAM} tty-tmux {disk} env PS1='guest> ' sh");
    tmux.keys(&["clear; ", &attach, "Enter"]).await?;
    tmux.shows("guest>").await?;
    tmux.keys(&["stty size", "Enter"]).await?;
    tmux.shows("24 80").await?;
    tmux.run(&["resize-window", "-x", "100", "-y", "30"])
        .await?;
    let sized = "until [ \"$(stty size)\" = '30 100' ]; do sleep 0.1; done; echo re''sized";
    tmux.keys(&[sized, "Enter"]).await?;
    tmux.shows("resized").await?;

    // A word in the middle of a file is changed, as a person would do it.
    tmux.keys(&["echo one two three > /tmp/words; vi /tmp/words", "Enter"])
        .await?;
    tmux.shows("one two three").await?;
    tmux.keys(&["w", "cw", "2", "Escape"]).await?;
    // The last line says that it takes commands again.
    let status = "- /tmp/words [Modified]";
    tmux.shows_line(status, |line| line.starts_with(status))
        .await?;
    tmux.shows("one 2 three").await?;
    tmux.keys(&[":wq", "Enter"]).await?;
    tmux.keys(&["clear; cat /tmp/words", "Enter"]).await?;
    tmux.shows("one 2 three").await?;
    tmux.keys(&["exit 3", "Enter"]).await?;
    tmux.shows("code 3").await?;
    // The shell out here reads and echoes as it did.
    tmux.keys(&["clear; echo ba''ck", "Enter"]).await?;
    tmux.shows("back").await?;
    host::nothing_left().await
}
