//! How much CPU time another thread of this process has used, asked of the kernel without that thread
//! noticing.
#![allow(unsafe_code)]

use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// The CPU clock of one thread, which must not have been joined.
#[derive(Debug)]
pub struct CpuClock {
    id: libc::clockid_t,
    /// What was read last, for when the thread has ended.
    last: u64,
}

impl CpuClock {
    /// The clock of that thread.
    pub fn of<T>(thread: &JoinHandle<T>) -> Self {
        // A clock that no thread has.
        let mut id = -1;
        // SAFETY: the handle keeps the thread's descriptor valid: it is neither joined nor detached.
        // `id` is written to only.
        unsafe { libc::pthread_getcpuclockid(thread.as_pthread_t(), &raw mut id) };
        Self { id, last: 0 }
    }

    /// Nanoseconds so far, or of the last time that the thread was alive when asked.
    pub fn read(&mut self) -> u64 {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: any number may be passed as a clock; `time` is written to only.
        let result = unsafe { libc::clock_gettime(self.id, &raw mut time) };
        if result == 0 {
            let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
            let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
            let now = seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(nanoseconds);
            self.last = self.last.max(now);
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Barrier};

    #[test]
    fn a_thread_that_works_and_one_that_sleeps() {
        let over = Arc::new(AtomicBool::new(false));
        let asleep = Arc::new(Barrier::new(2));
        let (theirs, end) = (Arc::clone(&over), Arc::clone(&asleep));
        let busy = std::thread::spawn(move || while !theirs.load(Ordering::SeqCst) {});
        let idle = std::thread::spawn(move || {
            end.wait();
        });
        let (mut busy_clock, mut idle_clock) = (CpuClock::of(&busy), CpuClock::of(&idle));
        // More than the start of a thread takes.
        while busy_clock.read() < 50_000_000 {
            std::thread::yield_now();
        }
        assert!(idle_clock.read() < 50_000_000);
        over.store(true, Ordering::SeqCst);
        asleep.wait();
        while !(busy.is_finished() && idle.is_finished()) {
            std::thread::yield_now();
        }
        assert!(busy_clock.read() >= 50_000_000, "it went back");
        busy.join().unwrap();
        idle.join().unwrap();
    }
}
