//! A running command, as its program holds it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use msb_protocol::{GuestMessage, HostMessage, MAX_CHUNK, MessageType, SessionAnswer, SessionCall};
use msb_protocol::{TerminalSize, ViewEvent};
use msb_runtime::conversation::ConversationError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::link::Link;
use super::pump::{self, News, Reader};
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::exec::{ExecEvent, ExecOutput, Exit, ExitStatus};

/// The signal that cannot be refused.
const SIGKILL: i32 = 9;

/// How long a detach may take, with the standard input that was still on its way.
const DETACH_TIMEOUT: Duration = Duration::from_secs(30);

/// A running command.
///
/// Dropping it kills the command, with everything that it started in its process group.
/// [`detach`](Self::detach) leaves it running.
#[derive(Debug)]
pub struct ExecHandle {
    link: Arc<Link>,
    pid: Option<u32>,
    stdin: Option<ExecSink>,
    news: mpsc::Receiver<News>,
    exit: Option<Exit>,
    dropped: u64,
    pump: JoinHandle<Reader>,
    /// Writes `StdinMode::Bytes`.
    feeder: Option<JoinHandle<()>>,
    /// There is nothing left to end.
    done: bool,
}

impl ExecHandle {
    pub(crate) fn new(
        link: Arc<Link>,
        pid: u32,
        piped: bool,
        news: mpsc::Receiver<News>,
        pump: JoinHandle<Reader>,
    ) -> Self {
        let stdin = piped.then(|| ExecSink {
            link: Arc::clone(&link),
        });
        Self {
            link,
            pid: Some(pid),
            stdin,
            news,
            exit: None,
            dropped: 0,
            pump,
            feeder: None,
            done: false,
        }
    }

    /// Writes `bytes` to standard input, and then its end.
    pub(crate) fn feed(&mut self, bytes: Vec<u8>) {
        if let Some(sink) = self.stdin.take() {
            self.feeder = Some(tokio::spawn(async move {
                // A command need not read all it is given; then there is nobody to tell.
                if sink.write(bytes).await.is_ok() {
                    let _ = sink.close().await;
                }
            }));
        }
    }

    /// The session's number within the sandbox.
    pub fn id(&self) -> String {
        self.link.session.to_string()
    }

    /// What signals and resizes the command from elsewhere.
    pub fn control(&self) -> ExecControl {
        ExecControl {
            link: Arc::clone(&self.link),
        }
    }

    /// The next event; `None` after the last. Cancel-safe.
    pub async fn recv(&mut self) -> Option<ExecEvent> {
        match self.next().await {
            Ok(event) => event,
            Err(MicrosandboxError::Protocol(error)) => {
                Some(ExecEvent::Failed(pump::broken(error.to_string())))
            }
            Err(error) => Some(ExecEvent::Failed(pump::broken(error.to_string()))),
        }
    }

    /// The next event, with what goes wrong as an error of its own kind.
    pub(crate) async fn next(&mut self) -> MicrosandboxResult<Option<ExecEvent>> {
        if let Some(pid) = self.pid.take() {
            return Ok(Some(ExecEvent::Started { pid }));
        }
        self.link.comes_for_more();
        loop {
            match self.news.recv().await {
                Some(News::Event(event, offset)) => {
                    self.link.took(offset);
                    return Ok(Some(event));
                }
                Some(News::Dropped(bytes, offset)) => {
                    self.link.took(offset);
                    self.dropped = self.dropped.saturating_add(bytes);
                }
                Some(News::Exited(exit)) => {
                    self.exit = Some(exit);
                    // The agent need not keep it for anybody else.
                    self.end();
                    return Ok(Some(ExecEvent::Exited {
                        code: ExitStatus::from(exit).code,
                    }));
                }
                Some(News::Late(timeout)) => {
                    self.end();
                    return Err(MicrosandboxError::ExecTimeout(timeout));
                }
                Some(News::Broken(error)) => return Err(error.into()),
                None => return Ok(None),
            }
        }
    }

    /// How many bytes of its output are missing from what was received so far: those that it wrote
    /// while nobody held a handle on it, beyond what the guest keeps (the newest 1 MiB).
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped
    }

    /// Leaves the command running, in the sandbox's care:
    /// [`Sandbox::attach_session`](crate::Sandbox::attach_session) goes on with it, at the output
    /// that was not received here. What was given as [`StdinMode::Bytes`](crate::StdinMode::Bytes) is
    /// handed over first. A timeout that it was started with goes on to count.
    ///
    /// # Errors
    ///
    /// When the sandbox does not answer, or its agent is too old for that. The command is killed
    /// then, as if the handle had been dropped.
    pub async fn detach(mut self) -> MicrosandboxResult<()> {
        let deadline = Instant::now() + DETACH_TIMEOUT;
        let result = timeout_at(deadline, self.leave())
            .await
            .unwrap_or(Err(ConversationError::Timeout(DETACH_TIMEOUT)));
        if result.is_ok() {
            self.done = true;
            self.link.speaker.hang_up();
        }
        Ok(result?)
    }

    async fn leave(&mut self) -> Result<(), ConversationError> {
        if !self.link.lasting {
            let kind = MessageType::Session;
            return Err(ConversationError::Unsupported { kind });
        }
        if let Some(feeder) = &mut self.feeder {
            // It fails only when it is ended.
            let _ = feeder.await;
            self.feeder = None;
        }
        // The pump lets go of what it has: the agent still has that too.
        self.news.close();
        while self.news.try_recv().is_ok() {}
        let mut reader = (&mut self.pump)
            .await
            .map_err(|_| ConversationError::Closed)?;
        let offset = self.link.received();
        let detach = SessionCall::Detach { offset }.into();
        self.link.speaker.send(&detach).await?;
        loop {
            let message = reader.listener.next().await?;
            if message == GuestMessage::Session(SessionAnswer::Detached) {
                return Ok(());
            }
            // What was on its way is not lost: the next one to attach gets it.
            match reader.viewer.take(message)? {
                ViewEvent::Refused(refusal) => {
                    return Err(ConversationError::RefusedByAgent(refusal));
                }
                ViewEvent::Failed(_) => return Err(ConversationError::OutOfTurn),
                _ => {}
            }
        }
    }

    /// The writing end of its standard input, once, when it was asked for as a pipe.
    pub fn take_stdin(&mut self) -> Option<ExecSink> {
        self.stdin.take()
    }

    /// Waits for the end; output that was not received yet is dropped.
    pub async fn wait(&mut self) -> MicrosandboxResult<ExitStatus> {
        while self.exit.is_none() && self.next().await?.is_some() {}
        Ok(self.ended()?.into())
    }

    /// How it ended, a code or a signal told apart; `None` while that was not received.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    fn ended(&self) -> MicrosandboxResult<Exit> {
        self.exit
            .ok_or(MicrosandboxError::Protocol(ConversationError::Closed))
    }

    /// Waits for the end and gathers all output on the way. Standard input that was not
    /// taken ends at once.
    pub async fn collect(&mut self) -> MicrosandboxResult<ExecOutput> {
        if let Some(stdin) = self.stdin.take() {
            // It may have ended already.
            let _ = stdin.close().await;
        }
        let (mut stdout, mut stderr) = (BytesMut::new(), BytesMut::new());
        while let Some(event) = self.next().await? {
            match event {
                ExecEvent::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                ExecEvent::Stderr(bytes) => stderr.extend_from_slice(&bytes),
                _ => {}
            }
        }
        Ok(ExecOutput {
            exit: self.ended()?,
            stdout: stdout.freeze(),
            stderr: stderr.freeze(),
        })
    }

    /// Sends a signal to the command's process group.
    pub async fn signal(&self, signal: i32) -> MicrosandboxResult<()> {
        self.control().signal(signal).await
    }

    /// Kills the command's process group.
    pub async fn kill(&self) -> MicrosandboxResult<()> {
        self.control().kill().await
    }

    /// Sets the size of the command's terminal.
    pub async fn resize(&self, rows: u16, cols: u16) -> MicrosandboxResult<()> {
        self.control().resize(rows, cols).await
    }

    /// Ends the conversation: the agent kills what is left of the command.
    fn end(&mut self) {
        self.pump.abort();
        if let Some(feeder) = &self.feeder {
            feeder.abort();
        }
        if !std::mem::replace(&mut self.done, true) {
            self.link.end();
        }
    }
}

impl Drop for ExecHandle {
    fn drop(&mut self) {
        self.end();
    }
}

/// Signals and resizes a command; clones do the same. What is said to one that has ended does nothing.
#[derive(Clone, Debug)]
pub struct ExecControl {
    link: Arc<Link>,
}

impl ExecControl {
    /// The session's number within the sandbox.
    pub fn id(&self) -> String {
        self.link.session.to_string()
    }

    /// Sends a signal to the command's process group.
    pub async fn signal(&self, signal: i32) -> MicrosandboxResult<()> {
        Ok(self.link.say(&HostMessage::Signal(signal)).await?)
    }

    /// Kills the command's process group.
    pub async fn kill(&self) -> MicrosandboxResult<()> {
        self.signal(SIGKILL).await
    }

    /// Sets the size of the command's terminal.
    pub async fn resize(&self, rows: u16, cols: u16) -> MicrosandboxResult<()> {
        let size = TerminalSize {
            rows,
            columns: cols,
        };
        Ok(self.link.say(&HostMessage::Resize(size)).await?)
    }
}

/// The writing end of a command's standard input.
///
/// Dropping it without [`close`](Self::close) leaves the input open for as long as the
/// command runs.
#[derive(Debug)]
pub struct ExecSink {
    link: Arc<Link>,
}

impl ExecSink {
    /// Writes all of `data`, however much; waits while the command does not read. When the future is
    /// dropped, some of it has been written, and nothing else is hurt.
    ///
    /// # Errors
    ///
    /// When the command ended or closed its standard input.
    pub async fn write(&self, data: impl AsRef<[u8]>) -> MicrosandboxResult<()> {
        for chunk in data.as_ref().chunks(MAX_CHUNK) {
            let count = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            let Ok(permits) = self.link.window.acquire_many(count).await else {
                return Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
            };
            // The agent gives them back when the command has read. What is begun goes, even if
            // nobody waits for it any more.
            permits.forget();
            self.link
                .speaker
                .send(&HostMessage::Stdin(Bytes::copy_from_slice(chunk)))
                .await?;
        }
        Ok(())
    }

    /// Ends the input: the command reads end-of-file.
    pub async fn close(&self) -> MicrosandboxResult<()> {
        Ok(self.link.say(&HostMessage::StdinEof).await?)
    }
}
