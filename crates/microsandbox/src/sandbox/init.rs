//! The program that becomes the guest's PID 1, step by step.

use std::path::PathBuf;

use msb_types::{EnvVar, HandoffInit};

/// Describes what the guest's own init is started with.
#[derive(Clone, Debug, Default)]
pub struct InitOptionsBuilder {
    args: Vec<String>,
    env: Vec<EnvVar>,
}

impl InitOptionsBuilder {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push(EnvVar {
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// Adds environment variables.
    #[must_use]
    pub fn envs(
        mut self,
        vars: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        for (key, value) in vars {
            self = self.env(key, value);
        }
        self
    }

    pub(super) fn build(self, cmd: PathBuf) -> HandoffInit {
        HandoffInit {
            cmd,
            args: self.args,
            env: self.env,
        }
    }
}
