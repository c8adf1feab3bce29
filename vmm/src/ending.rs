//! The end of a machine: whoever causes it first says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use msb_vmapi::Outcome;

use crate::event_loop::Mailbox;
use crate::message::Message;

/// Shared by all that can end the machine.
#[derive(Clone, Debug)]
pub struct Ending {
    over: Arc<AtomicBool>,
    main: Mailbox<Message>,
}

impl Ending {
    /// The end of the machine whose main loop has this mailbox.
    pub fn new(main: Mailbox<Message>) -> Self {
        Self {
            over: Arc::new(AtomicBool::new(false)),
            main,
        }
    }

    /// Ends the machine. Only the first reason counts.
    pub fn end(&self, outcome: Outcome) {
        if !self.over.swap(true, Ordering::SeqCst) {
            // If the loop has ended, so has the machine.
            let _ = self.main.post(Message::End(outcome));
        }
    }

    /// Whether no vCPU may enter the guest any more.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}
