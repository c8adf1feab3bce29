//! Who one is to a registry.

use std::fmt;

/// How a registry is told who pulls. It is never stored.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum RegistryAuth {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A user with a password, or with a token in its place.
    Basic {
        /// The user.
        username: String,
        /// The password. It is not shown by `Debug`.
        password: String,
    },
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { username, .. } => f
                .debug_struct("Basic")
                .field("username", username)
                .finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let auth = RegistryAuth::Basic {
            username: "ann".to_owned(),
            password: "hunter2".to_owned(),
        };
        let text = format!("{auth:?}");
        assert!(text.contains("ann") && !text.contains("hunter2"), "{text}");
    }
}
