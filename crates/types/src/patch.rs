//! What is changed in a root file system before it is first booted.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A change of a root file system. Paths in the guest are absolute; modes are permission bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Patch {
    /// Writes text to a file.
    Text {
        /// The file.
        path: String,
        /// What is in it then.
        content: String,
        /// Its mode.
        mode: Option<u32>,
        /// Whether it may be there already.
        replace: bool,
    },
    /// Writes bytes to a file.
    File {
        /// The file.
        path: String,
        /// What is in it then.
        #[serde(with = "crate::bytes64")]
        content: Vec<u8>,
        /// Its mode.
        mode: Option<u32>,
        /// Whether it may be there already.
        replace: bool,
    },
    /// Copies a file of the host.
    CopyFile {
        /// The host's.
        src: PathBuf,
        /// The guest's.
        dst: String,
        /// Its mode; that of the host's file when not given.
        mode: Option<u32>,
        /// Whether it may be there already.
        replace: bool,
    },
    /// Copies a directory of the host, with all that is in it.
    CopyDir {
        /// The host's.
        src: PathBuf,
        /// The guest's.
        dst: String,
        /// Whether it may be there already.
        replace: bool,
    },
    /// Makes a symbolic link.
    Symlink {
        /// What it says.
        target: String,
        /// Where it is.
        link: String,
        /// Whether something may be there already.
        replace: bool,
    },
    /// Makes a directory, unless it is there.
    Mkdir {
        /// Where.
        path: String,
        /// Its mode.
        mode: Option<u32>,
    },
    /// Removes what is there, if anything is.
    Remove {
        /// Where.
        path: String,
    },
    /// Adds text to the end of a file.
    Append {
        /// The file.
        path: String,
        /// What is added.
        content: String,
    },
}
