//! How a VMM process says why it ended to whoever started it.

/// Exit codes of `msb-vmm`.
///
/// 2 is what the command-line parser uses for usage errors, so a refused
/// configuration shares it: in both cases nothing was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The guest powered off.
    PowerOff = 0,
    /// The VMM failed while it ran; the message is on standard error.
    VmmError = 1,
    /// The command line or the machine description was refused.
    Refused = 2,
    /// The guest asked for a reset.
    GuestReset = 10,
    /// The guest crashed: a triple fault, or an exit no guest should cause.
    GuestCrash = 11,
    /// Somebody asked for the end through the control socket or a signal.
    Killed = 12,
    /// The VMM made a system call that its jail forbids.
    Violation = 13,
}

impl ExitCode {
    /// The number the process exits with.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The meaning of a process exit code, if it is one of ours.
    pub const fn from_code(code: i32) -> Option<Self> {
        Some(match code {
            0 => Self::PowerOff,
            1 => Self::VmmError,
            2 => Self::Refused,
            10 => Self::GuestReset,
            11 => Self::GuestCrash,
            12 => Self::Killed,
            13 => Self::Violation,
            _ => return None,
        })
    }
}
