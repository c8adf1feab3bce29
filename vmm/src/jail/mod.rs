//! The jail: what the VMM gives up before its guest runs.
//!
//! A guest that breaks out of its virtual machine owns this process. What it has then is what it had anyhow:
//! the guest's memory, the machine's own disks and sockets, by descriptors that are open. Nothing else can
//! be reached, because everything else was given up first, in this order:
//!
//! ```text
//! begin     inherited descriptors, the environment                before anything is opened
//!           ── the description is read, everything in it opened ──
//! confine   no new privileges; namespaces and an empty root;      while there is one thread
//!           root's user id; limits; landlock; capabilities;
//!           not dumpable; the handler of violations
//!           ── the machine is built: KVM, memory, devices ──
//! enter     each thread applies its own filter of system calls    first thing in each thread
//! seal      the main thread's filter                              before the first vCPU is let in
//! ```
//!
//! Each layer is there because another may be missing: kernels differ, and have errors. How far each came is
//! reported ([`Isolation`]), never silently less; without a filter of system calls there is no machine.
//! `docs/threat-model.md` says which layer stops what.
//!
//! Whatever needs a path or a privilege after that cannot be done here any more: a supervisor does it, or for
//! a machine that stands alone the porter.

pub(crate) mod belongings;
mod capabilities;
mod cell;
mod identity;
mod landlock;
mod limits;
mod listing;
mod namespaces;
mod report;
pub mod seccomp;
pub mod violation;

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

use msb_vmapi::{ErrorKind, Isolation, Layer, Requirement, Strength, VmError};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, parent_process_death_signal, set_dumpable_behavior,
    set_parent_process_death_signal,
};

pub use cell::Cell;
use cell::Cells;
pub use limits::Needs;
pub(crate) use limits::regular_size;
pub(crate) use listing::layers;
pub use listing::listing;
use report::Report;
use seccomp::{Denial, Filter, FilterError, Process, Role};

/// The jail cannot be closed, and so there is no machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JailError {
    /// The kernel is older than all that this program works on.
    #[error("the kernel cannot withhold privileges (no_new_privs)")]
    Privileges(#[source] Errno),
    /// A filter of system calls cannot be made or applied.
    #[error("cannot filter system calls")]
    Filter(#[from] FilterError),
    /// The handler of violations cannot be set.
    #[error("cannot watch for violations")]
    Handler(#[source] io::Error),
    /// A thread did not begin.
    #[error(
        "a thread of the machine did not enter its cell; the host may be overloaded, try again"
    )]
    Thread,
    /// Layers that were required are not in force.
    #[error("the jail is weaker on this host than what is required: {0}")]
    Weaker(String),
}

impl JailError {
    /// The error as it travels.
    pub fn to_vm_error(&self) -> VmError {
        VmError {
            kind: match self {
                Self::Weaker(_) => ErrorKind::Isolation,
                _ => ErrorKind::Host,
            },
            message: crate::report::chain(self),
        }
    }
}

/// A process that has given up what it was started with.
#[derive(Debug)]
pub struct Begun(Report);

/// Gives up what whoever started this process left in it, but standard input, output, error and `keep`.
/// Call it first of all: what is open is closed, whoever uses it.
pub fn begin(keep: Option<RawFd>) -> Begun {
    let mut report = Report::default();
    report.tried(Layer::Descriptors, belongings::close_descriptors(keep));
    report.tried(Layer::Environment, belongings::clear_environment());
    belongings::one_heap();
    Begun(report)
}

/// Refuses a host where `isolation` has not all that is required.
pub(crate) fn require(required: &[Requirement], isolation: &Isolation) -> Result<(), JailError> {
    let unmet: Vec<String> = isolation
        .unmet(required)
        .map(|report| format!("{report}; {}", report.layer.advice()))
        .collect();
    match unmet.is_empty() {
        true => Ok(()),
        false => Err(JailError::Weaker(unmet.join("; "))),
    }
}

/// What a jail is made for.
#[derive(Debug)]
pub struct Inmate<'a> {
    /// What it needs.
    pub needs: Needs,
    /// Who is told of a violation, instead of standard error. It must stay open.
    pub supervisor: Option<BorrowedFd<'a>>,
    /// A person's terminal is raw, and must be made as it was.
    pub terminal: bool,
    /// What happens to calls that are not allowed.
    pub denial: Denial,
}

/// A process in its jail, whose threads are yet to enter their cells.
#[derive(Debug)]
pub struct Jail {
    isolation: Isolation,
    main: Filter,
    vcpu: Arc<Filter>,
    block: Arc<Filter>,
    cells: Cells,
}

impl Begun {
    /// Shuts the process in. It must have one thread, and have opened all that it needs a path for.
    pub fn confine(self, inmate: &Inmate<'_>) -> Result<Jail, JailError> {
        let Self(mut report) = self;
        look_up();
        let dies_with = parent_process_death_signal().ok().flatten();
        // Without it neither landlock nor a filter is to be had.
        rustix::thread::set_no_new_privs(true).map_err(JailError::Privileges)?;
        report.full(Layer::NoNewPrivileges);
        if identity::is_privileged() {
            namespaces::others(&mut report);
            // Then a change of user takes nothing, and the namespace of users can still be made.
            let _ = capabilities::lock();
            identity::give_up_root(&mut report);
            namespaces::user(&mut report);
        } else {
            identity::give_up_root(&mut report);
            namespaces::user(&mut report);
            namespaces::others(&mut report);
        }
        let alone = report.has(Layer::OwnUser);
        limits::set(&inmate.needs, alone, &mut report);
        landlock::restrict(&mut report);
        capabilities::drop_all(&mut report);
        let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        report.tried(Layer::NotDumpable, hidden);
        // A change of user takes it back.
        let _ = set_parent_process_death_signal(dies_with);
        violation::install(inmate.supervisor).map_err(JailError::Handler)?;

        let process = Process::own();
        let filter = |role| Filter::compile(role, process, inmate.terminal, inmate.denial);
        let jail = Jail {
            main: filter(Role::Main)?,
            vcpu: Arc::new(filter(Role::Vcpu)?),
            block: Arc::new(filter(Role::Block)?),
            cells: Cells::new(),
            isolation: {
                report.full(Layer::Seccomp);
                report.finish()
            },
        };
        jail.tell();
        Ok(jail)
    }
}

/// Has libraries look up now what they look up once, in files or by calls that will be violations.
fn look_up() {
    // Where the kernel has put the code that reads the clock.
    let _ = crate::clock::monotonic_ns();
    // The keys of hash tables; the C library may map memory of a special kind for them.
    let _ = std::hash::RandomState::new();
}

impl Jail {
    /// What is in force. Of the filters it is true once the jail is sealed; before that no guest runs.
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// A cell for a vCPU's thread.
    pub fn vcpu(&mut self) -> Cell {
        self.cells.give(&self.vcpu)
    }

    /// A cell for a disk's thread.
    pub fn block(&mut self) -> Cell {
        self.cells.give(&self.block)
    }

    /// Waits until all threads are in their cells, and locks the calling one, the main thread, in as well.
    pub fn seal(self) -> Result<(), JailError> {
        self.cells.wait()?;
        Ok(self.main.apply()?)
    }

    fn tell(&self) {
        let (missing, there): (Vec<_>, Vec<_>) =
            (self.isolation.layers.iter()).partition(|report| report.strength == Strength::Missing);
        for layer in missing {
            tracing::warn!("the jail is weaker here: {layer}");
        }
        let there: Vec<String> = there.into_iter().map(ToString::to_string).collect();
        tracing::info!("in the jail: {}", there.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_and_weaker_is_refused_with_what_to_do() {
        let mut report = Report::default();
        report.full(Layer::Seccomp);
        report.partial(Layer::Landlock, "paths only");
        let isolation = report.finish();
        let need = |layer, strength| Requirement { layer, strength };
        let met = [
            need(Layer::Seccomp, Strength::Full),
            need(Layer::Landlock, Strength::Partial),
        ];
        require(&met, &isolation).unwrap();
        let error = require(&[need(Layer::Landlock, Strength::Full)], &isolation).unwrap_err();
        let error = error.to_vm_error();
        assert_eq!(error.kind, ErrorKind::Isolation);
        let (found, advice) = ("landlock in part (paths only)", Layer::Landlock.advice());
        assert!(error.message.contains(found), "{error}");
        assert!(error.message.contains(advice), "{error}");
    }
}
