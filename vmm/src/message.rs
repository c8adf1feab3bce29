//! What other threads, and devices, tell an event loop.

use std::os::fd::OwnedFd;

use msb_vmapi::Outcome;

use crate::device_host::{Command, DeviceId};
use crate::vcpu::PauseNumber;

/// Messages that may wait at a loop before those that a guest can cause without end are dropped:
/// writes to device configurations, and connections.
pub const MAX_MESSAGES: usize = 256;

/// One message.
#[derive(Debug)]
pub enum Message {
    /// A vCPU thread wants something of a device.
    Device(DeviceId, Command),
    /// The first vCPU is about to enter the guest; when, in `CLOCK_MONOTONIC` nanoseconds.
    Booted(u64),
    /// A vCPU is out of the guest for the pause of that number, and stays so until it is resumed.
    OutOfGuest(PauseNumber),
    /// The host cannot serve a disk.
    DiskFailed {
        /// Which one, from 0.
        disk: usize,
        /// Why not.
        error: String,
    },
    /// The guest owns this process.
    #[cfg(feature = "attacker")]
    Attack(crate::attacker::Order),
    /// The machine is over, for this reason.
    End(Outcome),
    /// The guest connected to a port of the host; this is the host's end.
    Connection {
        /// The port.
        port: u32,
        /// The host's end of the connection.
        socket: OwnedFd,
    },
}
