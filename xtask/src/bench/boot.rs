//! `cargo xtask bench boot`: how long from the start of the process until /init has written its
//! first line, for msb-vmm and for QEMU's microvm, and how much memory msb-vmm takes for itself.
//!
//! Both boot the same kernel with the same initramfs and command line, on the same KVM, one after the
//! other in turns, so that whatever else the host does falls on both. The initramfs holds a /init
//! of a few instructions (xtask/guest/bench-init.c). QEMU gets the settings that were found quickest:
//! no legacy timers and interrupt controllers, no serial port, the smallest firmware.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::{smaps, stats};
use crate::kvm::{self, Call};
use crate::{cargo, guest, paths, proc, setup};

const INIT: &str = include_str!("../../guest/bench-init.c");
/// What INIT writes.
const FIRST_LINE: &str = "init: first line";
/// Of both machines. `loglevel=3` keeps the console to /init alone.
pub(super) const CMDLINE: &str = "console=hvc0 reboot=t panic=-1 quiet loglevel=3";
pub(super) const MEMORY_MIB: u64 = 128;
/// No boot takes longer.
const BOOT_DEADLINE: Duration = Duration::from_secs(60);
/// How often one boot may fail before the bench does. Where KVM is emulated a machine fails now and
/// then for no fault of its own; that is said, and the boot is measured again.
const FAILURES: u32 = 5;

/// Options of `bench boot`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many times each machine boots
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// In the nested machine: let its clock count instructions instead of time. Only msb-vmm is
    /// measured, for comparing two builds of it; QEMU does not boot reliably under such a clock
    #[arg(long)]
    counted: bool,
}

/// Builds what is compared, then measures where KVM is real.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::run()?;
    if !proc::on_path("qemu-system-x86_64") {
        bail!("there is no QEMU to compare with: install the package qemu-system-x86");
    }
    let machine = kvm::Options::for_bench(options.counted);
    let mut call = call("boot", &machine, options.rounds)?;
    if options.counted {
        call.argv.push("--alone".into());
    }
    Ok(kvm::run(&machine, call)?.into_exit_code())
}

/// Builds what boots, and says how the part of a bench is called that runs where KVM is real: `bench-NAME`, with what
/// [`Given`] has.
pub(super) fn call(name: &str, machine: &kvm::Options, rounds: u32) -> Result<Call> {
    let kernel = guest::kernel::build(false)?;
    let programs = cargo::host_programs()?;
    let vmm = programs
        .into_iter()
        .find(|program| program.name == "msb-vmm")
        .context("the workspace builds no program `msb-vmm`")?;
    let dir = paths::target().join("bench");
    let initramfs = initramfs(&dir)?;
    let mut call = Call::here(vec![
        kvm::own_program(machine)?.into_os_string(),
        format!("bench-{name}").into(),
        "--kernel".into(),
        kernel.into_os_string(),
        "--initramfs".into(),
        initramfs.into_os_string(),
        "--vmm".into(),
        vmm.path.into_os_string(),
        "--report".into(),
        dir.join(format!("{name}.json")).into_os_string(),
        "--rounds".into(),
        rounds.to_string().into(),
    ])?;
    call.cwd = paths::workspace().into_os_string();
    Ok(call)
}

/// The initramfs with INIT, in a directory for what benches leave.
fn initramfs(dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let initramfs = dir.join("boot-initramfs.cpio");
    fs::write(&initramfs, guest::initramfs::pack(&compile_init(dir)?)?)?;
    Ok(initramfs)
}

fn compile_init(dir: &Path) -> Result<Vec<u8>> {
    let (source, program) = (dir.join("init.c"), dir.join("init"));
    fs::write(&source, INIT)?;
    proc::output(
        Command::new("gcc")
            .args([
                "-Os",
                "-static",
                "-nostdlib",
                "-ffreestanding",
                "-fno-stack-protector",
            ])
            .args(["-fno-pie", "-no-pie", "-s", "-o"])
            .arg(&program)
            .arg(&source),
    )?;
    fs::read(&program).context("gcc left no program")
}

/// What is built, how often it is to boot, and where the report goes.
#[derive(Debug, Args)]
pub(super) struct Given {
    #[arg(long)]
    kernel: PathBuf,
    #[arg(long)]
    initramfs: PathBuf,
    #[arg(long)]
    vmm: PathBuf,
    #[arg(long)]
    report: PathBuf,
    #[arg(long)]
    pub(super) rounds: u32,
}

impl Given {
    /// The machine as msb-vmm boots it.
    pub(super) fn msb_vmm(&self, cmdline: &str) -> Command {
        let mut command = Command::new(&self.vmm);
        command.arg("--kernel").arg(&self.kernel);
        command.arg("--initrd").arg(&self.initramfs);
        let memory = format!("{MEMORY_MIB}M");
        command.args(["--cpus", "1", "--memory", &memory, "--console", "stdio"]);
        command.args(["--cmdline", cmdline]);
        command
    }

    /// Writes the report.
    pub(super) fn report(&self, report: &serde_json::Value) -> Result<()> {
        fs::write(&self.report, format!("{report:#}\n"))
            .with_context(|| format!("cannot write {}", self.report.display()))
    }
}

/// The part that runs where KVM is real.
#[derive(Debug, Args)]
pub(crate) struct Inside {
    #[command(flatten)]
    given: Given,
    /// Without QEMU.
    #[arg(long)]
    alone: bool,
}

impl Inside {
    /// Measures, writes the report, and ends with the line that says it all.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let (mut msb, mut qemu) = (Vec::new(), Vec::new());
        for round in 1..=self.given.rounds {
            let ours = measure("msb-vmm", || self.given.msb_vmm(CMDLINE))?;
            msb.push(ours);
            if self.alone {
                println!("round {round}: msb-vmm {ours:.0} ms");
                continue;
            }
            let theirs = measure("QEMU", || self.qemu())?;
            println!("round {round}: msb-vmm {ours:.0} ms, QEMU {theirs:.0} ms");
            qemu.push(theirs);
        }
        let vmm_mib = self.memory_mib()?;
        let msb_ms = stats::median(&msb).context("nothing was measured")?;
        let qemu_ms = stats::median(&qemu);
        let ratio = qemu_ms.map(|qemu_ms| msb_ms / qemu_ms);
        let report = json!({
            "rounds": self.given.rounds, "cmdline": CMDLINE, "memory_mib": MEMORY_MIB,
            "msb_ms": msb_ms, "qemu_ms": qemu_ms, "ratio": ratio, "vmm_mib": vmm_mib,
            "msb": msb, "qemu": qemu,
        });
        self.given.report(&report)?;
        match ratio.zip(qemu_ms) {
            Some((ratio, qemu_ms)) => println!(
                "boot: ratio={ratio:.2} msb_ms={msb_ms:.0} qemu_ms={qemu_ms:.0} vmm_mib={vmm_mib:.2}"
            ),
            None => println!("boot: msb_ms={msb_ms:.0} vmm_mib={vmm_mib:.2}"),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn qemu(&self) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-M",
            "microvm,acpi=on,pit=off,pic=off,rtc=off,isa-serial=off",
        ]);
        command.args(["-enable-kvm", "-cpu", "host", "-smp", "1"]);
        command.args(["-m", &format!("{MEMORY_MIB}M"), "-bios", "qboot.rom"]);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ]);
        command.args([
            "-monitor",
            "none",
            "-serial",
            "none",
            "-chardev",
            "stdio,id=console",
        ]);
        // With one port the console is there at once; else /init may start before it.
        command.args([
            "-device",
            "virtio-serial-device,max_ports=1",
            "-device",
            "virtconsole,chardev=console",
        ]);
        command
            .arg("-kernel")
            .arg(&self.given.kernel)
            .arg("-initrd")
            .arg(&self.given.initramfs);
        command.args(["-append", CMDLINE]);
        command
    }

    /// Private memory of msb-vmm with every device on, while its guest stands still after boot.
    fn memory_mib(&self) -> Result<f64> {
        let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
        let disk = dir.path().join("disk");
        fs::File::create(&disk)?.set_len(1 << 20)?;
        let mut command = self.given.msb_vmm(&format!("{CMDLINE} -- stay"));
        command
            .arg("--disk")
            .arg(&disk)
            .arg("--vsock")
            .arg(dir.path().join("vsock"));
        let running = Running::start(command)?;
        running.first_line()?;
        smaps::private_mib(running.pid(), Some(MEMORY_MIB))
    }
}

/// Milliseconds until the first line.
pub(super) fn measure(what: &str, command: impl Fn() -> Command) -> Result<f64> {
    let mut failures = 0;
    loop {
        let started = Instant::now();
        match Running::start(command()).and_then(|running| running.first_line()) {
            Ok(at) => return Ok(at.duration_since(started).as_secs_f64() * 1e3),
            Err(error) if failures < FAILURES => {
                failures += 1;
                println!("{what} did not boot, once more: {error:#}");
            }
            Err(error) => return Err(error.context(format!("{what} does not boot"))),
        }
    }
}

/// A machine that is ended when it is dropped.
pub(super) struct Running {
    child: Child,
    first_line: mpsc::Receiver<Result<Instant>>,
}

impl Running {
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let stdout = child.stdout.take().context("a child has no output")?;
        let (sender, first_line) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let mut seen = String::new();
            for line in BufReader::new(stdout).split(b'\n') {
                let now = Instant::now();
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).into_owned();
                if line.contains(FIRST_LINE) {
                    let _ = sender.send(Ok(now));
                    return;
                }
                seen = line;
            }
            let _ = sender.send(Err(anyhow::anyhow!("it ended; its last line was: {seen}")));
        });
        Ok(Self { child, first_line })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn first_line(&self) -> Result<Instant> {
        match self.first_line.recv_timeout(BOOT_DEADLINE) {
            Ok(at) => at,
            Err(_) => bail!("no line within {} s", BOOT_DEADLINE.as_secs()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
