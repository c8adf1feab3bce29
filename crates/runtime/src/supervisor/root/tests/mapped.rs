//! Which disks are mapped. The kernel of the other tests says nothing of itself, so none of theirs is.

use std::fs::File;

use msb_image::store::DiskPart;

use super::images::{APP, BASE, EMPTY, patches};
use super::snapshots::of;
use super::*;

const CONFIG: &str = "CONFIG_VIRTIO_PMEM=y\nCONFIG_BLK_DEV_PMEM=y\nCONFIG_ND_CLAIM=y\nCONFIG_ZONE_DEVICE=y\n\
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

/// The parts of the one disk that is mapped, under the writable one.
fn mapped_parts(place: &Place, config: &SandboxConfig) -> Vec<DiskPart> {
    let root = place.open(config).unwrap();
    let ids: Vec<_> = root.disks.iter().map(|disk| disk.id).collect();
    assert_eq!(ids, ["upper"]);
    assert!(matches!(root.guest, GuestRoot::Mapped { .. }));
    match root.mapped {
        Some(Content::Parts(parts)) => parts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_is_mapped_as_one_disk() {
    let place = Place::with_kernel(CONFIG);
    let digest = place.load(&[BASE, EMPTY, APP]);
    let config = place.image(digest, Vec::new());
    place.prepare(&config, Some("template")).unwrap();
    // Metadata, and the two layers that have data.
    assert_eq!(mapped_parts(&place, &config).len(), 3);
}

#[test]
fn patches_are_mapped_with_their_image_wherever_they_were_made() {
    let place = Place::with_kernel(CONFIG);
    let digest = place.load(&[BASE, EMPTY, APP]);
    let patched = place.image(digest, patches(&place));
    place.prepare(&patched, Some("template")).unwrap();
    let own = |name: &str| fs::metadata(place.dir().path().join(name)).unwrap().len();
    let check = |config| {
        let parts = mapped_parts(&place, config);
        let lengths: Vec<_> = parts.iter().map(|part| part.len).collect();
        assert_eq!(lengths.len(), 4);
        assert_eq!(
            (lengths[0], lengths[3]),
            (own("root.erofs"), own("patch/data"))
        );
    };
    check(&patched);
    let snapshot = place.snapshot(&digest.to_string());
    let begun = of(digest, 64);
    place.begin(&begun, &snapshot).unwrap();
    check(&begun);
}
