//! What the monitor is still to be told, in order and within bounds.
//!
//! Output that finds no room is not kept. Where it is missing stands an
//! [`GuestMessage::OutputDropped`] that counts it, one for however much in a row of one
//! session, so that the gap is told in its place and nothing has to be remembered
//! elsewhere:
//!
//! ```text
//! started 1 │ output 1 │ output 2 │ dropped 1: 70000 │ dropped 2: 5 │ ended 2 │ …
//!                                   └ grows while nothing else of 1 comes
//! ```
//!
//! A gap follows something of its session that is still here, or its session lives, so
//! there are never more gaps than outputs and sessions. Starts and ends are not output and
//! are never left out: a reader that makes even them pile up has lost the thread, and is
//! told what is here and no more.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use msb_protocol::{Exit, GuestMessage, OutputSource};

/// The most bytes of output that wait.
pub(super) const BYTES_MAX: usize = 1024 * 1024;

/// The most pieces of output that wait, since each costs memory beside its bytes.
pub(super) const OUTPUTS_MAX: usize = 4096;

/// The most memory that starts and ends take. Of commands with short names that is some
/// ten thousand, which came and went while the monitor read nothing.
const NOTICES_MAX: usize = 2 * 1024 * 1024;

/// Entries for which room is kept when all have been told.
const IDLE_CAPACITY: usize = 64;

/// Messages that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<GuestMessage>,
    /// How many entries were taken out: the front one's number.
    taken: u64,
    /// Pieces of output among the entries, and their bytes.
    outputs: usize,
    bytes: usize,
    /// Memory of the starts and ends among the entries.
    notices: usize,
    /// Sessions that have started and not ended, each with the number of the gap that was
    /// the last entry of it, if it is still here.
    sessions: HashMap<u64, Option<u64>>,
    overrun: bool,
}

impl Queue {
    /// A session's command runs.
    pub(super) fn started(&mut self, session: u64, pid: u32, program: String) {
        let message = GuestMessage::SessionStarted {
            session,
            pid,
            program,
        };
        if self.notice(message) {
            self.sessions.insert(session, None);
        }
    }

    /// Its command ended. Says nothing of a session that did not start, or has ended.
    pub(super) fn ended(&mut self, session: u64, exit: Exit) {
        if self.sessions.remove(&session).is_some() {
            self.notice(GuestMessage::SessionEnded { session, exit });
        }
    }

    /// A session that started wrote something.
    pub(super) fn output(&mut self, session: u64, source: OutputSource, data: &Bytes) {
        if self.overrun {
            return;
        }
        let end = self.taken + number(self.entries.len());
        let Some(gap) = self.sessions.get_mut(&session) else {
            return;
        };
        if self.outputs < OUTPUTS_MAX && self.bytes + data.len() <= BYTES_MAX {
            *gap = None;
            self.outputs += 1;
            self.bytes += data.len();
            self.entries.push_back(GuestMessage::SessionOutput {
                session,
                source,
                data: data.clone(),
            });
            return;
        }
        let missing = number(data.len());
        let open = gap
            .and_then(|at| usize::try_from(at - self.taken).ok())
            .and_then(|index| self.entries.get_mut(index));
        if let Some(GuestMessage::OutputDropped { bytes, .. }) = open {
            *bytes += missing;
        } else {
            *gap = Some(end);
            let bytes = missing;
            self.entries
                .push_back(GuestMessage::OutputDropped { session, bytes });
        }
    }

    /// Takes out what is to be told next.
    pub(super) fn pop(&mut self) -> Option<GuestMessage> {
        let message = self.entries.pop_front()?;
        let at = self.taken;
        self.taken += 1;
        match &message {
            GuestMessage::SessionOutput { data, .. } => {
                self.outputs -= 1;
                self.bytes -= data.len();
            }
            GuestMessage::OutputDropped { session, .. } => {
                if let Some(gap) = self.sessions.get_mut(session)
                    && *gap == Some(at)
                {
                    *gap = None;
                }
            }
            notice => self.notices -= memory(notice),
        }
        if self.entries.is_empty() {
            self.entries.shrink_to(IDLE_CAPACITY);
        }
        Some(message)
    }

    /// Whether every session's end is here or was told.
    pub(super) fn all_ended(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Whether nothing more is taken, because too much waits already.
    pub(super) fn overrun(&self) -> bool {
        self.overrun
    }

    fn notice(&mut self, message: GuestMessage) -> bool {
        let memory = memory(&message);
        if self.overrun || self.notices + memory > NOTICES_MAX {
            self.overrun = true;
            return false;
        }
        self.notices += memory;
        self.entries.push_back(message);
        true
    }
}

/// What a start or an end takes.
fn memory(notice: &GuestMessage) -> usize {
    let name = match notice {
        GuestMessage::SessionStarted { program, .. } => program.len(),
        _ => 0,
    };
    size_of::<GuestMessage>() + name
}

/// Lengths are no wider than 64 bits.
fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
