//! The nested machine's processes: QEMU, and virtiofsd which serves it the host's root.
//!
//! Nothing of it may outlive us, even if we are killed: both processes die with their parent, what
//! they share with us are descriptors, and the one socket that needs a name has it for the instant
//! between its making and its opening.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use rustix::fs::{MemfdFlags, Mode, OFlags};

use super::Options;
use super::emulator::Emulator;
use super::image::Image;
use crate::cpio::Archive;
use crate::{proc, sys};

/// How much of the console is kept for an error message.
const CONSOLE_TAIL: usize = 8 << 10;
const DEFAULT_MEMORY_MIB: u64 = 8192;
/// All that the emulator has, except the extended processor state: it lets a guest change XCR0 past
/// KVM, which would then swap the wrong registers. Without it KVM and its guests use SSE alone.
const CPU: &str = "max,xsave=off,xsaveopt=off,xsavec=off,xsaves=off,xgetbv1=off,avx=off,avx2=off,\
                   f16c=off,fma=off,vaes=off,vpclmulqdq=off,pku=off,mpx=off,la57=off";

/// A running nested machine. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Machine {
    qemu: Child,
    virtiofsd: Child,
    console: Arc<Mutex<VecDeque<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Machine {
    /// Starts it; the stream leads to the runner inside.
    pub(super) fn start(options: &Options) -> Result<(Self, UnixStream)> {
        let emulator = Emulator::find()?;
        let virtiofsd_path =
            find_virtiofsd().context("virtiofsd is missing: run `cargo xtask setup`")?;
        if !rustix::process::geteuid().is_root() && is_qemus_own(&virtiofsd_path) {
            bail!(
                "the nested machine needs root here: {} drops supplementary groups, which only root \
                 may (its successor, in Debian 13's package virtiofsd, runs for anybody); \
                 use sudo, or a host with hardware virtualization",
                virtiofsd_path.display()
            );
        }
        let image = Image::build()?;
        let memory = match options.memory {
            Some(mib) => mib,
            None => default_memory_mib(1)?,
        };

        let (log, log_writer) = std::io::pipe().context("cannot make a pipe")?;
        let (listener, fs_socket) = nameless_listener()?;
        let (port, qemu_port) = UnixStream::pair().context("cannot make a socket pair")?;
        let initramfs = initramfs_with_runner(&image.initramfs)?;

        let mut virtiofsd = virtiofsd_command(&virtiofsd_path, &listener);
        virtiofsd
            .stdin(Stdio::null())
            .stdout(log_writer.try_clone()?)
            .stderr(log_writer.try_clone()?);
        sys::bind_child(&mut virtiofsd, vec![listener]);
        let virtiofsd = virtiofsd.spawn().context("cannot start virtiofsd")?;

        let mut qemu = emulator.command();
        qemu_arguments(&mut qemu, options, memory);
        qemu.arg("-kernel").arg(&image.kernel);
        qemu.arg("-initrd").arg(fd_path(&initramfs));
        qemu.arg("-chardev")
            .arg(format!("socket,id=fs,path={}", fd_path(&fs_socket)));
        qemu.arg("-chardev")
            .arg(format!("socket,id=port,fd={}", qemu_port.as_raw_fd()));
        qemu.stdin(Stdio::null())
            .stdout(log_writer.try_clone()?)
            .stderr(log_writer);
        sys::bind_child(
            &mut qemu,
            vec![initramfs.into(), fs_socket, qemu_port.into()],
        );
        let spawned = qemu.spawn();
        drop(qemu); // and with it our copies of QEMU's descriptors
        let mut virtiofsd = virtiofsd;
        let qemu = match spawned {
            Ok(child) => child,
            Err(error) => {
                let _ = virtiofsd.kill();
                let _ = virtiofsd.wait();
                return Err(error).context("cannot start QEMU");
            }
        };

        let console = Arc::new(Mutex::new(VecDeque::new()));
        let reader = keep_tail(log, console.clone(), options.console);
        Ok((
            Self {
                qemu,
                virtiofsd,
                console,
                reader: Some(reader),
            },
            port,
        ))
    }

    /// Ends the machine and returns the last lines that it or its makers wrote.
    pub(super) fn end(mut self) -> String {
        self.kill();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let mut console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(console.make_contiguous())
            .trim()
            .to_owned()
    }

    fn kill(&mut self) {
        for child in [&mut self.qemu, &mut self.virtiofsd] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// virtiofsd is no program for users, so it is not in `PATH`.
pub(crate) fn find_virtiofsd() -> Option<PathBuf> {
    ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
        .or_else(|| proc::find_on_path("virtiofsd"))
}

/// Whether it is the virtiofsd that came with QEMU until 7.2.
fn is_qemus_own(virtiofsd: &Path) -> bool {
    virtiofsd.starts_with("/usr/lib/qemu")
}

/// The two virtiofsd programs take different options: QEMU's own (until 7.2) and its successor.
fn virtiofsd_command(path: &Path, listener: &OwnedFd) -> Command {
    let mut command = Command::new(path);
    command.arg(format!("--fd={}", listener.as_raw_fd()));
    if is_qemus_own(path) {
        command.args([
            "-f",
            "-o",
            "source=/",
            "-o",
            "sandbox=chroot",
            "-o",
            "log_level=warn",
        ]);
        command.args(["-o", "cache=auto", "-o", "no_posix_lock", "-o", "no_flock"]);
    } else {
        let sandbox = if rustix::process::geteuid().is_root() {
            "chroot"
        } else {
            "none"
        };
        command.args(["--shared-dir=/", "--cache=auto", "--log-level=warn"]);
        command.arg(format!("--sandbox={sandbox}"));
    }
    command
}

fn qemu_arguments(qemu: &mut Command, options: &Options, memory_mib: u64) {
    qemu.args(["-machine", "q35", "-cpu", CPU]);
    if options.counted {
        qemu.args([
            "-accel",
            "tcg,thread=single",
            "-icount",
            "shift=0,sleep=off",
            "-smp",
            "1",
        ]);
    } else {
        qemu.args([
            "-accel",
            "tcg,thread=multi",
            "-smp",
            &options.cpus.to_string(),
        ]);
    }
    qemu.arg("-m").arg(format!("{memory_mib}M"));
    qemu.arg("-object").arg(format!(
        "memory-backend-memfd,id=memory,size={memory_mib}M,share=on"
    ));
    qemu.args(["-numa", "node,memdev=memory"]);
    qemu.args([
        "-no-reboot",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
    ]);
    qemu.args(["-serial", "stdio", "-monitor", "none"]);
    qemu.args([
        "-device",
        "vhost-user-fs-pci,chardev=fs,tag=host,queue-size=1024",
    ]);
    qemu.args(["-device", "virtio-serial-pci"]);
    qemu.args(["-device", "virtserialport,chardev=port,name=xtask"]);
    // The machine is a test bed on one person's host: it needs no defence against its own users.
    qemu.arg("-append").arg(
        "console=ttyS0 quiet panic=-1 reboot=t mitigations=off nokaslr no5lvl \
         random.trust_cpu=on tsc=reliable",
    );
}

/// A listening socket, and a descriptor by which `/proc/self/fd` leads to it, its name gone already.
fn nameless_listener() -> Result<(OwnedFd, OwnedFd)> {
    let dir = tempfile::Builder::new().prefix("xtask-kvm-").tempdir()?;
    let path = dir.path().join("fs");
    let listener = UnixListener::bind(&path).context("cannot make a socket")?;
    let handle = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .context("cannot open a socket's name")?;
    dir.close().context("cannot remove a temporary directory")?;
    Ok((listener.into(), handle))
}

/// The cached initramfs with this very program behind it. Not its path: a build may replace the
/// file at any moment, and both ends of the conversation must be of one make.
fn initramfs_with_runner(base: &Path) -> Result<File> {
    let own = std::fs::read("/proc/self/exe").context("cannot read our own program")?;
    let mut archive = Archive::default();
    archive.executable("xtask", &own)?;
    let memfd = rustix::fs::memfd_create("initramfs", MemfdFlags::CLOEXEC)
        .context("cannot make a file in memory")?;
    let mut file = File::from(memfd);
    let base = std::fs::read(base).with_context(|| format!("cannot read {}", base.display()))?;
    file.write_all(&base)?;
    file.write_all(&archive.finish()?)?;
    Ok(file)
}

fn fd_path(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The memory of each of so many machines, in MiB.
pub(super) fn default_memory_mib(machines: usize) -> Result<u64> {
    let machines = u64::try_from(machines).unwrap_or(u64::MAX).max(1);
    Ok(DEFAULT_MEMORY_MIB.min(available_mib()? * 2 / 3 / machines))
}

/// Memory that the host can give, in MiB.
fn available_mib() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    match parse_available(&text) {
        Some(kib) => Ok(kib / 1024),
        None => bail!("/proc/meminfo has no MemAvailable"),
    }
}

fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Reads a log to its end, keeps the last part, and copies it to standard error if asked.
fn keep_tail(
    mut log: impl Read + Send + 'static,
    tail: Arc<Mutex<VecDeque<u8>>>,
    echo: bool,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count) = log.read(&mut buffer) {
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            if echo {
                let _ = std::io::stderr().write_all(bytes);
            }
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.extend(bytes);
            let surplus = tail.len().saturating_sub(CONSOLE_TAIL);
            tail.drain(..surplus);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal:       100 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(parse_available(text), Some(2048));
        assert_eq!(parse_available("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn tail_keeps_the_end() {
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let text = [vec![b'a'; CONSOLE_TAIL], b"end".to_vec()].concat();
        keep_tail(std::io::Cursor::new(text), tail.clone(), false)
            .join()
            .unwrap();
        let mut tail = tail.lock().unwrap();
        assert_eq!(tail.len(), CONSOLE_TAIL);
        assert!(tail.make_contiguous().ends_with(b"end"));
    }

    #[test]
    fn a_nameless_listener_is_reached_and_leaves_nothing() {
        let (listener, handle) = nameless_listener().unwrap();
        let listener = UnixListener::from(listener);
        let _client = UnixStream::connect(fd_path(&handle)).unwrap();
        listener.accept().unwrap();
    }
}
