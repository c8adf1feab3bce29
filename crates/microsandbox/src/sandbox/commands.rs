//! Running commands in a sandbox.

use msb_protocol::{ExecRequest, RefusalKind, Stdin, TerminalSize};
use msb_runtime::conversation::ConversationError;

use super::{Sandbox, SandboxStatus};
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::exec::{self, ExecHandle, ExecOptions, ExecOptionsBuilder, ExecOutput, StdinMode};

/// The shell of a sandbox that names none.
const DEFAULT_SHELL: &str = "/bin/sh";

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
        let options = f(ExecOptionsBuilder::default()).build()?;
        self.run(cmd.into(), options, DEFAULT_TERMINAL).await
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

    /// Starts a command; its terminal, if it gets one, has this size.
    pub(crate) async fn run(
        &self,
        program: String,
        options: ExecOptions,
        size: TerminalSize,
    ) -> MicrosandboxResult<ExecHandle> {
        if let Some(error) = self.not_running() {
            return Err(error);
        }
        let (stdin, input) = match options.stdin {
            StdinMode::Null => (Stdin::Null, None),
            StdinMode::Pipe => (Stdin::Pipe, None),
            StdinMode::Bytes(bytes) => (Stdin::Pipe, Some(bytes)),
        };
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
        let starting = async {
            let conversation = self.backend.sandboxes().dial(self.name()).await?;
            exec::start(conversation, request).await
        };
        let started = match options.timeout {
            None => starting.await,
            Some(timeout) => tokio::time::timeout(timeout, starting)
                .await
                .unwrap_or(Err(MicrosandboxError::ExecTimeout(timeout))),
        };
        let mut handle = match started {
            Ok(handle) => handle,
            Err(error) => return Err(self.explain(error).await),
        };
        if let Some(timeout) = options.timeout {
            handle.limit(timeout);
        }
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
