//! The task behind each running command: it takes the agent's messages as they come.
//!
//! Output goes into a bounded channel, so a program that does not read stalls the pump, the
//! connection, and in the end the command. Room for standard input (the agent's
//! `StdinConsumed`) goes into a semaphore, from which writes take their permits.

use std::sync::Arc;

use msb_protocol::{GuestMessage, INITIAL_STDIN_WINDOW, Refusal};
use msb_runtime::conversation::{Conversation, ConversationError, Listener, Speaker};
use tokio::sync::{Semaphore, mpsc};

use super::handle::{ExecHandle, Link};
use crate::error::{ExecFailed, ExecFailedKind, MicrosandboxError, MicrosandboxResult};
use crate::exec::{ExecEvent, ExecStdinError, Exit};

/// How many events may wait for the program; each holds at most 64 KiB of output.
const EVENT_QUEUE: usize = 8;

/// News for the handle.
#[derive(Debug)]
pub(crate) enum News {
    /// An event, as the program sees it.
    Event(ExecEvent),
    /// The end.
    Exited(Exit),
    /// No end that the agent told of.
    Broken(ConversationError),
}

/// Waits for the command to run, and leaves the rest to a task.
pub(crate) async fn start(
    conversation: Conversation,
    piped: bool,
) -> MicrosandboxResult<ExecHandle> {
    let Conversation {
        speaker,
        mut listener,
        ..
    } = conversation;
    // Until the handle exists, dropping this future must end the command too.
    let hang_up = HangUp {
        speaker,
        kept: false,
    };
    let (session, pid) = match listener.next().await? {
        GuestMessage::Started { session, pid } => (session, pid),
        GuestMessage::ExecFailed(failure) => {
            return Err(MicrosandboxError::ExecFailed(ExecFailed {
                kind: failure.kind,
                message: failure.message,
                errno: failure.errno,
            }));
        }
        GuestMessage::Refused(refusal) => {
            return Err(ConversationError::RefusedByAgent(refusal).into());
        }
        _ => return Err(ConversationError::OutOfTurn.into()),
    };
    let window = Arc::new(Semaphore::new(permits(INITIAL_STDIN_WINDOW)));
    let (news, queue) = mpsc::channel(EVENT_QUEUE);
    let task = tokio::spawn(pump(listener, news, Arc::clone(&window)));
    let link = Arc::new(Link {
        session,
        speaker: hang_up.keep(),
        window,
    });
    Ok(ExecHandle::new(link, pid, piped, queue, task))
}

async fn pump(mut listener: Listener, news: mpsc::Sender<News>, window: Arc<Semaphore>) {
    loop {
        let (item, last) = match listener.next().await {
            Ok(GuestMessage::Stdout(bytes)) => (News::Event(ExecEvent::Stdout(bytes)), false),
            Ok(GuestMessage::Stderr(bytes)) => (News::Event(ExecEvent::Stderr(bytes)), false),
            Ok(GuestMessage::StdinConsumed(count)) => {
                // The agent cannot have consumed more than was sent: more is a lie, and
                // must not make the window grow past any bound.
                let room = permits(INITIAL_STDIN_WINDOW).saturating_sub(window.available_permits());
                window.add_permits(permits(count).min(room));
                continue;
            }
            Ok(GuestMessage::StdinClosed) => {
                window.close();
                (News::Event(ExecEvent::StdinError(ExecStdinError {})), false)
            }
            Ok(GuestMessage::Exited(exit)) => (News::Exited(exit), true),
            Ok(GuestMessage::Refused(refusal)) => (News::Broken(refused(refusal)), true),
            Ok(_) => (News::Broken(ConversationError::OutOfTurn), true),
            Err(error) => (News::Broken(error), true),
        };
        if last {
            window.close();
        }
        if news.send(item).await.is_err() || last {
            return;
        }
    }
}

fn refused(refusal: Refusal) -> ConversationError {
    ConversationError::RefusedByAgent(refusal)
}

fn permits(count: u32) -> usize {
    usize::try_from(count)
        .unwrap_or(usize::MAX)
        .min(Semaphore::MAX_PERMITS)
}

/// What a handle tells its program when the conversation broke.
pub(crate) fn broken(error: &ConversationError) -> ExecFailed {
    ExecFailed {
        kind: ExecFailedKind::Other,
        message: error.to_string(),
        errno: None,
    }
}

/// Ends the conversation unless it is kept.
struct HangUp {
    speaker: Speaker,
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
        if !self.kept {
            self.speaker.hang_up();
        }
    }
}

/// The same for an end that this side decided.
pub(crate) fn message(message: String) -> ExecFailed {
    ExecFailed {
        kind: ExecFailedKind::Other,
        message,
        errno: None,
    }
}
