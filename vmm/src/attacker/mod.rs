//! The attacker: a VMM whose guest owns it, for tests.
//!
//! The jail assumes that a guest has taken the whole process over. Here that is so: when the guest writes to
//! the port [`PORT`], a thread of the role that it names makes attempts to get out, with the process's own
//! rights and the kernel's own calls. Each attempt says what came of it.
//!
//! None of this is in a program that ships: it is compiled with the feature `attacker` only, into a binary of
//! its own, and a test looks for [`MARKER`] in all others.
//!
//! | `mode` | what a forbidden call does | what it shows |
//! | --- | --- | --- |
//! | `kill` | ends the process, as in the real VMM | that it does, and that the name is told |
//! | `list` | fails with [`REFUSED`] | that every attempt fails, in one run |
//! | `bare` | is made: there are no filters | what all other layers stop by themselves |
//!
//! A guest writes 32 bits: the role (1 main, 2 vcpu, 3 block) in the upper half, and in the lower the number of
//! an attempt, or [`ALL`].

mod attempts;
mod calls;

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::bus::BusDevice;
use crate::event_loop::Mailbox;
use crate::jail::seccomp::{Denial, Role};
use crate::message::Message;

/// What is in every binary that has this in it, and in no other.
pub const MARKER: &str = "THIS VMM ATTACKS ITS HOST WHEN ITS GUEST ASKS FOR IT";

/// The port.
pub const PORT: u64 = 0xa77a;
/// How many bytes wide it is.
pub const PORTS: u64 = 4;

/// All attempts, one after the other.
pub const ALL: u16 = 0xffff;

/// `EXDEV`: an error that no attempt would fail with for another reason.
pub const REFUSED: u16 = 18;

/// The variable that says how to attack: `mode=list;file=PATH;socket=PATH;tcp=PORT;pid=PID`.
const VARIABLE: &str = "MSB_ATTACKER";

/// How it attacks, and whom.
#[derive(Debug, Default)]
struct Plan {
    mode: Mode,
    /// Another machine's disk.
    file: PathBuf,
    /// Where somebody listens.
    socket: PathBuf,
    /// Where somebody listens, on 127.0.0.1.
    tcp: u16,
    /// Another machine's process.
    pid: i32,
    /// Who started this process.
    parent: i32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Kill,
    List,
    Bare,
}

static PLAN: OnceLock<Plan> = OnceLock::new();

/// Makes this process one that attacks when its guest asks for it. The plan comes from the environment, which
/// the jail will take away.
pub fn arm() {
    let mut plan = Plan {
        parent: rustix::process::Pid::as_raw(rustix::process::getppid()),
        ..Plan::default()
    };
    let text = std::env::var(VARIABLE).unwrap_or_default();
    for (key, value) in text.split(';').filter_map(|part| part.split_once('=')) {
        match key {
            "mode" if value == "list" => plan.mode = Mode::List,
            "mode" if value == "bare" => plan.mode = Mode::Bare,
            "file" => plan.file = value.into(),
            "socket" => plan.socket = value.into(),
            "tcp" => plan.tcp = value.parse().unwrap_or_default(),
            "pid" => plan.pid = value.parse().unwrap_or_default(),
            _ => {}
        }
    }
    crate::program::say(MARKER);
    let _ = PLAN.set(plan);
}

/// Whether this process attacks.
pub(crate) fn is_armed() -> bool {
    PLAN.get().is_some()
}

/// What is to happen to calls that are not allowed.
pub(crate) fn denial() -> Denial {
    match PLAN.get().map(|plan| plan.mode) {
        Some(Mode::List) => Denial::Fail(REFUSED),
        Some(Mode::Bare) => Denial::Pass,
        Some(Mode::Kill) | None => Denial::Violation,
    }
}

/// What the guest asks for.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    role: Role,
    attempt: u16,
}

/// The port, if this process is armed.
#[derive(Debug)]
pub(crate) struct Port {
    main: Mailbox<Message>,
    block: Option<Mailbox<Message>>,
}

impl Port {
    pub(crate) fn new(main: Mailbox<Message>, block: Option<Mailbox<Message>>) -> Option<Self> {
        PLAN.get().map(|_| Self { main, block })
    }
}

impl BusDevice for Port {
    fn read(&self, _: u64, _: &mut [u8]) {}

    fn write(&self, _: u64, bytes: &[u8]) {
        let Ok(value) = bytes.try_into().map(u32::from_le_bytes) else {
            return;
        };
        let [a0, a1, role, _] = value.to_le_bytes();
        let role = match role {
            1 => Role::Main,
            2 => Role::Vcpu,
            3 => Role::Block,
            _ => return,
        };
        let order = Order {
            role,
            attempt: u16::from_le_bytes([a0, a1]),
        };
        let mailbox = match role {
            Role::Main => Some(&self.main),
            Role::Block => self.block.as_ref(),
            _ => return run(order),
        };
        if let Some(mailbox) = mailbox {
            let _ = mailbox.post(Message::Attack(order));
        }
    }
}

/// Makes the attempts, in the thread that they are meant for.
pub(crate) fn run(order: Order) {
    let Some(plan) = PLAN.get() else { return };
    let role = order.role.as_str();
    let mut succeeded = 0;
    for (number, attempt) in (0u16..).zip(attempts::ALL) {
        if order.attempt != ALL && order.attempt != number {
            continue;
        }
        let what = attempt.what;
        // In bare mode some calls do something that stays inside.
        let inside = plan.mode == Mode::Bare && !attempt.reaches;
        match (attempt.make)(plan) {
            Err(errno) => {
                crate::program::say(&format!("attack {role} {number}: {what}: failed, {errno}"))
            }
            Ok(()) if inside => {
                crate::program::say(&format!("attack {role} {number}: {what}: stays inside"));
            }
            Ok(()) => {
                succeeded += 1;
                crate::program::say(&format!("attack {role} {number}: {what}: SUCCEEDED"));
            }
        }
    }
    crate::program::say(&format!("attack {role}: over, {succeeded} succeeded"));
}
