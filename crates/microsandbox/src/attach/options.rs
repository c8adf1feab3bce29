//! What a command runs with that gets the terminal.

use msb_types::ResourceLimit;

use super::detach_keys::DetachKeys;
use crate::error::MicrosandboxResult;
use crate::exec::{ExecOptions, ExecOptionsBuilder, RlimitResource, StdinMode};

/// What an attached command runs with, beside its name.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AttachOptions {
    /// Its arguments.
    pub args: Vec<String>,
    /// Its working directory.
    pub cwd: Option<String>,
    /// Who runs it: `name`, `uid`, `user:group`.
    pub user: Option<String>,
    /// Its environment, over the sandbox's.
    pub env: Vec<(String, String)>,
    /// What ends the attach and leaves the command running.
    pub detach_keys: DetachKeys,
    /// Its resource limits.
    pub rlimits: Vec<ResourceLimit>,
}

impl AttachOptions {
    /// The command's own part, and the keys.
    pub(super) fn split(self) -> (ExecOptions, DetachKeys) {
        let options = ExecOptions {
            args: self.args,
            cwd: self.cwd,
            user: self.user,
            env: self.env,
            stdin: StdinMode::Pipe,
            tty: true,
            rlimits: self.rlimits,
            ..ExecOptions::default()
        };
        (options, self.detach_keys)
    }
}

/// Makes [`AttachOptions`].
#[derive(Clone, Debug, Default)]
pub struct AttachOptionsBuilder {
    command: ExecOptionsBuilder,
    detach_keys: Option<String>,
}

impl AttachOptionsBuilder {
    /// Adds an argument.
    #[must_use]
    pub fn arg(self, arg: impl Into<String>) -> Self {
        self.command(|command| command.arg(arg))
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.command(|command| command.args(args))
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(self, cwd: impl Into<String>) -> Self {
        self.command(|command| command.cwd(cwd))
    }

    /// Sets who runs it: `name`, `uid`, `user:group`.
    #[must_use]
    pub fn user(self, user: impl Into<String>) -> Self {
        self.command(|command| command.user(user))
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.command(|command| command.env(key, value))
    }

    /// Adds environment variables.
    #[must_use]
    pub fn envs(
        self,
        vars: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        self.command(|command| command.envs(vars))
    }

    /// Sets the keys that end the attach and leave the command running, as
    /// [`DetachKeys::parse`] reads them; `ctrl-]` when nobody does.
    #[must_use]
    pub fn detach_keys(mut self, keys: impl Into<String>) -> Self {
        self.detach_keys = Some(keys.into());
        self
    }

    /// Sets a resource limit, soft and hard alike.
    #[must_use]
    pub fn rlimit(self, resource: RlimitResource, limit: u64) -> Self {
        self.command(|command| command.rlimit(resource, limit))
    }

    /// Sets a resource limit.
    #[must_use]
    pub fn rlimit_range(self, resource: RlimitResource, soft: u64, hard: u64) -> Self {
        self.command(|command| command.rlimit_range(resource, soft, hard))
    }

    /// The options.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::MicrosandboxError::InvalidConfig) says what was wrong with the first setting that
    /// was.
    pub fn build(self) -> MicrosandboxResult<AttachOptions> {
        let command = self.command.build()?;
        let detach_keys = match self.detach_keys {
            Some(keys) => DetachKeys::parse(&keys)?,
            None => DetachKeys::default_keys(),
        };
        Ok(AttachOptions {
            args: command.args,
            cwd: command.cwd,
            user: command.user,
            env: command.env,
            detach_keys,
            rlimits: command.rlimits,
        })
    }

    fn command(mut self, set: impl FnOnce(ExecOptionsBuilder) -> ExecOptionsBuilder) -> Self {
        self.command = set(self.command);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::AttachOptionsBuilder;
    use crate::{MicrosandboxError, RlimitResource};

    #[test]
    fn what_is_wrong_is_said_when_it_is_built() {
        let builder = AttachOptionsBuilder::default;
        for wrong in [
            builder().detach_keys("ctrl-"),
            builder().rlimit_range(RlimitResource::Cpu, 2, 1),
        ] {
            assert!(matches!(
                wrong.build(),
                Err(MicrosandboxError::InvalidConfig(_))
            ));
        }
    }

    #[test]
    fn a_command_gets_a_terminal_and_input() -> crate::MicrosandboxResult<()> {
        let options = AttachOptionsBuilder::default()
            .arg("-l")
            .args(["-c", "true"])
            .cwd("/tmp")
            .user("user")
            .env("A", "1")
            .envs([("B", "2")])
            .detach_keys("ctrl-p,ctrl-q")
            .build()?;
        let (command, keys) = options.split();
        assert_eq!(command.args, ["-l", "-c", "true"]);
        assert_eq!(command.cwd.as_deref(), Some("/tmp"));
        assert_eq!(command.user.as_deref(), Some("user"));
        assert_eq!(command.env.len(), 2);
        assert!(command.tty && command.timeout.is_none());
        assert_eq!(command.stdin, crate::StdinMode::Pipe);
        assert_eq!(keys.sequence(), [0x10, 0x11]);
        Ok(())
    }
}
