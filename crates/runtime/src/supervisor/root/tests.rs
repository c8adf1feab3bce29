//! Which disks there are, and what is made for them.

mod images;
mod mapped;
#[path = "../../kernel_config/sample.rs"]
mod sample;
mod snapshots;

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
            home: self.0.path().to_path_buf(),
            detached: false,
            vmm: none(),
            kernel: self.path("kernel"),
            initramfs: none(),
            upper_template: template.map(|name| self.path(name)),
            map_images: true,
            snapshot_upper: None,
            requested_ns: 0,
            boot_timeout_ms: 0,
        }
    }

    fn prepare(&self, config: &SandboxConfig, template: Option<&str>) -> Result<(), LaunchError> {
        prepare(&self.launch(template), config, self.dir().path()).map(drop)
    }

    fn open(&self, config: &SandboxConfig) -> Result<Root, BootError> {
        Root::open(&self.launch(None), config, &self.dir())
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
