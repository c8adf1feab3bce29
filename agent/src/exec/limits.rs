//! Resource limits, from the wire's to the kernel's.

use msb_protocol::{ExecFailure, Resource as Wire, ResourceLimit};
use rustix::process::{Resource, Rlimit};

use super::failure::bad_argument;

/// Appends what `wanted` says to `limits`.
pub(super) fn add(
    wanted: &[ResourceLimit],
    limits: &mut Vec<(Resource, Rlimit)>,
) -> Result<(), ExecFailure> {
    for limit in wanted {
        let resource = kernel(limit.resource)?;
        if limit.soft > limit.hard {
            return Err(bad_argument(&format!(
                "the soft limit {} of {:?} is above its hard limit {}",
                limit.soft, limit.resource, limit.hard
            )));
        }
        let finite = |value: u64| (value != u64::MAX).then_some(value);
        let values = Rlimit {
            current: finite(limit.soft),
            maximum: finite(limit.hard),
        };
        limits.push((resource, values));
    }
    Ok(())
}

fn kernel(resource: Wire) -> Result<Resource, ExecFailure> {
    Ok(match resource {
        Wire::Cpu => Resource::Cpu,
        Wire::Fsize => Resource::Fsize,
        Wire::Data => Resource::Data,
        Wire::Stack => Resource::Stack,
        Wire::Core => Resource::Core,
        Wire::Rss => Resource::Rss,
        Wire::Nproc => Resource::Nproc,
        Wire::Nofile => Resource::Nofile,
        Wire::Memlock => Resource::Memlock,
        Wire::As => Resource::As,
        Wire::Locks => Resource::Locks,
        Wire::Sigpending => Resource::Sigpending,
        Wire::Msgqueue => Resource::Msgqueue,
        Wire::Nice => Resource::Nice,
        Wire::Rtprio => Resource::Rtprio,
        Wire::Rttime => Resource::Rttime,
        other => {
            return Err(bad_argument(&format!(
                "this agent knows no resource limit {other:?}"
            )));
        }
    })
}
