//! One operation's conversation with the agent.
//!
//! Every wait in it has a deadline, and whatever the guest says brings its end nearer: data and
//! entries fill up a limit, credit is never more than what was sent, and signs of life are
//! counted. Dropping it closes the connection, which ends the operation in the guest.

use std::time::Duration;

use msb_protocol::{
    FsAnswer, FsCall, FsPart, FsRequest, GuestMessage, HostMessage, INITIAL_FS_WINDOW,
};
use msb_runtime::conversation::{Conversation, ConversationError, Listener, Speaker};
use tokio::time::{Instant, timeout_at};

use super::error::{FsError, FsSide};
use crate::error::{MicrosandboxError, MicrosandboxResult};

/// The most signs of life in one operation: one in five seconds, for a day.
const SIGNS_OF_LIFE: u32 = 24 * 60 * 60 / 5;

/// The conversation.
#[derive(Debug)]
pub(super) struct Call {
    speaker: Speaker,
    listener: Listener,
    /// How long the guest may say nothing.
    stall: Duration,
    /// What may be sent now.
    window: u32,
    signs_left: u32,
}

/// The guest said what has no place there.
pub(super) fn out_of_turn() -> MicrosandboxError {
    ConversationError::OutOfTurn.into()
}

impl Call {
    /// Makes the request.
    pub(super) async fn open(
        conversation: Conversation,
        request: FsRequest,
        stall: Duration,
    ) -> MicrosandboxResult<Self> {
        let Conversation {
            speaker, listener, ..
        } = conversation;
        let mut call = Self {
            speaker,
            listener,
            stall,
            window: INITIAL_FS_WINDOW,
            signs_left: SIGNS_OF_LIFE,
        };
        call.send(FsCall::Open(request)).await?;
        Ok(call)
    }

    /// Waits until the guest has opened what is worked on.
    pub(super) async fn opened(&mut self) -> MicrosandboxResult<()> {
        match self.next().await? {
            FsAnswer::Opened => Ok(()),
            _ => Err(out_of_turn()),
        }
    }

    /// The one answer, which is to come soon.
    pub(super) async fn single(&mut self) -> MicrosandboxResult<FsAnswer> {
        let deadline = Instant::now() + self.stall;
        self.answer(deadline).await
    }

    /// Waits until it is done.
    pub(super) async fn done(&mut self) -> MicrosandboxResult<()> {
        match self.next().await? {
            FsAnswer::Done => Ok(()),
            _ => Err(out_of_turn()),
        }
    }

    /// The next answer that is neither credit nor a sign of life. Cancel-safe.
    pub(super) async fn next(&mut self) -> MicrosandboxResult<FsAnswer> {
        loop {
            if let Some(answer) = self.hear().await? {
                return Ok(answer);
            }
        }
    }

    /// Sends a part, once the guest has room for it.
    pub(super) async fn part(&mut self, part: FsPart) -> MicrosandboxResult<()> {
        let cost = part.cost();
        loop {
            if let Some(left) = self.window.checked_sub(cost) {
                self.window = left;
                return self.send(FsCall::Part(part)).await;
            }
            if self.hear().await?.is_some() {
                return Err(out_of_turn());
            }
        }
    }

    /// Takes what comes next; `None` if that was credit or a sign of life.
    async fn hear(&mut self) -> MicrosandboxResult<Option<FsAnswer>> {
        let deadline = Instant::now() + self.stall;
        match self.answer(deadline).await? {
            FsAnswer::Working => {
                let left = self.signs_left.checked_sub(1);
                self.signs_left = left.ok_or_else(out_of_turn)?;
            }
            FsAnswer::Consumed(cost) => self.widen(cost)?,
            answer => return Ok(Some(answer)),
        }
        Ok(None)
    }

    /// Says that this was all, and waits until it is done.
    pub(super) async fn finish(&mut self) -> MicrosandboxResult<()> {
        self.send(FsCall::Finish).await?;
        self.done().await
    }

    /// The guest cannot have taken more than was sent.
    fn widen(&mut self, cost: u32) -> MicrosandboxResult<()> {
        let window = self.window.checked_add(cost);
        self.window = window
            .filter(|window| cost > 0 && *window <= INITIAL_FS_WINDOW)
            .ok_or_else(out_of_turn)?;
        Ok(())
    }

    async fn answer(&mut self, deadline: Instant) -> MicrosandboxResult<FsAnswer> {
        let Ok(next) = timeout_at(deadline, self.listener.next()).await else {
            return Err(ConversationError::Timeout(self.stall).into());
        };
        match next? {
            GuestMessage::Fs(FsAnswer::Failed(failure)) => {
                Err(FsError::of(failure, FsSide::Guest).into())
            }
            GuestMessage::Fs(answer) => Ok(answer),
            GuestMessage::Refused(refusal) => {
                Err(ConversationError::RefusedByAgent(refusal).into())
            }
            _ => Err(out_of_turn()),
        }
    }

    async fn send(&mut self, call: FsCall) -> MicrosandboxResult<()> {
        let deadline = Instant::now() + self.stall;
        let message = HostMessage::Fs(call);
        let sent = match timeout_at(deadline, self.speaker.send(&message)).await {
            Ok(sent) => sent.map_err(MicrosandboxError::from),
            Err(_) => return Err(ConversationError::Timeout(self.stall).into()),
        };
        match sent {
            Ok(()) => Ok(()),
            // A guest that closed has said why, if it keeps to the protocol.
            Err(error) => match self.next().await {
                Err(why @ MicrosandboxError::SandboxFsOps(_)) => Err(why),
                Err(MicrosandboxError::Protocol(why @ ConversationError::RefusedByAgent(_))) => {
                    Err(why.into())
                }
                _ => Err(error),
            },
        }
    }
}
