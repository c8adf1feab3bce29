//! What becomes of a raw terminal when a signal ends the program, or suspends it.
//!
//! A terminal's modes belong to the terminal and outlive the program that set them. A destructor
//! puts them back when a program returns or panics, but SIGTERM runs no destructor: the user would be left
//! with a shell that echoes nothing. So for as long as the terminal is raw, the signals that end
//! a program have a handler that puts the modes back first and then lets the signal do what it would have
//! done. SIGTSTP is the same, but for coming back from it. SIGABRT is there for panics
//! that abort, and a function for `exit` for programs that call that. Nothing helps against SIGKILL.
//!
//! Handlers are written here, and not taken from a crate, because a library has to give them back: once
//! the attach is over, Ctrl-C must end the program again, or call the handler it had before. The
//! crates that share handlers between parts of a program never do that. A handler that the
//! program installs in the meantime may call ours as the one before it, for ever; then ours leaves
//! the decision to it.
//!
//! What a handler may do is little: no lock, no allocation. Here it loads atomics, makes system
//! calls, and dereferences one pointer, to what is freed only when no handler is at work.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize};
use std::sync::{Once, OnceLock};

use libc::{SIG_DFL, SIG_IGN, SIGABRT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, c_int, c_void};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, tcgetpgrp, tcsetattr};

use super::tty::again;

/// Those that have a handler while the terminal is raw.
const SIGNALS: [c_int; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGABRT, SIGTSTP];

/// The terminal that is raw now.
static SAVED: AtomicPtr<Saved> = AtomicPtr::new(ptr::null_mut());
/// How many are looking at [`SAVED`].
static LOOKING: AtomicUsize = AtomicUsize::new(0);
/// The signal that the program handled itself during this attach, or 0.
static HANDLED: AtomicI32 = AtomicI32::new(0);
/// What handlers wake the attach with; never closed.
static EVENT: OnceLock<OwnedFd> = OnceLock::new();
/// What handled each of [`SIGNALS`] before.
static BEFORE: [Before; SIGNALS.len()] = [const { Before::new() }; SIGNALS.len()];

#[derive(Debug)]
struct Saved {
    terminal: OwnedFd,
    modes: Termios,
    /// Whether the modes are to be put back.
    raw: AtomicBool,
}

impl Saved {
    /// Puts the modes back, once. They stay as they are when the terminal is another job's by now: the
    /// shell has put them back itself when it took the terminal from us.
    fn restore(&self) {
        if !self.raw.swap(false, SeqCst) {
            return;
        }
        if tcgetpgrp(&self.terminal).is_ok_and(|foreground| foreground != getpgrp()) {
            return;
        }
        // Not `Flush`: what was typed ahead is for whoever reads next. Nor `Drain`: it may never end.
        // A terminal that is gone needs no modes.
        let _ = again(|| tcsetattr(&self.terminal, OptionalActions::Now, &self.modes));
    }
}

#[derive(Debug)]
struct Before {
    /// Address of a handler, or [`SIG_DFL`].
    handler: AtomicUsize,
    /// Whether it takes three arguments.
    informed: AtomicBool,
    /// Whether a handler that came later may still call ours.
    chained: AtomicBool,
}

impl Before {
    const fn new() -> Self {
        Self {
            handler: AtomicUsize::new(SIG_DFL),
            informed: AtomicBool::new(false),
            chained: AtomicBool::new(false),
        }
    }
}

/// While this lives, the terminal's modes are safe. At most one is there at a time.
#[derive(Debug)]
pub(super) struct Watch {
    installed: Vec<(c_int, libc::sigaction)>,
}

impl Watch {
    /// Keeps `modes` to be put back on `terminal`. The caller sees to it that it is the only one.
    pub(super) fn begin(terminal: OwnedFd, modes: Termios) -> io::Result<Self> {
        event()?;
        HANDLED.store(0, SeqCst);
        let saved = Box::new(Saved {
            terminal,
            modes,
            raw: AtomicBool::new(false),
        });
        SAVED.store(Box::into_raw(saved), SeqCst);
        static AT_EXIT: Once = Once::new();
        // SAFETY: the function is one that may be called at any time.
        AT_EXIT.call_once(|| unsafe {
            // It fails for want of memory; then only `exit` goes without.
            libc::atexit(at_exit);
        });
        let mut watch = Self {
            installed: Vec::with_capacity(SIGNALS.len()),
        };
        for (signal, before) in SIGNALS.into_iter().zip(&BEFORE) {
            watch.install(signal, before)?;
        }
        Ok(watch)
    }

    fn install(&mut self, signal: c_int, before: &Before) -> io::Result<()> {
        let old = action(signal, None)?;
        if old.sa_sigaction == SIG_IGN || old.sa_sigaction == ours() {
            return Ok(());
        }
        if old.sa_sigaction == SIG_DFL {
            before.chained.store(false, SeqCst);
        } else if before.chained.load(SeqCst) {
            // It calls ours; with ours in front of it they would call each other for ever.
            return Ok(());
        }
        before
            .informed
            .store(old.sa_flags & libc::SA_SIGINFO != 0, SeqCst);
        before.handler.store(old.sa_sigaction, SeqCst);
        action(signal, Some(&our_action()))?;
        self.installed.push((signal, old));
        Ok(())
    }

    /// From now on the modes are to be put back.
    pub(super) fn raw(&self) {
        with_saved(|saved| saved.raw.store(true, SeqCst));
    }

    /// Puts the modes back.
    pub(super) fn restore(&self) {
        with_saved(Saved::restore);
    }

    /// The signal that came and that the program has handled itself.
    pub(super) fn handled(&self) -> Option<i32> {
        Some(HANDLED.load(SeqCst)).filter(|signal| *signal != 0)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.restore();
        for (signal, old) in &self.installed {
            match action(*signal, None) {
                Ok(now) if now.sa_sigaction == ours() => {
                    let _ = action(*signal, Some(old));
                }
                _ => {
                    if let Some(before) = before(*signal) {
                        before.chained.store(true, SeqCst);
                    }
                }
            }
        }
        let saved = SAVED.swap(ptr::null_mut(), SeqCst);
        // Handlers are short, except one that suspends, and then nobody is running.
        while LOOKING.load(SeqCst) > 0 {
            std::thread::yield_now();
        }
        if !saved.is_null() {
            // SAFETY: it was made by `Box::into_raw`, is out of everybody's reach, and nobody looks at it.
            drop(unsafe { Box::from_raw(saved) });
        }
    }
}

/// A descriptor that becomes readable when a handler has something to tell.
pub(super) fn news() -> io::Result<OwnedFd> {
    event()?.try_clone()
}

fn event() -> io::Result<&'static OwnedFd> {
    if let Some(event) = EVENT.get() {
        return Ok(event);
    }
    let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    Ok(EVENT.get_or_init(|| event))
}

fn before(signal: c_int) -> Option<&'static Before> {
    let position = SIGNALS.iter().position(|known| *known == signal)?;
    BEFORE.get(position)
}

fn with_saved<T>(look: impl FnOnce(&Saved) -> T) -> Option<T> {
    LOOKING.fetch_add(1, SeqCst);
    // SAFETY: it is null or from `Box::into_raw`; who frees it takes it away first and then waits until nobody
    // looks, which includes us.
    let saved = unsafe { SAVED.load(SeqCst).as_ref() };
    let result = saved.map(look);
    LOOKING.fetch_sub(1, SeqCst);
    result
}

/// The address by which the kernel knows our handler.
fn ours() -> usize {
    type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
    let handler: Handler = on_signal;
    handler as usize
}

fn our_action() -> libc::sigaction {
    let mut action = empty_action();
    action.sa_sigaction = ours();
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the mask is ours, and valid whatever it held.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    action
}

fn empty_action() -> libc::sigaction {
    // SAFETY: of zeros it is the default action with an empty mask.
    unsafe { std::mem::zeroed() }
}

/// What handles a signal now; `new` does from now on.
fn action(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut old = empty_action();
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both point to actions that live through the call; the one handler that is ever put in
    // is ours, or what was there before.
    match unsafe { libc::sigaction(signal, new, &raw mut old) } {
        0 => Ok(old),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn at_exit() {
    with_saved(Saved::restore);
}

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: it is the interrupted thread's own, whose code expects it untouched.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let kept = unsafe { *errno };
    handle(signal, info, context);
    // SAFETY: as above.
    unsafe { *errno = kept };
}

fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let attached = with_saved(Saved::restore).is_some();
    let Some(before) = before(signal) else { return };
    let handler = before.handler.load(SeqCst);
    if handler == SIG_DFL {
        // With another handler in front of ours it is that one's to decide what happens.
        let alone = action(signal, None).is_ok_and(|now| now.sa_sigaction == ours());
        if alone && signal != SIGTSTP {
            // It waits until this handler returns, and ends the program then.
            default_action(signal);
            return;
        }
        if alone {
            suspend();
        }
    } else {
        call(handler, before.informed.load(SeqCst), signal, info, context);
    }
    if attached {
        if signal != SIGTSTP {
            HANDLED.store(signal, SeqCst);
        }
        if let Some(event) = EVENT.get() {
            // It fails when it is full, which is news enough.
            let _ = rustix::io::write(event, &1u64.to_ne_bytes());
        }
    }
}

/// Does to this program what the signal does to one without a handler, as soon as it may come.
fn default_action(signal: c_int) {
    let _ = action(signal, Some(&empty_action()));
    // SAFETY: raising a signal asks nothing of memory.
    unsafe { libc::raise(signal) };
}

/// Suspends the program, and returns when it goes on.
fn suspend() {
    default_action(SIGTSTP);
    let mut mask = empty_action().sa_mask;
    // SAFETY: the mask is ours, and valid.
    unsafe { libc::sigemptyset(&raw mut mask) };
    // SAFETY: as above.
    unsafe { libc::sigaddset(&raw mut mask, SIGTSTP) };
    // SAFETY: as above. The program stops in here; what was blocked is again when the handler returns.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const mask, ptr::null_mut()) };
    let _ = action(SIGTSTP, Some(&our_action()));
}

/// Calls the handler that the program had before.
fn call(
    handler: usize,
    informed: bool,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    if informed {
        type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
        // SAFETY: the kernel gave this address as that of a handler of three arguments.
        let handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: the kernel gave this address as that of a handler of one argument.
        let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler) };
        handler(signal);
    }
}
