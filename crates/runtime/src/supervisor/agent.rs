//! The boot conversation: the guest's agent calls, is told how to boot, and stays on
//! the line for as long as the machine runs.

use std::os::fd::OwnedFd;
use std::time::Duration;

use msb_protocol::{BootStage as AgentStage, Features, GuestMessage, HostMessage, Setting};
use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
use msb_runtime::chain::chain;
use msb_runtime::conversation::{Conversation, ConversationError};
use tokio::net::UnixStream;

use super::clock::unix_ns;
use super::event::{Event, Events};

/// How long a guest that asks may take to have room for the answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Holds the conversation on `socket`, the connection the guest made, and opens it with `messages`.
pub(crate) fn serve(
    socket: OwnedFd,
    messages: Vec<HostMessage>,
    deadline: Duration,
    events: Events,
) {
    tokio::spawn(async move {
        let event = match converse(socket, messages, deadline, &events).await {
            Ok(()) | Err(ConversationError::Closed) => Event::AgentGone,
            Err(error) => Event::AgentFailed(failure(&error)),
        };
        let _ = events.send(event).await;
    });
}

async fn converse(
    socket: OwnedFd,
    messages: Vec<HostMessage>,
    deadline: Duration,
    events: &Events,
) -> Result<(), ConversationError> {
    let stream = std::os::unix::net::UnixStream::from(socket);
    stream.set_nonblocking(true)?;
    let mut conversation = Conversation::accept(UnixStream::from_std(stream)?, deadline).await?;
    let features = conversation.session.features;
    if messages.len() > 1 && !features.has(Features::SETTINGS) {
        let error = BootError::new(
            BootStage::Agent,
            BootErrorKind::Protocol,
            "the guest's agent knows nothing of mounts, scripts, profiles or inits; use a guest \
             initramfs of this release",
        );
        let _ = events.send(Event::AgentFailed(error)).await;
        return Ok(());
    }
    for message in messages {
        conversation.speaker.send(&message).await?;
    }
    loop {
        let event = match conversation.listener.next().await? {
            GuestMessage::Ready(ready) => {
                Event::AgentReady(ready, conversation.speaker.clone(), features)
            }
            // Answered here and at once: an answer that waits is worth less.
            GuestMessage::ClockAsked { id } => {
                let unix_ns = unix_ns();
                let answer = HostMessage::Setting(Setting::Clock { id, unix_ns });
                let sent = tokio::time::timeout(ANSWER, conversation.speaker.send(&answer)).await;
                sent.unwrap_or(Err(ConversationError::Timeout(ANSWER)))?;
                continue;
            }
            GuestMessage::BootFailed(failure) => Event::AgentFailed(BootError::new(
                match failure.stage {
                    AgentStage::Init => BootStage::Init,
                    _ => BootStage::Agent,
                },
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
