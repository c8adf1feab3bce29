//! Machines of a few instructions, and the other end of their control connection.

pub mod driver;
#[path = "../../src/test_support.rs"]
mod test_support;

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
use test_support::TinyKernel;

/// `hlt` for ever, interrupts off.
pub const SLEEP: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfc];

/// `mov dx, port; mov al, value; out dx, al`, then sleep.
pub fn out(port: u16, value: u8) -> Vec<u8> {
    let mut code = vec![0x66, 0xba];
    code.extend(port.to_le_bytes());
    code.extend([0xb0, value, 0xee]);
    code.extend(SLEEP);
    code
}

/// `mov eax, address; mov ebx, value; mov [eax], ebx`
pub fn store(address: u32, value: u32) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(address.to_le_bytes());
    code.push(0xbb);
    code.extend(value.to_le_bytes());
    code.extend([0x89, 0x18]);
    code
}

pub fn system() -> Option<System> {
    match System::open_any() {
        Ok(system) => Some(system),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// The file of a kernel of this code.
pub fn kernel(code: &[u8]) -> Vec<u8> {
    TinyKernel::new(code).build()
}

pub struct Place(TempDir);

impl Place {
    pub fn new(code: &[u8]) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("kernel"), TinyKernel::new(code).build()).unwrap();
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
