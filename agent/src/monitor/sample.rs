//! How the guest is: memory, root file system, how much goes on.

use std::fs::read_to_string;

use msb_protocol::GuestSample;
use rustix::fs::statvfs;

use crate::agent::Agent;
use crate::boot::clock_ns;

/// Looks. Nothing here waits for anybody: both files are the kernel's.
pub(super) fn take(agent: &Agent) -> GuestSample {
    let memory = read_to_string("/proc/meminfo").unwrap_or_default();
    let (used, free) = root().unzip();
    GuestSample {
        uptime_ns: clock_ns(),
        memory_total_bytes: field(&memory, "MemTotal").unwrap_or(0),
        memory_available_bytes: field(&memory, "MemAvailable").unwrap_or(0),
        root_used_bytes: used,
        root_free_bytes: free,
        sessions: count(agent.sessions()),
        connections: count(agent.connections()),
    }
}

/// What is taken of the root file system and what is free, as `df` reckons. `None` if it has
/// no size, as the initramfs.
fn root() -> Option<(u64, u64)> {
    let root = statvfs("/").ok().filter(|root| root.f_blocks > 0)?;
    let bytes = |blocks: u64| blocks.saturating_mul(root.f_frsize);
    let used = root.f_blocks.saturating_sub(root.f_bfree);
    Some((bytes(used), bytes(root.f_bavail)))
}

/// The bytes that a line `NAME:   1234 kB` of /proc/meminfo tells.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let rest = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_is_found_by_its_whole_name() {
        let text = "MemTotalX:  1 kB\nMemTotal:  2048 kB\nMemAvailable:\nHugePages_Total:  3\n";
        assert_eq!(field(text, "MemTotal"), Some(2048 * 1024));
        assert_eq!(field(text, "MemAvailable"), None);
        assert_eq!(field(text, "HugePages_Total"), None);
        assert_eq!(field("MemTotal: 18446744073709551615 kB", "MemTotal"), None);
    }

    proptest! {
        #[test]
        fn no_text_ends_the_agent(text in "(MemTotal:)?[ 0-9]*(\\PC| kB)*") {
            let _ = field(&text, "MemTotal");
        }

        #[test]
        fn a_kernels_line_is_understood(kibibytes in 0u64..1 << 50) {
            let line = format!("MemTotal:       {kibibytes:>8} kB\n");
            prop_assert_eq!(field(&line, "MemTotal"), Some(kibibytes * 1024));
        }
    }
}
