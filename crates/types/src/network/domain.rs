//! Domain names, in the one form in which they are compared.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes.
const MAX_BYTES: usize = 253;

/// The longest label, in bytes.
const MAX_LABEL_BYTES: usize = 63;

/// A domain name: small letters, no dot at either end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);

/// A text that is no domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DomainNameError {
    /// No text, or too much.
    #[error("a domain name has 1 to {MAX_BYTES} bytes")]
    Length,
    /// A label of no characters, or of too many.
    #[error("each part of a domain name has 1 to {MAX_LABEL_BYTES} bytes")]
    LabelLength,
    /// A character that no name has.
    #[error(
        "a domain name has letters, digits, '-' and '_' between its dots, and no '-' at a part's \
         end; write other scripts as xn--"
    )]
    Character,
    /// A suffix that would be half of the internet.
    #[error("a suffix needs at least two parts")]
    SuffixTooShort,
}

impl DomainName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, if it may be a suffix: one with at least two parts.
    pub fn try_into_suffix(self) -> Result<Self, DomainNameError> {
        match self.0.contains('.') {
            true => Ok(self),
            false => Err(DomainNameError::SuffixTooShort),
        }
    }
}

impl FromStr for DomainName {
    type Err = DomainNameError;

    /// Reads a name, with or without a dot at its beginning or end, in letters of any size.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let name = name.strip_prefix('.').unwrap_or(name);
        if name.is_empty() || name.len() > MAX_BYTES {
            return Err(DomainNameError::Length);
        }
        for label in name.split('.') {
            if label.is_empty() || label.len() > MAX_LABEL_BYTES {
                return Err(DomainNameError::LabelLength);
            }
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if !label.chars().all(allowed) || label.starts_with('-') || label.ends_with('-') {
                return Err(DomainNameError::Character);
            }
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for DomainName {
    type Error = DomainNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DomainName> for String {
    fn from(name: DomainName) -> Self {
        name.0
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_one_form() {
        for text in ["API.Example.com", "api.example.com.", ".api.example.com"] {
            let name: DomainName = text.parse().unwrap();
            assert_eq!(name.as_str(), "api.example.com");
        }
        let long = format!("{}.com", "a".repeat(64));
        for text in [
            "",
            ".",
            "a..b",
            "a b",
            "-a.com",
            "a-.com",
            "bücher.de",
            "a/b",
            &long,
        ] {
            assert!(text.parse::<DomainName>().is_err(), "{text:?}");
        }
        let suffix = |text: &str| text.parse::<DomainName>().unwrap().try_into_suffix();
        assert_eq!(suffix("com"), Err(DomainNameError::SuffixTooShort));
        assert!(suffix("example.com").is_ok());
    }

    proptest! {
        /// Whatever is read is in its one form, and no text does harm.
        #[test]
        fn reading_is_idempotent(text in "\\PC{0,80}|[a-zA-Z0-9_.-]{0,300}") {
            if let Ok(name) = text.parse::<DomainName>() {
                prop_assert!(name.as_str().len() <= MAX_BYTES);
                prop_assert_eq!(name.as_str().parse::<DomainName>().unwrap(), name);
            }
        }
    }
}
