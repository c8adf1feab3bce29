//! Metrics, and whether anything goes on in the guest.
//!
//! A tick reads the VMM's CPU time from /proc, which wakes nobody. Only when the guest has
//! really worked since the last tick are the VMM and the agent asked for more: an idle sandbox
//! costs one wake-up of its supervisor each interval and none of anybody else.

use std::fs;
use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use msb_protocol::GuestSample;
use msb_runtime::metrics::{MetricsPage, Sample};
use msb_vmapi::Counters;
use tokio::time::Instant;

use super::root::Written;

/// A guest that uses more of one CPU than this is at work; less is its kernel's own ticking.
const BUSY_PERCENT: f64 = 5.0;

/// What is known of the machine, tick by tick.
#[derive(Debug)]
pub(crate) struct Sampler {
    page: Option<MetricsPage>,
    vmm: Option<u32>,
    started: Instant,
    last: Option<Tick>,
    /// What was last published.
    sample: Sample,
    counters: Counters,
    guest: Option<GuestSample>,
    memory_limit: u64,
    /// The disk that the guest writes to.
    written: Option<Written>,
    /// Commands that run in the guest, as its agent says; `None` when it says no more.
    sessions: Option<usize>,
    /// When something last went on.
    active: Instant,
    /// When it was last looked whether anything goes on.
    looked: Option<Tick>,
}

#[derive(Clone, Copy, Debug)]
struct Tick {
    at: Instant,
    cpu: Duration,
}

impl Sampler {
    /// Samples of the VMM process `vmm`, published on `page` if there is one.
    pub(crate) fn new(
        page: Option<MetricsPage>,
        vmm: Option<u32>,
        memory_limit: u64,
        written: Option<Written>,
    ) -> Self {
        let now = Instant::now();
        Self {
            page,
            vmm,
            started: now,
            last: None,
            sample: Sample::default(),
            counters: Counters::default(),
            guest: None,
            memory_limit,
            written,
            sessions: Some(0),
            active: now,
            looked: None,
        }
    }

    /// Something went on just now.
    pub(crate) fn touch(&mut self) {
        self.active = Instant::now();
    }

    /// So many commands run now; nobody knows how many when `None`.
    pub(crate) fn sessions(&mut self, count: Option<usize>) {
        self.sessions = count;
        self.touch();
    }

    /// Looks whether anything goes on, and says how long nothing has. To be called no more often than
    /// every second: over less than that, a guest's own ticking looks like work.
    pub(crate) fn idle_for(&mut self) -> Duration {
        let now = self.measure();
        let busy = percent(self.looked, now) > BUSY_PERCENT;
        self.looked = Some(now);
        if busy || self.sessions != Some(0) {
            self.active = now.at;
        }
        now.at.duration_since(self.active)
    }

    fn measure(&self) -> Tick {
        Tick {
            at: Instant::now(),
            cpu: self.vmm.and_then(cpu_time).unwrap_or_default(),
        }
    }

    /// The VMM's counters, as it said.
    pub(crate) fn take_counters(&mut self, counters: Counters) {
        self.counters = counters;
        self.publish(None);
    }

    /// The guest's word of itself.
    pub(crate) fn take_guest(&mut self, sample: GuestSample) {
        if sample.sessions > 0 || sample.connections > 0 {
            self.touch();
        }
        self.guest = Some(sample);
        self.publish(None);
    }

    /// Takes a sample. Whether it is worth asking VMM and guest for more.
    pub(crate) fn tick(&mut self) -> bool {
        let now = self.measure();
        let percent = percent(self.last, now);
        let first = self.last.replace(now).is_none();
        self.publish(Some(percent));
        percent > BUSY_PERCENT || first
    }

    fn publish(&mut self, percent: Option<f64>) {
        let Some(page) = &mut self.page else { return };
        let sample = &mut self.sample;
        if let Some(percent) = percent {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a percentage needs no more"
            )]
            let percent = percent as f32;
            sample.cpu_percent = percent;
        }
        sample.vcpu_time_ns = self.counters.vcpu_time_ns;
        sample.memory_limit_bytes = self.memory_limit;
        sample.memory_host_resident_bytes = self.vmm.and_then(resident);
        // Until the guest has said how it is, what it takes of the host is all that is known.
        sample.memory_bytes = sample
            .memory_host_resident_bytes
            .unwrap_or_default()
            .min(self.memory_limit);
        if let Some(guest) = &self.guest {
            // A guest may say what it likes of itself; it cannot have more than it was given.
            let available = guest.memory_available_bytes.min(self.memory_limit);
            sample.memory_available_bytes = Some(available);
            sample.memory_bytes = guest
                .memory_total_bytes
                .min(self.memory_limit)
                .saturating_sub(available);
            sample.upper_used_bytes = guest.root_used_bytes;
            sample.upper_free_bytes = guest.root_free_bytes;
        }
        let sum = |each: fn(&msb_vmapi::DiskCounters) -> u64| {
            self.counters
                .disks
                .iter()
                .map(each)
                .fold(0, u64::saturating_add)
        };
        sample.upper_host_allocated_bytes = self.written.as_ref().and_then(Written::allocated);
        sample.disk_read_bytes = sum(|disk| disk.read_bytes);
        sample.disk_write_bytes = sum(|disk| disk.write_bytes);
        sample.uptime = self.started.elapsed();
        sample.timestamp = Utc::now();
        page.publish(sample);
    }
}

/// How much of one CPU was used between two moments.
fn percent(before: Option<Tick>, now: Tick) -> f64 {
    let Some(before) = before else { return 0.0 };
    let wall = now.at.duration_since(before.at).as_secs_f64();
    let used = now.cpu.saturating_sub(before.cpu).as_secs_f64();
    if wall > 0.0 { used / wall * 100.0 } else { 0.0 }
}

/// CPU time that a process has used.
fn cpu_time(pid: u32) -> Option<Duration> {
    // pid (name) state ppid ... utime stime; the name may have any character but ends at the
    // last ')'.
    let stat = read(pid, "stat")?;
    let rest = stat.rsplit_once(") ")?.1;
    let mut fields = rest.split(' ').skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// Bytes of the host's memory that a process has for itself. A guest's memory is anonymous, so it is among them; pages of
/// files, which belong to whoever reads the file, are not: above all those of an image that is mapped, which
/// all its sandboxes have in common.
fn resident(pid: u32) -> Option<u64> {
    let pages = own_pages(&read(pid, "statm")?)?;
    Some(pages.saturating_mul(u64::try_from(rustix::param::page_size()).ok()?))
}

/// Of `size resident shared ...`, in pages (`man proc_pid_statm`): what is resident and not shared.
fn own_pages(statm: &str) -> Option<u64> {
    let mut fields = statm.split(' ').skip(1);
    let resident: u64 = fields.next()?.parse().ok()?;
    let shared: u64 = fields.next()?.parse().ok()?;
    // They are read one after the other.
    Some(resident.saturating_sub(shared))
}

fn read(pid: u32, what: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc").join(pid.to_string()).join(what)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_numbers_are_read() {
        let pid = std::process::id();
        assert!(cpu_time(pid).is_some());
        assert!(resident(pid).unwrap() > 0);
        assert_eq!(cpu_time(u32::MAX), None);
    }

    #[test]
    fn pages_of_files_are_not_the_processs_own() {
        assert_eq!(own_pages("9000 300 120 5 0 200 0\n"), Some(180));
        assert_eq!(own_pages("9000 300 301 5 0 200 0\n"), Some(0));
        for odd in ["", "9000", "9000 300", "9000 x 1", "9000 300 -1"] {
            assert_eq!(own_pages(odd), None);
        }
    }

    #[test]
    fn a_tick_without_work_asks_for_nothing() {
        let mut sampler = Sampler::new(None, None, 1 << 20, None);
        assert!(sampler.tick(), "the first is always of interest");
        assert!(!sampler.tick());
    }
}
