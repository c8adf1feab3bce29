//! Names of sandboxes and of the hosts they pretend to be.

/// The longest sandbox name, in bytes.
pub const MAX_SANDBOX_NAME_BYTES: usize = 128;

/// The longest host name the guest's kernel takes, in bytes.
pub const MAX_HOSTNAME_BYTES: usize = 64;

/// Bytes of a long name that go into the host name derived from it.
const HOSTNAME_PREFIX_BYTES: usize = 55;

/// A name that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// No name at all.
    #[error("a name must have at least one character")]
    Empty,
    /// A name beyond its limit.
    #[error("the name is {length} bytes long; at most {limit} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The most it may have.
        limit: usize,
    },
    /// A name with a character that is not allowed where it stands.
    #[error(
        "{name:?} is not a usable name: begin with a letter or digit, and go on with letters, \
         digits, '.', '_' or '-'"
    )]
    Character {
        /// The name.
        name: String,
    },
}

/// Checks a sandbox name: 1 to 128 bytes of `[A-Za-z0-9][A-Za-z0-9._-]*`.
pub fn validate_sandbox_name(name: &str) -> Result<(), InvalidName> {
    check(name, MAX_SANDBOX_NAME_BYTES)
}

/// Checks a host name: 1 to 64 bytes of the same characters.
pub fn validate_hostname(name: &str) -> Result<(), InvalidName> {
    check(name, MAX_HOSTNAME_BYTES)
}

fn check(name: &str, limit: usize) -> Result<(), InvalidName> {
    let Some(first) = name.chars().next() else {
        return Err(InvalidName::Empty);
    };
    if name.len() > limit {
        return Err(InvalidName::TooLong {
            length: name.len(),
            limit,
        });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if first.is_ascii_alphanumeric() && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(InvalidName::Character {
            name: name.to_owned(),
        })
    }
}

/// The host name of a sandbox that was given none: its own name, or, where that is too
/// long, the beginning of it and eight digits that keep it apart from its like.
pub fn derived_hostname(name: &str) -> String {
    if name.len() <= MAX_HOSTNAME_BYTES {
        return name.to_owned();
    }
    // FNV-1a: only to tell names apart, and the same in every release.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let prefix: String = name.chars().take(HOSTNAME_PREFIX_BYTES).collect();
    format!("{prefix}-{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass() {
        for name in ["a", "7", "web-1", "A.b_c-d", &"x".repeat(128)] {
            assert_eq!(validate_sandbox_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn bad_names_say_why() {
        assert_eq!(validate_sandbox_name(""), Err(InvalidName::Empty));
        let long = "x".repeat(129);
        assert_eq!(
            validate_sandbox_name(&long),
            Err(InvalidName::TooLong {
                length: 129,
                limit: 128
            })
        );
        for name in ["-a", ".", "..", "a/b", "a b", "ä", "a\0"] {
            assert!(
                matches!(
                    validate_sandbox_name(name),
                    Err(InvalidName::Character { .. })
                ),
                "{name:?}"
            );
        }
    }

    #[test]
    fn long_names_make_distinct_host_names() {
        let (a, b) = (
            format!("{}a", "n".repeat(100)),
            format!("{}b", "n".repeat(100)),
        );
        for name in [&a, &b] {
            assert_eq!(validate_hostname(&derived_hostname(name)), Ok(()));
        }
        assert_ne!(derived_hostname(&a), derived_hostname(&b));
        assert_eq!(derived_hostname("short"), "short");
    }
}
