#![no_main]
//! The blueprint: any machine description, any kernel.
//!
//! The input is JSON up to the first zero byte, and the kernel after it. Paths in the description
//! are replaced by descriptors, so that no input reaches a file of the host.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use libfuzzer_sys::fuzz_target;
use msb_vmapi::{ConsoleTarget, DiskContent, Source, VmConfig};
use msb_vmm::blueprint::{Blueprint, Host};
use rustix::fs::{MemfdFlags, memfd_create};

const HOST: Host = Host { memory: 8 << 30, max_vcpus: 64, address_bits: 40 };

fn memory_file(contents: &[u8]) -> Option<OwnedFd> {
    let mut file = File::from(memfd_create("fuzz", MemfdFlags::CLOEXEC).ok()?);
    file.write_all(contents).ok()?;
    Some(file.into())
}

fn no_path(source: &mut Source) {
    if let Source::Path(path) = source {
        let fd = u32::try_from(path.as_os_str().len() % 5).unwrap_or(0);
        *source = Source::Fd { fd };
    }
}

fuzz_target!(|bytes: &[u8]| {
    let zero = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (json, kernel) = bytes.split_at(zero);
    let Ok(mut config) = serde_json::from_slice::<VmConfig>(json) else { return };
    no_path(&mut config.kernel);
    config.control = None;
    config.initrd.iter_mut().for_each(no_path);
    let disks = config.disk.iter_mut().map(|disk| &mut disk.content);
    let mapped = config.pmem.iter_mut().map(|disk| &mut disk.content);
    for content in disks.chain(mapped) {
        match content {
            DiskContent::Whole(source) => no_path(source),
            DiskContent::Extents(extents) => extents.iter_mut().for_each(|extent| no_path(&mut extent.path)),
        }
    }
    config.vsock.iter_mut().for_each(|vsock| no_path(&mut vsock.socket));
    for console in [&mut config.console, &mut config.serial] {
        match console {
            ConsoleTarget::File(source) => no_path(source),
            // Standard input is the fuzzer's own.
            other => *other = ConsoleTarget::None,
        }
    }
    let files = [kernel.get(1..).unwrap_or_default(), b"initrd", &[0; 8192], &[0; 1000], b""];
    let Some(descriptors) = files.into_iter().map(memory_file).collect() else { return };
    let _ = Blueprint::new(config, descriptors, &HOST);
});
