//! The boot conversation: the guest's agent calls, is told how to boot, and stays on
//! the line for as long as the machine runs.

use std::os::fd::OwnedFd;
use std::time::Duration;

use msb_protocol::{BootRequest, GuestMessage, HostMessage};
use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
use msb_runtime::chain::chain;
use msb_runtime::conversation::{Conversation, ConversationError};
use tokio::net::UnixStream;

use super::event::{Event, Events};

/// Holds the conversation on `socket`, the connection the guest made.
pub(crate) fn serve(socket: OwnedFd, request: BootRequest, deadline: Duration, events: Events) {
    tokio::spawn(async move {
        let event = match converse(socket, request, deadline, &events).await {
            Ok(()) | Err(ConversationError::Closed) => Event::AgentGone,
            Err(error) => Event::AgentFailed(failure(&error)),
        };
        let _ = events.send(event).await;
    });
}

async fn converse(
    socket: OwnedFd,
    request: BootRequest,
    deadline: Duration,
    events: &Events,
) -> Result<(), ConversationError> {
    let stream = std::os::unix::net::UnixStream::from(socket);
    stream.set_nonblocking(true)?;
    let mut conversation = Conversation::accept(UnixStream::from_std(stream)?, deadline).await?;
    conversation
        .speaker
        .send(&HostMessage::Boot(request))
        .await?;
    loop {
        let event = match conversation.listener.next().await? {
            GuestMessage::Ready(ready) => Event::AgentReady(ready, conversation.speaker.clone()),
            GuestMessage::BootFailed(failure) => Event::AgentFailed(BootError::new(
                BootStage::Agent,
                BootErrorKind::GuestBoot,
                match failure.errno {
                    Some(errno) => format!("{} (errno {errno})", failure.message),
                    None => failure.message,
                },
            )),
            _ => return Err(ConversationError::OutOfTurn),
        };
        if events.send(event).await.is_err() {
            return Ok(());
        }
    }
}

fn failure(error: &ConversationError) -> BootError {
    BootError::new(BootStage::Agent, BootErrorKind::Protocol, chain(error))
}
