//! Images from archives and to them.

use std::path::Path;

use msb_image::archive::{self, Format, LoadOptions};

use super::{Image, ImageHandle, detail, parse, with_store};
use crate::backend::LocalBackend;
use crate::error::MicrosandboxResult;

/// The forms that images can be written in. All are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageArchiveFormat {
    /// A tar, as `docker save` writes it: for Docker, Podman and all others.
    #[default]
    Docker,
    /// A tar with an OCI image layout.
    Oci,
    /// A directory with an OCI image layout.
    OciDir,
}

/// How an archive is to be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageLoadOptions {
    /// What its image is to be called, whatever the archive calls it.
    pub tag: Option<String>,
}

impl ImageLoadOptions {
    /// What the archive says.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls the archive's image so, whatever the archive calls it. It must have one image only.
    #[must_use]
    pub fn tag(mut self, reference: impl Into<String>) -> Self {
        self.tag = Some(reference.into());
        self
    }
}

impl Image {
    /// Loads all images for this machine from an archive: a file that `docker save`, `podman save` or the like has
    /// written, plain or compressed, or an OCI image layout, as a tar or a directory. Returns each reference that
    /// now means one of them.
    ///
    /// Nothing in the archive is believed: every file must be what it is called. If anything is wrong no
    /// reference changes.
    ///
    /// # Errors
    ///
    /// [`Image`](crate::MicrosandboxError::Image) with what is wrong with the archive, or when there is no
    /// room for it.
    pub async fn load(
        local: &LocalBackend,
        archive: impl AsRef<Path>,
        options: ImageLoadOptions,
    ) -> MicrosandboxResult<Vec<ImageHandle>> {
        let path = archive.as_ref().to_path_buf();
        let reference = options.tag.as_deref().map(parse).transpose()?;
        with_store(local, move |store, _| {
            let options = LoadOptions {
                reference,
                ..LoadOptions::default()
            };
            let claim = store.claim()?;
            let loaded = archive::load(&claim, &path, &options)?;
            let references = loaded.iter().flat_map(|image| &image.references);
            references
                .map(|reference| detail::handle(store, reference))
                .collect()
        })
        .await
    }

    /// Writes images to an archive, each blob as it came. What is at `path` is replaced when everything is written,
    /// except that a directory, for [`OciDir`](ImageArchiveFormat::OciDir), must not be there yet.
    ///
    /// # Errors
    ///
    /// [`ImageNotFound`](crate::MicrosandboxError::ImageNotFound) when a reference means none here,
    /// [`Image`](crate::MicrosandboxError::Image) when one was damaged or the archive cannot be written.
    pub async fn save<R: AsRef<str>>(
        local: &LocalBackend,
        references: impl IntoIterator<Item = R>,
        path: impl AsRef<Path>,
        format: ImageArchiveFormat,
    ) -> MicrosandboxResult<()> {
        let path = path.as_ref().to_path_buf();
        let references = references.into_iter();
        let references = references
            .map(|reference| parse(reference.as_ref()))
            .collect::<MicrosandboxResult<Vec<_>>>()?;
        with_store(local, move |store, _| {
            let claim = store.claim()?;
            let save = |format| archive::save_file(&claim, &references, format, &path);
            match format {
                ImageArchiveFormat::Docker => save(Format::Docker)?,
                ImageArchiveFormat::Oci => save(Format::Oci)?,
                ImageArchiveFormat::OciDir => archive::save_dir(&claim, &references, &path)?,
            }
            Ok(())
        })
        .await
    }
}
