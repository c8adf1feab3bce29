//! From a launch request to a machine description with its open descriptors.
//!
//! Every file is opened here, so that the VMM needs no path. What may go wrong with each
//! is told in the same kinds that the VMM itself uses.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
use msb_runtime::chain::chain;
use msb_runtime::control::Launch;
use msb_runtime::isolation::{Requirement, requirements};
use msb_runtime::rundir::{LockedRunDir, RunDirError};
use msb_types::SandboxConfig;
use msb_vmapi::{
    ConsoleTarget, DiskConfig, DiskContent, DiskExtent, ErrorKind, MemorySize, PmemConfig, Source,
    VmConfig, VsockConfig,
};
use rustix::fs::OFlags;
use tokio::net::unix::pipe;

use super::host_error;
use super::root::{Content, Disk};

/// A machine description and what it refers to.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) config: VmConfig,
    descriptors: Vec<OwnedFd>,
    /// The reading end of the guest's console.
    pub(crate) console: pipe::Receiver,
}

impl Machine {
    /// Opens everything else that is named and describes the machine.
    pub(crate) fn open(
        launch: &Launch,
        sandbox: &SandboxConfig,
        dir: &LockedRunDir,
        disks: Vec<Disk>,
        mapped: Option<Content>,
    ) -> Result<Self, BootError> {
        let mut descriptors = Vec::new();
        let mut add = |descriptor: OwnedFd| {
            descriptors.push(descriptor);
            // Bounded by the descriptors of the disks and the few below.
            Source::Fd {
                fd: u32::try_from(descriptors.len() - 1).unwrap_or(u32::MAX),
            }
        };

        let kernel = open(&launch.kernel, false, ErrorKind::Kernel, "guest kernel")?;
        let initramfs = open(&launch.initramfs, false, ErrorKind::Initrd, "initramfs")?;
        let mut config = VmConfig::new(add(kernel.into()));
        config.initrd = Some(add(initramfs.into()));
        config.require = required(sandbox);
        config.cpus = u32::from(sandbox.resources.cpus);
        config.memory = MemorySize::from_mib(sandbox.resources.memory_mib);
        for disk in disks {
            let read_only = !matches!(disk.content, Content::Own(_));
            config.disk.push(DiskConfig {
                content: content(disk.content, &mut add),
                read_only,
                id: Some(disk.id.to_owned()),
            });
        }
        let mapped = mapped.map(|mapped| content(mapped, &mut add));
        let mapped = mapped.map(|content| PmemConfig { content });
        config.pmem.extend(mapped);

        let socket = dir.dir().vsock_socket();
        let listener = std::os::unix::net::UnixListener::bind(&socket)
            .map_err(|error| host_error(BootStage::Supervisor, "cannot make vsock.sock", &error))?;
        config.vsock = Some(VsockConfig {
            socket: add(listener.into()),
            cid: 3,
        });

        let (console, write) = console_pipe()
            .map_err(|error| host_error(BootStage::Supervisor, "cannot make a pipe", &error))?;
        config.console = ConsoleTarget::File(add(write));
        Ok(Self {
            config,
            descriptors,
            console,
        })
    }

    /// The descriptors, in the order in which the description counts them.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.descriptors.iter().map(AsFd::as_fd).collect()
    }
}

/// The layers without which the sandbox's VMM is not to run a guest.
pub(crate) fn required(sandbox: &SandboxConfig) -> Vec<Requirement> {
    let root = rustix::process::geteuid().is_root();
    let level = sandbox.require_isolation;
    level.map_or_else(Vec::new, |level| requirements(level, root))
}

/// A disk's content as it is described, after its files were added to what is sent.
fn content(content: Content, add: &mut impl FnMut(OwnedFd) -> Source) -> DiskContent {
    match content {
        Content::Own(file) | Content::Shared(file) => DiskContent::Whole(add(file.into())),
        Content::Parts(parts) => {
            let extents = parts.into_iter().map(|part| DiskExtent {
                path: add(part.file.into()),
                offset: 0,
                length: part.len,
            });
            DiskContent::Extents(extents.collect())
        }
    }
}

/// A run directory that could not be taken, as a boot error.
pub(crate) fn rundir_error(error: &RunDirError) -> BootError {
    let kind = match error {
        RunDirError::Held => BootErrorKind::AlreadyRunning,
        RunDirError::PathTooLong { .. } => BootErrorKind::Vmm(ErrorKind::Socket),
        _ => BootErrorKind::Host,
    };
    BootError::new(BootStage::Supervisor, kind, chain(error))
}

/// Opens a file of the host. Nothing is waited for, as a pipe without a writer would have it.
pub(super) fn open(
    path: &Path,
    write: bool,
    kind: ErrorKind,
    what: &str,
) -> Result<File, BootError> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::NotFound => "; there is no such file",
                io::ErrorKind::PermissionDenied => "; check its permissions",
                io::ErrorKind::IsADirectory => "; it is a directory, name a file",
                _ => "",
            };
            BootError::new(
                BootStage::Supervisor,
                BootErrorKind::Vmm(kind),
                format!("cannot open the {what} {}: {error}{advice}", path.display()),
            )
        })
}

fn console_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((pipe::Receiver::from_owned_fd(read)?, write))
}
