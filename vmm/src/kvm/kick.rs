//! Getting a vCPU thread out of the guest, without a window in which the request is lost.
//!
//! A signal makes `KVM_RUN` return. One that arrives just before the call would be lost, so the
//! handler also sets the flag in the shared page that makes the next `KVM_RUN` return at once.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ptr::null_mut;
use std::thread::JoinHandle;

use kvm_bindings::kvm_run;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use super::Vcpu;

thread_local! {
    /// This thread's vCPU's shared page. Constant initialisation, no destructor: a signal handler
    /// may read it at any moment.
    static RUN: Cell<*mut kvm_run> = const { Cell::new(null_mut()) };
}

extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let run = RUN.get();
    if !run.is_null() {
        // SAFETY: the page is mapped for as long as `Armed` lives, which clears `RUN` when dropped on
        // this thread.
        let flag = unsafe { &raw mut (*run).immediate_exit };
        // SAFETY: as above; one byte, which the kernel reads and this thread's handler writes.
        unsafe { flag.write_volatile(1) };
    }
}

/// Lets vCPU threads be kicked. Once for each process is enough; more do no harm.
pub fn install() -> std::io::Result<()> {
    register_signal_handler(SIGRTMIN(), on_kick)
        .map_err(|error| std::io::Error::from_raw_os_error(error.errno()))
}

/// Makes a thread leave the guest, soon.
pub fn kick<T>(thread: &JoinHandle<T>) {
    // It fails only for a thread that has ended.
    let _ = thread.kill(SIGRTMIN());
}

/// A vCPU that the calling thread runs and that kicks reach.
#[derive(Debug)]
pub struct Armed<'a>(&'a mut Vcpu);

impl<'a> Armed<'a> {
    /// From now on a kick of this thread is one of this vCPU.
    pub fn new(vcpu: &'a mut Vcpu) -> Self {
        RUN.set(std::ptr::from_mut(vcpu.fd().get_kvm_run()));
        Self(vcpu)
    }

    /// Forgets kicks that have come. Whatever a kick is for is looked up after this, never before.
    pub fn clear(&mut self) {
        self.0.clear_kick();
    }

    /// Tells the guest that it was paused; call it before it is entered again.
    pub fn tell_of_pause(&self) {
        self.0.tell_of_pause();
    }

    /// Runs the guest until something is wanted of the host.
    pub fn run(&mut self) -> super::Exit<'_> {
        self.0.run()
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        RUN.set(null_mut());
    }
}
