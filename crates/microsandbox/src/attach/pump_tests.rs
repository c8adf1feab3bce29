//! The pump between a real terminal and a command that is a script.

use std::os::fd::AsFd;

use bytes::Bytes;
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::{MutexGuard, mpsc};
use tokio::task::JoinHandle;

use super::{Ending, News, run};
use crate::attach::TerminalError;
use crate::attach::detach_keys::DetachKeys;
use crate::attach::raw_mode::{Claim, RawMode};
use crate::attach::testing::{Ear, Pty, Script, TURN, Told, within};
use crate::attach::tty::Terminal;
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::exec::ExecEvent;

/// An attach that goes on, and the two that it connects.
struct Attach {
    pty: Pty,
    before: String,
    events: mpsc::Sender<ExecEvent>,
    told: mpsc::UnboundedReceiver<Told>,
    pump: JoinHandle<MicrosandboxResult<Ending>>,
    _turn: MutexGuard<'static, ()>,
}

#[derive(Default)]
struct With {
    keys: Option<&'static str>,
    inherited: bool,
    deaf: bool,
}

impl Attach {
    async fn new(with: With) -> Self {
        let turn = TURN.lock().await;
        let pty = Pty::new();
        let before = pty.modes();
        let terminal = match with.inherited {
            true => Terminal::inherited(pty.program.as_fd()),
            false => Terminal::of(pty.program.as_fd()),
        };
        let terminal = terminal.unwrap();
        let keys = DetachKeys::parse(with.keys.unwrap_or("ctrl-]")).unwrap();
        let (events, script) = mpsc::channel(1);
        let (tell, mut told) = mpsc::unbounded_channel();
        let ear = Ear {
            told: tell,
            reads: !with.deaf,
        };
        let pump = tokio::spawn(async move {
            let news = News::listen()?;
            let raw = RawMode::enter(Claim::take()?, &terminal)?;
            run(&terminal, &raw, news, &mut Script(script), &ear, &keys).await
        });
        // The first that a command is told is the size, when all is in place.
        assert_eq!(within(told.recv()).await, Some(Told::Size(24, 80)));
        assert!(pty.is_raw());
        Self {
            pty,
            before,
            events,
            told,
            pump,
            _turn: turn,
        }
    }

    async fn prints(&self, bytes: impl Into<Bytes>) {
        within(self.events.send(ExecEvent::Stdout(bytes.into())))
            .await
            .unwrap();
    }

    /// What arrives next, in however many messages.
    async fn typed(&mut self, expected: &[u8]) {
        let mut typed = Vec::new();
        while typed.len() < expected.len() {
            match within(self.told.recv()).await {
                Some(Told::Typed(bytes)) => typed.extend(bytes),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(typed, expected);
    }

    /// The command ends.
    async fn exits(&mut self, code: i32) {
        let exited = self.events.send(ExecEvent::Exited { code });
        within(exited).await.unwrap();
        assert_eq!(self.ended().await.unwrap(), Ending::Exited(code));
    }

    /// Waits for the end; the terminal is as it was then.
    async fn ended(&mut self) -> MicrosandboxResult<Ending> {
        let ended = within(&mut self.pump).await.unwrap();
        assert_eq!(self.pty.modes(), self.before);
        ended
    }
}

#[tokio::test]
async fn keys_go_in_and_output_comes_out() {
    for inherited in [false, true] {
        let mut attach = Attach::new(With {
            inherited,
            ..With::default()
        })
        .await;
        attach.pty.type_in(b"ls\r\x03\x1a\x13\x04");
        attach.typed(b"ls\r\x03\x1a\x13\x04").await;
        attach.prints("a\nb\r\n\x1b[31m").await;
        assert_eq!(attach.pty.seen(10).await, b"a\nb\r\n\x1b[31m");
        attach.exits(130).await;
        // What is typed now is not for the command.
        attach.pty.type_in(b"later\n");
        assert_eq!(attach.pty.left(6), b"later\n");
        assert_eq!(attach.told.recv().await, None);
    }
}

#[tokio::test]
async fn the_detach_keys_take_nothing_with_them_that_follows() {
    for (keys, before, typed, after) in [
        ("ctrl-]", &b"x"[..], &b"x\x1dyz\r"[..], &b"yz\r"[..]),
        (
            "ctrl-p,ctrl-q",
            b"a\x10b\x10",
            b"a\x10b\x10\x10\x11rest",
            b"rest",
        ),
        ("a,a,b", b"a", b"aaabaab", b"aab"),
    ] {
        let mut attach = Attach::new(With {
            keys: Some(keys),
            ..With::default()
        })
        .await;
        attach.pty.type_in(typed);
        assert_eq!(attach.ended().await.unwrap(), Ending::Detached);
        attach.typed(before).await;
        assert_eq!(attach.told.recv().await, None);
        assert_eq!(attach.pty.left(after.len()), after);
    }
}

#[tokio::test]
async fn the_beginning_of_the_detach_keys_waits_for_what_follows() {
    let mut attach = Attach::new(With {
        keys: Some("ctrl-p,ctrl-q"),
        ..With::default()
    })
    .await;
    attach.pty.type_in(b"a\x10");
    attach.typed(b"a").await;
    attach.pty.type_in(b"b");
    attach.typed(b"\x10b").await;
    attach.exits(0).await;
}

#[tokio::test]
async fn a_paste_arrives_whole() {
    let mut attach = Attach::new(With::default()).await;
    let paste: Vec<u8> = (0..60_000u32).map(|i| b'a' + (i % 26) as u8).collect();
    let (user, copy) = (attach.pty.user.try_clone().unwrap(), paste.clone());
    let typing = tokio::task::spawn_blocking(move || {
        let mut rest = &copy[..];
        while !rest.is_empty() {
            rest = &rest[rustix::io::write(&user, rest).unwrap()..];
        }
    });
    attach.typed(&paste).await;
    within(typing).await.unwrap();
    attach.exits(0).await;
}

#[tokio::test]
async fn output_is_shown_completely_and_waits_for_the_terminal() {
    for (inherited, chunks) in [(false, 64), (true, 8)] {
        let mut attach = Attach::new(With {
            inherited,
            ..With::default()
        })
        .await;
        let chunk: Vec<u8> = (0..16_384u32).map(|i| (i % 251) as u8).collect();
        // Nobody looks: the command is held up soon.
        let mut taken = 0;
        for _ in 0..10_000 {
            if taken < chunks
                && let Ok(place) = attach.events.try_reserve()
            {
                place.send(ExecEvent::Stdout(chunk.clone().into()));
                taken += 1;
            }
            tokio::task::yield_now().await;
        }
        assert!(taken < 8, "{taken} chunks were taken that nobody saw");

        let events = attach.events.clone();
        let rest = chunk.clone();
        let printing = tokio::spawn(async move {
            for _ in taken..chunks {
                events
                    .send(ExecEvent::Stdout(rest.clone().into()))
                    .await
                    .unwrap();
            }
            events.send(ExecEvent::Exited { code: 0 }).await.unwrap();
        });
        assert!(attach.pty.seen(chunks * chunk.len()).await == chunk.repeat(chunks));
        assert_eq!(attach.ended().await.unwrap(), Ending::Exited(0));
        printing.await.unwrap();
    }
}

#[tokio::test]
async fn endless_output_does_not_keep_keys_from_being_read() {
    let mut attach = Attach::new(With::default()).await;
    let events = attach.events.clone();
    let printing = tokio::spawn(async move {
        while events
            .send(ExecEvent::Stdout("y\n".repeat(2048).into()))
            .await
            .is_ok()
        {}
    });
    let user = attach.pty.user.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while rustix::io::read(&user, &mut buffer).is_ok() {}
    });
    attach.pty.type_in(b"\x03");
    attach.typed(b"\x03").await;
    attach.pty.type_in(b"\x1d");
    assert_eq!(attach.ended().await.unwrap(), Ending::Detached);
    within(printing).await.unwrap();
}

#[tokio::test]
async fn a_command_that_does_not_read_can_be_detached_from() {
    let mut attach = Attach::new(With {
        deaf: true,
        ..With::default()
    })
    .await;
    for _ in 0..8 {
        attach.pty.type_in(&[b'x'; 512]);
    }
    attach.pty.type_in(b"\x1d");
    assert_eq!(attach.ended().await.unwrap(), Ending::Detached);
}

#[tokio::test]
async fn the_size_is_followed() {
    let mut attach = Attach::new(With::default()).await;
    // Many changes may be told as one; the last is told.
    for columns in [81, 82, 83, 132] {
        attach.pty.resize(50, columns);
        kill_process(getpid(), Signal::WINCH).unwrap();
    }
    let mut told = 0;
    loop {
        told += 1;
        match within(attach.told.recv()).await {
            Some(Told::Size(50, 132)) => break,
            Some(Told::Size(50, _)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(told <= 4);
    // After a suspension it is told though it is the same, and the terminal is raw once more.
    let (terminal, program) = (&attach.pty, &attach.pty.program);
    let mut modes = rustix::termios::tcgetattr(program).unwrap();
    modes.local_modes |= rustix::termios::LocalModes::ECHO;
    rustix::termios::tcsetattr(program, rustix::termios::OptionalActions::Now, &modes).unwrap();
    assert!(!terminal.is_raw());
    kill_process(getpid(), Signal::CONT).unwrap();
    assert_eq!(within(attach.told.recv()).await, Some(Told::Size(50, 132)));
    assert!(attach.pty.is_raw());
    attach.exits(0).await;
}

#[tokio::test]
async fn a_terminal_that_is_closed_ends_it() {
    let attach = Attach::new(With::default()).await;
    drop(attach.pty.user);
    let ended = within(attach.pump).await.unwrap();
    assert!(
        matches!(
            ended,
            Err(MicrosandboxError::Terminal(TerminalError::HungUp))
        ),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_command_that_is_lost_is_an_error() {
    let mut attach = Attach::new(With::default()).await;
    let (other, _) = mpsc::channel(1);
    drop(std::mem::replace(&mut attach.events, other));
    assert!(matches!(
        attach.ended().await,
        Err(MicrosandboxError::Protocol(_))
    ));
}

#[tokio::test]
async fn a_dropped_attach_gives_the_terminal_back() {
    let mut attach = Attach::new(With::default()).await;
    assert!(matches!(Claim::take(), Err(TerminalError::InUse)));
    attach.pump.abort();
    assert!(within(&mut attach.pump).await.is_err());
    assert_eq!(attach.pty.modes(), attach.before);
    drop(Claim::take().unwrap());
    attach.pty.type_in(b"mine");
    assert_eq!(attach.pty.left(4), b"mine");
}
