//! The read-only disk of an OCI image, as the store of this home has it.

use std::path::Path;

use msb_image::Digest;
use msb_image::store::{OpenImage, Store, StoreError};
use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
use msb_runtime::chain::chain;
use msb_types::{RootfsSource, SandboxConfig};

use super::invalid;

/// Where images are, in the home.
const IMAGES: &str = "images";

/// Opens the image that the sandbox was found to be of when it was created.
pub(super) fn open(home: &Path, config: &SandboxConfig) -> Result<(Store, OpenImage), BootError> {
    let digest = config
        .manifest_digest
        .as_deref()
        .ok_or_else(|| invalid("it is not known which image the sandbox is of; create it anew"))?;
    let digest: Digest = digest.parse().map_err(|error| invalid(chain(&error)))?;
    let store = Store::open(&home.join(IMAGES)).map_err(|error| failed(&error))?;
    match store.open_image(&digest) {
        Ok(image) => Ok((store, image)),
        Err(StoreError::ImageMissing(_)) => Err(missing(config, &digest)),
        Err(error) => Err(failed(&error)),
    }
}

fn missing(config: &SandboxConfig, digest: &Digest) -> BootError {
    let name = match &config.image {
        RootfsSource::Oci { reference, .. } => reference,
        _ => "",
    };
    BootError::new(
        BootStage::Supervisor,
        BootErrorKind::ImageMissing,
        format!("the image {name} ({digest}) is not on this host; pull or load it again"),
    )
}

/// What went wrong with the store.
pub(super) fn failed(error: &StoreError) -> BootError {
    let kind = match error {
        StoreError::Io { .. }
        | StoreError::SpaceMissing { .. }
        | StoreError::DiskFull { .. }
        | StoreError::Busy { .. } => BootErrorKind::Host,
        _ => BootErrorKind::Image,
    };
    BootError::new(BootStage::Supervisor, kind, chain(error))
}
