//! Private memory of a process, from /proc/PID/smaps.
//!
//! A page of a file that only this process has mapped counts as private there, though the kernel keeps it for whoever
//! reads the file. So of files it is only programs that count, those of which some is executable; of others the copies
//! that are the process's own. What is left out are disks that a VMM maps for its guest.

use std::collections::HashSet;
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

/// KiB in private pages, clean and dirty, of all mappings smaller than `guest_kib`: the guest's own memory is the one mapping
/// that is as large as the machine. Of files that are no programs, only what is no longer the file's.
fn private_kib(smaps: &str, guest_kib: u64) -> u64 {
    let programs: HashSet<&str> = smaps
        .lines()
        .filter_map(header)
        .filter(|(access, _)| access.contains('x'))
        .map(|(_, file)| file)
        .collect();
    let mut total = 0;
    let (mut counted, mut own) = (true, true);
    for line in smaps.lines() {
        if let Some((_, file)) = header(line) {
            own = !file.starts_with('/') || programs.contains(file);
            continue;
        }
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
            "Private_Clean" | "Private_Dirty" if counted && own => total += kib,
            "Anonymous" if counted && !own => total += kib,
            _ => {}
        }
    }
    total
}

/// Access and file of a mapping, of a line that begins one: `from-to access offset device inode file`.
fn header(line: &str) -> Option<(&str, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (from, to) = range.split_once('-')?;
    let is_number = |text: &str| u64::from_str_radix(text, 16).is_ok();
    let (access, rest) = rest.split_once(' ')?;
    // A file's name may have spaces in it.
    let mut fields = rest.splitn(4, ' ');
    let file = fields.nth(3).unwrap_or_default().trim();
    (is_number(from) && is_number(to)).then_some((access, file))
}

#[cfg(test)]
mod tests {
    use super::private_kib;

    #[test]
    fn memory_of_the_guest_and_mapped_disks_are_left_out() {
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
7f90-7fa0 r--p 00000000 fe:00 77     /home/me/images/layers/ab cd/data
Size:               4096 kB
Private_Clean:      3000 kB
Private_Dirty:      1000 kB
Anonymous:             1 kB
7fb0-7fc0 r--p 00005000 fe:00 123    /usr/bin/vmm
Size:                100 kB
Private_Clean:         5 kB
7fff-8000 rw-p 00000000 00:00 0      [stack]
Size:                132 kB
Private_Dirty:        12 kB
VmFlags: rd wr
";
        assert_eq!(private_kib(smaps, 131_072), 48);
    }
}
