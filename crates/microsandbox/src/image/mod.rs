//! Container images of this machine: listed, looked into, loaded from archives and written to them, removed.
//!
//! An image comes to a home with the first sandbox that is made from it, or from an archive. It is
//! stored once, with its layers shared between images, and is what its *manifest's digest* says. A *reference*
//! (`python:3.12`) is a name that means an image; it may come to mean another, and sandboxes that were made
//! stay with the image that they were made from.
//!
//! ```no_run
//! use microsandbox::image::{ImageArchiveFormat, ImageLoadOptions};
//! use microsandbox::{Image, LocalBackend};
//!
//! # async fn example() -> microsandbox::MicrosandboxResult<()> {
//! let local = LocalBackend::new().await?;
//! Image::load(&local, "app.tar", ImageLoadOptions::new().tag("app:1.0")).await?;
//! for image in Image::list(&local).await? {
//!     println!("{} {:?}", image.reference(), image.size_bytes());
//! }
//! Image::save(&local, ["app:1.0"], "copy.tar", ImageArchiveFormat::Docker).await?;
//! Image::remove(&local, "app:1.0", false).await?;
//! # Ok(())
//! # }
//! ```

mod archive;
mod detail;
mod error;
mod persist;

pub use archive::{ImageArchiveFormat, ImageLoadOptions};
pub use detail::{ImageConfigDetail, ImageDetail, ImageHandle, ImageLayerDetail};
pub use msb_image::archive::ArchiveError as ImageArchiveError;
pub use msb_image::manifest::ImageConfig;
pub use msb_image::store::StoreError as ImageStoreError;
pub use persist::{CachedImageMetadata, CachedLayerMetadata};

use std::path::Path;

use msb_image::Reference;
use msb_image::store::{Collected, Store};
use msb_runtime::images::{self, HomeInUse};

use self::error::Failed;
use crate::backend::LocalBackend;
use crate::blocking::elsewhere;
use crate::error::{ImageError, MicrosandboxError, MicrosandboxResult};

/// What can be done with images of this machine. Each call takes the backend whose home they are in.
#[derive(Clone, Copy, Debug)]
pub struct Image;

/// What [`Image::prune`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImagePruneReport {
    /// References that meant an image nobody uses.
    pub image_refs_removed: u32,
    /// Images.
    pub manifests_removed: u32,
    /// Unpacked layers that no image has any more.
    pub layers_removed: u32,
    /// Metadata disks of images.
    pub fsmeta_removed: u32,
    /// Always zero: an image's disk is put together by the virtual machine, and has no descriptor on the disk.
    pub vmdk_removed: u32,
    /// Blobs that no image has any more: manifests, configurations, layers as they came.
    pub blobs_removed: u32,
    /// Downloads that were cut short, and work of processes that were killed.
    pub unfinished_removed: u32,
    /// Bytes that all of it took on the disk. It is always known.
    pub bytes_reclaimed: Option<u64>,
}

impl Image {
    /// The image that a reference means.
    ///
    /// # Errors
    ///
    /// [`ImageNotFound`](MicrosandboxError::ImageNotFound) when it means none here.
    pub async fn get(local: &LocalBackend, reference: &str) -> MicrosandboxResult<ImageHandle> {
        let reference = parse(reference)?;
        with_store(local, move |store, _| detail::handle(store, &reference)).await
    }

    /// All references with their images, the newest first.
    ///
    /// # Errors
    ///
    /// [`Image`](MicrosandboxError::Image) when the images of the home cannot be read.
    pub async fn list(local: &LocalBackend) -> MicrosandboxResult<Vec<ImageHandle>> {
        with_store(local, |store, _| detail::handles(store)).await
    }

    /// An image with its configuration and its layers.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn inspect(local: &LocalBackend, reference: &str) -> MicrosandboxResult<ImageDetail> {
        let reference = parse(reference)?;
        with_store(local, move |store, _| detail::detail(store, &reference)).await
    }

    /// Removes a reference, and its image with it if no other reference means it.
    ///
    /// With `force` the reference goes although a sandbox or a snapshot needs the image. The image itself stays
    /// for as long as that is so: no file is ever removed from under a sandbox. After that,
    /// [`gc`](Self::gc) removes it.
    ///
    /// # Errors
    ///
    /// [`ImageNotFound`](MicrosandboxError::ImageNotFound) when the reference means none here,
    /// [`ImageInUse`](MicrosandboxError::ImageInUse) when a sandbox, running or not, or a snapshot needs the image,
    /// or somebody is about to make one from it.
    pub async fn remove(
        local: &LocalBackend,
        reference: &str,
        force: bool,
    ) -> MicrosandboxResult<()> {
        let parsed = parse(reference)?;
        with_store(local, move |store, in_use| {
            Ok(store.remove(&parsed, force, in_use).map(drop)?)
        })
        .await
    }

    /// Removes unpacked layers that no image has, and says how many there were.
    ///
    /// # Errors
    ///
    /// [`Image`](MicrosandboxError::Image) when it cannot be told what is in use; nothing is removed then.
    pub async fn gc_layers(local: &LocalBackend) -> MicrosandboxResult<u32> {
        let collect = |store: &Store, in_use: &HomeInUse| Ok(store.collect_layers(in_use)?.layers);
        with_store(local, collect).await
    }

    /// Removes all that no reference, sandbox or snapshot needs, and what was left by downloads that were cut short
    /// and by processes that were killed. Says how many things there were.
    ///
    /// # Errors
    ///
    /// As [`gc_layers`](Self::gc_layers).
    pub async fn gc(local: &LocalBackend) -> MicrosandboxResult<u32> {
        let collect = |store: &Store, in_use: &HomeInUse| Ok(store.collect(in_use)?.total());
        with_store(local, collect).await
    }

    /// Removes all images that no sandbox and no snapshot needs, with their references, and then what
    /// [`gc`](Self::gc) does.
    ///
    /// # Errors
    ///
    /// As [`gc_layers`](Self::gc_layers).
    pub async fn prune(local: &LocalBackend) -> MicrosandboxResult<ImagePruneReport> {
        with_store(local, |store, in_use| Ok(store.prune(in_use)?.into())).await
    }
}

impl From<Collected> for ImagePruneReport {
    fn from(collected: Collected) -> Self {
        Self {
            image_refs_removed: collected.references,
            manifests_removed: collected.images,
            layers_removed: collected.layers,
            fsmeta_removed: collected.metadata,
            vmdk_removed: 0,
            blobs_removed: collected.blobs,
            unfinished_removed: collected.partials.saturating_add(collected.works),
            bytes_reclaimed: Some(collected.bytes),
        }
    }
}

fn parse(reference: &str) -> MicrosandboxResult<Reference> {
    reference.parse().map_err(|_| {
        MicrosandboxError::Image(ImageError::InvalidReference {
            reference: reference.to_owned(),
        })
    })
}

/// Does something with the images of a home, on a thread that may block.
async fn with_store<T: Send + 'static>(
    local: &LocalBackend,
    work: impl FnOnce(&Store, &HomeInUse) -> Result<T, Failed> + Send + 'static,
) -> MicrosandboxResult<T> {
    let home = local.home()?;
    let work = move || {
        let home: &Path = &home;
        work(&images::open(home)?, &HomeInUse::of(home))
    };
    Ok(elsewhere(work).await??)
}

#[cfg(test)]
mod tests;
