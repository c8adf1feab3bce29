//! What the host cannot serve, on its way from a disk's thread to whoever controls the machine.

use std::io;

use vmm_virtio::block::HostErrors;

use crate::event_loop::Mailbox;
use crate::message::Message;

/// Tells the main loop of one disk.
#[derive(Debug)]
pub(super) struct DiskTrouble {
    main: Mailbox<Message>,
    disk: usize,
}

impl DiskTrouble {
    pub(super) fn new(main: Mailbox<Message>, disk: usize) -> Self {
        Self { main, disk }
    }
}

impl HostErrors for DiskTrouble {
    fn heard(&mut self, error: &io::Error) {
        let message = Message::DiskFailed {
            disk: self.disk,
            error: error.to_string(),
        };
        // A machine that is over has nobody to tell.
        let _ = self.main.post(message);
    }
}
