//! Bringing the image of a sandbox to this machine.

use msb_image::registry::{
    Credential, CredentialSource, Pull, PullError, Pulled, RegistryOptions, Timing,
};
use msb_image::store::Store;
use msb_image::{Digest, Reference};
use msb_runtime::images;
use msb_types::{PullPolicy, RootfsSource};

use super::LocalBackend;
use crate::backend::Prepared;
use crate::blocking::elsewhere;
use crate::config::{Sources, upper_size_mib};
use crate::error::{ImageError, MicrosandboxError, MicrosandboxResult};
use crate::sandbox::{PullReporter, SandboxConfig, with_image};

impl LocalBackend {
    /// The images of this home.
    pub(crate) async fn images(&self) -> MicrosandboxResult<Store> {
        let home = self.home()?;
        let opened = elsewhere(move || images::open(&home)).await?;
        Ok(opened.map_err(|error| ImageError::Store(Box::new(error)))?)
    }

    pub(super) async fn prepared(
        &self,
        mut config: SandboxConfig,
        reporter: PullReporter,
    ) -> MicrosandboxResult<Prepared> {
        self.note_parent(&mut config).await?;
        self.size_upper(&mut config).await?;
        let RootfsSource::Oci { reference, .. } = &config.image else {
            return Ok(Prepared { config, held: None });
        };
        let pulled = match self.pulled(reference, &config, &reporter).await {
            Err(MicrosandboxError::ImageNotFound(image))
                if config.snapshot_upper_source.is_some() =>
            {
                return Err(MicrosandboxError::SnapshotImageMissing(image));
            }
            pulled => pulled?,
        };
        let mut config = with_image(config, pulled.config);
        config.manifest_digest = Some(pulled.record.manifest_digest.to_string());
        Ok(Prepared {
            config,
            held: Some(Box::new(pulled.claim)),
        })
    }

    /// A writable layer of which nobody said how large it is to be has the size that the home says.
    async fn size_upper(&self, config: &mut SandboxConfig) -> MicrosandboxResult<()> {
        if let RootfsSource::Oci {
            upper_size_mib: size @ None,
            ..
        } = &mut config.image
            && config.snapshot_upper_source.is_none()
        {
            let home = self.home()?;
            *size = elsewhere(move || upper_size_mib(&home)).await??;
        }
        Ok(())
    }

    async fn pulled(
        &self,
        text: &str,
        config: &SandboxConfig,
        reporter: &PullReporter,
    ) -> MicrosandboxResult<Pulled> {
        let reference = named(text, config.manifest_digest.as_deref())?;
        let pull = Pull::new(self.images().await?, reference, reporter.of(text));
        let failed = |error| pull_error(text, error);
        if config.pull_policy != PullPolicy::Always {
            let found = match pull.find().await {
                Err(PullError::Store(error)) if error.is_damaged_image() => {
                    if config.pull_policy == PullPolicy::Never {
                        return Err(ImageError::Store(Box::new(error)).into());
                    }
                    tracing::warn!(%error, image = text, "an image of this host is mended");
                    pull.mend().await
                }
                found => found,
            };
            if let Some(found) = found.map_err(failed)? {
                return Ok(found);
            }
        }
        if config.pull_policy == PullPolicy::Never {
            return Err(MicrosandboxError::ImageNotFound(text.to_owned()));
        }
        let options = self
            .registry_options(pull.reference().registry(), config)
            .await?;
        pull.pull(options).await.map_err(failed)
    }

    async fn registry_options(
        &self,
        hostname: &str,
        config: &SandboxConfig,
    ) -> MicrosandboxResult<RegistryOptions> {
        let home = self.home()?;
        let (of_home, said) = (home.clone(), self.shared.registries.clone());
        let read = move || {
            let registries = said.resolve(&of_home)?;
            let authorities = registries.authorities()?;
            MicrosandboxResult::Ok((registries, authorities))
        };
        let (registries, authorities) = elsewhere(read).await??;
        let credential = match &config.registry_auth {
            Some(auth) => Credential::new(CredentialSource::Given, auth.clone()),
            None => {
                Sources::of_user(&home)
                    .credential(hostname, &registries)
                    .await?
            }
        };
        let entry = registries.hosts.get(hostname);
        let mut ca_certs = config.ca_certs.clone();
        ca_certs.extend(authorities);
        Ok(RegistryOptions {
            credential,
            insecure: config.insecure || entry.is_some_and(|entry| entry.insecure),
            ca_certs,
            timing: Timing::default(),
        })
    }
}

/// The image that is meant: what the reference stands for, or the one that it once stood for.
fn named(text: &str, digest: Option<&str>) -> MicrosandboxResult<Reference> {
    let invalid = || ImageError::InvalidReference {
        reference: text.to_owned(),
    };
    let reference: Reference = text.parse().map_err(|_| invalid())?;
    let Some(digest) = digest else {
        return Ok(reference);
    };
    let digest: Digest = digest.parse().map_err(|_| {
        MicrosandboxError::InvalidConfig(format!("{digest:?} is no digest of an image's manifest"))
    })?;
    let (registry, repository) = (reference.registry(), reference.repository());
    let pinned = format!("{registry}/{repository}@{digest}");
    Ok(pinned.parse().map_err(|_| invalid())?)
}

fn pull_error(reference: &str, source: PullError) -> MicrosandboxError {
    MicrosandboxError::Image(ImageError::Pull {
        reference: reference.to_owned(),
        source: Box::new(source),
    })
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
