//! What a root file system is made from, as a caller writes it.

use std::path::{Path, PathBuf};

use msb_types::{DiskImageFormat, Mebibytes, RootfsSource};

use crate::error::{MicrosandboxError, MicrosandboxResult};

/// Anything that names an image: a path to a disk image, or a reference.
///
/// A string is a path when it begins with `/`, `./` or `../`, as references never
/// do; a [`Path`] always is.
pub trait IntoImage {
    /// The image.
    fn into_image(self) -> RootfsSource;
}

impl IntoImage for PathBuf {
    fn into_image(self) -> RootfsSource {
        from_path(self)
    }
}

impl IntoImage for &Path {
    fn into_image(self) -> RootfsSource {
        from_path(self.to_path_buf())
    }
}

impl IntoImage for &PathBuf {
    fn into_image(self) -> RootfsSource {
        from_path(self.clone())
    }
}

impl IntoImage for &str {
    fn into_image(self) -> RootfsSource {
        if ["/", "./", "../"]
            .iter()
            .any(|prefix| self.starts_with(prefix))
        {
            from_path(PathBuf::from(self))
        } else {
            RootfsSource::Oci {
                reference: self.to_owned(),
                upper_size_mib: None,
            }
        }
    }
}

impl IntoImage for String {
    fn into_image(self) -> RootfsSource {
        self.as_str().into_image()
    }
}

impl IntoImage for RootfsSource {
    fn into_image(self) -> RootfsSource {
        self
    }
}

fn from_path(path: PathBuf) -> RootfsSource {
    RootfsSource::DiskImage {
        format: format_of(&path),
        path,
        fstype: None,
    }
}

/// The format of a disk image, by its name.
pub(super) fn format_of(path: &Path) -> DiskImageFormat {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("qcow2") => DiskImageFormat::Qcow2,
        Some("vmdk") => DiskImageFormat::Vmdk,
        _ => DiskImageFormat::Raw,
    }
}

/// Describes what a root file system is made from. Setters never fail; [`build`](Self::build) tells
/// what was wrong.
#[derive(Clone, Debug, Default)]
pub struct ImageBuilder {
    source: Option<RootfsSource>,
    upper_size: Option<Mebibytes>,
    fstype: Option<String>,
    twice: bool,
}

impl ImageBuilder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn source(mut self, source: RootfsSource) -> Self {
        self.twice |= self.source.replace(source).is_some();
        self
    }

    /// An image in an OCI registry: `python:3.12`.
    #[must_use]
    pub fn oci(self, reference: impl Into<String>) -> Self {
        self.source(RootfsSource::Oci {
            reference: reference.into(),
            upper_size_mib: None,
        })
    }

    /// The size of the writable layer over an OCI image, in MiB; 4 GiB when not set.
    #[must_use]
    pub fn upper_size(mut self, size: impl Into<Mebibytes>) -> Self {
        self.upper_size = Some(size.into());
        self
    }

    /// A disk image of the host, whose format is told from its name.
    #[must_use]
    pub fn disk(self, path: impl Into<PathBuf>) -> Self {
        self.source(from_path(path.into()))
    }

    /// The disk image's file system; found out when not set.
    #[must_use]
    pub fn fstype(mut self, fstype: impl Into<String>) -> Self {
        self.fstype = Some(fstype.into());
        self
    }

    /// A directory of the host.
    #[must_use]
    pub fn bind(self, host: impl Into<PathBuf>) -> Self {
        self.source(RootfsSource::Bind(host.into()))
    }

    /// What the root file system is made from.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](MicrosandboxError::InvalidConfig) when it is nothing, two things, or has a
    /// setting that means nothing for what it is.
    pub fn build(self) -> MicrosandboxResult<RootfsSource> {
        self.finish().map_err(MicrosandboxError::InvalidConfig)
    }

    pub(super) fn finish(self) -> Result<RootfsSource, String> {
        if self.twice {
            return Err("the image is to be two things at once".to_owned());
        }
        let mut source = self
            .source
            .ok_or("the image is nothing; call oci(), disk() or bind()")?;
        if let Some(size) = self.upper_size {
            set_upper_size(&mut source, size)?;
        }
        if let Some(asked) = self.fstype {
            match &mut source {
                RootfsSource::DiskImage { fstype, .. } => *fstype = Some(asked),
                _ => return Err("fstype() is for disk images; leave it out".to_owned()),
            }
        }
        Ok(source)
    }
}

/// Sets the size of the writable layer, where there is one.
pub(super) fn set_upper_size(source: &mut RootfsSource, size: Mebibytes) -> Result<(), String> {
    match source {
        RootfsSource::Oci { upper_size_mib, .. } => {
            *upper_size_mib = Some(size.as_u32());
            Ok(())
        }
        _ => Err(
            "the size of the writable layer is for OCI images; a disk image has the size it has"
                .to_owned(),
        ),
    }
}
