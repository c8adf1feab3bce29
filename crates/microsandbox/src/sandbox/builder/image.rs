//! What its root file system is made from.

use std::path::PathBuf;

use msb_types::{Mebibytes, PullPolicy};

use super::SandboxBuilder;
use crate::sandbox::{ImageBuilder, IntoImage, RegistryConfigBuilder};

impl SandboxBuilder {
    /// What its root file system is: a reference to a container image, `python:3.12`, or a path to a raw disk
    /// image, which begins with `/`, `./` or `../`.
    ///
    /// A disk image is written to, and one sandbox has it at a time. One with an EROFS file system, which
    /// cannot be written to, is shared by any number of sandboxes, and what each changes is its own.
    #[must_use]
    pub fn image(mut self, image: impl IntoImage) -> Self {
        self.image = Some(image.into_image());
        self
    }

    /// The same, described step by step.
    #[must_use]
    pub fn image_with(mut self, f: impl FnOnce(ImageBuilder) -> ImageBuilder) -> Self {
        match f(ImageBuilder::new()).finish() {
            Ok(image) => self.image = Some(image),
            Err(mistake) => self.mistake(mistake),
        }
        self
    }

    /// The size of the writable layer over an OCI image, in MiB; 4 GiB when not set.
    #[must_use]
    pub fn oci_upper_size(mut self, size: impl Into<Mebibytes>) -> Self {
        self.upper_size = Some(size.into());
        self
    }

    /// When its image is pulled; when it is not on this host yet, if not set. What is on this host
    /// anyway, as a disk image is, is not pulled by any policy.
    #[must_use]
    pub fn pull_policy(mut self, policy: PullPolicy) -> Self {
        self.config.pull_policy = policy;
        self
    }

    /// How the registry of its image is talked to. It is never stored. What is left out is looked for: credentials
    /// in the keyring, in `config.json` ([`config`](crate::config)) and in Docker's configuration; the rest in
    /// `config.json`.
    #[must_use]
    pub fn registry(
        mut self,
        f: impl FnOnce(RegistryConfigBuilder) -> RegistryConfigBuilder,
    ) -> Self {
        let registry = f(RegistryConfigBuilder::default());
        self.config.registry_auth = registry.auth.or(self.config.registry_auth);
        self.config.insecure |= registry.insecure;
        self.config.ca_certs.extend(registry.ca_certs);
        self
    }

    /// Begins from this snapshot, by its name, digest or path.
    #[must_use]
    pub fn from_snapshot(mut self, snapshot: impl Into<String>) -> Self {
        self.snapshot = Some(snapshot.into());
        self
    }

    /// Begins from the writable layer of a snapshot that was found already.
    #[must_use]
    pub fn snapshot_resolved(
        mut self,
        manifest_digest: impl Into<String>,
        upper: impl Into<PathBuf>,
    ) -> Self {
        self.config.manifest_digest = Some(manifest_digest.into());
        self.config.snapshot_upper_source = Some(upper.into());
        self
    }
}
