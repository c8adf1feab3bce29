//! Private memory of a process, from /proc/PID/smaps.

use std::fs;

use anyhow::{Context, Result};

/// MiB of private memory of the process; of a VMM, without its guest's memory of `guest_mib`.
pub(super) fn private_mib(pid: u32, guest_mib: Option<u64>) -> Result<f64> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps"))
        .with_context(|| format!("cannot read the mappings of process {pid}"))?;
    let guest_kib = guest_mib.map_or(u64::MAX, |mib| mib.saturating_mul(1024));
    let kib = private_kib(&smaps, guest_kib);
    Ok(f64::from(u32::try_from(kib)?) / 1024.0)
}

/// KiB in private pages, clean and dirty, of all mappings smaller than `guest_kib`: the guest's own
/// memory is the one mapping that is as large as the machine.
fn private_kib(smaps: &str, guest_kib: u64) -> u64 {
    let mut total = 0;
    let mut counted = true;
    for line in smaps.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let Some(kib) = value
            .trim()
            .strip_suffix(" kB")
            .and_then(|text| text.parse::<u64>().ok())
        else {
            continue;
        };
        match name {
            "Size" => counted = kib < guest_kib,
            "Private_Clean" | "Private_Dirty" if counted => total += kib,
            _ => {}
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::private_kib;

    #[test]
    fn guest_memory_is_left_out() {
        let smaps = "\
55d0-55e0 r-xp 00000000 fe:00 123    /usr/bin/vmm
Size:                100 kB
Rss:                  90 kB
Private_Clean:        30 kB
Private_Dirty:         0 kB
7f00-7f80 rw-s 00000000 00:01 5      /memfd:ram (deleted)
Size:             131072 kB
Private_Clean:         0 kB
Private_Dirty:     90000 kB
7fff-8000 rw-p 00000000 00:00 0      [stack]
Size:                132 kB
Private_Dirty:        12 kB
VmFlags: rd wr
";
        assert_eq!(private_kib(smaps, 131_072), 42);
    }
}
