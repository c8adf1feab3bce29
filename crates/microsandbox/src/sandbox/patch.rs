//! What is changed in a root file system before it is first booted, step by step.

use std::path::PathBuf;

use msb_types::Patch;

/// Makes a list of changes, which are made in its order. Paths in the guest are absolute.
#[derive(Clone, Debug, Default)]
pub struct PatchBuilder {
    patches: Vec<Patch>,
}

impl PatchBuilder {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    fn add(mut self, patch: Patch) -> Self {
        self.patches.push(patch);
        self
    }

    /// Writes text to a file.
    #[must_use]
    pub fn text(
        self,
        path: impl Into<String>,
        content: impl Into<String>,
        mode: Option<u32>,
        replace: bool,
    ) -> Self {
        self.add(Patch::Text {
            path: path.into(),
            content: content.into(),
            mode,
            replace,
        })
    }

    /// Writes bytes to a file.
    #[must_use]
    pub fn file(
        self,
        path: impl Into<String>,
        content: impl Into<Vec<u8>>,
        mode: Option<u32>,
        replace: bool,
    ) -> Self {
        self.add(Patch::File {
            path: path.into(),
            content: content.into(),
            mode,
            replace,
        })
    }

    /// Copies a file of the host; it keeps its mode when none is given.
    #[must_use]
    pub fn copy_file(
        self,
        src: impl Into<PathBuf>,
        dst: impl Into<String>,
        mode: Option<u32>,
        replace: bool,
    ) -> Self {
        self.add(Patch::CopyFile {
            src: src.into(),
            dst: dst.into(),
            mode,
            replace,
        })
    }

    /// Copies a directory of the host, with all that is in it.
    #[must_use]
    pub fn copy_dir(self, src: impl Into<PathBuf>, dst: impl Into<String>, replace: bool) -> Self {
        self.add(Patch::CopyDir {
            src: src.into(),
            dst: dst.into(),
            replace,
        })
    }

    /// Makes a symbolic link at `link` that says `target`.
    #[must_use]
    pub fn symlink(
        self,
        target: impl Into<String>,
        link: impl Into<String>,
        replace: bool,
    ) -> Self {
        self.add(Patch::Symlink {
            target: target.into(),
            link: link.into(),
            replace,
        })
    }

    /// Makes a directory, unless it is there.
    #[must_use]
    pub fn mkdir(self, path: impl Into<String>, mode: Option<u32>) -> Self {
        self.add(Patch::Mkdir {
            path: path.into(),
            mode,
        })
    }

    /// Removes what is there, if anything is.
    #[must_use]
    pub fn remove(self, path: impl Into<String>) -> Self {
        self.add(Patch::Remove { path: path.into() })
    }

    /// Adds text to the end of a file.
    #[must_use]
    pub fn append(self, path: impl Into<String>, content: impl Into<String>) -> Self {
        self.add(Patch::Append {
            path: path.into(),
            content: content.into(),
        })
    }

    /// The changes.
    pub fn build(self) -> Vec<Patch> {
        self.patches
    }
}
