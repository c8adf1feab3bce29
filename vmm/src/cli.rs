//! The command line.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::blueprint::DEFAULT_COMMAND_LINE;
use clap::{Parser, ValueEnum};
use msb_vmapi::{ConsoleTarget, DiskConfig, MemorySize, PmemConfig, Source, VmConfig, VsockConfig};

/// Most bytes of a configuration file that are read.
const MAX_CONFIG: u64 = 1 << 20;

const EXAMPLES: &str = "\
Examples:
  A kernel and an initramfs, with the guest's console in this terminal:
    msb-vmm --kernel vmlinux --initrd initramfs.cpio --console stdio

  Two vCPUs, a disk that is the root file system, and vsock:
    msb-vmm --kernel vmlinux --cpus 2 --memory 1G --disk root.ext4 --vsock vm.sock \\
            --console stdio --cmdline 'console=hvc0 reboot=k panic=-1 root=/dev/vda rw'

  The same machine from a file, with one value changed:
    msb-vmm --config machine.json --memory 2G

  machine.json has the names of the options (\"disk\" is a list):
    {\"kernel\": \"vmlinux\", \"cpus\": 2, \"memory\": \"1G\", \"console\": \"stdio\",
     \"disk\": [{\"path\": \"root.ext4\"}, {\"path\": \"data.img\", \"read_only\": true}],
     \"vsock\": {\"socket\": \"vm.sock\"}}

  A read-only disk may be put together from stretches of files, in bytes, 512 at a time; what is not
  said of \"offset\" is 0:
    {\"kernel\": \"vmlinux\",
     \"disk\": [{\"read_only\": true,
               \"extents\": [{\"path\": \"root.erofs\", \"length\": 1048576},
                           {\"path\": \"data\", \"offset\": 4096, \"length\": 8192}]}]}

  A read-only disk may be mapped into the guest's memory: all machines that map a file have one copy of
  it in the host's memory, and a file system that can use it in place (mount -o dax) needs none of the
  guest's but 16 MiB for each GiB. \"pmem\" takes \"path\" or \"extents\", in multiples of 4096 bytes:
    msb-vmm --kernel vmlinux --initrd initramfs.cpio --pmem root.erofs --console stdio

Console:
  With --console stdio on a terminal, every key goes to the guest, Ctrl-C too.
  Ctrl-A x ends the machine; Ctrl-A Ctrl-A sends one Ctrl-A.

Vsock:
  Connect to the socket and write 'CONNECT <port>' and a newline; the answer is
  'OK <port>' and a newline, and then the socket is the connection. A guest that
  connects to the host (CID 2) at port P reaches the Unix socket <SOCKET>_P.

Control:
  The socket takes datagrams (SOCK_SEQPACKET), each one JSON object:
    {\"id\": 1, \"request\": \"state\"}      also \"power_button\", \"kill\", \"pause\",
                                       \"resume\" and \"counters\"
  Replies repeat the id; events (booted, paused, resumed, disk_failed, ended) come in between.

Jail:
  What the machine needs is opened first. Then the process gives up everything else: files, network,
  other processes, privileges, and all system calls that it does not need; --log info says what of
  that this kernel has. A second small process connects to <SOCKET>_P and removes the sockets at
  the end. A system call that is not allowed ends the machine.

Exit codes:
  0 the guest powered off     10 the guest asked for a reset
  1 the VMM failed            11 the guest crashed (triple fault)
  2 the machine was refused   12 ended by a signal, by Ctrl-A x, or through control
                              13 the VMM made a system call that the jail forbids";

/// Runs one virtual machine on KVM, and ends with it.
#[derive(Debug, Parser)]
#[command(name = "msb-vmm", version, about, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// Uncompressed x86-64 ELF kernel (vmlinux) with a PVH entry
    #[arg(long, value_name = "FILE", required_unless_present_any = ["config", "control_fd", "check", "system_calls", "isolation"])]
    kernel: Option<PathBuf>,

    /// Initramfs: a cpio archive, in any compression that the kernel knows
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,

    /// Kernel command line, instead of the default one
    #[arg(long, value_name = "TEXT", long_help = default_command_line())]
    cmdline: Option<String>,

    /// Number of vCPUs [default: 1]
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,

    /// Guest memory: 512M, 4G, or a bare number of MiB [default: 512M]
    #[arg(long, value_name = "SIZE")]
    memory: Option<MemorySize>,

    /// Raw disk image or block device, /dev/vda onwards; may be given several times
    #[arg(long, value_name = "FILE[,ro][,id=TEXT]", value_parser = parse_disk)]
    disk: Vec<DiskConfig>,

    /// Raw disk image to map into guest memory, read-only, /dev/pmem0 onwards; may be given several times
    #[arg(long, value_name = "FILE")]
    pmem: Vec<PathBuf>,

    /// Unix socket to make for the guest's vsock
    #[arg(long, value_name = "SOCKET")]
    vsock: Option<PathBuf>,

    /// Context id of the guest [default: 3]
    #[arg(long, value_name = "CID", requires = "vsock")]
    vsock_cid: Option<u32>,

    /// Virtio console, hvc0 in the guest: stdio, none, or a file to append to [default: none]
    #[arg(long, value_name = "TARGET", value_parser = parse_console)]
    console: Option<ConsoleTarget>,

    /// 16550 serial port, ttyS0 in the guest, for kernels without virtio console: same targets
    #[arg(long, value_name = "TARGET", value_parser = parse_console)]
    serial: Option<ConsoleTarget>,

    /// Control socket to make
    #[arg(long, value_name = "SOCKET", conflicts_with = "control_fd")]
    control: Option<PathBuf>,

    /// Machine description in JSON; options given beside it take precedence
    #[arg(long, value_name = "FILE", conflicts_with = "control_fd")]
    config: Option<PathBuf>,

    /// Take the machine description and its files from this inherited seqpacket socket, and end when
    /// the other side closes it
    #[arg(long, value_name = "N")]
    control_fd: Option<i32>,

    /// Run the machine in this process as it is: a guest that breaks out of it has all that this user has
    #[arg(long, conflicts_with = "control_fd")]
    no_jail: bool,

    /// Say which system calls each thread may make in the jail, and why: one JSON object a line
    #[arg(long, exclusive = true)]
    system_calls: bool,

    /// Say which layers of the jail this host has, and what to do about those that it has not: one
    /// JSON object a line
    #[arg(long, exclusive = true)]
    isolation: bool,

    /// Say whether this host can run machines, and what to do if not
    #[arg(long, exclusive = true)]
    check: bool,

    /// What is said on standard error while the machine runs
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log: LogLevel,
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What makes the machine fail.
    Error,
    /// What makes a device fail, too.
    Warn,
    /// What happens, too.
    Info,
    /// What might help to find a fault, too.
    Debug,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}

/// What this process is to do.
#[derive(Debug)]
pub enum Task {
    /// Say whether the host can run machines.
    Check,
    /// Say what the jail allows.
    SystemCalls,
    /// Say how far the jail comes here.
    Isolation,
    /// Run the machine that is described over this descriptor.
    Supervised(i32),
    /// Run this machine.
    Standalone(Box<VmConfig>),
}

/// The configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not a machine description.
    #[error("{path} is not a machine description")]
    Parse {
        /// The file.
        path: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Neither the command line nor a file names a kernel.
    #[error("no kernel; give --kernel FILE")]
    NoKernel,
}

impl Cli {
    /// How much is to be said.
    pub fn log(&self) -> LogLevel {
        self.log
    }

    /// Whether a machine is to run in the jail.
    pub fn is_jailed(&self) -> bool {
        !(self.no_jail || self.check || self.system_calls)
    }

    /// The inherited socket over which the machine is described.
    pub fn control_fd(&self) -> Option<i32> {
        self.control_fd
    }

    /// What is to be done.
    pub fn task(self) -> Result<Task, CliError> {
        if self.check {
            return Ok(Task::Check);
        }
        if self.system_calls {
            return Ok(Task::SystemCalls);
        }
        if self.isolation {
            return Ok(Task::Isolation);
        }
        if let Some(fd) = self.control_fd {
            return Ok(Task::Supervised(fd));
        }
        let config = match &self.config {
            Some(path) => read_config(path)?,
            None => VmConfig::new(self.kernel.clone().ok_or(CliError::NoKernel)?),
        };
        Ok(Task::Standalone(Box::new(self.over(config))))
    }

    /// The options that were given, over what the file says.
    fn over(self, mut config: VmConfig) -> VmConfig {
        fn set<T>(value: &mut T, given: Option<T>) {
            if let Some(given) = given {
                *value = given;
            }
        }
        set(&mut config.kernel, self.kernel.map(Source::Path));
        set(&mut config.cpus, self.cpus);
        set(&mut config.memory, self.memory);
        set(&mut config.console, self.console);
        set(&mut config.serial, self.serial);
        config.initrd = self.initrd.map(Source::Path).or(config.initrd);
        config.cmdline = self.cmdline.or(config.cmdline);
        config.control = self.control.or(config.control);
        config.disk.extend(self.disk);
        let mapped = self.pmem.into_iter().map(PmemConfig::whole);
        config.pmem.extend(mapped);
        if let Some(socket) = self.vsock {
            config.vsock = Some(VsockConfig {
                socket: socket.into(),
                cid: self.vsock_cid.unwrap_or(DEFAULT_CID),
            });
        }
        config
    }
}

const DEFAULT_CID: u32 = 3;

fn read_config(path: &Path) -> Result<VmConfig, CliError> {
    let name = || path.display().to_string();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_CONFIG).read_to_string(&mut text))
        .map_err(|source| CliError::Read {
            path: name(),
            source,
        })?;
    serde_json::from_str(&text).map_err(|source| CliError::Parse {
        path: name(),
        source,
    })
}

fn parse_console(text: &str) -> Result<ConsoleTarget, std::convert::Infallible> {
    Ok(match text {
        "stdio" => ConsoleTarget::Stdio,
        "none" => ConsoleTarget::None,
        path => ConsoleTarget::File(Source::Path(path.into())),
    })
}

/// `FILE[,ro][,id=TEXT]`. Options are taken from the end, so a path may have commas in it.
fn parse_disk(text: &str) -> Result<DiskConfig, String> {
    let mut path = text;
    let mut read_only = false;
    let mut id = None;
    while let Some((rest, option)) = path.rsplit_once(',') {
        match option.split_once('=') {
            None if option == "ro" => read_only = true,
            Some(("id", value)) => id = Some(value.to_owned()),
            _ => break,
        }
        path = rest;
    }
    if path.is_empty() {
        return Err("give a file before the options".to_owned());
    }
    Ok(DiskConfig {
        id,
        ..DiskConfig::whole(Source::Path(path.into()), read_only)
    })
}

/// What `--help` says of the kernel's command line.
fn default_command_line() -> String {
    format!(
        "Kernel command line, instead of the default one: the console, and \"{DEFAULT_COMMAND_LINE}\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn machine(args: &[&str]) -> VmConfig {
        let all = ["msb-vmm"].iter().chain(args);
        match Cli::try_parse_from(all).unwrap().task().unwrap() {
            Task::Standalone(config) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_become_a_description() {
        let config = machine(&[
            "--kernel",
            "k",
            "--initrd",
            "i",
            "--cpus",
            "2",
            "--memory",
            "1G",
            "--disk",
            "a.img",
            "--disk",
            "b,c.img,ro,id=data",
            "--pmem",
            "root.erofs",
            "--vsock",
            "v",
            "--console",
            "stdio",
            "--serial",
            "log",
        ]);
        assert_eq!((config.cpus, config.memory.bytes()), (2, 1 << 30));
        let first = DiskConfig::whole(Source::Path("a.img".into()), false);
        let second = DiskConfig {
            id: Some("data".into()),
            ..DiskConfig::whole(Source::Path("b,c.img".into()), true)
        };
        assert_eq!(config.disk, [first, second]);
        let mapped = PmemConfig::whole(Source::Path("root.erofs".into()));
        assert_eq!(config.pmem, [mapped]);
        assert_eq!(config.vsock.unwrap().cid, 3);
        assert_eq!(config.console, ConsoleTarget::Stdio);
        assert_eq!(
            config.serial,
            ConsoleTarget::File(Source::Path("log".into()))
        );
    }

    #[test]
    fn options_take_precedence_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("machine.json");
        std::fs::write(&file, r#"{"kernel":"k","cpus":4,"memory":"64M"}"#).unwrap();
        let config = machine(&["--config", file.to_str().unwrap(), "--cpus", "2"]);
        assert_eq!((config.cpus, config.memory.bytes()), (2, 64 << 20));
        std::fs::write(&file, r#"{"kernel":"k","cpu":4}"#).unwrap();
        let cli = Cli::try_parse_from(["msb-vmm", "--config", file.to_str().unwrap()]).unwrap();
        let error = crate::report::chain(&cli.task().unwrap_err());
        assert!(error.contains("unknown field `cpu`"), "{error}");
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for args in [
            &["msb-vmm"][..],
            &["msb-vmm", "--kernel", "k", "--memory", "lots"],
            &["msb-vmm", "--kernel", "k", "--disk", ",ro"],
            &["msb-vmm", "--kernel", "k", "--vsock-cid", "4"],
            &["msb-vmm", "--check", "--kernel", "k"],
            &["msb-vmm", "--config", "c", "--control-fd", "3"],
            &["msb-vmm", "--no-jail", "--control-fd", "3"],
            &["msb-vmm", "--system-calls", "--kernel", "k"],
            &["msb-vmm", "--isolation", "--no-jail"],
        ] {
            assert!(Cli::try_parse_from(args).is_err(), "{args:?}");
        }
    }
}
