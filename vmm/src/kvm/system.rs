//! `/dev/kvm`: opening it, and what it can do.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::IntoRawFd;
use std::path::Path;

use kvm_bindings::{CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Cap, Kvm, VmFd};

use super::KvmError;

const DEVICE: &str = "/dev/kvm";

/// `KVM_CREATE_VM` gives up on any signal; this often is more than bad luck.
const CREATE_TRIES: u32 = 64;

/// The host's KVM.
#[derive(Debug)]
pub struct System {
    kvm: Kvm,
}

impl System {
    /// Opens /dev/kvm, and refuses it when the processor has no virtualization behind it.
    pub fn open() -> Result<Self, KvmError> {
        let system = Self::open_any()?;
        if crate::probe::processor_has_virtualization() {
            Ok(system)
        } else {
            Err(KvmError::NotHardware)
        }
    }

    /// Opens /dev/kvm whatever is behind it. Guests may be slow there beyond use.
    pub fn open_any() -> Result<Self, KvmError> {
        Self::open_path(Path::new(DEVICE))
    }

    fn open_path(path: &Path) -> Result<Self, KvmError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => KvmError::Absent,
                io::ErrorKind::PermissionDenied => KvmError::Forbidden(error),
                // No driver behind the node.
                _ if error.raw_os_error() == Some(libc::ENODEV)
                    || error.raw_os_error() == Some(libc::ENXIO) =>
                {
                    KvmError::Absent
                }
                _ => KvmError::Call {
                    what: "be opened",
                    source: error,
                },
            })?;
        let kvm = super::vm::adopt(file.into_raw_fd());
        match kvm.get_api_version() {
            version if u32::try_from(version) == Ok(KVM_API_VERSION) => Ok(Self { kvm }),
            version => Err(KvmError::Version(version)),
        }
    }

    /// Most vCPUs that KVM gives one machine.
    pub fn max_vcpus(&self) -> u32 {
        u32::try_from(self.kvm.get_max_vcpus()).unwrap_or(u32::MAX)
    }

    /// Whether the local APIC's timer can be armed by an absolute time-stamp.
    pub(crate) fn has_tsc_deadline(&self) -> bool {
        self.kvm.check_extension(Cap::TscDeadlineTimer)
    }

    /// All processor features that KVM can give a guest here.
    pub(crate) fn supported_cpuid(&self) -> Result<CpuId, KvmError> {
        self.kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(KvmError::call("say which processor features it supports"))
    }

    pub(super) fn create_vm(&self) -> Result<VmFd, KvmError> {
        let mut tries = 0;
        loop {
            match self.kvm.create_vm() {
                Err(error) if error.errno() == libc::EINTR && tries < CREATE_TRIES => tries += 1,
                result => return result.map_err(KvmError::call("create a machine")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_device_and_not_a_device() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("kvm");
        assert!(matches!(System::open_path(&missing), Err(KvmError::Absent)));
        std::fs::write(&missing, "").unwrap();
        assert!(matches!(
            System::open_path(&missing),
            Err(KvmError::Version(_))
        ));
    }
}
