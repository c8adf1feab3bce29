//! However a program ends, its terminal is as it was.
//!
//! Most of the ways end the process, so they are tried on one that is there for that: the tests
//! start this very executable again, for its ignored test [`victim`] alone, with a terminal as its
//! standard input.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::isatty;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;

use super::detach_keys::DetachKeys;
use super::pump::{self, News};
use super::raw_mode::{Claim, RawMode};
use super::testing::{Ear, Pty, Script, TURN, Told, within};
use super::tty::Terminal;

/// What [`victim`] is to do.
const ROLE: &str = "MSB_TEST_VICTIM";

/// How it is started.
const ARGS: [&str; 4] = [
    "--exact",
    "attach::ways_out_tests::victim",
    "--ignored",
    "--nocapture",
];

/// A shell with job control, and one job. (A loop would end when the job is suspended.)
const SHELL: &str = r#"
    again() {
        echo "stopped $?"
        read -r line
        fg > /dev/null
    }
    set -m
    "$0" "$@"
    again
    again
    again
    echo "job ended $?"
"#;

/// A process on a terminal.
struct Victim {
    pty: Pty,
    before: String,
    process: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Victim {
    fn start(role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(ARGS).env(ROLE, role);
        Self::spawn(command)
    }

    /// The same as the job of a shell, which has the terminal while the job is suspended.
    fn in_shell() -> Self {
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait", "bash", "-c", SHELL])
            .arg(std::env::current_exe().unwrap())
            .args(ARGS)
            .env(ROLE, "wait");
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let pty = Pty::new();
        let before = pty.modes();
        let mut process = command
            .stdin(Stdio::from(pty.program.try_clone().unwrap()))
            .stdout(Stdio::piped())
            // The shell's idea of where its terminal is.
            .stderr(Stdio::from(pty.program.try_clone().unwrap()))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap()).lines();
        Self {
            before,
            pty,
            process,
            said,
        }
    }

    /// Waits until it says something that begins so, and returns the rest.
    async fn says(&mut self, beginning: &str) -> String {
        within(async {
            loop {
                let line = self.said.next_line().await.unwrap();
                let line = line.expect("it ended without a word");
                // The test harness does not end its lines before a test has ended.
                if let Some((_, rest)) = line.split_once(beginning) {
                    return rest.to_owned();
                }
            }
        })
        .await
    }

    /// Waits until the terminal is raw, and returns the process's id.
    async fn is_raw(&mut self) -> Pid {
        let pid = self.says("size 24 80 of ").await;
        assert!(self.pty.is_raw());
        Pid::from_raw(pid.parse().unwrap()).unwrap()
    }

    /// Waits for its end; the terminal is as it was then.
    async fn ended(&mut self) -> ExitStatus {
        let status = within(self.process.wait()).await.unwrap();
        assert_eq!(self.pty.modes(), self.before);
        status
    }
}

fn say(line: &str) {
    // Not `println`, which the harness may keep.
    let line = format!("\n{line}\n");
    rustix::io::write(std::io::stdout(), line.as_bytes()).unwrap();
}

#[test]
#[ignore = "it is for the other tests to start, and to kill"]
fn victim() {
    if let Ok(role) = std::env::var(ROLE) {
        attached(&role);
    }
}

/// An attach to a command that never ends; says each size that the command is told.
#[tokio::main(flavor = "current_thread")]
async fn attached(role: &str) {
    assert!(isatty(std::io::stdin()));
    let mut own_handler = (role == "handler").then(|| {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap()
    });
    let terminal = Terminal::find().unwrap();
    let (_events, script) = mpsc::channel(1);
    let (told, mut heard) = mpsc::unbounded_channel();
    let ear = Ear { told, reads: true };
    let attach = async {
        let news = News::listen()?;
        let raw = RawMode::enter(Claim::take()?, &terminal)?;
        let keys = DetachKeys::default_keys();
        pump::run(&terminal, &raw, news, &mut Script(script), &ear, &keys).await
    };
    let listen = async {
        while let Some(told) = heard.recv().await {
            if let Told::Size(rows, columns) = told {
                say(&format!("size {rows} {columns} of {}", std::process::id()));
            }
            match role {
                "exit" => std::process::exit(3),
                "abort" => std::process::abort(),
                "panic" => panic!("as asked"),
                _ => {}
            }
        }
    };
    tokio::select! {
        ended = attach => say(&format!("ended {ended:?}")),
        () = listen => {}
    }
    if let Some(handler) = &mut own_handler {
        within(handler.recv()).await;
        say("handled");
    }
}

#[tokio::test]
async fn signals_that_end_a_program_leave_the_terminal_as_it_was() {
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM] {
        let mut victim = Victim::start("wait");
        kill_process(victim.is_raw().await, signal).unwrap();
        let status = victim.ended().await;
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
    }
}

#[tokio::test]
async fn so_do_exit_panic_and_abort() {
    let mut victim = Victim::start("exit");
    victim.says("size").await;
    assert_eq!(victim.ended().await.code(), Some(3));

    let mut victim = Victim::start("panic");
    victim.says("size").await;
    // The harness's code for a test that panicked.
    assert_eq!(victim.ended().await.code(), Some(101));

    let mut victim = Victim::start("abort");
    victim.says("size").await;
    let status = victim.ended().await;
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}");
}

#[tokio::test]
async fn a_programs_own_handler_has_the_last_word() {
    let mut victim = Victim::start("handler");
    kill_process(victim.is_raw().await, Signal::TERM).unwrap();
    let ended = victim.says("ended ").await;
    assert_eq!(ended, "Err(Terminal(Signalled(15)))");
    victim.says("handled").await;
    assert_eq!(victim.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_suspended_program_gives_the_terminal_away_and_takes_it_back() {
    let mut victim = Victim::in_shell();
    let pid = victim.is_raw().await;
    // SIGSTOP cannot be noticed, but going on after it can.
    for (rows, signal) in [(30, Signal::TSTP), (31, Signal::TSTP), (32, Signal::STOP)] {
        kill_process(pid, signal).unwrap();
        let code = 128 + signal.as_raw();
        assert_eq!(victim.says("stopped ").await, code.to_string());
        if signal == Signal::TSTP {
            assert_eq!(victim.pty.modes(), victim.before);
        }
        // Whoever has the terminal is told of a new size, and that is the shell.
        victim.pty.resize(rows, 90);
        victim.pty.type_in(b"on\n");
        victim.says(&format!("size {rows} 90")).await;
        assert!(victim.pty.is_raw());
    }
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(victim.says("job ended ").await, "143");
    assert_eq!(victim.pty.modes(), victim.before);
}

/// The signals that this process has handlers for, one bit each.
fn handled() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
}

#[tokio::test]
async fn signals_are_given_back() {
    let _turn = TURN.lock().await;
    let pty = Pty::new();
    let before = handled();
    for _ in 0..2 {
        let raw = RawMode::enter(Claim::take().unwrap(), &pty.program).unwrap();
        assert_eq!((handled() ^ before).count_ones(), 6);
        drop(raw);
        assert_eq!(handled(), before);
    }
}
