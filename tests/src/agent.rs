//! What PID 1 of a guest holds, as the guest's own programs see it.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use microsandbox::Sandbox;

use crate::within;

/// Says what there is as `name:number`, one a line. Kernel threads come and go as they like and are not
/// counted; zombies are. The script's own three processes are the same ones each time.
const USAGE: &str = "\
awk '/^(VmRSS|VmHWM|Threads):/ { print $1 $2 }' /proc/1/status
set -- /proc/1/fd/*; echo \"descriptors:$#\"
ps -o pid,ppid,stat | awk '$1 != 2 && $2 != 2 { n++ } END { print \"processes:\" n }'";

/// This number has the kernel forget the peak.
const BEGIN_PEAK: &str = "echo 5 > /proc/1/clear_refs";

/// What PID 1 has, and how many processes there are beside it.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// MiB that it has in memory.
    pub memory_mib: f64,
    /// MiB that it had at the most, since the peak was begun anew.
    pub peak_mib: f64,
    /// Its open descriptors.
    pub descriptors: u64,
    /// Its threads.
    pub threads: u64,
    /// All processes of the guest.
    pub processes: u64,
}

/// What there is now.
pub async fn usage(sandbox: &Sandbox) -> Result<Usage> {
    let text = said(sandbox, USAGE).await?;
    let numbers: HashMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect();
    let number = |name: &str| -> Result<&str> {
        let number = numbers.get(name).copied();
        number.with_context(|| format!("no {name} in {text:?}"))
    };
    Ok(Usage {
        memory_mib: number("VmRSS")?.parse::<f64>()? / 1024.0,
        peak_mib: number("VmHWM")?.parse::<f64>()? / 1024.0,
        descriptors: number("descriptors")?.parse()?,
        threads: number("Threads")?.parse()?,
        processes: number("processes")?.parse()?,
    })
}

/// Begins the peak of its memory anew. The MiB that it has now.
pub async fn begin_peak(sandbox: &Sandbox) -> Result<f64> {
    said(sandbox, BEGIN_PEAK).await?;
    Ok(usage(sandbox).await?.memory_mib)
}

async fn said(sandbox: &Sandbox, script: &str) -> Result<String> {
    let output = within(sandbox.shell(script)).await?;
    ensure!(
        output.status().success && output.stderr_bytes().is_empty(),
        "the guest does not say what its PID 1 has: {output:?}"
    );
    Ok(output.stdout()?)
}
