//! Why a machine was refused, and what to do about it.

use std::fmt;
use std::io;

use msb_vmapi::{ErrorKind, MemorySize, VmError};
use vmm_virtio::block::BlockError;

use crate::arch::x86_64::kernel::KernelError;

/// A part of the description that names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The kernel.
    Kernel,
    /// The initramfs.
    Initrd,
    /// A disk.
    Disk,
    /// The console's file.
    Console,
    /// The serial port's file.
    Serial,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Disk => "disk",
            Self::Console => "console",
            Self::Serial => "serial",
        })
    }
}

fn size(bytes: &u64) -> MemorySize {
    MemorySize::from_bytes(*bytes)
}

/// A machine's description was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlueprintError {
    /// Too few or too many vCPUs.
    #[error("cpus is {given}; give 1 to {max}")]
    Cpus {
        /// What was asked for.
        given: u32,
        /// The most that this host and VMM allow.
        max: u32,
    },
    /// Less memory than any kernel needs.
    #[error("memory is {}; give at least {}", size(given), size(min))]
    MemoryTooSmall {
        /// Bytes asked for.
        given: u64,
        /// Least bytes allowed.
        min: u64,
    },
    /// More memory than there is.
    #[error("memory is {}; the host has {}: give less", size(given), size(host))]
    MemoryTooLarge {
        /// Bytes asked for.
        given: u64,
        /// Bytes that the host has.
        host: u64,
    },
    /// Not a number of pages.
    #[error("memory is {given} bytes; give a multiple of 4096")]
    MemoryUnaligned {
        /// Bytes asked for.
        given: u64,
    },
    /// The kernel does not fit in memory.
    #[error(
        "memory is {}; this kernel needs more than {}",
        size(given),
        size(need)
    )]
    MemoryBelowKernel {
        /// Bytes asked for.
        given: u64,
        /// Bytes up to the kernel's end.
        need: u64,
    },
    /// A file cannot be opened.
    #[error("{part}: cannot open {name}")]
    Open {
        /// What it is for.
        part: Part,
        /// Path or descriptor.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A directory or a pipe where bytes at offsets are needed.
    #[error("{part}: {name} is not a regular file")]
    NotAFile {
        /// What it is for.
        part: Part,
        /// Path or descriptor.
        name: String,
    },
    /// The kernel cannot be booted.
    #[error("kernel: {name}")]
    Kernel {
        /// Path or descriptor.
        name: String,
        /// Why not.
        #[source]
        source: KernelError,
    },
    /// The initramfs has no bytes.
    #[error("initrd: {name} is empty; leave it out, or give a cpio archive")]
    InitrdEmpty {
        /// Path or descriptor.
        name: String,
    },
    /// The initramfs does not fit.
    #[error(
        "initrd: {name} has {len} bytes, and memory beside the kernel {room}: give more memory or a \
         smaller initrd"
    )]
    InitrdTooLarge {
        /// Path or descriptor.
        name: String,
        /// Its bytes.
        len: u64,
        /// Bytes between the kernel and the end of memory below 3 GiB.
        room: u64,
    },
    /// The command line is longer than Linux reads.
    #[error("cmdline has {given} bytes; Linux reads {max}")]
    CommandLineTooLong {
        /// Its bytes.
        given: usize,
        /// Most bytes.
        max: usize,
    },
    /// The command line has a zero byte in it.
    #[error("cmdline has a zero byte in it; leave it out")]
    CommandLineZero,
    /// Not a disk.
    #[error("disk: {name}")]
    Disk {
        /// Path or descriptor.
        name: String,
        /// Why not.
        #[source]
        source: BlockError,
    },
    /// Another machine has the disk.
    #[error(
        "disk: {name} is in use by another machine; stop that one, or give the disk read-only to both"
    )]
    DiskInUse {
        /// Path or descriptor.
        name: String,
    },
    /// The disk cannot be written.
    #[error("disk: {name} is not open for writing; add read-only, or pass it opened for writing")]
    DiskNotWritable {
        /// Path or descriptor.
        name: String,
    },
    /// The disk cannot be locked.
    #[error("disk: cannot lock {name}")]
    DiskLock {
        /// Path or descriptor.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A disk of extents that is to be written.
    #[error("disk: one that is made of extents cannot be written; add read_only")]
    ExtentsWritable,
    /// A disk of more extents than one may have.
    #[error("disk: {given} extents; give at most {max}")]
    TooManyExtents {
        /// Extents asked for.
        given: usize,
        /// Most extents.
        max: usize,
    },
    /// No extents, or none with bytes.
    #[error("disk: its extents have no bytes; give one that has")]
    ExtentsEmpty,
    /// An extent is not made of sectors, or pages.
    #[error(
        "disk: extent {index} (from 0) is {length} bytes at {offset}; give multiples of {unit} for both"
    )]
    ExtentUnaligned {
        /// Which one, from 0.
        index: usize,
        /// Where it begins in its file.
        offset: u64,
        /// Its bytes.
        length: u64,
        /// What both have to be multiples of.
        unit: u64,
    },
    /// An extent ends where no file can.
    #[error("disk: extent {index} (from 0) ends beyond 16 EiB; no file has that many bytes")]
    ExtentOverflow {
        /// Which one, from 0.
        index: usize,
    },
    /// A file is shorter than what is wanted of it.
    #[error(
        "disk: extent {index} (from 0) ends at byte {end} of {name}, which has {size}; is that the right \
         file, and whole?"
    )]
    ExtentBeyondEnd {
        /// Which one, from 0.
        index: usize,
        /// Path or descriptor.
        name: String,
        /// Where it ends in its file.
        end: u64,
        /// The file's bytes.
        size: u64,
    },
    /// A file that is to be mapped ends within a page.
    #[error(
        "pmem: {name} has {bytes} bytes, not a multiple of 4096: extend it with `truncate -s %4096 FILE`, or \
         attach it as a disk"
    )]
    MappedUnaligned {
        /// Path or descriptor.
        name: String,
        /// Its bytes.
        bytes: u64,
    },
    /// More is to be mapped than there are addresses for.
    #[error(
        "pmem: the mapped disks have {} together, and at most {} can be mapped here: attach some as disks",
        size(given),
        size(max)
    )]
    MappedTooLarge {
        /// Bytes of all of them.
        given: u64,
        /// Most bytes.
        max: u64,
    },
    /// More disks than slots.
    #[error("{given} disks; give at most {max}")]
    TooManyDisks {
        /// Disks asked for.
        given: usize,
        /// Most disks.
        max: usize,
    },
    /// Console and serial port both want the terminal.
    #[error("console and serial both use stdio; give one of them a file, or none")]
    StdioTwice,
    /// The context id is not a guest's.
    #[error("vsock cid is {given}; give 3 or more (0 to 2 are the hypervisor's and the host's)")]
    Cid {
        /// What was asked for.
        given: u32,
    },
    /// A descriptor that was not sent.
    #[error("descriptor {index} is named, but {count} were sent, counted from 0")]
    NoDescriptor {
        /// The index named.
        index: u32,
        /// Number of descriptors sent.
        count: usize,
    },
    /// A descriptor for two things.
    #[error("descriptor {index} is named twice; send a duplicate")]
    DescriptorTwice {
        /// The index named.
        index: u32,
    },
    /// A socket's path does not fit in a socket address.
    #[error("socket path {path} has {len} bytes; at most {max} fit: use a shorter directory")]
    SocketPathTooLong {
        /// The path.
        path: String,
        /// Its bytes.
        len: usize,
        /// Most bytes.
        max: usize,
    },
    /// Somebody listens there, or it is another kind of file.
    #[error("socket path {path} is taken; choose another, or stop who listens there")]
    SocketTaken {
        /// The path.
        path: String,
    },
    /// A socket could not be made.
    #[error("cannot listen at {name}")]
    Socket {
        /// Path or descriptor.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A descriptor is not a listening Unix stream socket.
    #[error("descriptor {index} is not a listening Unix stream socket")]
    NotListening {
        /// The index.
        index: u32,
    },
}

impl BlueprintError {
    /// What a program matches on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cpus { .. } => ErrorKind::Cpus,
            Self::MemoryTooSmall { .. }
            | Self::MemoryTooLarge { .. }
            | Self::MemoryUnaligned { .. }
            | Self::MemoryBelowKernel { .. } => ErrorKind::Memory,
            Self::Open { part, .. } | Self::NotAFile { part, .. } => match part {
                Part::Kernel => ErrorKind::Kernel,
                Part::Initrd => ErrorKind::Initrd,
                Part::Disk => ErrorKind::Disk,
                Part::Console | Part::Serial => ErrorKind::InvalidConfig,
            },
            Self::Kernel { .. } => ErrorKind::Kernel,
            Self::InitrdEmpty { .. } | Self::InitrdTooLarge { .. } => ErrorKind::Initrd,
            Self::Disk { .. }
            | Self::DiskNotWritable { .. }
            | Self::DiskLock { .. }
            | Self::MappedUnaligned { .. }
            | Self::ExtentBeyondEnd { .. } => ErrorKind::Disk,
            Self::DiskInUse { .. } => ErrorKind::DiskInUse,
            Self::SocketPathTooLong { .. }
            | Self::SocketTaken { .. }
            | Self::Socket { .. }
            | Self::NotListening { .. } => ErrorKind::Socket,
            Self::CommandLineTooLong { .. }
            | Self::CommandLineZero
            | Self::TooManyDisks { .. }
            | Self::MappedTooLarge { .. }
            | Self::ExtentsWritable
            | Self::TooManyExtents { .. }
            | Self::ExtentsEmpty
            | Self::ExtentUnaligned { .. }
            | Self::ExtentOverflow { .. }
            | Self::StdioTwice
            | Self::Cid { .. }
            | Self::NoDescriptor { .. }
            | Self::DescriptorTwice { .. } => ErrorKind::InvalidConfig,
        }
    }

    /// The error as it travels.
    pub fn to_vm_error(&self) -> VmError {
        VmError {
            kind: self.kind(),
            message: crate::report::chain(self),
        }
    }
}
