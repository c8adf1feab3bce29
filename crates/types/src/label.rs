//! Labels: what owners file their sandboxes under.

/// The longest key of a label, in bytes.
pub const MAX_LABEL_KEY_BYTES: usize = 128;

/// The longest value of a label, in bytes.
pub const MAX_LABEL_VALUE_BYTES: usize = 4096;

/// Keys that begin so are the library's.
const RESERVED_PREFIXES: [&str; 3] = ["sandbox.", "microsandbox.", "service."];

/// A label that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLabel {
    /// A key of no characters, or of too many.
    #[error("a label's key must have 1 to {MAX_LABEL_KEY_BYTES} bytes; {key:?} has {}", key.len())]
    KeyLength {
        /// The key.
        key: String,
    },
    /// A key with characters that no key has.
    #[error("the label's key {key:?} may have letters, digits, '.', '_', '-' and '/' only")]
    KeyCharacter {
        /// The key.
        key: String,
    },
    /// A key that is the library's.
    #[error("the label {key:?} is reserved: choose a key that does not begin with {prefix:?}")]
    Reserved {
        /// The key.
        key: String,
        /// The beginning that makes it so.
        prefix: &'static str,
    },
    /// A value of too many characters.
    #[error(
        "the value of label {key:?} is {length} bytes long; at most {MAX_LABEL_VALUE_BYTES} are allowed"
    )]
    ValueLength {
        /// The key.
        key: String,
        /// The length of the value in bytes.
        length: usize,
    },
}

/// Checks a label that an owner gives a sandbox.
pub fn validate_label(key: &str, value: &str) -> Result<(), InvalidLabel> {
    let owned = || key.to_owned();
    if key.is_empty() || key.len() > MAX_LABEL_KEY_BYTES {
        return Err(InvalidLabel::KeyLength { key: owned() });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if !key.chars().all(allowed) {
        return Err(InvalidLabel::KeyCharacter { key: owned() });
    }
    if let Some(prefix) = RESERVED_PREFIXES
        .iter()
        .find(|prefix| key.starts_with(**prefix))
    {
        return Err(InvalidLabel::Reserved {
            key: owned(),
            prefix,
        });
    }
    if value.len() > MAX_LABEL_VALUE_BYTES {
        return Err(InvalidLabel::ValueLength {
            key: owned(),
            length: value.len(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_labels_pass_and_bad_ones_say_why() {
        assert_eq!(validate_label("team/owner-1.x", "any thing at all"), Ok(()));
        let long = "k".repeat(MAX_LABEL_KEY_BYTES + 1);
        for key in ["", &long] {
            assert!(matches!(
                validate_label(key, ""),
                Err(InvalidLabel::KeyLength { .. })
            ));
        }
        assert!(matches!(
            validate_label("a b", ""),
            Err(InvalidLabel::KeyCharacter { .. })
        ));
        for key in ["sandbox.x", "microsandbox.x", "service.x"] {
            assert!(matches!(
                validate_label(key, ""),
                Err(InvalidLabel::Reserved { .. })
            ));
        }
        let long = "v".repeat(MAX_LABEL_VALUE_BYTES + 1);
        assert!(matches!(
            validate_label("k", &long),
            Err(InvalidLabel::ValueLength { .. })
        ));
    }
}
