//! What memory a conversation takes, on its whole way: this program, the supervisor, the VMM, and the
//! agent in the guest.
//!
//! What a process has taken at the most, the kernel knows (`VmHWM` of /proc/PID/status), and forgets
//! when it is told to. That of a VMM would be its guest's memory above all, so a VMM is looked at again and
//! again instead, at its private memory outside the guest's: a buffer that fills while a sandbox is busy
//! is there for longer than from one look to the next.

use std::fmt;
use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use microsandbox::Sandbox;

use crate::{agent, host, smaps};

/// From one look at a VMM to the next.
const LOOK: Duration = Duration::from_millis(100);

/// The processes on the host that a sandbox consists of.
#[derive(Clone, Copy, Debug)]
pub struct Processes {
    /// The supervisor's process id.
    pub supervisor: u32,
    /// The VMM's process id.
    pub vmm: u32,
    /// The guest's memory in MiB.
    guest_mib: u64,
}

impl Processes {
    /// Those of a sandbox that this program has started.
    pub fn of(sandbox: &Sandbox) -> Result<Self> {
        let supervisor = sandbox.local().and_then(|local| local.pid);
        let supervisor = supervisor.context("this program has not started it")?;
        let vmm = host::child(i32::try_from(supervisor)?, "msb-vmm").context("it has no VMM")?;
        Ok(Self {
            supervisor,
            vmm: u32::try_from(vmm)?,
            guest_mib: u64::from(sandbox.config().resources.memory_mib),
        })
    }

    /// MiB of private memory of the VMM without its guest's.
    pub fn vmm_mib(&self) -> Result<f64> {
        smaps::private_mib(self.vmm, Some(self.guest_mib))
    }

    /// MiB of its guest's memory that are there.
    pub fn guest_resident_mib(&self) -> Result<f64> {
        Ok(smaps::private_mib(self.vmm, None)? - self.vmm_mib()?)
    }

    /// MiB of private memory of the supervisor.
    pub fn supervisor_mib(&self) -> Result<f64> {
        smaps::private_mib(self.supervisor, None)
    }
}

/// MiB of private memory of this program.
pub fn own_mib() -> Result<f64> {
    smaps::private_mib(std::process::id(), None)
}

/// How many MiB more than before each had at the most, at any one time.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// This program.
    pub program: f64,
    /// The supervisor.
    pub supervisor: f64,
    /// The VMM, without its guest's memory.
    pub vmm: f64,
    /// PID 1 of the guest.
    pub agent: f64,
}

impl Growth {
    /// Fails unless each of them has grown by less than so many MiB.
    pub fn ensure_below(&self, mib: f64) -> Result<()> {
        let parts = [self.program, self.supervisor, self.vmm, self.agent];
        ensure!(
            parts.iter().all(|part| *part < mib),
            "one of them took {mib} MiB or more: {self}"
        );
        Ok(())
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "program {:.2} MiB, supervisor {:.2} MiB, VMM {:.2} MiB, agent {:.2} MiB",
            self.program, self.supervisor, self.vmm, self.agent
        )
    }
}

/// Does some work, and says what memory that took.
pub async fn grown_by<T>(
    sandbox: &Sandbox,
    work: impl Future<Output = Result<T>>,
) -> Result<(T, Growth)> {
    let processes = Processes::of(sandbox)?;
    let agent = agent::begin_peak(sandbox).await?;
    let watch = Watch::begin(processes)?;
    let supervisor = Peak::begin(processes.supervisor)?;
    let program = Peak::begin(std::process::id())?;
    let done = work.await?;
    let growth = Growth {
        program: program.grown()?,
        supervisor: supervisor.grown()?,
        vmm: watch.grown()?,
        agent: agent::usage(sandbox).await?.peak_mib - agent,
    };
    Ok((done, growth))
}

/// The most memory that a process has had since this began.
struct Peak {
    pid: u32,
    before: f64,
}

impl Peak {
    fn begin(pid: u32) -> Result<Self> {
        // This number forgets the peak: proc(5).
        fs::write(format!("/proc/{pid}/clear_refs"), "5")
            .with_context(|| format!("cannot begin the peak of process {pid} anew"))?;
        let before = resident_mib(pid, "VmRSS")?;
        Ok(Self { pid, before })
    }

    fn grown(&self) -> Result<f64> {
        Ok(resident_mib(self.pid, "VmHWM")? - self.before)
    }
}

fn resident_mib(pid: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|value| value.trim().strip_suffix(" kB"))
        .with_context(|| format!("process {pid} has no {name}"))?;
    Ok(value.parse::<f64>()? / 1024.0)
}

/// Looks at a VMM until it is asked.
struct Watch {
    before: f64,
    asked: mpsc::Sender<()>,
    thread: JoinHandle<Result<f64>>,
}

impl Watch {
    fn begin(processes: Processes) -> Result<Self> {
        let before = processes.vmm_mib()?;
        let (asked, end) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut most = before;
            // Both ends of it are the end of the watch: the question, and a test that has failed.
            while end.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                most = most.max(processes.vmm_mib()?);
            }
            Ok(most.max(processes.vmm_mib()?))
        });
        Ok(Self {
            before,
            asked,
            thread,
        })
    }

    fn grown(self) -> Result<f64> {
        drop(self.asked);
        match self.thread.join() {
            Ok(most) => Ok(most? - self.before),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
