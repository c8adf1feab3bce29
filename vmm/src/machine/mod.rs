//! A machine: built from a blueprint, run to its end.
//!
//! ```text
//! Blueprint ── Machine::new ── run ──┬─ vCPU threads, worker threads
//!                                    └─ main loop, until Message::End
//!                                         │    pause: vCPU threads sleep outside the guest
//!                                         └─ workers, vCPUs, devices stopped; Ended told; all removed
//! ```

mod build;
mod connect;
mod counters;
mod error;
mod pausing;
mod running;
mod trouble;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use msb_vmapi::{ErrorKind, ExitCode, Isolation, Outcome};
use vmm_virtio::block::BlockCounters;

use crate::blueprint::{Blueprint, SocketFile};
use crate::bus::Bus;
use crate::control::{Connection, Server};
use crate::device_host::DeviceHost;
use crate::ending::Ending;
use crate::event_loop::{EventLoop, Mailbox, SlotId};
use crate::jail::Jail;
use crate::kvm::{System, Vcpu, Vm};
use crate::message::Message;
use crate::porter::Porter;
use crate::terminal::{Keyboard, RawMode};
use crate::worker::Worker;

pub use error::MachineError;

/// Who a machine is run for, and how it may be ended.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// When this process entered `main`, in `CLOCK_MONOTONIC` nanoseconds.
    pub process_started_ns: u64,
    /// The supervisor's connection, and the id of its request for this machine.
    pub supervisor: Option<(Connection, u64)>,
    /// Readable when the process was asked to end.
    pub termination: Option<OwnedFd>,
    /// The jail that the process is in. Its threads enter it as they start.
    pub jail: Option<Jail>,
    /// Who does what needs a path, for a machine in a jail that stands alone.
    pub porter: Option<Porter>,
}

/// A machine that has not run yet.
#[derive(Debug)]
pub struct Machine {
    // Dropped in this order: threads first, then what they use.
    workers: Vec<Worker>,
    vcpus: Vec<Vcpu>,
    /// Kept for as long as anything of it is used.
    #[expect(dead_code, reason = "held, not read")]
    vm: Vm,
    events: EventLoop,
    mailbox: Mailbox<Message>,
    mailbox_slot: SlotId,
    ending: Ending,
    host: DeviceHost,
    /// Of each disk in order.
    disks: Vec<Arc<BlockCounters>>,
    mmio: Bus,
    ports: Bus,
    control: Server,
    control_slot: SlotId,
    keyboard: Option<(Keyboard, SlotId)>,
    termination: Option<(OwnedFd, SlotId)>,
    power_button: vmm_sys_util::eventfd::EventFd,
    configure_id: Option<u64>,
    process_started_ns: u64,
    raw_mode: Option<RawMode>,
    socket_files: Vec<SocketFile>,
    /// Gone once it is sealed.
    jail: Option<Jail>,
    isolation: Isolation,
    /// Removes the sockets of a machine in a jail, once the last handle is gone.
    #[expect(dead_code, reason = "held, not read")]
    porter: Option<Porter>,
}

impl Machine {
    /// Builds a machine. Nothing of it runs before [`Machine::run`], but worker threads that wait.
    pub fn new(
        system: &System,
        blueprint: Blueprint,
        surroundings: Surroundings,
    ) -> Result<Self, MachineError> {
        build::build(system, blueprint, surroundings)
    }

    /// Runs it until it is over, and says how it ended. Nothing of it is left then.
    pub fn run(self) -> Outcome {
        running::run(self)
    }
}

/// The exit code of a process whose machine ended like this.
pub fn exit_code(outcome: &Outcome) -> ExitCode {
    match outcome {
        Outcome::PowerOff => ExitCode::PowerOff,
        Outcome::Reset => ExitCode::GuestReset,
        Outcome::Crash(_) => ExitCode::GuestCrash,
        Outcome::Killed => ExitCode::Killed,
        Outcome::Violation(_) => ExitCode::Violation,
        Outcome::Error(error) => match error.kind {
            ErrorKind::Host | ErrorKind::State | ErrorKind::Malformed => ExitCode::VmmError,
            _ => ExitCode::Refused,
        },
        _ => ExitCode::VmmError,
    }
}
