//! Processors, memory and limits.

use msb_types::{Mebibytes, ResourceLimit};

use super::SandboxBuilder;
use crate::exec::RlimitResource;

impl SandboxBuilder {
    /// The number of vCPUs.
    #[must_use]
    pub fn cpus(mut self, cpus: u8) -> Self {
        self.config.resources.cpus = cpus;
        self
    }

    /// The memory, in MiB.
    #[must_use]
    pub fn memory(mut self, memory: impl Into<Mebibytes>) -> Self {
        self.config.resources.memory_mib = memory.into().as_u32();
        self
    }

    /// Limits a resource of every command, soft and hard alike.
    #[must_use]
    pub fn rlimit(self, resource: RlimitResource, limit: u64) -> Self {
        self.rlimit_range(resource, limit, limit)
    }

    /// Limits a resource of every command.
    #[must_use]
    pub fn rlimit_range(mut self, resource: RlimitResource, soft: u64, hard: u64) -> Self {
        self.config.rlimits.push(ResourceLimit {
            resource,
            soft,
            hard,
        });
        self
    }
}
