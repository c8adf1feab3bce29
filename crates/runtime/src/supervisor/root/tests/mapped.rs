//! Which disks are mapped. The kernel of the other tests says nothing of itself, so none of theirs is.

use std::fs::File;

use super::*;

const CONFIG: &str = "CONFIG_VIRTIO_PMEM=y\nCONFIG_BLK_DEV_PMEM=y\nCONFIG_ZONE_DEVICE=y\n\
                      CONFIG_FS_DAX=y\nCONFIG_EROFS_FS=y\n";

impl Place {
    /// One whose kernel has this configuration.
    fn with_kernel(config: &str) -> Self {
        let place = Self::new();
        fs::write(place.path("kernel"), sample::kernel(config)).unwrap();
        place
    }

    /// Makes the image so long that its pages' descriptions take an eighth of this memory.
    fn image_for(&self, memory: u64, more: u64) {
        let file = File::options().write(true).open(self.path("erofs"));
        file.unwrap().set_len(memory * 8 + more).unwrap();
    }
}

fn is_mapped(place: &Place, change: impl FnOnce(&mut SandboxConfig, &mut Launch)) -> bool {
    let mut config = place.config("erofs", None);
    config.resources.memory_mib = 128;
    let mut launch = place.launch(Some("template"));
    if !place.dir().path().join(upper::FILE).exists() {
        place.prepare(&config, Some("template")).unwrap();
    }
    change(&mut config, &mut launch);
    let root = Root::open(&launch, &config, &place.dir()).unwrap();
    let ids: Vec<_> = root.disks.iter().map(|disk| disk.id).collect();
    match (&root.mapped, &root.guest) {
        (
            Some(Content::Shared(_)),
            GuestRoot::Mapped {
                lower,
                fstype,
                upper,
            },
        ) => {
            assert_eq!((&**lower, &**upper), ("/dev/pmem0", "upper"));
            assert_eq!(fstype.as_deref(), Some("erofs"));
            assert_eq!(ids, ["upper"]);
            true
        }
        (None, GuestRoot::Overlay { .. }) => {
            assert_eq!(ids, ["root", "upper"]);
            false
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_is_mapped_where_the_kernel_can_do_that() {
    let place = Place::with_kernel(CONFIG);
    assert!(is_mapped(&place, |_, _| {}));
    assert!(!is_mapped(&place, |_, launch| launch.map_images = false));
    for option in CONFIG.lines() {
        let without = CONFIG.replace(option, &option.replace("=y", "=m"));
        let place = Place::with_kernel(&without);
        assert!(!is_mapped(&place, |_, _| {}), "{option}");
    }
    // What is missing is told by whoever needs it.
    assert!(!is_mapped(&Place::new(), |_, _| {}));
}

#[test]
fn one_that_would_take_too_much_memory_is_attached() {
    let place = Place::with_kernel(CONFIG);
    place.image_for(128 << 20, 0);
    assert!(is_mapped(&place, |_, _| {}));
    assert!(!is_mapped(&place, |config, _| config
        .resources
        .memory_mib = 127));
    place.image_for(128 << 20, 4096);
    assert!(!is_mapped(&place, |_, _| {}));
    assert!(is_mapped(&place, |config, _| config.resources.memory_mib = 129));
}

#[test]
fn one_that_ends_within_a_page_is_attached() {
    let place = Place::with_kernel(CONFIG);
    place.image_for(1 << 20, 512);
    assert!(!is_mapped(&place, |_, _| {}));
}

#[test]
fn a_disk_that_is_written_to_is_attached() {
    let place = Place::with_kernel(CONFIG);
    let root = place.open(&place.config("ext4", None)).unwrap();
    assert!(root.mapped.is_none() && root.disks.len() == 1);
}
