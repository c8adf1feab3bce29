//! Between the terminal here and the one in the sandbox.
//!
//! Three things go on at once, in one task, so that all of them are over when the attach is: what the command
//! prints is shown, what the user types is sent, and the window's size is followed. Neither
//! direction takes more than the other side has room for. A terminal that is slow to write to
//! stalls the command and nothing else; a command that does not read stalls the user's keys, after
//! some tens of KiB that were typed ahead, up to which the detach keys work.

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::Duration;

use msb_protocol::TerminalSize;
use msb_runtime::conversation::ConversationError;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::detach_keys::{DetachKeys, MAX_KEYS, Matcher};
use super::error::TerminalError;
use super::raw_mode::RawMode;
use super::readiness::register;
use super::signals;
use super::tty::Terminal;
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::exec::{ExecControl, ExecEvent, ExecHandle, ExecSink};

/// How much is sent in one message, if it was typed or pasted at once.
const CHUNK: usize = 1024;

/// How many messages wait for a command that does not read.
const CHUNKS_AHEAD: usize = 64;

/// How long a command has, after the detach keys, to take what was typed before them.
const LAST_KEYS: Duration = Duration::from_secs(1);

/// How an attach ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The command did, with this code.
    Exited(i32),
    /// The detach keys were typed.
    Detached,
}

/// What a command tells.
pub(super) trait Events {
    /// The next event; `None` after the last.
    fn next(&mut self) -> impl Future<Output = MicrosandboxResult<Option<ExecEvent>>> + Send;
}

/// What a command is told.
pub(super) trait Controls {
    /// Types; waits while the command does not read.
    fn write(&self, bytes: &[u8]) -> impl Future<Output = MicrosandboxResult<()>> + Send;
    /// Sets the size of its terminal.
    fn resize(&self, size: TerminalSize) -> impl Future<Output = MicrosandboxResult<()>> + Send;
}

impl Events for ExecHandle {
    fn next(&mut self) -> impl Future<Output = MicrosandboxResult<Option<ExecEvent>>> + Send {
        Self::next(self)
    }
}

/// The controls of a command in a sandbox.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) stdin: ExecSink,
    pub(super) control: ExecControl,
}

impl Controls for Remote {
    fn write(&self, bytes: &[u8]) -> impl Future<Output = MicrosandboxResult<()>> + Send {
        self.stdin.write(bytes)
    }

    fn resize(&self, size: TerminalSize) -> impl Future<Output = MicrosandboxResult<()>> + Send {
        self.control.resize(size.rows, size.columns)
    }
}

/// What may happen to the terminal. To be made before its size is first asked for, so that no change is missed.
#[derive(Debug)]
pub(super) struct News {
    resized: Signal,
    continued: Signal,
    handler: AsyncFd<OwnedFd>,
}

impl News {
    pub(super) fn listen() -> Result<Self, TerminalError> {
        let failed = TerminalError::failed("watched");
        let handler = signals::news().map_err(&failed)?;
        Ok(Self {
            resized: signal(SignalKind::window_change()).map_err(&failed)?,
            continued: signal(SignalKind::from_raw(libc::SIGCONT)).map_err(&failed)?,
            handler: register(handler, Interest::READABLE).map_err(&failed)?,
        })
    }

    /// Waits for something to happen. Several at once are one.
    async fn next(&mut self) -> Result<What, TerminalError> {
        tokio::select! {
            _ = self.resized.recv() => Ok(What::Resized),
            _ = self.continued.recv() => Ok(What::Continued),
            heard = heard(&self.handler) => heard.map(|()| What::Continued),
        }
    }
}

#[derive(Debug)]
enum What {
    Resized,
    Continued,
}

async fn heard(handler: &AsyncFd<OwnedFd>) -> Result<(), TerminalError> {
    let mut count = [0; 8];
    loop {
        let mut ready = handler
            .readable()
            .await
            .map_err(TerminalError::failed("watched"))?;
        match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut count)?)) {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) if Errno::from_io_error(&error) != Some(Errno::INTR) => {
                return Err(TerminalError::failed("watched")(error));
            }
            _ => {}
        }
    }
}

/// Connects the terminal and the command until either has had enough.
pub(super) async fn run(
    terminal: &Terminal,
    raw: &RawMode,
    mut news: News,
    events: &mut (impl Events + Send),
    controls: &(impl Controls + Sync),
    keys: &DetachKeys,
) -> MicrosandboxResult<Ending> {
    // Not `biased`: a command that prints without end must not keep Ctrl-C from being read.
    tokio::select! {
        code = show(terminal, events) => code.map(Ending::Exited),
        typed = send_typed(terminal, controls, keys) => typed.map(|()| Ending::Detached),
        error = follow(terminal, raw, &mut news, controls) => Err(error),
    }
}

/// Shows what the command prints, and returns the code it ends with.
async fn show(terminal: &Terminal, events: &mut impl Events) -> MicrosandboxResult<i32> {
    while let Some(event) = events.next().await? {
        match event {
            ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes) => {
                terminal.write_all(&bytes).await?;
            }
            ExecEvent::Exited { code } => return Ok(code),
            ExecEvent::Failed(failed) => return Err(MicrosandboxError::ExecFailed(failed)),
            _ => {}
        }
    }
    Err(ConversationError::Closed.into())
}

/// Sends what is typed, and returns when that was the detach keys.
async fn send_typed(
    terminal: &Terminal,
    controls: &impl Controls,
    keys: &DetachKeys,
) -> MicrosandboxResult<()> {
    let (typed, queue) = mpsc::channel(CHUNKS_AHEAD);
    let mut delivery = pin!(deliver(queue, controls));
    tokio::select! {
        detached = read_keys(terminal, typed, keys) => {
            detached?;
            // If they are not taken, the command will not miss them.
            let _ = tokio::time::timeout(LAST_KEYS, &mut delivery).await;
            Ok(())
        }
        // Nobody reads any more. How the command ends is told elsewhere, and what is typed
        // until then stays where it is, for whoever has the terminal next.
        () = &mut delivery => std::future::pending().await,
    }
}

/// Reads until the detach keys, and never past them.
async fn read_keys(
    terminal: &Terminal,
    typed: mpsc::Sender<Vec<u8>>,
    keys: &DetachKeys,
) -> Result<(), TerminalError> {
    let mut matcher = Matcher::new(keys);
    let mut buffer = [0; MAX_KEYS];
    let mut detached = false;
    while !detached {
        let mut chunk = Vec::new();
        let mut read = terminal.read(most(&mut buffer, &matcher)).await?;
        loop {
            for byte in buffer.iter().take(read) {
                detached |= matcher.feed(*byte, &mut chunk);
            }
            if detached || chunk.len() >= CHUNK {
                break;
            }
            match terminal.read_now(most(&mut buffer, &matcher))? {
                Some(more) => read = more,
                None => break,
            }
        }
        // It fails when nobody listens; then this is dropped soon.
        if !chunk.is_empty() && typed.send(chunk).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
    Ok(())
}

/// The part of a buffer that has no room for anything after the detach keys.
fn most<'a>(buffer: &'a mut [u8], matcher: &Matcher) -> &'a mut [u8] {
    let length = buffer.len().min(matcher.missing());
    buffer.get_mut(..length).unwrap_or_default()
}

async fn deliver(mut queue: mpsc::Receiver<Vec<u8>>, controls: &impl Controls) {
    while let Some(chunk) = queue.recv().await {
        if controls.write(&chunk).await.is_err() {
            return;
        }
    }
}

/// Tells the command of each new size, and makes the terminal raw again when the program goes on
/// after a suspension. Returns when the program has handled a signal that ends it.
async fn follow(
    terminal: &Terminal,
    raw: &RawMode,
    news: &mut News,
    controls: &impl Controls,
) -> MicrosandboxError {
    let mut told = None;
    loop {
        let size = terminal.size();
        if size != told
            && let Some(size) = size
        {
            // A conversation that broke is told elsewhere.
            let _ = controls.resize(size).await;
            told = Some(size);
        }
        match news.next().await {
            Ok(What::Resized) => {}
            Ok(What::Continued) => {
                if let Some(signal) = raw.handled_signal() {
                    return TerminalError::Signalled(signal).into();
                }
                if let Err(error) = raw.again(terminal) {
                    return error.into();
                }
                told = None;
            }
            Err(error) => return error.into(),
        }
    }
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
