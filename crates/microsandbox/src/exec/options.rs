//! What a command runs with.

use std::time::Duration;

pub use msb_protocol::Resource as RlimitResource;
use msb_protocol::ResourceLimit;

use crate::error::{MicrosandboxError, MicrosandboxResult};

/// Where a command's standard input comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StdinMode {
    /// `/dev/null`.
    #[default]
    Null,
    /// The [`ExecSink`](crate::ExecSink) of the handle.
    Pipe,
    /// These bytes, and then the end.
    Bytes(Vec<u8>),
}

/// What a command runs with, beside its name.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// Its arguments.
    pub args: Vec<String>,
    /// Its working directory.
    pub cwd: Option<String>,
    /// Who runs it: `name`, `uid`, `user:group`.
    pub user: Option<String>,
    /// Its environment, over the sandbox's.
    pub env: Vec<(String, String)>,
    /// How long it may run before it is killed.
    pub timeout: Option<Duration>,
    /// Its standard input.
    pub stdin: StdinMode,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Its resource limits.
    pub rlimits: Vec<ResourceLimit>,
}

/// Makes [`ExecOptions`].
#[derive(Clone, Debug, Default)]
pub struct ExecOptionsBuilder {
    options: ExecOptions,
    detachable: bool,
    error: Option<String>,
}

impl ExecOptionsBuilder {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.options.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.options.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, cwd: impl Into<String>) -> Self {
        self.options.cwd = Some(cwd.into());
        self
    }

    /// Sets who runs it: `name`, `uid`, `user:group`.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.options.user = Some(user.into());
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.env.push((key.into(), value.into()));
        self
    }

    /// Adds environment variables.
    #[must_use]
    pub fn envs(
        mut self,
        vars: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        self.options.env.extend(
            vars.into_iter()
                .map(|(key, value)| (key.into(), value.into())),
        );
        self
    }

    /// Kills the command when it runs longer than this.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Standard input is `/dev/null`. This is the default.
    #[must_use]
    pub fn stdin_null(mut self) -> Self {
        self.options.stdin = StdinMode::Null;
        self
    }

    /// Standard input is written through the handle's [`ExecSink`](crate::ExecSink).
    #[must_use]
    pub fn stdin_pipe(mut self) -> Self {
        self.options.stdin = StdinMode::Pipe;
        self
    }

    /// Standard input is these bytes, of any number.
    #[must_use]
    pub fn stdin_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.options.stdin = StdinMode::Bytes(bytes.into());
        self
    }

    /// Whether the command gets a terminal; its output then comes as standard output.
    #[must_use]
    pub fn tty(mut self, tty: bool) -> Self {
        self.options.tty = tty;
        self
    }

    /// Whether the command lives on, to be attached again, when this program ends however that
    /// may be, if the sandbox does. Dropping its handle ends it all the same.
    #[must_use]
    pub fn detachable(mut self, detachable: bool) -> Self {
        self.detachable = detachable;
        self
    }

    /// Sets a resource limit, soft and hard alike.
    #[must_use]
    pub fn rlimit(self, resource: RlimitResource, limit: u64) -> Self {
        self.rlimit_range(resource, limit, limit)
    }

    /// Sets a resource limit.
    #[must_use]
    pub fn rlimit_range(mut self, resource: RlimitResource, soft: u64, hard: u64) -> Self {
        if soft > hard {
            let error = format!("the soft limit {soft} is above the hard limit {hard}");
            self.error.get_or_insert(error);
        }
        self.options.rlimits.push(ResourceLimit {
            resource,
            soft,
            hard,
        });
        self
    }

    /// The options, and whether the command is to live on when this program ends, which is a matter of
    /// one start.
    pub(crate) fn build_start(self) -> MicrosandboxResult<(ExecOptions, bool)> {
        let detachable = self.detachable;
        Ok((self.build()?, detachable))
    }

    /// The options, or what was wrong with the first setting that was.
    pub fn build(self) -> MicrosandboxResult<ExecOptions> {
        match self.error {
            Some(error) => Err(MicrosandboxError::InvalidConfig(error)),
            None => Ok(self.options),
        }
    }
}
