//! vCPU threads: enter the guest, do what it wants of the outside, enter again; and stay outside for as
//! long as the machine is paused.

mod orders;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use msb_vmapi::{CrashCause, ErrorKind, Outcome, VmError};

use crate::bus::Bus;
use crate::clock;
use crate::cpu_time::CpuClock;
use crate::ending::Ending;
use crate::event_loop::Mailbox;
use crate::jail::Cell;
use crate::kvm::kick::{self, Armed};
use crate::kvm::{Exit, Vcpu};
use crate::message::Message;

use orders::Orders;
pub use orders::PauseNumber;

/// Stack of a vCPU thread: it only dispatches. Pages that are not used cost nothing.
const STACK: usize = 256 << 10;

/// What a vCPU sees of the machine.
#[derive(Clone, Debug)]
pub struct Outside {
    /// What is at addresses without memory.
    pub mmio: Arc<Bus>,
    /// What is at the I/O ports.
    pub ports: Arc<Bus>,
    /// How it all ends.
    pub ending: Ending,
    /// Where to say that the guest was entered, and that it was left for a pause.
    pub main: Mailbox<Message>,
}

#[derive(Debug)]
struct VcpuThread {
    thread: JoinHandle<()>,
    orders: Orders,
    cpu_clock: CpuClock,
}

/// The threads of all vCPUs. Dropping stops them.
#[derive(Debug, Default)]
pub struct VcpuThreads {
    threads: Vec<VcpuThread>,
}

impl VcpuThreads {
    /// Starts one more. It locks itself in `cell` first, if there is one, and does not enter the guest before
    /// [`VcpuThreads::resume`].
    pub fn start(&mut self, vcpu: Vcpu, outside: Outside, cell: Option<Cell>) -> io::Result<()> {
        let orders = Orders::new();
        let theirs = orders.clone();
        let thread = std::thread::Builder::new()
            .name(format!("vcpu{}", vcpu.id()))
            .stack_size(STACK)
            .spawn(move || {
                if cell.is_none_or(Cell::enter) {
                    theirs.wait_to_begin();
                    run(vcpu, &outside, &theirs);
                }
            })?;
        self.threads.push(VcpuThread {
            cpu_clock: CpuClock::of(&thread),
            thread,
            orders,
        });
        Ok(())
    }

    /// Tells all to leave the guest. Each says [`Message::OutOfGuest`] when it has.
    pub fn pause(&self, number: PauseNumber) {
        for vcpu in &self.threads {
            vcpu.orders.pause(number);
            kick::kick(&vcpu.thread);
        }
    }

    /// Lets all into the guest, for the first time or again.
    pub fn resume(&self) {
        for vcpu in &self.threads {
            vcpu.orders.run();
        }
    }

    /// CPU time of all of them, in nanoseconds. None of them notices.
    pub fn cpu_time_ns(&mut self) -> u64 {
        let times = self.threads.iter_mut().map(|vcpu| vcpu.cpu_clock.read());
        times.fold(0, u64::saturating_add)
    }

    /// Takes all out of the guest and waits for their end. The machine must be over.
    pub fn stop(&mut self) {
        for vcpu in &self.threads {
            // One that is paused comes to see that it is over.
            vcpu.orders.run();
            kick::kick(&vcpu.thread);
        }
        for vcpu in self.threads.drain(..) {
            // A panic there was reported when it happened.
            let _ = vcpu.thread.join();
        }
    }
}

impl Drop for VcpuThreads {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(mut vcpu: Vcpu, outside: &Outside, orders: &Orders) {
    if vcpu.id() == 0 {
        // If the loop has ended, so has the machine.
        let _ = outside.main.post(Message::Booted(clock::monotonic_ns()));
    }
    let mut vcpu = Armed::new(&mut vcpu);
    // A kick before this reached nobody.
    obey(orders, &vcpu, outside);
    while !outside.ending.is_over() {
        match vcpu.run() {
            Exit::MmioRead(address, out) => outside.mmio.read(address, out),
            Exit::MmioWrite(address, bytes) => outside.mmio.write(address, bytes),
            Exit::PortRead(port, out) => outside.ports.read(port, out),
            Exit::PortWrite(port, bytes) => outside.ports.write(port, bytes),
            // Orders are looked at nowhere else: only here has KVM finished the access that the
            // guest was left for before, so that a paused vCPU's state is whole.
            Exit::Interrupted => {
                vcpu.clear();
                obey(orders, &vcpu, outside);
            }
            Exit::Other => {}
            Exit::TripleFault => outside.ending.end(Outcome::Crash(CrashCause::TripleFault)),
            Exit::MemoryLost(address) => outside.ending.end(memory_lost(address)),
            Exit::Failed(why) => outside.ending.end(Outcome::Crash(CrashCause::Vcpu(why))),
        }
    }
}

/// The end of a machine whose guest wants a page that the host no longer has. It is nothing that a guest does.
fn memory_lost(address: Option<u64>) -> Outcome {
    let at = address.map_or_else(String::new, |address| format!(" at {address:#x}"));
    Outcome::Error(VmError {
        kind: ErrorKind::Host,
        message: format!(
            "the host cannot give the guest the page{at} that it wants: a file of a mapped disk was cut short or \
             cannot be read, or the host's memory is failing"
        ),
    })
}

/// Stays outside for as long as that is the order.
fn obey(orders: &Orders, vcpu: &Armed<'_>, outside: &Outside) {
    let was_paused = orders.obey(|number| {
        // If the loop has ended, so has the machine.
        let _ = outside.main.post(Message::OutOfGuest(number));
    });
    if was_paused && !outside.ending.is_over() {
        vcpu.tell_of_pause();
    }
}
