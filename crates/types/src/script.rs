//! Names and sizes of the scripts that a sandbox brings along.

/// The longest name of a script, in bytes: what a file's name may have.
pub const MAX_SCRIPT_NAME_BYTES: usize = 255;

/// The largest script, in bytes.
pub const MAX_SCRIPT_BYTES: usize = 256 * 1024;

/// The most scripts of one sandbox.
pub const MAX_SCRIPTS: usize = 256;

/// A script that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidScript {
    /// A name of no characters, or of too many.
    #[error("a script's name must have 1 to {MAX_SCRIPT_NAME_BYTES} bytes; {name:?} has {}", name.len())]
    NameLength {
        /// The name.
        name: String,
    },
    /// A name that is no file's name.
    #[error(
        "the script's name {name:?} is no name of a file: no '/', no zero byte, not \".\" or \"..\""
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Too much content.
    #[error("the script {name:?} has {length} bytes; at most {MAX_SCRIPT_BYTES} are allowed")]
    Length {
        /// The name.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
}

/// Checks a script's name and size.
pub fn validate_script(name: &str, content: &str) -> Result<(), InvalidScript> {
    let owned = || name.to_owned();
    if name.is_empty() || name.len() > MAX_SCRIPT_NAME_BYTES {
        return Err(InvalidScript::NameLength { name: owned() });
    }
    if name.contains(['/', '\0']) || matches!(name, "." | "..") {
        return Err(InvalidScript::Name { name: owned() });
    }
    if content.len() > MAX_SCRIPT_BYTES {
        return Err(InvalidScript::Length {
            name: owned(),
            length: content.len(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_scripts_pass_and_bad_ones_say_why() {
        assert_eq!(validate_script("set-up.sh", "#!/bin/sh\n"), Ok(()));
        assert_eq!(validate_script(".hidden", ""), Ok(()));
        let long = "n".repeat(MAX_SCRIPT_NAME_BYTES + 1);
        for name in ["", &long] {
            let refused = validate_script(name, "");
            assert!(matches!(refused, Err(InvalidScript::NameLength { .. })));
        }
        for name in ["a/b", "/a", "a\0", ".", ".."] {
            let refused = validate_script(name, "");
            assert!(
                matches!(refused, Err(InvalidScript::Name { .. })),
                "{name:?}"
            );
        }
        let long = "x".repeat(MAX_SCRIPT_BYTES + 1);
        let refused = validate_script("a", &long);
        assert!(matches!(refused, Err(InvalidScript::Length { .. })));
    }
}
