//! From a launch request to a machine description with its open descriptors.
//!
//! Every file is opened here, so that the VMM needs no path. What may go wrong with each
//! is told in the same kinds that the VMM itself uses.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
use msb_runtime::chain::chain;
use msb_runtime::control::Launch;
use msb_runtime::rundir::{LockedRunDir, RunDirError};
use msb_types::{DiskImageFormat, RootfsSource, SandboxConfig};
use msb_vmapi::{ConsoleTarget, DiskConfig, ErrorKind, MemorySize, Source, VmConfig, VsockConfig};
use tokio::net::unix::pipe;

use super::host_error;

/// A machine description and what it refers to.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) config: VmConfig,
    descriptors: Vec<OwnedFd>,
    /// The reading end of the guest's console.
    pub(crate) console: pipe::Receiver,
}

impl Machine {
    /// Opens everything that is named and describes the machine.
    pub(crate) fn open(
        launch: &Launch,
        sandbox: &SandboxConfig,
        dir: &LockedRunDir,
    ) -> Result<Self, BootError> {
        let mut descriptors = Vec::new();
        let mut add = |descriptor: OwnedFd| {
            descriptors.push(descriptor);
            // Bounded by the few descriptors below.
            Source::Fd {
                fd: u32::try_from(descriptors.len() - 1).unwrap_or(u32::MAX),
            }
        };

        let kernel = open(&launch.kernel, false, ErrorKind::Kernel, "guest kernel")?;
        let initramfs = open(&launch.initramfs, false, ErrorKind::Initrd, "initramfs")?;
        let mut config = VmConfig::new(add(kernel.into()));
        config.initrd = Some(add(initramfs.into()));
        config.cpus = u32::from(sandbox.resources.cpus);
        config.memory = MemorySize::from_mib(sandbox.resources.memory_mib);
        if let RootfsSource::DiskImage {
            path,
            format: DiskImageFormat::Raw,
            ..
        } = &sandbox.image
        {
            let disk = open(path, true, ErrorKind::Disk, "disk image")?;
            config.disk.push(DiskConfig {
                id: Some("root".to_owned()),
                ..DiskConfig::whole(add(disk.into()), false)
            });
        } else {
            return Err(BootError::new(
                BootStage::Supervisor,
                BootErrorKind::Vmm(ErrorKind::InvalidConfig),
                "only raw disk images can be booted; convert the image, or name one",
            ));
        }

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

/// A run directory that could not be taken, as a boot error.
pub(crate) fn rundir_error(error: &RunDirError) -> BootError {
    let kind = match error {
        RunDirError::Held => BootErrorKind::AlreadyRunning,
        RunDirError::PathTooLong { .. } => BootErrorKind::Vmm(ErrorKind::Socket),
        _ => BootErrorKind::Host,
    };
    BootError::new(BootStage::Supervisor, kind, chain(error))
}

fn open(path: &Path, write: bool, kind: ErrorKind, what: &str) -> Result<File, BootError> {
    OpenOptions::new()
        .read(true)
        .write(write)
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
