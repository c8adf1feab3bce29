//! Whether something builds up: what this program, the supervisor, the VMM and the agent hold, before and
//! after.

use std::fmt;
use std::fs;

use anyhow::{Context, Result, ensure};
use microsandbox::Sandbox;
use tokio::time::Instant;

use crate::memory::{self, Processes};
use crate::{PATIENCE, agent};

/// What one process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    memory_mib: f64,
    descriptors: u64,
    /// Its threads, and with the agent the guest's processes; of this program 0, since those of its
    /// runtime come and go.
    running: u64,
}

impl Held {
    fn new(pid: u32, memory_mib: f64) -> Result<Self> {
        let count = |what: &str| -> Result<u64> {
            let entries = fs::read_dir(format!("/proc/{pid}/{what}"))
                .with_context(|| format!("process {pid} is gone"))?;
            Ok(entries.count() as u64)
        };
        let own = pid == std::process::id();
        Ok(Self {
            memory_mib,
            descriptors: count("fd")?,
            running: if own { 0 } else { count("task")? },
        })
    }

    fn is_within(&self, before: &Self, slack_mib: f64) -> bool {
        self.memory_mib <= before.memory_mib + slack_mib
            && self.descriptors <= before.descriptors
            && self.running <= before.running
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (memory, descriptors) = (self.memory_mib, self.descriptors);
        write!(f, "{memory:.2} MiB, {descriptors} fds, {}", self.running)
    }
}

/// What a sandbox holds, on both sides.
#[derive(Clone, Copy, Debug)]
pub struct Holdings {
    program: Held,
    supervisor: Held,
    vmm: Held,
    agent: Held,
}

impl Holdings {
    /// What it holds now.
    pub async fn of(sandbox: &Sandbox) -> Result<Self> {
        // First, so that what this asks itself is over when the others are looked at.
        let agent = agent::usage(sandbox).await?;
        let processes = Processes::of(sandbox)?;
        Ok(Self {
            program: Held::new(std::process::id(), memory::own_mib()?)?,
            supervisor: Held::new(processes.supervisor, processes.supervisor_mib()?)?,
            vmm: Held::new(processes.vmm, processes.vmm_mib()?)?,
            agent: Held {
                memory_mib: agent.memory_mib,
                descriptors: agent.descriptors,
                running: agent.threads + agent.processes,
            },
        })
    }

    /// Fails unless it comes to hold no more than this again: no descriptor, no thread and no process more,
    /// of memory 1 MiB in each process at the most, and in the agent `agent_mib`. What is ending takes a
    /// moment to end.
    pub async fn again(&self, sandbox: &Sandbox, agent_mib: f64) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Self::of(sandbox).await?;
            if now.program.is_within(&self.program, 1.0)
                && now.supervisor.is_within(&self.supervisor, 1.0)
                && now.vmm.is_within(&self.vmm, 1.0)
                && now.agent.is_within(&self.agent, agent_mib)
            {
                return Ok(now);
            }
            ensure!(
                Instant::now() < deadline,
                "something builds up: it was {self}, and is {now}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

impl fmt::Display for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "program {}; supervisor {}; VMM {}; agent {}",
            self.program, self.supervisor, self.vmm, self.agent
        )
    }
}
