//! How often a process is woken, from the context switches of its threads
//! (/proc/PID/task/TID/status): a thread that is switched to was woken, or lost the processor before.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Context switches of each thread.
type Switches = BTreeMap<String, u64>;

/// Wake-ups per second of each of the processes, over `duration`.
pub(super) fn per_second(pids: &[u32], duration: Duration) -> Result<Vec<f64>> {
    let look = || {
        pids.iter()
            .map(|pid| switches(*pid))
            .collect::<Result<Vec<_>>>()
    };
    let (before, started) = (look()?, Instant::now());
    thread::sleep(duration);
    let (after, seconds) = (look()?, started.elapsed().as_secs_f64());
    before
        .iter()
        .zip(&after)
        .map(|(before, after)| Ok(f64::from(u32::try_from(difference(before, after))?) / seconds))
        .collect()
}

fn switches(pid: u32) -> Result<Switches> {
    let tasks = format!("/proc/{pid}/task");
    let mut found = Switches::new();
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        let task = task?;
        // A thread may end between the two looks.
        if let Ok(status) = fs::read_to_string(task.path().join("status")) {
            let thread = task.file_name().to_string_lossy().into_owned();
            found.insert(thread, in_status(&status));
        }
    }
    Ok(found)
}

/// Voluntary and involuntary ones together.
fn in_status(status: &str) -> u64 {
    status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.ends_with("voluntary_ctxt_switches"))
        .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
        .sum()
}

/// What was added. A thread that is new counts whole; what one that is gone did last is not known.
fn difference(before: &Switches, after: &Switches) -> u64 {
    after
        .iter()
        .map(|(thread, count)| count.saturating_sub(before.get(thread).copied().unwrap_or(0)))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_switch_count() {
        let status = "Name:\tvcpu0\nThreads:\t4\nvoluntary_ctxt_switches:\t150\n\
                      nonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(in_status(status), 157);
        assert_eq!(in_status("Name:\tvcpu0\n"), 0);
    }

    #[test]
    fn threads_come_and_go() {
        let at = |counts: &[(&str, u64)]| {
            let counts = counts.iter();
            counts
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect::<Switches>()
        };
        let before = at(&[("1", 10), ("2", 100)]);
        let after = at(&[("1", 13), ("3", 4)]);
        assert_eq!(difference(&before, &after), 7);
    }

    #[test]
    fn a_process_that_sleeps_is_not_woken() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let woken = per_second(&[child.id()], Duration::from_millis(300));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(woken.unwrap().len(), 1);
    }
}
