//! One measurement, and how it stands in the page.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// How many words a sample has.
pub(super) const WORDS: usize = 18;

/// What a sandbox used up to one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Processor use since the sample before, of one CPU: two busy vCPUs are 200.
    pub cpu_percent: f32,
    /// Time that all vCPUs ran, in nanoseconds.
    pub vcpu_time_ns: u64,
    /// Memory that the guest uses.
    pub memory_bytes: u64,
    /// Memory that the guest could still use, as it says.
    pub memory_available_bytes: Option<u64>,
    /// Memory of the host that the guest's occupies, and what its machine takes besides; pages of an image that several
    /// sandboxes have in common are nobody's.
    pub memory_host_resident_bytes: Option<u64>,
    /// Memory that the guest was given.
    pub memory_limit_bytes: u64,
    /// Bytes read from disks.
    pub disk_read_bytes: u64,
    /// Bytes written to disks.
    pub disk_write_bytes: u64,
    /// Bytes that the guest received from the network.
    pub net_rx_bytes: u64,
    /// Bytes that the guest sent to the network.
    pub net_tx_bytes: u64,
    /// Bytes in use on the writable disk's file system.
    pub upper_used_bytes: Option<u64>,
    /// Bytes free on it.
    pub upper_free_bytes: Option<u64>,
    /// Bytes of the host that the writable disk occupies.
    pub upper_host_allocated_bytes: Option<u64>,
    /// How long the sandbox has been running.
    pub uptime: Duration,
    /// When this was measured.
    pub timestamp: DateTime<Utc>,
}

impl Sample {
    pub(super) fn to_words(self) -> [u64; WORDS] {
        let optional = [
            self.memory_available_bytes,
            self.memory_host_resident_bytes,
            self.upper_used_bytes,
            self.upper_free_bytes,
            self.upper_host_allocated_bytes,
        ];
        let present = optional
            .iter()
            .rev()
            .fold(0, |bits, value| bits << 1 | u64::from(value.is_some()));
        let [available, resident, used, free, allocated] = optional.map(Option::unwrap_or_default);
        [
            present,
            u64::from(self.cpu_percent.to_bits()),
            self.vcpu_time_ns,
            self.memory_bytes,
            available,
            resident,
            self.memory_limit_bytes,
            self.disk_read_bytes,
            self.disk_write_bytes,
            self.net_rx_bytes,
            self.net_tx_bytes,
            used,
            free,
            allocated,
            self.uptime.as_secs(),
            u64::from(self.uptime.subsec_nanos()),
            self.timestamp.timestamp().cast_unsigned(),
            u64::from(self.timestamp.timestamp_subsec_nanos()),
        ]
    }

    /// None if these are no sample's words.
    pub(super) fn from_words(words: [u64; WORDS]) -> Option<Self> {
        let [
            present,
            cpu_percent,
            vcpu_time_ns,
            memory_bytes,
            available,
            resident,
            memory_limit_bytes,
            disk_read_bytes,
            disk_write_bytes,
            net_rx_bytes,
            net_tx_bytes,
            used,
            free,
            allocated,
            uptime,
            uptime_nanos,
            timestamp,
            timestamp_nanos,
        ] = words;
        let optional = |bit: u32, value: u64| (present >> bit & 1 == 1).then_some(value);
        let uptime_nanos = u32::try_from(uptime_nanos)
            .ok()
            .filter(|nanos| *nanos < 1_000_000_000)?;
        Some(Self {
            cpu_percent: f32::from_bits(u32::try_from(cpu_percent).ok()?),
            vcpu_time_ns,
            memory_bytes,
            memory_available_bytes: optional(0, available),
            memory_host_resident_bytes: optional(1, resident),
            memory_limit_bytes,
            disk_read_bytes,
            disk_write_bytes,
            net_rx_bytes,
            net_tx_bytes,
            upper_used_bytes: optional(2, used),
            upper_free_bytes: optional(3, free),
            upper_host_allocated_bytes: optional(4, allocated),
            uptime: Duration::new(uptime, uptime_nanos),
            timestamp: DateTime::from_timestamp(
                timestamp.cast_signed(),
                u32::try_from(timestamp_nanos).ok()?,
            )?,
        })
    }
}
