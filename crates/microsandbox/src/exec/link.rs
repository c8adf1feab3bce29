//! What a command's handle, its controls, its sink and its pump share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use msb_protocol::{HostMessage, SessionCall};
use msb_runtime::conversation::{ConversationError, Speaker};
use tokio::sync::{Notify, Semaphore};

/// How long a short message to the agent may take to be said.
pub(crate) const SAY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the last word of a handle that could not say it at once is tried.
const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(5);

/// What a program may have taken of a command that ends with it before the agent is told: it
/// keeps that much in vain.
const ACK_STEP: u64 = 256 * 1024;

/// One command's conversation.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) session: u64,
    pub(crate) speaker: Speaker,
    /// Bytes of standard input that may be sent now; closed when nobody reads them.
    pub(crate) window: Arc<Semaphore>,
    /// Whether the agent knows of sessions that outlive their connections.
    pub(crate) lasting: bool,
    /// Whether the command lives on if this program ends.
    pub(crate) detachable: bool,
    /// Everything before this offset has been taken by the program.
    received: AtomicU64,
    /// And everything before this one it has dealt with, since it came for more.
    settled: AtomicU64,
    /// The agent was told of so much.
    acked: AtomicU64,
    /// The command has ended.
    over: AtomicBool,
    /// The program dealt with enough to tell the agent.
    pub(crate) taken: Notify,
}

impl Link {
    pub(crate) fn new(
        session: u64,
        speaker: Speaker,
        window: usize,
        lasting: bool,
        detachable: bool,
        offset: u64,
    ) -> Self {
        Self {
            session,
            speaker,
            window: Arc::new(Semaphore::new(window)),
            lasting,
            detachable,
            received: AtomicU64::new(offset),
            settled: AtomicU64::new(offset),
            acked: AtomicU64::new(offset),
            over: AtomicBool::new(false),
            taken: Notify::new(),
        }
    }

    /// Says something to the command, which may have ended meanwhile: then that is all.
    pub(crate) async fn say(&self, message: &HostMessage) -> Result<(), ConversationError> {
        if self.over.load(Ordering::Acquire) {
            return Ok(());
        }
        match tokio::time::timeout(SAY_TIMEOUT, self.speaker.send(message)).await {
            Ok(Err(_)) if self.over.load(Ordering::Acquire) => Ok(()),
            Ok(said) => said,
            Err(_) => Err(ConversationError::Timeout(SAY_TIMEOUT)),
        }
    }

    /// The command has ended.
    pub(crate) fn is_over(&self) {
        self.over.store(true, Ordering::Release);
        self.window.close();
    }

    /// The program has taken everything before `offset`.
    pub(crate) fn took(&self, offset: u64) {
        self.received.store(offset, Ordering::Release);
    }

    /// The program comes for more, so it has dealt with what it took.
    pub(crate) fn comes_for_more(&self) {
        let offset = self.received();
        self.settled.store(offset, Ordering::Release);
        let step = if self.detachable { 1 } else { ACK_STEP };
        if self.lasting && offset.saturating_sub(self.acked.load(Ordering::Acquire)) >= step {
            self.taken.notify_one();
        }
    }

    /// The offset up to which the program has taken everything.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// Tells the agent what the program has dealt with. If that cannot be said now, it will be with
    /// what is next.
    pub(crate) fn acknowledge(&self) {
        let offset = self.settled.load(Ordering::Acquire);
        if offset == self.acked.load(Ordering::Acquire) {
            return;
        }
        let received = SessionCall::Received { offset };
        if self.speaker.try_send(&received.into()) {
            self.acked.store(offset, Ordering::Release);
        }
    }

    /// Ends the conversation and with it the command, without waiting.
    pub(crate) fn end(&self) {
        self.window.close();
        let said = !self.lasting || self.speaker.try_send(&SessionCall::End.into());
        match tokio::runtime::Handle::try_current() {
            // The end of the connection alone would leave this command running.
            Ok(runtime) if !said && self.detachable => {
                let speaker = self.speaker.clone();
                runtime.spawn(async move {
                    let end = SessionCall::End.into();
                    let _ = tokio::time::timeout(LAST_WORD_TIMEOUT, speaker.send(&end)).await;
                    speaker.hang_up();
                });
            }
            _ => self.speaker.hang_up(),
        }
    }
}
