//! Machines of a few instructions, and the other end of their control connection.

pub mod guest;

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use msb_vmapi::{FromVmm, MemorySize, Request, ToVmm, VmConfig};
use msb_vmm::blueprint::{Blueprint, Host};
use msb_vmm::control::Connection;
use msb_vmm::kvm::System;
use msb_vmm::machine::{Machine, Surroundings};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tempfile::TempDir;

#[allow(unused_imports)]
pub use guest::{SLEEP, kernel, out, store};

pub fn system() -> Option<System> {
    match System::open_any() {
        Ok(system) => Some(system),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

pub struct Place(TempDir);

impl Place {
    pub fn new(code: &[u8]) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("kernel"), kernel(code)).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn config(&self) -> VmConfig {
        let mut config = VmConfig::new(self.path().join("kernel"));
        config.memory = MemorySize::from_mib(32);
        config
    }
}

pub fn machine(system: &System, config: VmConfig, surroundings: Surroundings) -> Machine {
    let host = Host::with_vcpus(system.max_vcpus());
    let blueprint = Blueprint::new(config, Vec::new(), &host).unwrap();
    Machine::new(system, blueprint, surroundings).unwrap()
}

/// The other end of a control connection.
pub struct Supervisor(OwnedFd);

impl Supervisor {
    pub fn new() -> (Self, Connection) {
        let (ours, theirs) = Self::pair();
        (ours, theirs.into())
    }

    /// The same, with the machine's end as it is.
    pub fn pair() -> (Self, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (Self(ours), theirs)
    }

    pub fn ask(&self, id: u64, request: Request) {
        let bytes = serde_json::to_vec(&ToVmm { id, request }).unwrap();
        let mut none = SendAncillaryBuffer::default();
        let sent = sendmsg(
            &self.0,
            &[IoSlice::new(&bytes)],
            &mut none,
            SendFlags::NOSIGNAL,
        );
        // A machine that has ended is asked in vain.
        assert!(matches!(sent, Ok(_) | Err(rustix::io::Errno::PIPE)));
    }

    pub fn hear(&self) -> Option<FromVmm> {
        self.hear_with_descriptors().map(|(message, _)| message)
    }

    pub fn hear_with_descriptors(&self) -> Option<(FromVmm, Vec<OwnedFd>)> {
        let mut bytes = vec![0; 65536];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::empty(),
        )
        .unwrap();
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let bytes = &bytes[..got.bytes];
        (!bytes.is_empty()).then(|| (serde_json::from_slice(bytes).unwrap(), descriptors))
    }
}
