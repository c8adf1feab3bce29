//! What a root file system is made from, as a caller writes it.

use std::path::{Path, PathBuf};

use msb_types::{DiskImageFormat, RootfsSource};

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

fn from_path(path: PathBuf) -> RootfsSource {
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("qcow2") => DiskImageFormat::Qcow2,
        Some("vmdk") => DiskImageFormat::Vmdk,
        _ => DiskImageFormat::Raw,
    };
    RootfsSource::DiskImage {
        path,
        format,
        fstype: None,
    }
}
