//! Opening a command's conversation: a new command, or a session that is there.

use std::sync::Arc;
use std::time::Duration;

use msb_protocol::{
    ExecRequest, HostMessage, MessageType, SessionAttached, SessionCall, SessionStart, Stdin,
    ViewEvent, Viewer,
};
use msb_runtime::conversation::{Conversation, ConversationError, Speaker};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::handle::ExecHandle;
use super::link::{Link, SAY_TIMEOUT};
use super::pump::{self, Deadline, EVENT_QUEUE, News, Reader, permits};
use crate::error::{ExecFailed, MicrosandboxError, MicrosandboxResult};

/// How much longer than the program's timeout the agent lets a command run: it keeps the time too,
/// for a command whose program is gone, and must not be the first.
const AGENT_GRACE: Duration = Duration::from_secs(5);

/// A command to start.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) request: ExecRequest,
    pub(crate) detachable: bool,
    pub(crate) timeout: Option<Duration>,
}

/// Starts a command in a conversation with the agent, which is to end it at `deadline`.
pub(crate) async fn start(
    conversation: Conversation,
    start: Start,
    deadline: Option<Instant>,
) -> MicrosandboxResult<ExecHandle> {
    let lasting = conversation.session.understands(MessageType::Session);
    if start.detachable && !lasting {
        let kind = MessageType::Session;
        return Err(ConversationError::Unsupported { kind }.into());
    }
    let piped = start.request.stdin == Stdin::Pipe;
    let opening = match lasting {
        false => HostMessage::Exec(start.request),
        true => SessionCall::Start(SessionStart {
            exec: start.request,
            detachable: start.detachable,
            limit_ms: start.timeout.map(limit_ms),
        })
        .into(),
    };
    let (running, reader, speaker) = open(conversation, opening, Viewer::starting()).await?;
    let window = running.window.filter(|_| piped);
    let link = Link::new(
        running.session,
        speaker.keep(),
        permits(window.unwrap_or(0)),
        lasting,
        start.detachable,
        running.offset,
    );
    let deadline = deadline
        .zip(start.timeout)
        .map(|(at, timeout)| Deadline { at, timeout });
    Ok(handle(link, running.pid, piped, reader, deadline))
}

/// Goes on with a session that nobody views.
pub(crate) async fn attach(
    conversation: Conversation,
    session: u64,
) -> MicrosandboxResult<ExecHandle> {
    let opening = SessionCall::Attach { session }.into();
    let (running, reader, speaker) = open(conversation, opening, Viewer::attaching()).await?;
    let link = Link::new(
        running.session,
        speaker.keep(),
        permits(running.window.unwrap_or(0)),
        true,
        true,
        running.offset,
    );
    let piped = running.window.is_some();
    Ok(handle(link, running.pid, piped, reader, None))
}

fn handle(
    link: Link,
    pid: u32,
    piped: bool,
    reader: Reader,
    deadline: Option<Deadline>,
) -> ExecHandle {
    let (news, queue) = mpsc::channel::<News>(EVENT_QUEUE);
    let link = Arc::new(link);
    let task = tokio::spawn(pump::pump(reader, news, Arc::clone(&link), deadline));
    ExecHandle::new(link, pid, piped, queue, task)
}

/// Makes the request, and waits for the command to run.
async fn open(
    conversation: Conversation,
    opening: HostMessage,
    mut viewer: Viewer,
) -> MicrosandboxResult<(SessionAttached, Reader, HangUp)> {
    let Conversation {
        speaker,
        mut listener,
        ..
    } = conversation;
    // Until the handle exists, dropping this future must end what it started, and nothing else.
    let hang_up = HangUp {
        speaker,
        started: viewer.starts(),
        kept: false,
    };
    let asking = async {
        hang_up.speaker.send(&opening).await?;
        Ok(viewer.take(listener.next().await?)?)
    };
    let answer: Result<ViewEvent, ConversationError> = tokio::time::timeout(SAY_TIMEOUT, asking)
        .await
        .unwrap_or(Err(ConversationError::Timeout(SAY_TIMEOUT)));
    match answer? {
        ViewEvent::Running(running) => Ok((running, Reader { listener, viewer }, hang_up)),
        ViewEvent::Failed(failure) => Err(MicrosandboxError::ExecFailed(ExecFailed {
            kind: failure.kind,
            message: failure.message,
            errno: failure.errno,
        })),
        ViewEvent::Refused(refusal) => Err(ConversationError::RefusedByAgent(refusal).into()),
        _ => Err(ConversationError::OutOfTurn.into()),
    }
}

fn limit_ms(timeout: Duration) -> u64 {
    let limit = timeout.saturating_add(AGENT_GRACE).as_millis();
    u64::try_from(limit).unwrap_or(u64::MAX)
}

/// Ends the conversation unless it is kept.
struct HangUp {
    speaker: Speaker,
    started: bool,
    kept: bool,
}

impl HangUp {
    fn keep(mut self) -> Speaker {
        self.kept = true;
        self.speaker.clone()
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if self.started {
            // The end of the connection alone does not end a command that may outlive it.
            let _ = self.speaker.try_send(&SessionCall::End.into());
        }
        self.speaker.hang_up();
    }
}
