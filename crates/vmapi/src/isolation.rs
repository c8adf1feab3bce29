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

/// What a machine is not built without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The layer.
    pub layer: Layer,
    /// How far it has to come, at least.
    pub strength: Strength,
}

impl Layer {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Descriptors,
        Self::Environment,
        Self::NoNewPrivileges,
        Self::OwnUser,
        Self::UserNamespace,
        Self::EmptyRoot,
        Self::NetworkNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::Limits,
        Self::Landlock,
        Self::Capabilities,
        Self::NotDumpable,
        Self::Seccomp,
    ];

    /// What whoever runs this host can do to have it in full.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::UserNamespace
            | Self::EmptyRoot
            | Self::NetworkNamespace
            | Self::IpcNamespace
            | Self::UtsNamespace
            | Self::Capabilities => {
                "allow unprivileged user namespaces: `sudo sysctl user.max_user_namespaces=10000`, where there \
                 is such a setting `kernel.unprivileged_userns_clone=1` and \
                 `kernel.apparmor_restrict_unprivileged_userns=0`; in a container, its filter of system calls \
                 has to allow unshare and mount"
            }
            Self::Landlock => {
                "use Linux 6.12 or later (5.13 for the least of it) with `landlock` in `lsm=` on its command line"
            }
            Self::OwnUser => {
                "run as an ordinary user, or in a container that maps ids from 1879048192 on"
            }
            Self::NoNewPrivileges | Self::Seccomp => {
                "use a kernel with CONFIG_SECCOMP_FILTER, and a container that allows the call seccomp"
            }
            Self::Descriptors | Self::Environment | Self::Limits | Self::NotDumpable => {
                "something forbids the call that this takes, such as a container's filter: have it allowed"
            }
        }
    }

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

    /// Those of `required` that are not met.
    pub fn unmet<'a>(
        &'a self,
        required: &'a [Requirement],
    ) -> impl Iterator<Item = LayerReport> + 'a {
        required
            .iter()
            .filter(|wanted| self.strength(wanted.layer) < wanted.strength)
            .map(|wanted| {
                let mut reports = self.layers.iter();
                let found = reports.find(|report| report.layer == wanted.layer).cloned();
                found.unwrap_or(LayerReport {
                    layer: wanted.layer,
                    strength: Strength::Missing,
                    detail: None,
                })
            })
    }

    /// The layers that are in force, in full or in part.
    pub fn in_force(&self) -> impl Iterator<Item = &LayerReport> {
        let reports = self.layers.iter();
        reports.filter(|report| report.strength > Strength::Missing)
    }

    /// The layers that are not in force at all, of those that were tried.
    pub fn missing(&self) -> impl Iterator<Item = &LayerReport> {
        let reports = self.layers.iter();
        reports.filter(|report| report.strength == Strength::Missing)
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

    #[test]
    fn what_is_required_and_not_there_is_named() {
        let isolation = Isolation {
            layers: vec![LayerReport {
                layer: Layer::Landlock,
                strength: Strength::Partial,
                detail: Some("paths only".to_owned()),
            }],
        };
        let need = |layer, strength| Requirement { layer, strength };
        let met = [need(Layer::Landlock, Strength::Partial)];
        assert_eq!(isolation.unmet(&met).count(), 0);
        let required = [
            need(Layer::Landlock, Strength::Full),
            need(Layer::EmptyRoot, Strength::Partial),
        ];
        let unmet: Vec<String> = isolation
            .unmet(&required)
            .map(|report| report.to_string())
            .collect();
        assert_eq!(
            unmet,
            ["landlock in part (paths only)", "empty root missing"]
        );
        assert_eq!(isolation.in_force().count(), 1);
        assert_eq!(isolation.missing().count(), 0);
    }

    #[test]
    fn each_layer_is_in_the_list_once() {
        let names: std::collections::HashSet<&str> =
            Layer::ALL.iter().map(|layer| layer.as_str()).collect();
        assert_eq!(names.len(), Layer::ALL.len());
        assert!(Layer::ALL.iter().all(|layer| !layer.advice().is_empty()));
    }
}
