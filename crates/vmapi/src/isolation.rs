//! What stands between a VMM and its host, as the VMM reports it.
//!
//! A VMM shuts itself in before its guest runs. How far it comes depends on the kernel: each *layer* is in
//! force, in part or not at all, and says so for itself, so that nobody has to guess and nothing is
//! silently less. Two layers are never missing, or there is no machine: [`Layer::NoNewPrivileges`] and
//! [`Layer::Seccomp`].

use serde::{Deserialize, Serialize};

/// What a VMM gave up before its guest ran.
///
/// The default has no layers at all: of a VMM that was told to stay outside of the jail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Isolation {
    /// Each layer that was tried, in the order in which it was.
    pub layers: Vec<LayerReport>,
}

/// How far one layer came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Which one.
    pub layer: Layer,
    /// How far.
    pub strength: Strength,
    /// What is missing and why, or what there is to know of it, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How far a layer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Strength {
    /// Not in force: the kernel does not have it, or refused it.
    Missing,
    /// In force, but not with all that it has on newer kernels.
    Partial,
    /// In force.
    Full,
}

/// One layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layer {
    /// Nothing that it would execute could give it more rights than it has.
    NoNewPrivileges,
    /// It leaves no core, and others of its user can neither trace it nor read its memory.
    NotDumpable,
    /// It has no descriptors but those of its machine.
    Descriptors,
    /// It has no environment.
    Environment,
    /// Its memory, files, descriptors and processes are limited.
    Limits,
    /// Started by root, it has become a user that nobody else is.
    OwnUser,
    /// It is in a user namespace of its own, in which it has no rights either.
    UserNamespace,
    /// Its file system is one empty directory that cannot be written to.
    EmptyRoot,
    /// It has a network of its own, in which there is nothing.
    NetworkNamespace,
    /// It has System V IPC and message queues of its own, of which there are none.
    IpcNamespace,
    /// It has a host name of its own.
    UtsNamespace,
    /// No path, no TCP port, no abstract socket and no process outside can be reached.
    Landlock,
    /// It has no capabilities, and cannot get any.
    Capabilities,
    /// Each of its threads can make only the system calls that its role needs.
    Seccomp,
}

impl Layer {
    /// Its name, as it is written in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoNewPrivileges => "no new privileges",
            Self::NotDumpable => "not dumpable",
            Self::Descriptors => "descriptors",
            Self::Environment => "environment",
            Self::Limits => "limits",
            Self::OwnUser => "user of its own",
            Self::UserNamespace => "user namespace",
            Self::EmptyRoot => "empty root",
            Self::NetworkNamespace => "network namespace",
            Self::IpcNamespace => "IPC namespace",
            Self::UtsNamespace => "UTS namespace",
            Self::Landlock => "landlock",
            Self::Capabilities => "capabilities",
            Self::Seccomp => "seccomp",
        }
    }
}

impl Isolation {
    /// Whether there is no jail at all.
    pub fn is_none(&self) -> bool {
        self.layers.is_empty()
    }

    /// How far a layer came; one that was not tried is missing.
    pub fn strength(&self, layer: Layer) -> Strength {
        self.layers
            .iter()
            .find(|report| report.layer == layer)
            .map_or(Strength::Missing, |report| report.strength)
    }

    /// The layers that are not fully in force, of those that were tried.
    pub fn lacking(&self) -> impl Iterator<Item = &LayerReport> {
        self.layers
            .iter()
            .filter(|report| report.strength < Strength::Full)
    }
}

impl std::fmt::Display for LayerReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.layer.as_str())?;
        match self.strength {
            Strength::Full => {}
            Strength::Partial => f.write_str(" in part")?,
            Strength::Missing => f.write_str(" missing")?,
        }
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_in_json() {
        let isolation = Isolation {
            layers: vec![
                LayerReport {
                    layer: Layer::Seccomp,
                    strength: Strength::Full,
                    detail: None,
                },
                LayerReport {
                    layer: Layer::UserNamespace,
                    strength: Strength::Missing,
                    detail: Some("Operation not permitted".to_owned()),
                },
            ],
        };
        let text = r#"[{"layer":"seccomp","strength":"full"},{"layer":"user_namespace","strength":"missing","detail":"Operation not permitted"}]"#;
        assert_eq!(serde_json::to_string(&isolation).unwrap(), text);
        assert_eq!(serde_json::from_str::<Isolation>(text).unwrap(), isolation);
        let lacking: Vec<String> = isolation.lacking().map(ToString::to_string).collect();
        assert_eq!(
            lacking,
            ["user namespace missing (Operation not permitted)"]
        );
        assert_eq!(isolation.strength(Layer::Seccomp), Strength::Full);
        assert_eq!(isolation.strength(Layer::Landlock), Strength::Missing);
        assert!(Isolation::default().is_none());
    }
}
