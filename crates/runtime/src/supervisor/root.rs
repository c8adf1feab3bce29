//! The disks of the root: made when a sandbox is, opened at each of its starts.
//!
//! | image | disks | in the guest |
//! | --- | --- | --- |
//! | raw disk image | that one, writable, for one sandbox at a time | mounted as it is |
//! | raw disk image with an EROFS | that one, read-only, and `upper.ext4` | one over the other |
//! | OCI image | its metadata and its layers' data as one, read-only, and `upper.ext4` | one over the other |
//!
//! What is read-only is shared by any number of sandboxes. `upper.ext4` is the sandbox's own: it is made
//! before the sandbox exists, so that none ever exists without it, and goes with the sandbox.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use msb_protocol::Root as GuestRoot;
use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
use msb_runtime::chain::chain;
use msb_runtime::control::{HomeError, Launch, LaunchError};
use msb_runtime::registry::RegistryError;
use msb_runtime::sandbox_dir::SandboxDir;
use msb_runtime::upper::{self, UpperError};
use msb_types::{DEFAULT_UPPER_MIB, DiskImageFormat, RootfsSource, SandboxConfig};
use msb_vmapi::ErrorKind;

/// The serial of the disk that is the root, or the lower part of it.
const ROOT: &str = "root";
/// The serial of what is written to.
const UPPER: &str = "upper";
/// The name of the root disk in the guest where it is alone. It is the first.
const ROOT_DEVICE: &str = "/dev/vda";

/// Where the superblock of an EROFS begins, and with what (`fs/erofs/erofs_fs.h`).
const EROFS_MAGIC: (u64, [u8; 4]) = (1024, [0xe2, 0xe1, 0xf5, 0xe0]);

/// The disks of a root, open.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) disks: Vec<Disk>,
    /// What the guest is told to make of them.
    pub(crate) guest: GuestRoot,
    /// The file that is written to.
    pub(crate) writable: Written,
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
}

/// Makes what a new sandbox needs in its directory `dir`, beside its configuration.
pub(crate) fn prepare(
    launch: &Launch,
    config: &SandboxConfig,
    dir: &Path,
) -> Result<(), LaunchError> {
    match kind(config).map_err(LaunchError::Boot)? {
        Kind::Disk { .. } => Ok(()),
        Kind::OverDisk { .. } => make_upper(launch, DEFAULT_UPPER_MIB, dir),
    }
}

impl Root {
    /// Opens the disks of the sandbox that is at `dir`.
    pub(crate) fn open(config: &SandboxConfig, dir: &SandboxDir) -> Result<Self, BootError> {
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
                    guest: GuestRoot::Disk {
                        device: ROOT_DEVICE.to_owned(),
                        fstype: fstype.map(str::to_owned),
                        read_only: false,
                    },
                    writable: written,
                })
            }
            Kind::OverDisk { image } => Self::over(Content::Shared(image), dir),
        }
    }

    /// An EROFS, and the sandbox's writable layer over it.
    fn over(lower: Content, dir: &SandboxDir) -> Result<Self, BootError> {
        let path = dir.path().join(upper::FILE);
        let upper = upper::open(&path).map_err(|error| {
            disk_error(format!(
                "cannot open the sandbox's writable layer {}: {error}; without it the sandbox cannot \
                 be started again, only removed",
                path.display()
            ))
        })?;
        let writable = handle(&upper, &path)?;
        Ok(Self {
            disks: vec![
                Disk {
                    id: ROOT,
                    content: lower,
                },
                Disk {
                    id: UPPER,
                    content: Content::Own(upper),
                },
            ],
            guest: GuestRoot::Overlay {
                lower: ROOT.to_owned(),
                fstype: Some("erofs".to_owned()),
                upper: UPPER.to_owned(),
            },
            writable,
        })
    }
}

fn kind(config: &SandboxConfig) -> Result<Kind<'_>, BootError> {
    let RootfsSource::DiskImage {
        path,
        format: DiskImageFormat::Raw,
        fstype,
    } = &config.image
    else {
        return Err(invalid(
            "only raw disk images can be booted; convert the image, or name one",
        ));
    };
    let fstype = fstype.as_deref();
    // Opened for reading alone: whoever shares it need not be allowed to write.
    let image = open_image(path, false)?;
    match fstype {
        Some("erofs") => Ok(Kind::OverDisk { image }),
        None if is_erofs(&image) => Ok(Kind::OverDisk { image }),
        _ => Ok(Kind::Disk { path, fstype }),
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
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use msb_runtime::control::{HomeErrorKind, LaunchKind};

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            let mut erofs = vec![0; 8192];
            erofs[1024..1028].copy_from_slice(&EROFS_MAGIC.1);
            fs::write(place.path("erofs"), erofs).unwrap();
            fs::write(place.path("ext4"), [0; 8192]).unwrap();
            fs::write(place.path("short"), [0; 512]).unwrap();
            fs::write(place.path("template"), [7; 4096]).unwrap();
            fs::create_dir_all(place.dir().path()).unwrap();
            place
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn dir(&self) -> SandboxDir {
            SandboxDir::of(self.0.path(), "web")
        }

        fn config(&self, name: &str, fstype: Option<&str>) -> SandboxConfig {
            SandboxConfig {
                image: RootfsSource::DiskImage {
                    path: self.path(name),
                    format: DiskImageFormat::Raw,
                    fstype: fstype.map(str::to_owned),
                },
                ..SandboxConfig::default()
            }
        }

        fn launch(&self, template: Option<&str>) -> Launch {
            let none = PathBuf::new;
            Launch {
                what: LaunchKind::Start("web".to_owned()),
                home: none(),
                detached: false,
                vmm: none(),
                kernel: none(),
                initramfs: none(),
                upper_template: template.map(|name| self.path(name)),
                requested_ns: 0,
                boot_timeout_ms: 0,
            }
        }

        fn prepare(
            &self,
            config: &SandboxConfig,
            template: Option<&str>,
        ) -> Result<(), LaunchError> {
            prepare(&self.launch(template), config, self.dir().path())
        }

        fn open(&self, config: &SandboxConfig) -> Result<Root, BootError> {
            Root::open(config, &self.dir())
        }
    }

    #[test]
    fn a_disk_that_can_be_written_is_the_root_alone() {
        let place = Place::new();
        for (name, fstype) in [("ext4", None), ("short", None), ("ext4", Some("xfs"))] {
            let config = place.config(name, fstype);
            // Nothing is made for it, and no template is needed.
            place.prepare(&config, None).unwrap();
            assert_eq!(fs::read_dir(place.dir().path()).unwrap().count(), 0);
            let root = place.open(&config).unwrap();
            assert!(matches!(
                root.disks[..],
                [Disk {
                    id: "root",
                    content: Content::Own(_)
                }]
            ));
            assert!(
                matches!(&root.guest, GuestRoot::Disk { fstype: told, .. } if told.as_deref() == fstype)
            );
            assert!(root.writable.allocated().is_some());
        }
    }

    #[test]
    fn an_erofs_is_shared_and_a_writable_layer_lies_over_it() {
        let place = Place::new();
        for (name, fstype) in [("erofs", None), ("ext4", Some("erofs"))] {
            let config = place.config(name, fstype);
            place.prepare(&config, Some("template")).unwrap();
            let upper = fs::metadata(place.dir().path().join(upper::FILE)).unwrap();
            assert_eq!(upper.len(), u64::from(DEFAULT_UPPER_MIB) << 20);
            let root = place.open(&config).unwrap();
            assert!(matches!(
                root.disks[..],
                [
                    Disk {
                        id: "root",
                        content: Content::Shared(_)
                    },
                    Disk {
                        id: "upper",
                        content: Content::Own(_)
                    },
                ]
            ));
            let GuestRoot::Overlay {
                lower,
                fstype,
                upper,
            } = root.guest
            else {
                panic!("{:?}", root.guest);
            };
            assert_eq!(
                (&*lower, fstype.as_deref(), &*upper),
                ("root", Some("erofs"), "upper")
            );
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let place = Place::new();
        let erofs = place.config("erofs", None);
        let said = |error: LaunchError| match error {
            LaunchError::Boot(error) => error.message,
            other => panic!("{other:?}"),
        };
        let text = said(place.prepare(&erofs, None).unwrap_err());
        assert!(text.contains("MSB_UPPER_TEMPLATE_PATH"), "{text}");
        let text = said(place.prepare(&erofs, Some("none")).unwrap_err());
        assert!(text.contains("none"), "{text}");
        let text = said(
            place
                .prepare(&place.config("gone", None), None)
                .unwrap_err(),
        );
        assert!(
            text.contains("gone") && text.contains("no such file"),
            "{text}"
        );
        // One that lost its layer does not begin again with an empty one.
        let text = place.open(&erofs).unwrap_err().message;
        assert!(text.contains("upper.ext4"), "{text}");
        fs::remove_dir(place.dir().path()).unwrap();
        let nowhere = place.prepare(&erofs, Some("template")).unwrap_err();
        assert!(matches!(
            nowhere,
            LaunchError::Home(HomeError {
                kind: HomeErrorKind::Other,
                ..
            })
        ));
    }

    #[test]
    fn a_pipe_in_the_place_of_an_image_is_not_waited_for() {
        let place = Place::new();
        rustix::fs::mkfifoat(rustix::fs::CWD, place.path("pipe"), 0o600.into()).unwrap();
        place.prepare(&place.config("pipe", None), None).unwrap();
    }
}
