//! What each thread may ask of the kernel: a filter of system calls for each role.
//!
//! ```text
//! tables (rule, reason) ── compile ── filter ── applied by the thread to itself, for good
//! ```
//!
//! A call that no rule allows is not carried out. Instead the kernel sends the thread a signal that it cannot
//! block, whose handler says which call it was and ends the process (`violation`). The porter, which has
//! nobody to tell, is killed at once; so is whoever uses the calls of another processor mode.

mod rule;
mod tables;

use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompFilter, TargetArch};

pub use rule::{Arg, Call, Is, Process, Rule};

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The main loop.
    Main,
    /// A vCPU.
    Vcpu,
    /// A disk.
    Block,
    /// The process that does what needs a path, of a machine that stands alone.
    Porter,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Main, Self::Vcpu, Self::Block, Self::Porter];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Vcpu => "vcpu",
            Self::Block => "block",
            Self::Porter => "porter",
        }
    }

    /// The number by which a violation's handler knows it.
    const fn number(self) -> u16 {
        match self {
            Self::Main => 0,
            Self::Vcpu => 1,
            Self::Block => 2,
            Self::Porter => 3,
        }
    }
}

/// What happens to a call that no rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The process says which it was, and ends.
    Violation,
    /// The process is killed without a word.
    Kill,
    /// The call fails with this error, and the thread goes on. For the attacker's list of attempts.
    #[cfg(feature = "attacker")]
    Fail(u16),
    /// The call is made: there might as well be no filter. For the attacker, to see what else is there.
    #[cfg(feature = "attacker")]
    Pass,
}

/// No filter can be made, or applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The rules make no program.
    #[error("the system call filter of {role} is not sound")]
    Unsound {
        /// Whose.
        role: &'static str,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// The kernel does not take it.
    #[error(
        "the kernel takes no system call filter; use one with CONFIG_SECCOMP_FILTER, or --no-jail \
         for a guest that you trust"
    )]
    Refused(#[source] seccompiler::Error),
}

/// The filter of a role, as the kernel takes it.
#[derive(Clone, Debug)]
pub struct Filter(BpfProgram);

impl Filter {
    /// Makes the filter of `role` in `process`. `terminal`: a person's terminal is raw and must be made as
    /// it was.
    pub fn compile(
        role: Role,
        process: Process,
        terminal: bool,
        denial: Denial,
    ) -> Result<Self, FilterError> {
        let unsound = |source| FilterError::Unsound {
            role: role.as_str(),
            source,
        };
        let tables = tables::of(role, terminal);
        let chains = rule::chains(tables.into_iter().flatten(), process).map_err(unsound)?;
        let denied = match denial {
            Denial::Violation => SeccompAction::Trap,
            Denial::Kill => SeccompAction::KillProcess,
            #[cfg(feature = "attacker")]
            Denial::Fail(errno) => SeccompAction::Errno(errno.into()),
            #[cfg(feature = "attacker")]
            Denial::Pass => SeccompAction::Log,
        };
        let filter = SeccompFilter::new(chains, denied, SeccompAction::Allow, ARCH);
        let mut program: BpfProgram = filter.and_then(TryInto::try_into).map_err(unsound)?;
        for instruction in &mut program {
            // The kernel hands the lower half of what a filter returns on to the signal's handler.
            if instruction.code == RETURN && instruction.k == libc::SECCOMP_RET_TRAP {
                instruction.k |= u32::from(role.number());
            }
        }
        Ok(Self(program))
    }

    /// Applies it to the calling thread, for good.
    pub fn apply(&self) -> Result<(), FilterError> {
        seccompiler::apply_filter(&self.0).map_err(FilterError::Refused)
    }
}

/// `BPF_RET | BPF_K`
const RETURN: u16 = 0x06;

/// All rules of a role, those of a terminal too.
pub fn rules(role: Role) -> impl Iterator<Item = &'static Rule> {
    tables::of(role, role != Role::Porter).into_iter().flatten()
}

#[cfg(test)]
mod tests;
