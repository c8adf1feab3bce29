//! vsock addresses (`struct sockaddr_vm`, `linux/vm_sockets.h`) for the socket calls.

#![expect(
    unsafe_code,
    reason = "socket addresses are passed to the kernel as raw memory"
)]

use std::mem::size_of;

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SocketAddrAny};

/// One end of a vsock connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VsockAddress {
    /// Which machine.
    pub(crate) cid: u32,
    /// Which service on it.
    pub(crate) port: u32,
}

impl VsockAddress {
    /// The machine that runs this one (`VMADDR_CID_HOST`).
    pub(crate) const HOST: u32 = libc::VMADDR_CID_HOST;

    /// Whichever identifier this machine has (`VMADDR_CID_ANY`).
    pub(crate) const ANY: u32 = libc::VMADDR_CID_ANY;

    /// What the kernel said of a peer, if it is a vsock address.
    pub(crate) fn from_any(any: &SocketAddrAny) -> Option<Self> {
        let length = usize::try_from(any.addr_len()).ok()?;
        if any.address_family() != AddressFamily::VSOCK || length < size_of::<libc::sockaddr_vm>() {
            return None;
        }
        // SAFETY: the kernel wrote at least this many bytes of this family's address there,
        // and any bytes are a valid sockaddr_vm.
        let raw = unsafe { any.as_ptr().cast::<libc::sockaddr_vm>().read_unaligned() };
        Some(Self {
            cid: raw.svm_cid,
            port: raw.svm_port,
        })
    }
}

// SAFETY: `f` is called with a live sockaddr_vm, wholly initialised, and its exact size.
unsafe impl SocketAddrArg for VsockAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        const FAMILY: libc::sa_family_t = 40;
        const LENGTH: SocketAddrLen = 16;
        const { assert!(size_of::<libc::sockaddr_vm>() == 16 && libc::AF_VSOCK == 40) };
        let raw = libc::sockaddr_vm {
            svm_family: FAMILY,
            svm_reserved1: 0,
            svm_port: self.port,
            svm_cid: self.cid,
            svm_zero: [0; 4],
        };
        f((&raw const raw).cast(), LENGTH)
    }
}
