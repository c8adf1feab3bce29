//! What a machine has done so far, read from where it is counted: no thread is woken for it.

use std::sync::Arc;

use msb_vmapi::{Counters, DiskCounters};
use vmm_virtio::block::BlockCounters;

use crate::vcpu::VcpuThreads;

/// The counters of a machine with these disks and vCPUs.
pub(super) fn counters(disks: &[Arc<BlockCounters>], vcpus: &mut VcpuThreads) -> Counters {
    let disks = disks.iter().map(|disk| DiskCounters {
        read_bytes: disk.read_bytes(),
        write_bytes: disk.write_bytes(),
        read_ops: disk.read_ops(),
        write_ops: disk.write_ops(),
        flushes: disk.flushes(),
    });
    Counters {
        disks: disks.collect(),
        vcpu_time_ns: vcpus.cpu_time_ns(),
    }
}
