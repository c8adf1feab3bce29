//! A thread with an event loop for one device, whose system calls block.

use std::io;
use std::os::fd::AsFd;
use std::thread::JoinHandle;

use vmm_virtio::{Device, GuestRam, Interest, Irq, Register, Tag};

use crate::device_host::{DeviceHost, DeviceId};
use crate::event_loop::{EventLoop, Mailbox, SlotId};
use crate::jail::Cell;
use crate::message::Message;

/// Stack of a device's thread. Pages that are not used cost nothing.
const STACK: usize = 256 << 10;

/// The thread of one device.
#[derive(Debug)]
pub struct Worker {
    mailbox: Mailbox<Message>,
    thread: Option<JoinHandle<()>>,
}

struct Loop {
    events: EventLoop,
    host: DeviceHost,
    mailbox: Mailbox<Message>,
    mailbox_slot: SlotId,
}

impl Worker {
    /// Starts a thread for the device, which takes its commands from `mailbox`. It locks itself in `cell`
    /// first, if there is one.
    pub fn start(
        name: String,
        id: DeviceId,
        device: Box<dyn Device>,
        ram: GuestRam,
        irq: Irq,
        mailbox: Mailbox<Message>,
        cell: Option<Cell>,
    ) -> io::Result<Self> {
        let mut events = EventLoop::new()?;
        let mailbox_slot = events.slot()?;
        events
            .register(mailbox_slot)
            .add(mailbox.as_fd(), Interest::READABLE, Tag(0))?;
        let device_slot = events.slot()?;
        let mut host = DeviceHost::new(ram);
        host.adopt(id, device, device_slot, irq);
        let mut turn = Loop {
            events,
            host,
            mailbox: mailbox.clone(),
            mailbox_slot,
        };
        let thread = std::thread::Builder::new()
            .name(name)
            .stack_size(STACK)
            .spawn(move || {
                if cell.is_none_or(Cell::enter) {
                    turn.run();
                } else {
                    turn.mailbox.close();
                }
            })?;
        Ok(Self {
            mailbox,
            thread: Some(thread),
        })
    }

    /// Where the thread takes its messages.
    #[cfg(feature = "attacker")]
    pub(crate) fn mailbox(&self) -> Mailbox<Message> {
        self.mailbox.clone()
    }

    /// Asks the thread to stop its device and end.
    pub fn ask_to_end(&self) {
        // It may have ended by itself.
        let _ = self.mailbox.post(Message::End(msb_vmapi::Outcome::Killed));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.ask_to_end();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Loop {
    fn run(&mut self) {
        if let Err(error) = self.serve() {
            tracing::error!("a device's event loop failed: {error}");
        }
        // Who waits for an answer learns that none will come.
        self.mailbox.close();
        self.host.stop(&mut self.events);
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut tokens = Vec::new();
        loop {
            self.events.wait(&mut tokens)?;
            for token in tokens.drain(..) {
                if !self.events.is_current(token) {
                    continue;
                }
                if token.slot() != self.mailbox_slot {
                    self.host.event(&mut self.events, token.slot(), token.tag());
                    continue;
                }
                for message in self.mailbox.take() {
                    match message {
                        Message::Device(id, command) => {
                            self.host.command(&mut self.events, id, command);
                        }
                        Message::End(_) => return Ok(()),
                        #[cfg(feature = "attacker")]
                        Message::Attack(order) => crate::attacker::run(order),
                        Message::Booted(_)
                        | Message::DiskFailed { .. }
                        | Message::OutOfGuest(_)
                        | Message::Connection { .. } => {}
                    }
                }
            }
        }
    }
}
