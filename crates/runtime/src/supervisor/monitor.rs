//! The monitor conversation: the guest's agent copies what commands write and tells when they
//! begin and end. What a guest says here is believed only about itself.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use msb_protocol::{GuestMessage, OutputSource};
use msb_runtime::conversation::{Conversation, ConversationError};
use msb_runtime::logs::LogSource;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::event::{Event, Events};
use super::logger::{Piece, Pieces};

/// How long the agent may take to greet.
const GREETING: Duration = Duration::from_secs(30);

/// The most sessions that a guest is believed to have. Its agent allows fewer.
const MAX_SESSIONS: usize = 4096;

/// Holds the conversation on `socket`, the connection the guest made. The task ends when all that
/// the guest said is handed on.
pub(crate) fn serve(socket: OwnedFd, logs: Pieces, events: Events) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = converse(socket, &logs, &events).await {
            tracing::debug!(%error, "the monitor conversation ended");
        }
        let _ = events.send(Event::MonitorGone).await;
    })
}

async fn converse(
    socket: OwnedFd,
    logs: &Pieces,
    events: &Events,
) -> Result<(), ConversationError> {
    let stream = std::os::unix::net::UnixStream::from(socket);
    stream.set_nonblocking(true)?;
    let mut conversation = Conversation::accept(UnixStream::from_std(stream)?, GREETING).await?;
    let opened = Event::MonitorOpened(conversation.speaker.clone());
    if events.send(opened).await.is_err() {
        return Ok(());
    }
    let mut sessions = HashSet::new();
    loop {
        let piece = match conversation.listener.next().await? {
            GuestMessage::SessionStarted { session, .. } => {
                if sessions.len() < MAX_SESSIONS {
                    sessions.insert(session);
                }
                if events.send(Event::Sessions(sessions.len())).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            GuestMessage::SessionEnded { session, .. } => {
                sessions.remove(&session);
                if events.send(Event::Sessions(sessions.len())).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            GuestMessage::Sample(sample) => {
                if events.send(Event::Sample(sample)).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            GuestMessage::SessionOutput {
                session,
                source,
                data,
            } => Piece::output(session, log_source(source), data),
            GuestMessage::OutputDropped { session, bytes } => Piece::system(format!(
                "--- {bytes} bytes of session {session} are missing here: they came faster than \
                 they could be written ---"
            )),
            _ => return Err(ConversationError::OutOfTurn),
        };
        if logs.send(piece).await.is_err() {
            return Ok(());
        }
    }
}

fn log_source(source: OutputSource) -> LogSource {
    match source {
        OutputSource::Stderr => LogSource::Stderr,
        OutputSource::Terminal => LogSource::Output,
        _ => LogSource::Stdout,
    }
}
