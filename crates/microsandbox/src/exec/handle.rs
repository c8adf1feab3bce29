//! A running command, as its program holds it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use msb_protocol::{HostMessage, MAX_CHUNK, TerminalSize};
use msb_runtime::conversation::{ConversationError, Speaker};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::pump::{self, News};
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::exec::{ExecEvent, ExecOutput, Exit, ExitStatus};

/// The signal that cannot be refused.
const SIGKILL: i32 = 9;

/// The part that handle, control and sink share.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) session: u64,
    pub(crate) speaker: Speaker,
    /// Bytes of standard input that may be sent now; closed when nobody reads them.
    pub(crate) window: Arc<Semaphore>,
}

/// A running command.
///
/// Dropping it kills the command, with everything that it started in its process group.
#[derive(Debug)]
pub struct ExecHandle {
    link: Arc<Link>,
    pid: Option<u32>,
    stdin: Option<ExecSink>,
    news: mpsc::Receiver<News>,
    exit: Option<Exit>,
    pump: JoinHandle<()>,
    /// Writes `StdinMode::Bytes`.
    feeder: Option<JoinHandle<()>>,
    deadline: Option<(Instant, Duration)>,
}

impl ExecHandle {
    pub(crate) fn new(
        link: Arc<Link>,
        pid: u32,
        piped: bool,
        news: mpsc::Receiver<News>,
        pump: JoinHandle<()>,
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
            pump,
            feeder: None,
            deadline: None,
        }
    }

    /// Kills the command when it is not over after `timeout` from now.
    pub(crate) fn limit(&mut self, timeout: Duration) {
        self.deadline = Some((Instant::now() + timeout, timeout));
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
                Some(ExecEvent::Failed(pump::broken(&error)))
            }
            Err(error) => Some(ExecEvent::Failed(pump::message(error.to_string()))),
        }
    }

    /// The next event, with what goes wrong as an error of its own kind.
    pub(crate) async fn next(&mut self) -> MicrosandboxResult<Option<ExecEvent>> {
        if let Some(pid) = self.pid.take() {
            return Ok(Some(ExecEvent::Started { pid }));
        }
        let news = match self.deadline {
            None => self.news.recv().await,
            Some((at, timeout)) => match tokio::time::timeout_at(at, self.news.recv()).await {
                Ok(news) => news,
                Err(_) => {
                    self.news.close();
                    self.end();
                    self.deadline = None;
                    return Err(MicrosandboxError::ExecTimeout(timeout));
                }
            },
        };
        match news {
            Some(News::Event(event)) => Ok(Some(event)),
            Some(News::Exited(exit)) => {
                self.exit = Some(exit);
                Ok(Some(ExecEvent::Exited {
                    code: ExitStatus::from(exit).code,
                }))
            }
            Some(News::Broken(error)) => Err(error.into()),
            None => Ok(None),
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
    fn end(&self) {
        self.pump.abort();
        if let Some(feeder) = &self.feeder {
            feeder.abort();
        }
        self.link.window.close();
        self.link.speaker.hang_up();
    }
}

impl Drop for ExecHandle {
    fn drop(&mut self) {
        self.end();
    }
}

/// Signals and resizes a command; clones do the same.
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
        Ok(self.link.speaker.send(&HostMessage::Signal(signal)).await?)
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
        Ok(self.link.speaker.send(&HostMessage::Resize(size)).await?)
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
    /// Writes all of `data`, however much; waits while the command does not read.
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
            self.link
                .speaker
                .send(&HostMessage::Stdin(Bytes::copy_from_slice(chunk)))
                .await?;
            // The agent gives them back when the command has read.
            permits.forget();
        }
        Ok(())
    }

    /// Ends the input: the command reads end-of-file.
    pub async fn close(&self) -> MicrosandboxResult<()> {
        Ok(self.link.speaker.send(&HostMessage::StdinEof).await?)
    }
}
