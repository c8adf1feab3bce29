//! What is mounted, and what is changed in its root.

use msb_types::Patch;

use super::SandboxBuilder;
use crate::sandbox::{MountBuilder, PatchBuilder};

impl SandboxBuilder {
    /// Mounts something at this path of the guest.
    #[must_use]
    pub fn volume(
        mut self,
        guest_path: impl Into<String>,
        f: impl FnOnce(MountBuilder) -> MountBuilder,
    ) -> Self {
        match f(MountBuilder::new(guest_path)).finish() {
            Ok(mount) => self.config.mounts.push(mount),
            Err(mistake) => self.mistake(mistake),
        }
        self
    }

    /// Changes its root file system before it is first booted.
    #[must_use]
    pub fn patch(mut self, f: impl FnOnce(PatchBuilder) -> PatchBuilder) -> Self {
        self.config.patches.extend(f(PatchBuilder::new()).build());
        self
    }

    /// Makes one change of its root file system before it is first booted.
    #[must_use]
    pub fn add_patch(mut self, patch: Patch) -> Self {
        self.config.patches.push(patch);
        self
    }
}
