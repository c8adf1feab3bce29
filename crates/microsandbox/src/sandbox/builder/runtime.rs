//! What commands run with, and what is there before them.

use std::path::PathBuf;

use msb_types::{EnvVar, IsolationLevel, SecurityProfile};

use super::SandboxBuilder;
use crate::sandbox::InitOptionsBuilder;

impl SandboxBuilder {
    /// The directory commands run in.
    #[must_use]
    pub fn workdir(mut self, workdir: impl Into<String>) -> Self {
        self.config.runtime.workdir = Some(workdir.into());
        self
    }

    /// The shell that runs scripts; `/bin/sh` when not set.
    #[must_use]
    pub fn shell(mut self, shell: impl Into<String>) -> Self {
        self.config.runtime.shell = Some(shell.into());
        self
    }

    /// The guest's host name; made from the sandbox's name when not set.
    #[must_use]
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.config.runtime.hostname = Some(hostname.into());
        self
    }

    /// Who runs commands: `name`, `uid`, `user:group`; root when not set.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.config.runtime.user = Some(user.into());
        self
    }

    /// Adds a variable to the environment of every command.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.env.push(EnvVar {
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// Adds variables to the environment of every command.
    #[must_use]
    pub fn envs(
        mut self,
        vars: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        self.config
            .env
            .extend(vars.into_iter().map(|(key, value)| EnvVar {
                key: key.into(),
                value: value.into(),
            }));
        self
    }

    /// What a default command begins with, in place of the image's own. Commands that are named
    /// never use it.
    #[must_use]
    pub fn entrypoint(mut self, cmd: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.runtime.entrypoint = Some(cmd.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a script that every command finds by its name: a file in `/.msb/scripts`, which comes first
    /// in the `PATH` of each.
    #[must_use]
    pub fn script(mut self, name: impl Into<String>, content: impl Into<String>) -> Self {
        let scripts = &mut self.config.runtime.scripts;
        scripts.insert(name.into(), content.into());
        self
    }

    /// Adds scripts that every command finds by their names.
    #[must_use]
    pub fn scripts(
        mut self,
        scripts: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        for (name, content) in scripts {
            self = self.script(name, content);
        }
        self
    }

    /// Has this program become the guest's PID 1 once the agent has set the guest up: an absolute
    /// path in the guest, or `auto` to look for one in the usual places. The last one counts.
    ///
    /// A stop asks it to turn the machine off, and does that without it when half of the stop's time has
    /// passed. When it ends by itself, so does the sandbox
    /// ([`EndReason::InitEnded`](crate::EndReason::InitEnded)).
    #[must_use]
    pub fn init(self, cmd: impl Into<PathBuf>) -> Self {
        self.init_with(cmd, |options| options)
    }

    /// The same, with arguments and environment.
    #[must_use]
    pub fn init_with(
        mut self,
        cmd: impl Into<PathBuf>,
        f: impl FnOnce(InitOptionsBuilder) -> InitOptionsBuilder,
    ) -> Self {
        self.config.init = Some(f(InitOptionsBuilder::default()).build(cmd.into()));
        self
    }

    /// How much its commands may do; what their user may, when not set. What an init of the guest's own
    /// starts is not among them.
    #[must_use]
    pub fn security(mut self, profile: SecurityProfile) -> Self {
        self.config.security_profile = profile;
        self
    }

    /// Refuses to start it with less than this around its VMM, now and whenever it is started later, with
    /// [`MicrosandboxError::Isolation`](crate::MicrosandboxError::Isolation), before its guest's first instruction.
    /// Without, it starts with what the host has, which is told ([`isolation`](crate::isolation)).
    #[must_use]
    pub fn require_isolation(mut self, level: IsolationLevel) -> Self {
        self.config.require_isolation = Some(level);
        self
    }

    /// The command that whoever creates it runs first. Nothing runs by itself.
    #[doc(hidden)]
    #[must_use]
    pub fn initial_command(mut self, command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.initial_command = Some(command.into_iter().map(Into::into).collect());
        self.config.startup_command_requested = false;
        self
    }

    /// The command that runs by itself whenever it starts.
    #[doc(hidden)]
    #[must_use]
    pub fn persistent_initial_command(
        mut self,
        command: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.config.runtime.cmd = Some(command.into_iter().map(Into::into).collect());
        self.config.initial_command = None;
        self.config.startup_command_requested = true;
        self
    }
}
