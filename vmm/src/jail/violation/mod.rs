//! The last word after a call that the jail forbids.
//!
//! The kernel does not carry the call out; it sends the thread `SIGSYS`, with the number of the call and
//! the thread's role. The handler writes one message and ends the process. It has to be believed to do so
//! by a host that assumes the worst: that other threads of the process belong to an attacker who writes to all
//! of its memory meanwhile. Hence
//!
//! - it is straight machine code without a call, a return or a jump through memory, so nothing that is
//!   written to memory turns it aside; what it reads from there is only what the message says;
//! - no other handler runs on top of it: all signals are blocked meanwhile;
//! - nobody can replace it: no filter allows `rt_sigaction`;
//! - no step of it waits when it speaks to a supervisor.
//!
//! A thread that has `SIGSYS` blocked, or no stack for the handler, is ended by the kernel, with the signal
//! as the reason. So whoever starts a VMM knows of every violation; its name is what the VMM says, and
//! worth as much as anything that it says.
//!
//! The handlers of the Rust runtime for memory faults go too: they would be a way to live on, and could not
//! say their sentence in a jail.
#![allow(unsafe_code)]

mod names;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

pub use names::name;

/// Text where a signal's handler finds it.
#[repr(C)]
struct Text {
    start: *const u8,
    len: usize,
}

// SAFETY: all of them point to constants.
unsafe impl Sync for Text {}

impl Text {
    const fn new(text: &'static str) -> Self {
        Self {
            start: text.as_ptr(),
            len: text.len(),
        }
    }
}

/// What stands before the name of the call, for each role, and after it.
#[repr(C)]
struct Words {
    before: [Text; 4],
    after: Text,
}

/// The event for a supervisor: `FromVmm::Event(Event::Ended(Outcome::Violation(..)))`.
static EVENT: Words = Words {
    before: [
        Text::new(r#"{"event":{"ended":{"violation":{"thread":"main","syscall":""#),
        Text::new(r#"{"event":{"ended":{"violation":{"thread":"vcpu","syscall":""#),
        Text::new(r#"{"event":{"ended":{"violation":{"thread":"block","syscall":""#),
        Text::new(""),
    ],
    after: Text::new(r#""}}}}"#),
};

/// The line for a person.
static LINE: Words = Words {
    before: [
        Text::new("msb-vmm: VIOLATION: the main thread called "),
        Text::new("msb-vmm: VIOLATION: a vcpu thread called "),
        Text::new("msb-vmm: VIOLATION: a block thread called "),
        Text::new(""),
    ],
    after: Text::new(", which the jail forbids\n"),
};

/// What the handler says.
static WORDS: AtomicPtr<Words> = AtomicPtr::new((&raw const LINE).cast_mut());
/// Where it says it.
static TO: AtomicI32 = AtomicI32::new(STDERR);
const STDERR: i32 = 2;

/// From now on a violation of any thread ends the process, and is told to the supervisor on this socket or
/// else said on standard error. The descriptor must stay open for as long as the process lives.
pub fn install(supervisor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let (words, to) = match supervisor {
        Some(socket) => (&raw const EVENT, socket.as_raw_fd()),
        None => (&raw const LINE, STDERR),
    };
    WORDS.store(words.cast_mut(), Ordering::SeqCst);
    TO.store(to, Ordering::SeqCst);
    for fault in [libc::SIGSEGV, libc::SIGBUS] {
        set(fault, libc::SIG_DFL)?;
    }
    // A disk that grows past the limit of files is an error, not an end.
    set(libc::SIGXFSZ, libc::SIG_IGN)?;
    set(libc::SIGSYS, x86_64::handler())
}

fn set(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all fields are integers, pointers or an optional function, for which zero is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // All of them: `sigfillset` leaves out what the C library uses itself.
    // SAFETY: to the kernel all bits of the set are signals; it is this function's own.
    unsafe { (&raw mut action.sa_mask).write_bytes(0xff, 1) };
    // SAFETY: the handler is one of the three above; ours never returns and touches nothing but its own
    // stack. `action` is read only.
    match unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use msb_vmapi::{Event, FromVmm, Outcome, ThreadRole, Violation};

    fn text(text: &Text) -> &'static str {
        // SAFETY: made of a constant of that length.
        let bytes = unsafe { std::slice::from_raw_parts(text.start, text.len) };
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_last_word_is_an_event() {
        let roles = [ThreadRole::Main, ThreadRole::Vcpu, ThreadRole::Block];
        for (before, thread) in EVENT.before.iter().zip(roles) {
            let word = format!("{}execve{}", text(before), text(&EVENT.after));
            let violation = Violation {
                thread,
                syscall: "execve".to_owned(),
            };
            assert_eq!(
                serde_json::from_str::<FromVmm>(&word).unwrap(),
                FromVmm::Event(Event::Ended(Outcome::Violation(violation)))
            );
        }
    }
}
