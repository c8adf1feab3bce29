//! vCPU threads: enter the guest, do what it wants of the outside, enter again.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use msb_vmapi::{CrashCause, Outcome};

use crate::bus::Bus;
use crate::clock;
use crate::ending::Ending;
use crate::event_loop::Mailbox;
use crate::kvm::kick::{self, Armed};
use crate::kvm::{Exit, Vcpu};
use crate::message::Message;

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
    /// Where to say that the guest was entered.
    pub main: Mailbox<Message>,
}

/// The threads of all vCPUs. Dropping stops them.
#[derive(Debug, Default)]
pub struct VcpuThreads {
    threads: Vec<JoinHandle<()>>,
}

impl VcpuThreads {
    /// Starts one more.
    pub fn start(&mut self, vcpu: Vcpu, outside: Outside) -> io::Result<()> {
        let thread = std::thread::Builder::new()
            .name(format!("vcpu{}", vcpu.id()))
            .stack_size(STACK)
            .spawn(move || run(vcpu, &outside))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Takes all out of the guest and waits for their end. The machine must be over.
    pub fn stop(&mut self) {
        for thread in &self.threads {
            kick::kick(thread);
        }
        for thread in self.threads.drain(..) {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for VcpuThreads {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(mut vcpu: Vcpu, outside: &Outside) {
    if vcpu.id() == 0 {
        // If the loop has ended, so has the machine.
        let _ = outside.main.post(Message::Booted(clock::monotonic_ns()));
    }
    let mut vcpu = Armed::new(&mut vcpu);
    while !outside.ending.is_over() {
        match vcpu.run() {
            Exit::MmioRead(address, out) => outside.mmio.read(address, out),
            Exit::MmioWrite(address, bytes) => outside.mmio.write(address, bytes),
            Exit::PortRead(port, out) => outside.ports.read(port, out),
            Exit::PortWrite(port, bytes) => outside.ports.write(port, bytes),
            Exit::Interrupted => vcpu.clear(),
            Exit::Other => {}
            Exit::TripleFault => outside.ending.end(Outcome::Crash(CrashCause::TripleFault)),
            Exit::Failed(why) => outside.ending.end(Outcome::Crash(CrashCause::Vcpu(why))),
        }
    }
}
