//! The devices of one event loop: starting, stopping and serving them as commands and events come.
//!
//! A device that breaks, because its guest broke a rule or the host failed it, is stopped and asks
//! its driver for a reset. That is all that happens, however often.

use std::fmt;
use std::sync::mpsc::{SyncSender, sync_channel};

use vmm_virtio::{Device, GuestRam, Irq, Live, Queue, Tag};

use crate::event_loop::{EventLoop, Mailbox, SlotId};
use crate::message::Message;
use crate::report::Limiter;
use crate::transport::DeviceControl;

/// A device's number among all of the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId(pub usize);

/// What a vCPU thread wants of a device.
#[derive(Debug)]
pub enum Command {
    /// The driver is ready: here are the queues.
    Start {
        /// Negotiated features.
        features: u64,
        /// The queues that the driver set up.
        queues: Vec<Queue>,
    },
    /// Let go of all guest memory, then say so.
    Reset {
        /// Where to say so. Dropping it says so too.
        done: SyncSender<()>,
    },
    /// The driver wrote to the configuration.
    ConfigWrite {
        /// Where.
        offset: u64,
        /// What; as many bytes as `len`.
        bytes: [u8; 8],
        /// How many bytes.
        len: usize,
    },
}

struct Hosted {
    id: DeviceId,
    device: Box<dyn Device>,
    slot: SlotId,
    irq: Irq,
    faults: Limiter,
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted")
            .field("id", &self.id)
            .field("name", &self.device.spec().name)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// The devices of one event loop.
#[derive(Debug)]
pub struct DeviceHost {
    ram: GuestRam,
    devices: Vec<Hosted>,
}

impl DeviceHost {
    /// No devices yet.
    pub fn new(ram: GuestRam) -> Self {
        Self {
            ram,
            devices: Vec::new(),
        }
    }

    /// Takes a device in.
    pub fn adopt(&mut self, id: DeviceId, device: Box<dyn Device>, slot: SlotId, irq: Irq) {
        self.devices.push(Hosted {
            id,
            device,
            slot,
            irq,
            faults: Limiter::default(),
        });
    }

    /// Does what a vCPU thread asked for.
    pub fn command(&mut self, events: &mut EventLoop, id: DeviceId, command: Command) {
        let Some(hosted) = self.devices.iter_mut().find(|hosted| hosted.id == id) else {
            return;
        };
        match command {
            Command::Start { features, queues } => {
                hosted.start(events, self.ram.clone(), features, queues);
            }
            Command::Reset { done } => {
                hosted.stop(events);
                // The vCPU that asked may be gone with its machine.
                let _ = done.try_send(());
            }
            Command::ConfigWrite { offset, bytes, len } => {
                let bytes = bytes.get(..len).unwrap_or_default();
                hosted.device.config_write(offset, bytes);
            }
        }
    }

    /// Hands an event on, if the slot is a device's here.
    pub fn event(&mut self, events: &mut EventLoop, slot: SlotId, tag: Tag) {
        if let Some(hosted) = self.devices.iter_mut().find(|hosted| hosted.slot == slot) {
            hosted.ready(events, tag);
        }
    }

    /// Stops all devices: what is in flight is finished or dropped.
    pub fn stop(&mut self, events: &mut EventLoop) {
        for hosted in &mut self.devices {
            hosted.stop(events);
        }
    }
}

impl Hosted {
    fn start(&mut self, events: &mut EventLoop, mem: GuestRam, features: u64, queues: Vec<Queue>) {
        let kicks: Vec<Tag> = queues.iter().map(|q| Tag::queue(q.index())).collect();
        let live = Live {
            mem,
            irq: self.irq.clone(),
            features,
            queues,
        };
        let started = self.device.start(live, &mut events.register(self.slot));
        if let Err(error) = started {
            self.broken(events, &error);
            return;
        }
        // Kicks from before the start have latched, and a device may have work without any.
        for tag in kicks {
            if !self.ready(events, tag) {
                return;
            }
        }
    }

    fn ready(&mut self, events: &mut EventLoop, tag: Tag) -> bool {
        let served = self.device.ready(tag, &mut events.register(self.slot));
        if let Err(error) = &served {
            self.broken(events, error);
        }
        served.is_ok()
    }

    fn stop(&mut self, events: &mut EventLoop) {
        events.forget(self.slot);
        drop(self.device.stop());
    }

    fn broken(&mut self, events: &mut EventLoop, error: &dyn std::error::Error) {
        self.stop(events);
        self.irq.needs_reset();
        if let Some(faults) = self.faults.count() {
            let name = self.device.spec().name;
            let cause = crate::report::chain(error);
            tracing::warn!(
                device = name,
                faults,
                "stopped until its driver resets it: {cause}"
            );
        }
    }
}

/// A device, as the transport sees it: through the mailbox of its loop.
#[derive(Debug)]
pub struct RemoteDevice {
    mailbox: Mailbox<Message>,
    id: DeviceId,
}

impl RemoteDevice {
    /// The device of that number, on the loop with that mailbox.
    pub fn new(mailbox: Mailbox<Message>, id: DeviceId) -> Self {
        Self { mailbox, id }
    }

    fn post(&self, command: Command) -> bool {
        self.mailbox.post(Message::Device(self.id, command)).is_ok()
    }
}

impl DeviceControl for RemoteDevice {
    fn start(&self, features: u64, queues: Vec<Queue>) -> bool {
        self.post(Command::Start { features, queues })
    }

    fn reset(&self) {
        let (done, wait) = sync_channel(1);
        // It ends: the loop answers, or drops the command unread when it ends.
        if self.post(Command::Reset { done }) {
            let _ = wait.recv();
        }
    }

    fn config_write(&self, offset: u64, bytes: &[u8]) {
        let mut copy = [0; 8];
        let len = bytes.len().min(copy.len());
        for (to, from) in copy.iter_mut().zip(bytes) {
            *to = *from;
        }
        let command = Command::ConfigWrite {
            offset,
            bytes: copy,
            len,
        };
        // A guest that writes faster than the loop reads loses writes.
        let _ = self.mailbox.offer(Message::Device(self.id, command));
    }
}

#[cfg(test)]
mod tests;
