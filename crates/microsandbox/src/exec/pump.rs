//! The task behind each running command: it takes the agent's messages as they come.
//!
//! Output goes into a bounded channel, so a program that does not read stalls the pump, the
//! connection, and in the end the command. Room for standard input (the agent's
//! `StdinConsumed`) goes into a semaphore, from which writes take their permits. The way back
//! tells the agent what the program has taken, so that it knows what to keep for the next
//! viewer. A timeout is kept here, whether the program looks at its handle or not.

use std::sync::Arc;
use std::time::Duration;

use msb_protocol::{Exit, INITIAL_STDIN_WINDOW, ViewEvent, Viewer};
use msb_runtime::conversation::{ConversationError, Listener};
use tokio::select;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use super::link::Link;
use crate::error::{ExecFailed, ExecFailedKind};
use crate::exec::{ExecEvent, ExecStdinError};

/// How many events may wait for the program; each holds at most 64 KiB of output.
pub(crate) const EVENT_QUEUE: usize = 8;

/// The signal that the agent ends late commands with.
const SIGKILL: i32 = 9;

/// News for the handle.
#[derive(Debug)]
pub(crate) enum News {
    /// An event, as the program sees it, and the offset of the output behind it.
    Event(ExecEvent, u64),
    /// So many bytes of output are missing, and the offset behind them.
    Dropped(u64, u64),
    /// The end.
    Exited(Exit),
    /// It took too long.
    Late(Duration),
    /// No end that the agent told of.
    Broken(ConversationError),
}

impl News {
    fn is_last(&self) -> bool {
        matches!(self, Self::Exited(_) | Self::Late(_) | Self::Broken(_))
    }
}

/// The receiving side of a command's conversation.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) listener: Listener,
    pub(crate) viewer: Viewer,
}

/// When a command is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) timeout: Duration,
}

/// Hands everything on to the program, to the command's end or until the program takes no more; it
/// gets the reader back then.
pub(crate) async fn pump(
    mut reader: Reader,
    news: mpsc::Sender<News>,
    link: Arc<Link>,
    deadline: Option<Deadline>,
) -> Reader {
    loop {
        let item = select! {
            message = reader.listener.next() => {
                let seen = message.and_then(|message| Ok(reader.viewer.take(message)?));
                match understand(seen, reader.viewer.offset(), &link, deadline) {
                    Some(item) => item,
                    None => continue,
                }
            }
            () = link.taken.notified() => {
                link.acknowledge();
                continue;
            }
            late = expiry(deadline) => late,
            () = news.closed() => return reader,
        };
        let item = select! {
            permit = news.reserve() => match permit {
                Ok(permit) => {
                    let last = end(&item, &link);
                    permit.send(item);
                    if last {
                        return reader;
                    }
                    continue;
                }
                Err(_) => return reader,
            },
            late = expiry(deadline), if !item.is_last() => late,
        };
        // The program does not read, and its command is late.
        end(&item, &link);
        let _ = news.send(item).await;
        return reader;
    }
}

/// Ends what is to end with the last news. Whether this is that.
fn end(item: &News, link: &Link) -> bool {
    match item {
        News::Event(..) | News::Dropped(..) => return false,
        News::Exited(_) => link.is_over(),
        News::Late(_) => {
            link.end();
            link.is_over();
        }
        News::Broken(_) => link.window.close(),
    }
    true
}

/// What a message means for the program; nothing for some.
fn understand(
    seen: Result<ViewEvent, ConversationError>,
    offset: u64,
    link: &Link,
    deadline: Option<Deadline>,
) -> Option<News> {
    Some(match seen {
        Ok(ViewEvent::Stdout(bytes)) => News::Event(ExecEvent::Stdout(bytes), offset),
        Ok(ViewEvent::Stderr(bytes)) => News::Event(ExecEvent::Stderr(bytes), offset),
        Ok(ViewEvent::Dropped(bytes)) => News::Dropped(bytes, offset),
        Ok(ViewEvent::Room(count)) => {
            // The agent cannot have consumed more than was sent: more is a lie, and
            // must not make the window grow past any bound.
            let window = &link.window;
            let room = permits(INITIAL_STDIN_WINDOW).saturating_sub(window.available_permits());
            window.add_permits(permits(count).min(room));
            return None;
        }
        Ok(ViewEvent::StdinClosed) => {
            link.window.close();
            News::Event(ExecEvent::StdinError(ExecStdinError {}), offset)
        }
        // The agent has a clock of its own for the case that nobody is here.
        Ok(ViewEvent::Exited(Exit::Signal(SIGKILL)))
            if deadline.is_some_and(|deadline| deadline.at <= Instant::now()) =>
        {
            News::Late(deadline?.timeout)
        }
        Ok(ViewEvent::Exited(exit)) => News::Exited(exit),
        Ok(ViewEvent::Refused(refusal)) => News::Broken(ConversationError::RefusedByAgent(refusal)),
        Ok(_) => News::Broken(ConversationError::OutOfTurn),
        Err(error) => News::Broken(error),
    })
}

/// Waits until the command is late, if it can be.
async fn expiry(deadline: Option<Deadline>) -> News {
    match deadline {
        Some(deadline) => {
            sleep_until(deadline.at).await;
            News::Late(deadline.timeout)
        }
        None => std::future::pending().await,
    }
}

pub(crate) fn permits(count: u32) -> usize {
    usize::try_from(count)
        .unwrap_or(usize::MAX)
        .min(Semaphore::MAX_PERMITS)
}

/// What a handle tells its program when there is no end to tell of.
pub(crate) fn broken(message: String) -> ExecFailed {
    ExecFailed {
        kind: ExecFailedKind::Other,
        message,
        errno: None,
    }
}
