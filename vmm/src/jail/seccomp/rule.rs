//! What a rule of a filter is: a system call, what its arguments must be, and why it is needed.

use std::collections::BTreeMap;

use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::Role;

/// A system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// As the kernel names it.
    pub name: &'static str,
    /// Its number here.
    pub number: i64,
}

/// A call by the name of its number: `call!(SYS_read)`.
macro_rules! call {
    ($number:ident) => {
        $crate::jail::seccomp::rule::Call {
            name: stringify!($number).split_at(4).1,
            number: libc::$number,
        }
    };
}
pub(super) use call;

/// What one argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Which argument, from 0.
    pub index: u8,
    /// What it must be.
    pub is: Is,
}

/// A condition on a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// This, in all 64 bits.
    Equal(u64),
    /// This, in the lower 32 bits: the kernel looks at no others.
    Int(u32),
    /// In the lower 32 bits, those of `mask` are as in `bits`.
    Masked {
        /// Which bits count.
        mask: u32,
        /// What they must be.
        bits: u32,
    },
    /// The number of this process.
    OwnPid,
    /// The signal that takes a vCPU out of its guest.
    Kick,
}

/// What is known of a process only once it runs.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The signal that takes a vCPU out of its guest.
    pub kick: u32,
}

impl Process {
    /// This one.
    pub fn own() -> Self {
        Self {
            pid: std::process::id(),
            kick: vmm_sys_util::signal::SIGRTMIN().unsigned_abs(),
        }
    }
}

/// One rule: the call is allowed if all of `args` are as they must be. Several rules of one call are
/// alternatives.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The call.
    pub call: Call,
    /// What must hold of its arguments.
    pub args: &'static [Arg],
    /// Who needs it, and for what.
    pub why: &'static str,
    rare: Option<Rare>,
}

/// A rule that not every role makes use of in an ordinary life.
#[derive(Clone, Copy, Debug)]
struct Rare {
    because: &'static str,
    /// The roles that do.
    but: &'static [Role],
}

/// The call, with any arguments.
pub(super) const fn any(call: Call, why: &'static str) -> Rule {
    with(call, &[], why)
}

/// The call with these arguments.
pub(super) const fn with(call: Call, args: &'static [Arg], why: &'static str) -> Rule {
    Rule {
        call,
        args,
        why,
        rare: None,
    }
}

impl Rule {
    /// The same rule, of which no ordinary life makes use.
    pub(super) const fn rarely(self, because: &'static str) -> Self {
        self.rarely_but(&[], because)
    }

    /// The same rule, of which only these roles make use in an ordinary life.
    pub(super) const fn rarely_but(self, but: &'static [Role], because: &'static str) -> Self {
        Self {
            rare: Some(Rare { because, but }),
            ..self
        }
    }

    /// Why no ordinary life of a thread of this role comes by here, if none does.
    pub fn rare_in(&self, role: Role) -> Option<&'static str> {
        let rare = self.rare.filter(|rare| !rare.but.contains(&role));
        rare.map(|rare| rare.because)
    }
}

/// An argument that must be this in all its bits.
pub(super) const fn equal(index: u8, value: u64) -> Arg {
    let is = Is::Equal(value);
    Arg { index, is }
}

/// An argument of 32 bits that must be this.
pub(super) const fn int(index: u8, value: u32) -> Arg {
    let is = Is::Int(value);
    Arg { index, is }
}

impl Is {
    /// Whether a value is as it must be.
    pub fn holds(self, value: u64, process: Process) -> bool {
        let low = value & u64::from(u32::MAX);
        match self {
            Self::Equal(wanted) => value == wanted,
            Self::Int(wanted) => low == u64::from(wanted),
            Self::Masked { mask, bits } => low & u64::from(mask) == u64::from(bits),
            Self::OwnPid => low == u64::from(process.pid),
            Self::Kick => low == u64::from(process.kick),
        }
    }

    fn compile(self, index: u8, process: Process) -> Result<SeccompCondition, BackendError> {
        let int = |value: u32| (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value));
        let (width, op, value) = match self {
            Self::Equal(value) => (SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value),
            Self::Int(value) => int(value),
            Self::Masked { mask, bits } => {
                let op = SeccompCmpOp::MaskedEq(mask.into());
                (SeccompCmpArgLen::Dword, op, bits.into())
            }
            Self::OwnPid => int(process.pid),
            Self::Kick => int(process.kick),
        };
        SeccompCondition::new(index, width, op, value)
    }
}

/// The rules as the compiler of filters takes them. A call that is allowed with any arguments by one rule
/// is so whatever others say.
pub(super) fn chains<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    process: Process,
) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut chains: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut unconditional = Vec::new();
    for rule in rules {
        let chain = chains.entry(rule.call.number).or_default();
        if rule.args.is_empty() {
            unconditional.push(rule.call.number);
            continue;
        }
        let conditions = rule
            .args
            .iter()
            .map(|arg| arg.is.compile(arg.index, process))
            .collect::<Result<_, _>>()?;
        chain.push(SeccompRule::new(conditions)?);
    }
    for number in unconditional {
        // To the compiler, no conditions at all mean "always".
        chains.insert(number, Vec::new());
    }
    Ok(chains)
}
