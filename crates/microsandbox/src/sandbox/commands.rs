//! Running commands in a sandbox.

use msb_protocol::{ExecRequest, RefusalKind, Stdin, TerminalSize};
use msb_runtime::conversation::{Conversation, ConversationError};
use tokio::time::Instant;

use super::{Sandbox, SandboxStatus};
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::exec::{
    self, ExecHandle, ExecOptions, ExecOptionsBuilder, ExecOutput, SessionInfo, Start, StdinMode,
};

/// The shell of a sandbox that names none.
const DEFAULT_SHELL: &str = "/bin/sh";

/// The key that ends the input of a terminal (`VEOF`, Control-D).
const END_OF_INPUT: &[u8] = b"\x04";

/// The size of a terminal whose size nobody said.
pub(crate) const DEFAULT_TERMINAL: TerminalSize = TerminalSize {
    rows: 24,
    columns: 80,
};

impl Sandbox {
    /// Runs a command and gathers its output.
    ///
    /// # Errors
    ///
    /// [`ExecFailed`](MicrosandboxError::ExecFailed) when it could not be started. A command
    /// that fails is not an error: see [`ExecOutput::status`].
    pub async fn exec(
        &self,
        cmd: impl Into<String>,
        args: impl IntoIterator<Item = impl Into<String>>,
    ) -> MicrosandboxResult<ExecOutput> {
        self.exec_with(cmd, |options| options.args(args)).await
    }

    /// Runs a command with options and gathers its output.
    pub async fn exec_with(
        &self,
        cmd: impl Into<String>,
        f: impl FnOnce(ExecOptionsBuilder) -> ExecOptionsBuilder,
    ) -> MicrosandboxResult<ExecOutput> {
        let mut handle = self.exec_stream_with(cmd, f).await?;
        match handle.collect().await {
            Ok(output) => Ok(output),
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// Starts a command and returns while it runs.
    pub async fn exec_stream(
        &self,
        cmd: impl Into<String>,
        args: impl IntoIterator<Item = impl Into<String>>,
    ) -> MicrosandboxResult<ExecHandle> {
        self.exec_stream_with(cmd, |options| options.args(args))
            .await
    }

    /// Starts a command with options and returns while it runs.
    pub async fn exec_stream_with(
        &self,
        cmd: impl Into<String>,
        f: impl FnOnce(ExecOptionsBuilder) -> ExecOptionsBuilder,
    ) -> MicrosandboxResult<ExecHandle> {
        let (options, detachable) = f(ExecOptionsBuilder::default()).build_start()?;
        self.run(cmd.into(), options, detachable, DEFAULT_TERMINAL)
            .await
    }

    /// Runs a script in the sandbox's shell and gathers its output.
    pub async fn shell(&self, script: impl Into<String>) -> MicrosandboxResult<ExecOutput> {
        self.shell_with(script, |options| options).await
    }

    /// Runs a script with options in the sandbox's shell and gathers its output.
    pub async fn shell_with(
        &self,
        script: impl Into<String>,
        f: impl FnOnce(ExecOptionsBuilder) -> ExecOptionsBuilder,
    ) -> MicrosandboxResult<ExecOutput> {
        let mut handle = self.shell_stream_with(script, f).await?;
        match handle.collect().await {
            Ok(output) => Ok(output),
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// Starts a script in the sandbox's shell and returns while it runs.
    pub async fn shell_stream(&self, script: impl Into<String>) -> MicrosandboxResult<ExecHandle> {
        self.shell_stream_with(script, |options| options).await
    }

    /// Starts a script with options in the sandbox's shell and returns while it runs.
    pub async fn shell_stream_with(
        &self,
        script: impl Into<String>,
        f: impl FnOnce(ExecOptionsBuilder) -> ExecOptionsBuilder,
    ) -> MicrosandboxResult<ExecHandle> {
        let script = script.into();
        self.exec_stream_with(self.shell_program(), |options| {
            f(options.arg("-c").arg(script))
        })
        .await
    }

    /// The sandbox's shell.
    pub(crate) fn shell_program(&self) -> String {
        let shell = self.config().runtime.shell.clone();
        shell.unwrap_or_else(|| DEFAULT_SHELL.to_owned())
    }

    /// The sandbox's sessions, the oldest first: commands that run, whoever started them, and those
    /// that ended while nobody held a handle on them and were not collected yet. The guest keeps
    /// the newest 256 of the latter.
    pub async fn sessions(&self) -> MicrosandboxResult<Vec<SessionInfo>> {
        let listing = async {
            let conversation = self.dial().await?;
            Ok(exec::list(conversation).await?)
        };
        match listing.await {
            Ok(sessions) => Ok(sessions),
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// Goes on with a session that nobody holds a handle on, at the output that nobody received.
    /// Of what a command wrote meanwhile the guest keeps the newest MiB;
    /// [`ExecHandle::dropped_bytes`] says how much is missing. A command that has ended is
    /// collected by this: its end is received after its output.
    ///
    /// # Errors
    ///
    /// [`SessionNotFound`](MicrosandboxError::SessionNotFound), and
    /// [`SessionAttached`](MicrosandboxError::SessionAttached) while somebody else holds a handle.
    pub async fn attach_session(&self, id: impl AsRef<str>) -> MicrosandboxResult<ExecHandle> {
        let id = id.as_ref();
        let Ok(session) = id.parse() else {
            return Err(MicrosandboxError::SessionNotFound(id.to_owned()));
        };
        let attaching = async {
            let conversation = self.dial().await?;
            exec::attach(conversation, session).await
        };
        let error = match attaching.await {
            Ok(handle) => return Ok(handle),
            Err(error) => error,
        };
        if let MicrosandboxError::Protocol(ConversationError::RefusedByAgent(refusal)) = &error {
            match refusal.kind {
                RefusalKind::NoSession => {
                    return Err(MicrosandboxError::SessionNotFound(id.to_owned()));
                }
                RefusalKind::Attached => {
                    return Err(MicrosandboxError::SessionAttached(id.to_owned()));
                }
                _ => {}
            }
        }
        Err(self.explain(error).await)
    }

    /// A conversation with its agent.
    async fn dial(&self) -> MicrosandboxResult<Conversation> {
        match self.not_running() {
            Some(error) => Err(error),
            None => self.backend.sandboxes().dial(self.name()).await,
        }
    }

    /// Starts a command; its terminal, if it gets one, has this size.
    pub(crate) async fn run(
        &self,
        program: String,
        options: ExecOptions,
        detachable: bool,
        size: TerminalSize,
    ) -> MicrosandboxResult<ExecHandle> {
        let (stdin, input) = standard_input(options.stdin, options.tty);
        let runtime = &self.config().runtime;
        let request = ExecRequest {
            program,
            args: options.args,
            env: options.env,
            cwd: options.cwd.or_else(|| runtime.workdir.clone()),
            user: options.user.or_else(|| runtime.user.clone()),
            stdin,
            terminal: options.tty.then_some(size),
            // The command's own come last, and the last one counts.
            limits: [self.config().rlimits.as_slice(), &options.rlimits].concat(),
        };
        let start = Start {
            request,
            detachable,
            timeout: options.timeout,
        };
        // What lies beyond the clock's end is no deadline.
        let deadline = options
            .timeout
            .and_then(|timeout| Some((timeout, Instant::now().checked_add(timeout)?)));
        let starting = async {
            let conversation = self.dial().await?;
            exec::start(conversation, start, deadline.map(|(_, at)| at)).await
        };
        let started = match deadline {
            None => starting.await,
            Some((timeout, at)) => tokio::time::timeout_at(at, starting)
                .await
                .unwrap_or(Err(MicrosandboxError::ExecTimeout(timeout))),
        };
        let mut handle = match started {
            Ok(handle) => handle,
            Err(error) => return Err(self.explain(error).await),
        };
        if let Some(bytes) = input {
            handle.feed(bytes);
        }
        Ok(handle)
    }

    /// A broken conversation is explained by the run's end, and a refused one by its state,
    /// where those are known.
    pub(crate) async fn explain(&self, error: MicrosandboxError) -> MicrosandboxError {
        match &error {
            MicrosandboxError::Protocol(ConversationError::RefusedByAgent(refusal)) => {
                match refusal.kind {
                    RefusalKind::Draining | RefusalKind::ShuttingDown => {
                        MicrosandboxError::SandboxNotRunning {
                            name: self.name().to_owned(),
                            status: Some(SandboxStatus::Draining),
                            reason: None,
                        }
                    }
                    _ => error,
                }
            }
            // What breaks a conversation is nearly always the end of the run, which is told next.
            MicrosandboxError::Protocol(_)
            | MicrosandboxError::SandboxNotFound(_)
            | MicrosandboxError::SandboxNotRunning { .. } => match self.hear_end().await {
                Some(end) => self.ended_error(&end),
                None => error,
            },
            _ => error,
        }
    }
}

/// What the agent is told of a command's standard input, and what is to be written to it.
fn standard_input(mode: StdinMode, tty: bool) -> (Stdin, Option<Vec<u8>>) {
    match mode {
        // A terminal has no end of its own: whoever reads it is told with the key for that.
        StdinMode::Null if tty => (Stdin::Pipe, Some(END_OF_INPUT.to_vec())),
        StdinMode::Null => (Stdin::Null, None),
        StdinMode::Pipe => (Stdin::Pipe, None),
        StdinMode::Bytes(mut bytes) => {
            if tty {
                // In the middle of a line the key only ends the line.
                if bytes.last().is_some_and(|last| *last != b'\n') {
                    bytes.extend_from_slice(END_OF_INPUT);
                }
                bytes.extend_from_slice(END_OF_INPUT);
            }
            (Stdin::Pipe, Some(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_reads_to_the_end_finds_one() {
        let bytes = |text: &str| StdinMode::Bytes(text.as_bytes().to_vec());
        let typed = |mode, tty| {
            let (stdin, bytes) = standard_input(mode, tty);
            let bytes = bytes.map(|bytes| String::from_utf8(bytes).unwrap());
            (stdin, bytes)
        };
        let piped = |text: &str| (Stdin::Pipe, Some(text.to_owned()));
        assert_eq!(typed(StdinMode::Null, false), (Stdin::Null, None));
        assert_eq!(typed(StdinMode::Null, true), piped("\x04"));
        assert_eq!(typed(StdinMode::Pipe, true), (Stdin::Pipe, None));
        assert_eq!(typed(bytes("x"), false), piped("x"));
        assert_eq!(typed(bytes(""), false), piped(""));
        assert_eq!(typed(bytes(""), true), piped("\x04"));
        assert_eq!(typed(bytes("x\n"), true), piped("x\n\x04"));
        assert_eq!(typed(bytes("x"), true), piped("x\x04\x04"));
    }
}
