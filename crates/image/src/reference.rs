//! References: what people call images, made whole as Docker does it.
//!
//! `python` means `docker.io/library/python:latest`. A reference may name a tag, a digest, or both; the digest
//! then says what the image must be. The grammar is that of the distribution's own crate.

use std::fmt;
use std::str::FromStr;

use oci_spec::distribution::{ParseError, Reference as Parsed};

use crate::Digest;

/// The longest reference, in bytes: registry, repository, tag and digest at their longest fit.
pub const MAX_REFERENCE: usize = 1024;

/// A reference with nothing left out. Its text is the same for all ways to write it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    parsed: Parsed,
    digest: Option<Digest>,
}

/// A text that is no reference.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// It is longer than [`MAX_REFERENCE`].
    #[error("a reference has at most {MAX_REFERENCE} bytes, and this one {0}")]
    TooLong(usize),
    /// It does not read as one.
    #[error(
        "{text:?} is no reference to an image; one is like `debian:12` or `registry.example/team/app:1.0`"
    )]
    Invalid {
        /// The text.
        text: String,
        /// What is wrong.
        #[source]
        source: ParseError,
    },
    /// Its digest is none that is understood here.
    #[error(
        "{text:?} names its image by a digest other than SHA-256; name it by that, or by a tag"
    )]
    Digest {
        /// The text.
        text: String,
    },
}

impl Reference {
    /// The registry: `docker.io`, `registry.example:5000`.
    pub fn registry(&self) -> &str {
        self.parsed.registry()
    }

    /// The repository: `library/python`.
    pub fn repository(&self) -> &str {
        self.parsed.repository()
    }

    /// The tag. There is one unless there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.parsed.tag()
    }

    /// The digest: of an image's manifest, or of an index that leads to it.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// As the registry's client takes it.
    pub fn parsed(&self) -> &Parsed {
        &self.parsed
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > MAX_REFERENCE {
            return Err(ReferenceError::TooLong(text.len()));
        }
        let invalid = |source| ReferenceError::Invalid {
            text: text.to_owned(),
            source,
        };
        let parsed = Parsed::try_from(text).map_err(invalid)?;
        // Capitals are for host names. What stands where one could and turns out to be none passed for one.
        if parsed
            .repository()
            .bytes()
            .any(|byte| byte.is_ascii_uppercase())
        {
            return Err(invalid(ParseError::NameContainsUppercase));
        }
        let digest = parsed.digest().map(Digest::from_str).transpose();
        let digest = digest.map_err(|_| ReferenceError::Digest {
            text: text.to_owned(),
        })?;
        Ok(Self { parsed, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.parsed, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_left_out_is_filled_in() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, whole) in [
            ("python", "docker.io/library/python:latest"),
            ("docker.io/python", "docker.io/library/python:latest"),
            ("index.docker.io/python", "docker.io/library/python:latest"),
            ("team/app:1.0", "docker.io/team/app:1.0"),
            ("localhost/app", "localhost/app:latest"),
            ("r.example:5000/app:1", "r.example:5000/app:1"),
            (
                &format!("python@{digest}"),
                &format!("docker.io/library/python@{digest}"),
            ),
            (
                &format!("python:3@{digest}"),
                &format!("docker.io/library/python:3@{digest}"),
            ),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), whole);
            assert_eq!(whole.parse::<Reference>().unwrap(), reference);
        }
    }

    proptest! {
        #[test]
        fn what_is_whole_reads_as_itself(text in "([aA0.:-]{0,6}/){0,2}[aA0._-]{1,6}(:[aA0é._-]{1,4})?(@sha256:[0a]{64})?") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let sha512 = format!("python@sha512:{}", "0".repeat(128));
        let upper = format!("python@sha256:{}", "A".repeat(64));
        let long = "a".repeat(300);
        for text in [
            "", "Python", "Team/app", "a b", "../etc", "/x", &sha512, &upper, &long,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        let huge = "a/".repeat(1 << 20);
        assert!(matches!(
            huge.parse::<Reference>(),
            Err(ReferenceError::TooLong(_))
        ));
    }
}
