//! How often a process is woken, from its threads' voluntary context switches
//! (/proc/PID/task/TID/status): a thread that went to sleep once more was woken once more. That it
//! lost the processor to another does not count.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Wake-ups of each thread, by its number, with its name.
type Threads = BTreeMap<String, (String, u64)>;

/// Wake-ups per second of a process, or of its threads, by their names.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    pub(super) all: f64,
    pub(super) threads: BTreeMap<String, f64>,
}

/// Wake-ups per second of each of the processes, over `duration`.
pub(super) fn per_second(pids: &[u32], duration: Duration) -> Result<Vec<Wakeups>> {
    let look = || {
        pids.iter()
            .map(|pid| threads(*pid))
            .collect::<Result<Vec<_>>>()
    };
    let (before, started) = (look()?, Instant::now());
    thread::sleep(duration);
    let (after, seconds) = (look()?, started.elapsed().as_secs_f64());
    let pairs = before.iter().zip(&after);
    Ok(pairs
        .map(|(before, after)| Wakeups::between(before, after, seconds))
        .collect())
}

impl Wakeups {
    /// What was added. A thread that is new counts whole; what one that is gone did last is not known.
    fn between(before: &Threads, after: &Threads, seconds: f64) -> Self {
        let mut wakeups = Self::default();
        for (thread, (name, count)) in after {
            let before = before.get(thread).map_or(0, |(_, count)| *count);
            let count = u32::try_from(count.saturating_sub(before)).unwrap_or(u32::MAX);
            let rate = f64::from(count) / seconds;
            wakeups.all += rate;
            *wakeups.threads.entry(name.clone()).or_default() += rate;
        }
        wakeups
    }
}

fn threads(pid: u32) -> Result<Threads> {
    let tasks = format!("/proc/{pid}/task");
    let mut found = Threads::new();
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

/// A thread's name, and how often it went to sleep.
fn in_status(status: &str) -> (String, u64) {
    let value = |wanted| {
        let mut lines = status.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(name, value)| (name == wanted).then(|| value.trim()))
    };
    let switches = value("voluntary_ctxt_switches").and_then(|count| count.parse().ok());
    (
        value("Name").unwrap_or_default().to_owned(),
        switches.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_to_sleep_counts_and_losing_the_processor_does_not() {
        let status = "Name:\tvcpu0\nThreads:\t4\nvoluntary_ctxt_switches:\t150\n\
                      nonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(in_status(status), ("vcpu0".to_owned(), 150));
        assert_eq!(in_status("Name:\tvcpu0\n"), ("vcpu0".to_owned(), 0));
    }

    #[test]
    fn threads_come_and_go() {
        let at = |counts: &[(&str, &str, u64)]| {
            let counts = counts.iter();
            counts
                .map(|(id, name, count)| ((*id).to_owned(), ((*name).to_owned(), *count)))
                .collect::<Threads>()
        };
        let before = at(&[("1", "main", 10), ("2", "block", 100)]);
        let after = at(&[("1", "main", 13), ("3", "vcpu0", 4), ("4", "vcpu0", 1)]);
        let wakeups = Wakeups::between(&before, &after, 2.0);
        assert!((wakeups.all - 4.0).abs() < f64::EPSILON);
        assert!((wakeups.threads["vcpu0"] - 2.5).abs() < f64::EPSILON);
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
        assert!(woken.unwrap()[0].all < 1_000.0);
    }
}
