//! The boot conversation: the guest's agent calls, is told how to boot, and stays on
//! the line for as long as the machine runs.

use std::os::fd::OwnedFd;
use std::time::Duration;

use msb_protocol::{
    BootRequest, BootStage as AgentStage, Features, GuestMessage, HostMessage, Root, Setting,
};
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
    if let Some(lacks) = lacks(features, &messages) {
        let error = BootError::new(
            BootStage::Agent,
            BootErrorKind::Protocol,
            format!(
                "the guest's agent knows nothing of {lacks}; use a guest initramfs of this release"
            ),
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

/// What the messages ask for and a guest with these features cannot do.
fn lacks(features: Features, messages: &[HostMessage]) -> Option<&'static str> {
    messages.iter().find_map(|message| match message {
        HostMessage::Setting(_) if !features.has(Features::SETTINGS) => {
            Some("mounts, scripts, profiles or inits")
        }
        HostMessage::Boot(BootRequest {
            root: Root::Overlay { .. },
            ..
        }) if !features.has(Features::OVERLAY) => Some("a root of two disks"),
        HostMessage::Boot(BootRequest {
            root: Root::Mapped { .. },
            ..
        }) if !features.has(Features::MAPPED) => Some("a root that is mapped into its memory"),
        _ => None,
    })
}

fn failure(error: &ConversationError) -> BootError {
    BootError::new(BootStage::Agent, BootErrorKind::Protocol, chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_agent_is_not_asked_for_what_it_does_not_know() {
        let boot = |root| {
            HostMessage::Boot(BootRequest {
                root,
                hostname: None,
                env: Vec::new(),
            })
        };
        let overlay = Root::Overlay {
            lower: "root".into(),
            fstype: None,
            upper: "upper".into(),
        };
        let messages = [HostMessage::Setting(Setting::Restricted), boot(overlay)];
        assert_eq!(lacks(Features::SUPPORTED, &messages), None);
        let older = lacks(Features::SETTINGS, &messages);
        assert_eq!(older, Some("a root of two disks"));
        let oldest = lacks(Features(0), &messages).unwrap();
        assert!(oldest.starts_with("mounts"));
        assert_eq!(lacks(Features(0), &[boot(Root::Initramfs)]), None);
        let mapped = Root::Mapped {
            lower: "/dev/pmem0".into(),
            fstype: None,
            upper: "upper".into(),
        };
        let mapped = [boot(mapped)];
        assert_eq!(lacks(Features::SUPPORTED, &mapped), None);
        assert!(
            lacks(Features::OVERLAY, &mapped)
                .unwrap()
                .contains("mapped")
        );
    }
}
