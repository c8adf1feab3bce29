//! Secrets: values that a guest may use and never see.
//!
//! A guest finds a *placeholder* in an environment variable. What it sends to an allowed host has the
//! value put in its place on the way out. So a value is on the host alone, and there only in
//! memory: [`SecretValue`] is not shown by `Debug`, is left out of everything that is stored, and is
//! overwritten when it is dropped.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The longest placeholder, in bytes.
pub const MAX_PLACEHOLDER_BYTES: usize = 1024;

/// The value of a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for SecretValue {
    fn from(value: String) -> Self {
        Self(Zeroizing::new(value))
    }
}

impl From<&str> for SecretValue {
    fn from(value: &str) -> Self {
        value.to_owned().into()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A secret: what it is, and who may have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretEntry {
    /// The environment variable with the placeholder.
    pub env_var: String,
    /// The value. It is never stored.
    #[serde(skip)]
    pub value: SecretValue,
    /// What the guest has instead.
    pub placeholder: String,
    /// The hosts that may have the value.
    #[serde(default)]
    pub allowed_hosts: Vec<HostPattern>,
    /// Where in a request it is put.
    #[serde(default)]
    pub injection: SecretInjection,
    /// Whether only connections whose far end is known by its certificate get it.
    #[serde(default = "yes")]
    pub require_tls_identity: bool,
    /// What happens when it is sent elsewhere, if that is not what holds for all.
    #[serde(default)]
    pub on_violation: Option<ViolationAction>,
}

/// Where in a request a value may take a placeholder's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretInjection {
    /// In every header.
    pub headers: bool,
    /// In the header with the user and password.
    pub basic_auth: bool,
    /// In the query.
    pub query_params: bool,
    /// In the body.
    pub body: bool,
}

impl Default for SecretInjection {
    fn default() -> Self {
        Self {
            headers: true,
            basic_auth: true,
            query_params: false,
            body: false,
        }
    }
}

/// Which hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPattern {
    /// The one of this name.
    Exact(String),
    /// Those below a name: `*.example.com`.
    Wildcard(String),
    /// Every one.
    Any,
}

/// What happens when a placeholder is sent to a host that may not have its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViolationAction {
    /// The request goes nowhere.
    Block,
    /// And the log has it.
    #[default]
    BlockAndLog,
    /// And the sandbox ends.
    BlockAndTerminate,
    /// To these hosts the placeholder goes as it is; to others, as by default.
    Passthrough(Vec<HostPattern>),
}

/// The secrets of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretsConfig {
    /// Each of them.
    pub secrets: Vec<SecretEntry>,
    /// What happens when one is sent where it may not go.
    pub on_violation: ViolationAction,
}

/// A secret that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSecret {
    /// No variable to find it in.
    #[error("a secret needs an environment variable; {env_var:?} is none (no '=', no zero byte)")]
    EnvVar {
        /// What was given.
        env_var: String,
    },
    /// No value.
    #[error("the secret in {env_var:?} has no value")]
    Value {
        /// The variable.
        env_var: String,
    },
    /// A placeholder that cannot stand in for it.
    #[error(
        "the placeholder of the secret in {env_var:?} must have 1 to {MAX_PLACEHOLDER_BYTES} bytes \
         and no control characters"
    )]
    Placeholder {
        /// The variable.
        env_var: String,
    },
    /// Nobody may have it.
    #[error("the secret in {env_var:?} goes to no host; name one with allow_host()")]
    NoHost {
        /// The variable.
        env_var: String,
    },
    /// A host that is none.
    #[error("{host:?} is no host for the secret in {env_var:?}")]
    Host {
        /// The variable.
        env_var: String,
        /// What was given.
        host: String,
    },
}

impl SecretEntry {
    /// Checks it. What is said of a bad one never has its value.
    pub fn validate(&self) -> Result<(), InvalidSecret> {
        let env_var = || self.env_var.clone();
        if self.env_var.is_empty() || self.env_var.contains(['=', '\0']) {
            return Err(InvalidSecret::EnvVar { env_var: env_var() });
        }
        if self.value.is_empty() {
            return Err(InvalidSecret::Value { env_var: env_var() });
        }
        let placeholder = &self.placeholder;
        if placeholder.is_empty()
            || placeholder.len() > MAX_PLACEHOLDER_BYTES
            || placeholder.contains(char::is_control)
        {
            return Err(InvalidSecret::Placeholder { env_var: env_var() });
        }
        if self.allowed_hosts.is_empty() {
            return Err(InvalidSecret::NoHost { env_var: env_var() });
        }
        match self.allowed_hosts.iter().find(|host| !host.is_valid()) {
            None => Ok(()),
            Some(host) => Err(InvalidSecret::Host {
                env_var: env_var(),
                host: host.to_string(),
            }),
        }
    }
}

impl HostPattern {
    /// A pattern as it is written: a name, or `*.` and a name.
    pub fn written(raw: &str) -> Self {
        match raw.contains('*') {
            true => Self::Wildcard(raw.to_owned()),
            false => Self::Exact(raw.to_owned()),
        }
    }

    /// Whether it names any host at all.
    pub fn is_valid(&self) -> bool {
        let named = |name: &str| name.parse::<crate::DomainName>().is_ok();
        match self {
            Self::Any => true,
            Self::Exact(name) => named(name) || name.parse::<std::net::IpAddr>().is_ok(),
            Self::Wildcard(pattern) => pattern.strip_prefix("*.").is_some_and(named),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) | Self::Wildcard(text) => f.write_str(text),
            Self::Any => f.write_str("*"),
        }
    }
}

const fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> SecretEntry {
        SecretEntry {
            env_var: "KEY".to_owned(),
            value: "hunter2".into(),
            placeholder: "$MSB_KEY".to_owned(),
            allowed_hosts: vec![HostPattern::Exact("api.example.com".to_owned())],
            injection: SecretInjection::default(),
            require_tls_identity: true,
            on_violation: None,
        }
    }

    #[test]
    fn a_value_is_neither_shown_nor_stored() {
        let entry = entry();
        let json = serde_json::to_string(&entry).unwrap();
        for text in [format!("{entry:?}"), format!("{entry:#?}"), json.clone()] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        let stored: SecretEntry = serde_json::from_str(&json).unwrap();
        assert!(stored.value.is_empty());
        assert_eq!(entry.value.expose(), "hunter2");
        // Not even where somebody wrote one into the file.
        let written = json.replacen('{', "{\"value\": \"hunter2\", ", 1);
        assert!(serde_json::from_str::<SecretEntry>(&written).is_err());
    }

    #[test]
    fn what_is_wrong_with_one_is_said_without_its_value() {
        let host = |host: HostPattern| vec![host];
        let wrong = [
            SecretEntry {
                env_var: String::new(),
                ..entry()
            },
            SecretEntry {
                env_var: "A=B".to_owned(),
                ..entry()
            },
            SecretEntry {
                value: "".into(),
                ..entry()
            },
            SecretEntry {
                placeholder: String::new(),
                ..entry()
            },
            SecretEntry {
                placeholder: "x".repeat(MAX_PLACEHOLDER_BYTES + 1),
                ..entry()
            },
            SecretEntry {
                placeholder: "a\r\nb".to_owned(),
                ..entry()
            },
            SecretEntry {
                allowed_hosts: Vec::new(),
                ..entry()
            },
            SecretEntry {
                allowed_hosts: host(HostPattern::Exact("a b".to_owned())),
                ..entry()
            },
            SecretEntry {
                allowed_hosts: host(HostPattern::Wildcard("x".to_owned())),
                ..entry()
            },
        ];
        for entry in wrong {
            let error = entry.validate().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert_eq!(entry().validate(), Ok(()));
        let any = SecretEntry {
            allowed_hosts: host(HostPattern::Any),
            ..entry()
        };
        assert_eq!(any.validate(), Ok(()));
    }
}
