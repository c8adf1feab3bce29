//! Secrets, and what becomes of those who send them where they may not go.

use msb_types::{HostPattern, SecretEntry, SecretInjection, SecretValue, ViolationAction};

/// Describes a secret. Its value is not shown by `Debug`.
#[derive(Clone, Debug)]
pub struct SecretBuilder {
    entry: SecretEntry,
}

impl Default for SecretBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl SecretBuilder {
    /// One that is put in headers, for hosts that prove who they are.
    pub fn new() -> Self {
        Self {
            entry: SecretEntry {
                env_var: String::new(),
                value: SecretValue::default(),
                placeholder: String::new(),
                allowed_hosts: Vec::new(),
                injection: SecretInjection::default(),
                require_tls_identity: true,
                on_violation: None,
            },
        }
    }

    /// The environment variable in which the guest finds its placeholder.
    #[must_use]
    pub fn env(mut self, var: impl Into<String>) -> Self {
        self.entry.env_var = var.into();
        self
    }

    /// The value, which the guest never sees.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.entry.value = value.into().into();
        self
    }

    /// What the guest has instead, up to 1024 bytes; `$MSB_` and the variable's name when not set.
    #[must_use]
    pub fn placeholder(mut self, placeholder: impl Into<String>) -> Self {
        self.entry.placeholder = placeholder.into();
        self
    }

    /// Lets the host of this name have the value.
    #[must_use]
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        let host = HostPattern::Exact(host.into());
        self.entry.allowed_hosts.push(host);
        self
    }

    /// Lets the hosts below a name have the value: `*.example.com`.
    #[must_use]
    pub fn allow_host_pattern(mut self, pattern: impl Into<String>) -> Self {
        let host = HostPattern::Wildcard(pattern.into());
        self.entry.allowed_hosts.push(host);
        self
    }

    /// Lets every host have the value, if told so with `true`.
    #[must_use]
    pub fn allow_any_host_dangerous(mut self, i_understand_the_risk: bool) -> Self {
        if i_understand_the_risk {
            self.entry.allowed_hosts.push(HostPattern::Any);
        }
        self
    }

    /// What happens when this one is sent where it may not go.
    #[must_use]
    pub fn on_violation(
        mut self,
        f: impl FnOnce(ViolationActionBuilder) -> ViolationActionBuilder,
    ) -> Self {
        self.entry.on_violation = Some(f(ViolationActionBuilder::new()).build());
        self
    }

    /// Whether a host must prove who it is by its certificate; true when not set.
    #[must_use]
    pub fn require_tls_identity(mut self, enabled: bool) -> Self {
        self.entry.require_tls_identity = enabled;
        self
    }

    /// Whether it is put in every header; true when not set.
    #[must_use]
    pub fn inject_headers(mut self, enabled: bool) -> Self {
        self.entry.injection.headers = enabled;
        self
    }

    /// Whether it is put in the header with user and password; true when not set.
    #[must_use]
    pub fn inject_basic_auth(mut self, enabled: bool) -> Self {
        self.entry.injection.basic_auth = enabled;
        self
    }

    /// Whether it is put in the query; false when not set.
    #[must_use]
    pub fn inject_query(mut self, enabled: bool) -> Self {
        self.entry.injection.query_params = enabled;
        self
    }

    /// Whether it is put in the body; false when not set.
    #[must_use]
    pub fn inject_body(mut self, enabled: bool) -> Self {
        self.entry.injection.body = enabled;
        self
    }

    /// The secret. Whether it is a good one is said by who takes it.
    pub fn build(mut self) -> SecretEntry {
        if self.entry.placeholder.is_empty() {
            self.entry.placeholder = format!("$MSB_{}", self.entry.env_var);
        }
        self.entry
    }
}

/// Describes what happens when a secret's placeholder is sent where its value may not go.
#[derive(Clone, Debug, Default)]
pub struct ViolationActionBuilder {
    action: ViolationAction,
    hosts: Vec<HostPattern>,
}

impl ViolationActionBuilder {
    /// The request is refused, and the log has it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The request is refused.
    #[must_use]
    pub fn block(mut self) -> Self {
        self.action = ViolationAction::Block;
        self
    }

    /// The request is refused, and the log has it.
    #[must_use]
    pub fn block_and_log(mut self) -> Self {
        self.action = ViolationAction::BlockAndLog;
        self
    }

    /// The request is refused, and the sandbox ends.
    #[must_use]
    pub fn block_and_terminate(mut self) -> Self {
        self.action = ViolationAction::BlockAndTerminate;
        self
    }

    /// The host of this name gets the placeholder as it is.
    #[must_use]
    pub fn passthrough_host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(HostPattern::Exact(host.into()));
        self
    }

    /// The hosts below a name get the placeholder as it is: `*.example.com`.
    #[must_use]
    pub fn passthrough_host_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.hosts.push(HostPattern::Wildcard(pattern.into()));
        self
    }

    /// Every host gets the placeholder as it is, if told so with `true`.
    #[must_use]
    pub fn passthrough_all_hosts(mut self, i_understand_the_risk: bool) -> Self {
        if i_understand_the_risk {
            self.hosts.push(HostPattern::Any);
        }
        self
    }

    /// The action. Where hosts are passed through, the rest is refused as by default.
    pub fn build(self) -> ViolationAction {
        match self.hosts.is_empty() {
            true => self.action,
            false => ViolationAction::Passthrough(self.hosts),
        }
    }
}
