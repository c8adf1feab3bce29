//! How much has to stand between a guest that has taken its virtual machine monitor and the host.

use serde::{Deserialize, Serialize};

/// The least that has to be in force around a sandbox's VMM, or it does not start.
///
/// A VMM always gives up all that its kernel lets it give up; a level changes nothing of that. It says with how
/// little a sandbox is not to run at all. Each level has what those before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IsolationLevel {
    /// Each thread can make only the system calls that its role needs; there are no new privileges, no
    /// descriptors but the machine's, no environment, and other processes of the user cannot look into it.
    Seccomp,
    /// And landlock: no path of the host can be opened, even if a filter of system calls has an error.
    /// It takes Linux 5.13; what older releases than 6.12 lack of it is not asked for.
    Landlock,
    /// And everything else, in full: namespaces of its own with an empty root, limits, no capabilities for good,
    /// landlock with all that Linux 6.12 has, and, if root starts it, a user that nobody else is.
    Full,
}

impl IsolationLevel {
    /// Its name, as it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::Full => "full",
        }
    }
}

impl std::fmt::Display for IsolationLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
