//! The disks of the root: made when a sandbox is, opened at each of its starts.
//!
//! | image | disks | in the guest |
//! | --- | --- | --- |
//! | raw disk image | that one, writable, for one sandbox at a time | mounted as it is |
//! | raw disk image with an EROFS | that one, read-only, and `upper.ext4` | one over the other |
//! | OCI image | its metadata and its layers' data as one, read-only, and `upper.ext4` | one over the other |
//!
//! What is read-only is shared by any number of sandboxes, and mapped into the guest's memory where that can be
//! ([`mapping`]). `upper.ext4` is the sandbox's own: it is made
//! before the sandbox exists, so that none ever exists without it, and goes with the sandbox. So is what
//! patches change in an OCI image ([`patches`]), which has metadata of its own then. A sandbox that begins from a
//! snapshot has copies of the snapshot's ([`snapshot`]).

mod image;
mod mapping;
mod patches;
mod snapshot;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use msb_image::store::{DiskPart, OpenImage};
use msb_protocol::Root as GuestRoot;
use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
use msb_runtime::chain::chain;
use msb_runtime::control::{HomeError, Launch, LaunchError};
use msb_runtime::registry::RegistryError;
use msb_runtime::sandbox_dir::SandboxDir;
use msb_runtime::upper::{self, UpperError};
use msb_types::{DEFAULT_UPPER_MIB, DiskImageFormat, RootfsSource, SandboxConfig};
use msb_vmapi::ErrorKind;

use self::mapping::Mapping;

/// The serial of the disk that is the root, or the lower part of it.
const ROOT: &str = "root";
/// The serial of what is written to.
const UPPER: &str = "upper";
/// The name of the root disk in the guest where it is alone. It is the first.
const ROOT_DEVICE: &str = "/dev/vda";
/// The name of the one that is mapped, of which there are no others.
const MAPPED_DEVICE: &str = "/dev/pmem0";

/// Where the superblock of an EROFS begins, and with what (`fs/erofs/erofs_fs.h`).
const EROFS_MAGIC: (u64, [u8; 4]) = (1024, [0xe2, 0xe1, 0xf5, 0xe0]);

/// The disks of a root, open.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) disks: Vec<Disk>,
    /// What is mapped into the guest's memory instead.
    pub(crate) mapped: Option<Content>,
    /// What the guest is told to make of them.
    pub(crate) guest: GuestRoot,
    /// The file that is written to.
    pub(crate) writable: Written,
    /// What its image wants of the guest.
    pub(crate) wishes: Wishes,
}

/// What an image says of how its programs are to be run, beyond what a sandbox's configuration has room for.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Where they begin.
    pub(crate) dir: Option<String>,
    /// The number of the signal that ends them.
    pub(crate) stop_signal: Option<u8>,
}

/// One disk.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) id: &'static str,
    pub(crate) content: Content,
}

/// Where the bytes of a disk are.
#[derive(Debug)]
pub(crate) enum Content {
    /// In all of a file, which is written to.
    Own(File),
    /// In all of a file, which is only read.
    Shared(File),
    /// In several files, one after the other, which are only read.
    Parts(Vec<DiskPart>),
}

/// How much room of the host the writable disk takes.
#[derive(Debug)]
pub(crate) struct Written(File);

impl Written {
    /// Bytes; `None` of what is no file.
    pub(crate) fn allocated(&self) -> Option<u64> {
        let found = self.0.metadata().ok().filter(|found| found.is_file())?;
        Some(found.blocks().saturating_mul(512))
    }
}

/// What a root is made of.
enum Kind<'a> {
    /// A disk of the sandbox's own.
    Disk {
        path: &'a Path,
        fstype: Option<&'a str>,
    },
    /// A read-only disk image, and an upper disk.
    OverDisk { image: File },
    /// An OCI image, and an upper disk of so many MiB.
    OverImage { upper_mib: u32 },
}

/// Makes what a new sandbox needs in its directory `dir`, beside its configuration. What is returned keeps its
/// image from being removed until the sandbox exists.
pub(crate) fn prepare(
    launch: &Launch,
    config: &SandboxConfig,
    dir: &Path,
) -> Result<Option<OpenImage>, LaunchError> {
    match kind(config).map_err(LaunchError::Boot)? {
        Kind::Disk { .. } => Ok(None),
        Kind::OverDisk { .. } => {
            make_upper(launch, DEFAULT_UPPER_MIB, dir)?;
            Ok(None)
        }
        Kind::OverImage { upper_mib } => {
            let (store, image) = image::open(&launch.home, config).map_err(LaunchError::Boot)?;
            match &launch.snapshot_upper {
                Some(upper) => {
                    snapshot::begin(upper, upper_mib, dir)?;
                    patches::adopt(&store, &image, dir)?;
                }
                None => {
                    patches::make(&store, &image, &config.patches, dir)?;
                    make_upper(launch, upper_mib, dir)?;
                }
            }
            Ok(Some(image))
        }
    }
}

impl Root {
    /// Opens the disks of the sandbox that is at `dir`.
    pub(crate) fn open(
        launch: &Launch,
        config: &SandboxConfig,
        dir: &SandboxDir,
    ) -> Result<Self, BootError> {
        let mapping = Mapping::of(launch, config);
        match kind(config)? {
            Kind::Disk { path, fstype } => {
                let disk = open_image(path, true)?;
                let written = handle(&disk, path)?;
                let disk = Disk {
                    id: ROOT,
                    content: Content::Own(disk),
                };
                Ok(Self {
                    disks: vec![disk],
                    mapped: None,
                    guest: GuestRoot::Disk {
                        device: ROOT_DEVICE.to_owned(),
                        fstype: fstype.map(str::to_owned),
                        read_only: false,
                    },
                    writable: written,
                    wishes: Wishes::default(),
                })
            }
            Kind::OverDisk { image } => Self::over(Content::Shared(image), &mapping, dir),
            Kind::OverImage { .. } => {
                let (store, image) = image::open(&launch.home, config)?;
                let wishes = Wishes {
                    dir: image.config.working_dir.clone(),
                    stop_signal: image.config.stop_signal_number(),
                };
                let patched = !config.patches.is_empty() || patches::are_there(dir.path())?;
                let parts = match patched {
                    false => image.disk,
                    true => patches::disk(&store, image, dir.path())?,
                };
                // What is open stays, whatever becomes of the store.
                Ok(Self {
                    wishes,
                    ..Self::over(Content::Parts(parts), &mapping, dir)?
                })
            }
        }
    }

    /// An EROFS, and the sandbox's writable layer over it.
    fn over(lower: Content, mapping: &Mapping<'_>, dir: &SandboxDir) -> Result<Self, BootError> {
        let path = dir.path().join(upper::FILE);
        let upper = upper::open(&path).map_err(|error| {
            disk_error(format!(
                "cannot open the sandbox's writable layer {}: {error}; without it the sandbox cannot \
                 be started again, only removed",
                path.display()
            ))
        })?;
        let writable = handle(&upper, &path)?;
        let upper = Disk {
            id: UPPER,
            content: Content::Own(upper),
        };
        let fstype = Some("erofs".to_owned());
        if mapping.suits(&lower) {
            return Ok(Self {
                disks: vec![upper],
                mapped: Some(lower),
                guest: GuestRoot::Mapped {
                    lower: MAPPED_DEVICE.to_owned(),
                    fstype,
                    upper: UPPER.to_owned(),
                },
                writable,
                wishes: Wishes::default(),
            });
        }
        let lower = Disk {
            id: ROOT,
            content: lower,
        };
        Ok(Self {
            disks: vec![lower, upper],
            mapped: None,
            guest: GuestRoot::Overlay {
                lower: ROOT.to_owned(),
                fstype,
                upper: UPPER.to_owned(),
            },
            writable,
            wishes: Wishes::default(),
        })
    }
}

fn kind(config: &SandboxConfig) -> Result<Kind<'_>, BootError> {
    match &config.image {
        RootfsSource::DiskImage {
            path,
            format: DiskImageFormat::Raw,
            fstype,
        } => {
            let fstype = fstype.as_deref();
            // Opened for reading alone: whoever shares it need not be allowed to write.
            let image = open_image(path, false)?;
            match fstype {
                Some("erofs") => Ok(Kind::OverDisk { image }),
                None if is_erofs(&image) => Ok(Kind::OverDisk { image }),
                _ => Ok(Kind::Disk { path, fstype }),
            }
        }
        RootfsSource::Oci { upper_size_mib, .. } => Ok(Kind::OverImage {
            upper_mib: upper_size_mib.unwrap_or(DEFAULT_UPPER_MIB),
        }),
        _ => Err(invalid(
            "only images and raw disk images can be booted; convert the image, or name one",
        )),
    }
}

fn is_erofs(image: &File) -> bool {
    let (at, magic) = EROFS_MAGIC;
    let mut found = [0; 4];
    image.read_exact_at(&mut found, at).is_ok() && found == magic
}

fn make_upper(launch: &Launch, mib: u32, dir: &Path) -> Result<(), LaunchError> {
    let template = launch.upper_template.as_deref().ok_or_else(|| {
        LaunchError::Boot(disk_error(
            "the template of writable layers is not installed; `cargo xtask install` puts it in place, \
             or MSB_UPPER_TEMPLATE_PATH names it",
        ))
    })?;
    let made = upper::make(template, &dir.join(upper::FILE), u64::from(mib) << 20);
    made.map_err(|error| match error {
        UpperError::Write { path, source } => {
            LaunchError::Home(HomeError::from(RegistryError::Io { path, source }))
        }
        UpperError::TooSmall { .. } => LaunchError::Boot(invalid(chain(&error))),
        _ => LaunchError::Boot(disk_error(format!(
            "the writable layer cannot be made: {}",
            chain(&error)
        ))),
    })
}

fn handle(file: &File, path: &Path) -> Result<Written, BootError> {
    file.try_clone()
        .map(Written)
        .map_err(|error| disk_error(format!("cannot open {}: {error}", path.display())))
}

fn open_image(path: &Path, write: bool) -> Result<File, BootError> {
    super::launch::open(path, write, ErrorKind::Disk, "disk image")
}

fn disk_error(message: impl Into<String>) -> BootError {
    let kind = BootErrorKind::Vmm(ErrorKind::Disk);
    BootError::new(BootStage::Supervisor, kind, message)
}

fn invalid(message: impl Into<String>) -> BootError {
    let kind = BootErrorKind::Vmm(ErrorKind::InvalidConfig);
    BootError::new(BootStage::Supervisor, kind, message)
}

#[cfg(test)]
mod tests;
