//! Whether a disk that is only read is mapped into the guest's memory, or attached as a device.
//!
//! Mapped, its files are the host's page cache: all sandboxes of an image have them in common, and what a
//! sandbox reads takes none of its own memory. Attached, each guest reads them into memory of its own. What a mapped
//! disk costs is the guest's description of its pages, 64 bytes for each, whether they are used or not; and
//! the guest's kernel has to know such disks.

use std::fs::File;
use std::path::Path;

use msb_runtime::control::Launch;
use msb_runtime::kernel_config;
use msb_types::SandboxConfig;

use super::Content;

/// What of the kernel a mapped disk needs, built in: a guest of ours has no modules.
const NEEDED: [&str; 6] = [
    "CONFIG_VIRTIO_PMEM",
    "CONFIG_BLK_DEV_PMEM",
    // Without it the driver refuses every device, and says nothing.
    "CONFIG_ND_CLAIM",
    "CONFIG_ZONE_DEVICE",
    "CONFIG_FS_DAX",
    "CONFIG_EROFS_FS",
];

/// Bytes of a page, and what parts of a mapped disk are multiples of.
const PAGE: u64 = 4096;
/// Bytes of the guest's memory that describe a page.
const DESCRIPTION: u64 = 64;
/// At most this part of the guest's memory may go into descriptions.
const PART: u64 = 8;

/// What decides.
#[derive(Debug)]
pub(super) struct Mapping<'a> {
    wanted: bool,
    memory: u64,
    kernel: &'a Path,
}

impl<'a> Mapping<'a> {
    pub(super) fn of(launch: &'a Launch, config: &SandboxConfig) -> Self {
        Self {
            wanted: launch.map_images,
            memory: u64::from(config.resources.memory_mib) << 20,
            kernel: &launch.kernel,
        }
    }

    /// Whether a disk of this content is to be mapped.
    pub(super) fn suits(&self, content: &Content) -> bool {
        let fits = |bytes| pays(bytes, self.memory);
        self.wanted && bytes(content).is_some_and(fits) && self.is_known()
    }

    /// Whether the kernel knows mapped disks. One that cannot be read is somebody else's to complain of.
    fn is_known(&self) -> bool {
        File::open(self.kernel).is_ok_and(|kernel| kernel_config::has(&kernel, &NEEDED))
    }
}

/// Whether the pages of so many bytes can be described in a part of so much memory.
fn pays(bytes: u64, memory: u64) -> bool {
    let descriptions = bytes.div_ceil(PAGE).saturating_mul(DESCRIPTION);
    descriptions <= memory / PART
}

/// The bytes of what can be mapped: regular files that end at pages. A block device might go away.
fn bytes(content: &Content) -> Option<u64> {
    match content {
        Content::Own(_) => None,
        Content::Shared(file) => {
            let found = file.metadata().ok().filter(|found| found.is_file())?;
            Some(found.len()).filter(|len| len.is_multiple_of(PAGE))
        }
        Content::Parts(parts) => parts.iter().try_fold(0u64, |bytes, part| {
            let whole = part.len.is_multiple_of(PAGE);
            whole.then(|| bytes.checked_add(part.len)).flatten()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_of_memory_may_describe_pages() {
        for (memory, most) in [
            (128 << 20, 1 << 30),
            (512 << 20, 4 << 30),
            (1 << 30, 8 << 30),
        ] {
            assert!(pays(most, memory) && pays(4096, memory));
            assert!(!pays(most + 1, memory) && !pays(u64::MAX, memory));
        }
        assert!(!pays(4096, 0));
    }
}
