//! The one place where a machine's description is judged.
//!
//! A [`VmConfig`] is what somebody asked for. [`Blueprint::new`] opens what it names, checks all of
//! it against itself and against the host, and either refuses with an error that says what to do, or
//! makes a [`Blueprint`]: a machine that can be built. Nothing after this looks for mistakes of the
//! description again.
//!
//! Paths are opened first, and from then on are descriptors like those that were sent: there is one
//! way for both. A refused description leaves nothing behind; sockets that were made are removed.

mod disk;
mod error;
mod files;
mod lock;
mod mapped;
mod sockets;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use msb_vmapi::{ConsoleTarget, Source, VmConfig, VsockConfig};
use vmm_virtio::block::Block;

use crate::arch::x86_64::boot::{self, Module};
use crate::arch::x86_64::kernel::KernelImage;
use crate::arch::x86_64::{cpuid, layout};
use crate::jail::{Needs, regular_size};
use crate::memory::{MIN_MEMORY, MappedDisk, PAGE, RamLayout};
use crate::porter::Keys;
use crate::terminal;

pub use disk::MAX_EXTENTS;
pub use error::{BlueprintError, Part};
use files::Files;
pub use mapped::MAX_MAPPED;
pub use sockets::SocketFile;

/// What a kernel is told when nobody says otherwise, beside its console: how to end, to say only what
/// matters (each line costs time at boot), that the clock need not be watched, and not to wake up
/// twice a second to see whether memory is in pieces, nor once to add up statistics.
pub const DEFAULT_COMMAND_LINE: &str = "reboot=k panic=-1 quiet loglevel=3 tsc=reliable \
    sysctl.vm.compaction_proactiveness=0 sysctl.vm.stat_interval=60";

/// Slots that devices of every machine have: console and rng.
const FIXED_DEVICES: usize = 2;
/// Most disks of a machine, mapped ones among them: the slots that are left beside the fixed devices and vsock.
pub const MAX_DISKS: usize = layout::SLOTS - FIXED_DEVICES - 1;

/// The least context id that is a guest's.
const MIN_GUEST_CID: u32 = 3;

/// What the host can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Bytes of memory in all.
    pub memory: u64,
    /// Most vCPUs that KVM gives one machine.
    pub max_vcpus: u32,
    /// Bits of a guest's address.
    pub address_bits: u32,
}

impl Host {
    /// This host, with that many vCPUs.
    pub fn with_vcpus(max_vcpus: u32) -> Self {
        let info = rustix::system::sysinfo();
        // `totalram` is a C long, 64 bits here.
        let total = u64::from_ne_bytes(info.totalram.to_ne_bytes());
        Self {
            memory: total.saturating_mul(u64::from(info.mem_unit)),
            max_vcpus,
            address_bits: cpuid::address_bits(),
        }
    }
}

/// A kernel that can be booted.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) file: File,
    pub(crate) image: KernelImage,
}

/// An initramfs, and where it goes.
#[derive(Debug)]
pub(crate) struct Initrd {
    pub(crate) file: File,
    pub(crate) module: Module,
}

/// The vsock device's host side.
#[derive(Debug)]
pub(crate) struct VsockPart {
    pub(crate) cid: u32,
    pub(crate) listener: UnixListener,
    /// Where the listener is, if it was made here.
    pub(crate) path: Option<PathBuf>,
}

/// Where a console's bytes go and come from.
#[derive(Debug)]
pub(crate) enum ConsolePart {
    /// Standard input and output.
    Stdio,
    /// Output only.
    Output(OwnedFd),
}

impl ConsolePart {
    /// Whether its output makes a file longer.
    fn is_file(&self) -> bool {
        let size = match self {
            Self::Stdio => regular_size(rustix::stdio::stdout()),
            Self::Output(output) => regular_size(output),
        };
        size.is_some()
    }
}

/// A machine that can be built.
#[derive(Debug)]
pub struct Blueprint {
    pub(crate) kernel: Kernel,
    pub(crate) initrd: Option<Initrd>,
    pub(crate) command_line: String,
    pub(crate) cpus: u8,
    pub(crate) ram: RamLayout,
    pub(crate) disks: Vec<Block>,
    pub(crate) mapped: Vec<MappedDisk>,
    pub(crate) vsock: Option<VsockPart>,
    pub(crate) console: ConsolePart,
    pub(crate) serial: Option<ConsolePart>,
    pub(crate) control: Option<OwnedFd>,
    /// Sockets made here; they are removed with the machine.
    pub(crate) socket_files: Vec<SocketFile>,
}

impl Blueprint {
    /// Opens and checks a machine. `descriptors` are those that the description refers to by number.
    pub fn new(
        config: VmConfig,
        descriptors: Vec<OwnedFd>,
        host: &Host,
    ) -> Result<Self, BlueprintError> {
        let mut files = Files::new(descriptors);
        let cpus = check_cpus(config.cpus, host)?;
        let ram = check_memory(config.memory.bytes(), host)?;
        if config.console == ConsoleTarget::Stdio && config.serial == ConsoleTarget::Stdio {
            return Err(BlueprintError::StdioTwice);
        }
        let consoles = match (&config.console, &config.serial) {
            (_, ConsoleTarget::None) => "console=hvc0",
            (ConsoleTarget::None, _) => "console=ttyS0",
            // The last one is /dev/console; the kernel's messages go to both.
            _ => "console=ttyS0 console=hvc0",
        };
        let command_line = config
            .cmdline
            .unwrap_or_else(|| format!("{consoles} {DEFAULT_COMMAND_LINE}"));
        check_command_line(&command_line)?;
        let kernel = open_kernel(&mut files, config.kernel, &ram)?;
        let initrd = config
            .initrd
            .map(|source| open_initrd(&mut files, source, &ram, &kernel.image))
            .transpose()?;
        let given = config.disk.len().saturating_add(config.pmem.len());
        if given > MAX_DISKS {
            let max = MAX_DISKS;
            return Err(BlueprintError::TooManyDisks { given, max });
        }
        let disks = config
            .disk
            .into_iter()
            .map(|disk| disk::open(&mut files, disk))
            .collect::<Result<_, _>>()?;
        let mapped = mapped::open(&mut files, config.pmem, &ram, host)?;
        let console = match open_console(&mut files, config.console, Part::Console)? {
            Some(console) => console,
            None => ConsolePart::Output(files::null_sink()?),
        };
        let serial = open_console(&mut files, config.serial, Part::Serial)?;
        // Sockets last: nothing that can fail comes after they were made, but other sockets.
        let mut socket_files = Vec::new();
        let vsock = config
            .vsock
            .map(|vsock| open_vsock(&mut files, vsock, &mut socket_files))
            .transpose()?;
        let control = config
            .control
            .map(|path| sockets::control(path, &mut socket_files))
            .transpose()?;
        Ok(Self {
            kernel,
            initrd,
            command_line,
            cpus,
            ram,
            disks,
            mapped,
            vsock,
            console,
            serial,
            control,
            socket_files,
        })
    }

    /// What a process needs for this machine, and is to have no more of.
    pub fn needs(&self) -> Needs {
        let threads = u64::from(self.cpus).saturating_add(self.disks.len() as u64);
        let disk = self.disks.iter().map(Block::writable_bytes).max();
        let attached = self.disks.iter().map(Block::files);
        let disk_files = attached.chain(self.mapped.iter().map(|disk| disk.files.files()));
        let consoles = [Some(&self.console), self.serial.as_ref()];
        let grows = consoles.into_iter().flatten().any(ConsolePart::is_file);
        let mapped = self.mapped.iter().map(MappedDisk::addresses);
        Needs {
            memory: mapped.fold(self.ram.bytes(), u64::saturating_add),
            threads,
            disk_files: disk_files.sum(),
            largest_file: (!grows).then_some(disk.unwrap_or(0)),
        }
    }

    /// Gives away what a machine that stands alone needs a path for.
    pub fn take_keys(&mut self) -> Keys {
        let consoles = [Some(&self.console), self.serial.as_ref()];
        let stdio = |part: &ConsolePart| matches!(part, ConsolePart::Stdio);
        Keys {
            vsock: self.vsock.as_ref().and_then(|vsock| vsock.path.clone()),
            sockets: std::mem::take(&mut self.socket_files),
            terminal: consoles.into_iter().flatten().any(stdio) && terminal::is_terminal(),
        }
    }
}

fn check_cpus(given: u32, host: &Host) -> Result<u8, BlueprintError> {
    let max = host.max_vcpus.min(layout::MAX_CPUS);
    match u8::try_from(given) {
        Ok(cpus) if given > 0 && given <= max => Ok(cpus),
        _ => Err(BlueprintError::Cpus { given, max }),
    }
}

fn check_memory(given: u64, host: &Host) -> Result<RamLayout, BlueprintError> {
    if given < MIN_MEMORY {
        return Err(BlueprintError::MemoryTooSmall {
            given,
            min: MIN_MEMORY,
        });
    }
    if given > host.memory {
        return Err(BlueprintError::MemoryTooLarge {
            given,
            host: host.memory,
        });
    }
    if !given.is_multiple_of(PAGE) {
        return Err(BlueprintError::MemoryUnaligned { given });
    }
    Ok(RamLayout::new(given))
}

fn check_command_line(line: &str) -> Result<(), BlueprintError> {
    if line.len() >= layout::COMMAND_LINE_MAX {
        return Err(BlueprintError::CommandLineTooLong {
            given: line.len(),
            max: layout::COMMAND_LINE_MAX - 1,
        });
    }
    if line.bytes().any(|byte| byte == 0) {
        return Err(BlueprintError::CommandLineZero);
    }
    Ok(())
}

fn open_kernel(
    files: &mut Files,
    source: Source,
    ram: &RamLayout,
) -> Result<Kernel, BlueprintError> {
    let opened = files.read(source, Part::Kernel)?;
    let image = KernelImage::parse(&opened.file).map_err(|source| BlueprintError::Kernel {
        name: opened.name,
        source,
    })?;
    if image.end() > ram.low().end() {
        return Err(BlueprintError::MemoryBelowKernel {
            given: ram.bytes(),
            need: image.end(),
        });
    }
    Ok(Kernel {
        file: opened.file,
        image,
    })
}

fn open_initrd(
    files: &mut Files,
    source: Source,
    ram: &RamLayout,
    kernel: &KernelImage,
) -> Result<Initrd, BlueprintError> {
    let opened = files.read(source, Part::Initrd)?;
    if opened.len == 0 {
        return Err(BlueprintError::InitrdEmpty { name: opened.name });
    }
    let address = boot::place_initrd(ram, kernel.end(), opened.len).ok_or_else(|| {
        BlueprintError::InitrdTooLarge {
            name: opened.name,
            len: opened.len,
            room: ram.low().end().saturating_sub(kernel.end()),
        }
    })?;
    Ok(Initrd {
        file: opened.file,
        module: Module {
            address,
            len: opened.len,
        },
    })
}

fn open_console(
    files: &mut Files,
    target: ConsoleTarget,
    part: Part,
) -> Result<Option<ConsolePart>, BlueprintError> {
    Ok(match target {
        ConsoleTarget::None => None,
        ConsoleTarget::Stdio => Some(ConsolePart::Stdio),
        ConsoleTarget::File(source) => Some(ConsolePart::Output(files.append(source, part)?)),
    })
}

fn open_vsock(
    files: &mut Files,
    vsock: VsockConfig,
    made: &mut Vec<SocketFile>,
) -> Result<VsockPart, BlueprintError> {
    if vsock.cid < MIN_GUEST_CID {
        return Err(BlueprintError::Cid { given: vsock.cid });
    }
    let (listener, path) = match vsock.socket {
        Source::Path(path) => (sockets::stream(&path, made)?, Some(path)),
        Source::Fd { fd } => {
            let descriptor = files.descriptor(fd)?;
            sockets::check_listening(descriptor.as_fd(), fd)?;
            (UnixListener::from(descriptor), None)
        }
    };
    listener
        .set_nonblocking(true)
        .map_err(|source| BlueprintError::Socket {
            name: path
                .as_ref()
                .map_or("vsock".into(), |p| p.display().to_string()),
            source,
        })?;
    Ok(VsockPart {
        cid: vsock.cid,
        listener,
        path,
    })
}

#[cfg(test)]
mod tests;
