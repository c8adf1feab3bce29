//! The guest's files, for the host: one operation in one conversation.
//!
//! A file system may stand still for as long as it likes: one in user space, a full pipe, a
//! broken disk. So the system calls are made on a thread of the operation's own ([`Worker`]), and the
//! event loop only passes on: answers to the host, and what is written to the worker. What
//! the host may send is bounded by a window, so everything that it sent is always read, and the
//! end of the connection is seen behind it. Then the worker is told: its next step, and
//! any wait of its, is its last. Only a system call that the kernel does not return from keeps a
//! thread; there are at most [`MAX_OPERATIONS`] of these, and operations beyond that are refused.
//!
//! Everything is done as root and in the guest's root. Nothing here protects the guest from the
//! host. It does not let one guest user lead the agent astray, though: whole trees are
//! read, made and removed by `msb_files`, which follows no link.

mod attributes;
mod content;
mod inbox;
mod list;
mod perform;
mod worker;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use msb_protocol::{
    FsAnswer, FsCall, FsFailure, FsFailureKind, FsRequest, GuestMessage, HostMessage, RefusalKind,
};
use tokio::select;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;

use crate::agent::Agent;
use crate::channel::{Channel, ChannelError};

use inbox::Inbox;
use worker::{Cancel, Worker};

/// The most operations at a time, those that the kernel does not return from with them.
pub(crate) const MAX_OPERATIONS: usize = 64;

/// How many answers wait for the connection: one is being sent, one is being made.
const ANSWERS: usize = 2;

/// How often the host is told that work goes on which has nothing else to say.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// A worker calls nothing that needs much of it.
const STACK: usize = 256 * 1024;

/// What the operations share.
#[derive(Debug)]
pub(crate) struct Files {
    slots: Arc<Semaphore>,
    /// Conversations, whatever their workers do.
    open: Cell<usize>,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(MAX_OPERATIONS)),
            open: Cell::new(0),
        }
    }
}

impl Files {
    /// Whether no operation goes on.
    pub(crate) fn idle(&self) -> bool {
        self.open.get() == 0
    }
}

/// An operation that goes on, for as long as somebody waits for it.
struct Open<'a>(&'a Agent);

impl<'a> Open<'a> {
    fn new(agent: &'a Agent) -> Self {
        agent.files.open.update(|count| count + 1);
        Self(agent)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.files.open.update(|count| count.saturating_sub(1));
        self.0.changed();
    }
}

/// Does what was asked, for as long as somebody waits for it.
pub(crate) async fn serve(
    agent: &Agent,
    channel: &Channel,
    request: FsRequest,
) -> Result<(), ChannelError> {
    if let Some(refusal) = agent.refusal() {
        return channel.send(&GuestMessage::Refused(refusal)).await;
    }
    let _open = Open::new(agent);
    let (inbox, parts) = Inbox::new(&request);
    let (outbox, mut answers) = mpsc::channel(ANSWERS);
    let progress = Arc::new(AtomicU64::new(0));
    let cancel = match start(agent, request, parts, outbox, &progress) {
        Ok(cancel) => cancel,
        Err(failure) => return send(channel, FsAnswer::Failed(failure)).await,
    };
    let telling = tell(&mut answers, channel, &inbox, &progress);
    let listening = async {
        let Err(error) = listen(channel, &inbox).await;
        // The teller still runs, so this message does not land in the middle of another.
        channel.explain(&error).await;
    };
    let ending = async {
        agent.closed().await;
        let message = "the guest is shutting down";
        channel.refuse(RefusalKind::ShuttingDown, message).await;
    };
    let told = select! {
        told = telling => told,
        () = listening => Ok(()),
        () = ending => Ok(()),
    };
    drop(cancel);
    told
}

/// Starts the worker. It goes on until it is done or the returned [`Cancel`] is dropped.
fn start(
    agent: &Agent,
    request: FsRequest,
    parts: mpsc::Receiver<FsCall>,
    outbox: mpsc::Sender<FsAnswer>,
    progress: &Arc<AtomicU64>,
) -> Result<Cancel, FsFailure> {
    let exhausted = |what: String| FsFailure::new(FsFailureKind::ResourceExhausted, what);
    let Ok(slot) = Arc::clone(&agent.files.slots).try_acquire_owned() else {
        return Err(exhausted(format!(
            "{MAX_OPERATIONS} operations on files go on already; wait for one to end"
        )));
    };
    let cancel =
        Cancel::new().map_err(|error| exhausted(format!("no descriptor for it: {error}")))?;
    let worker = Worker::new(parts, outbox, Arc::clone(progress), cancel.listener());
    std::thread::Builder::new()
        .name("files".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            worker.run(request);
            drop(slot);
        })
        .map_err(|error| exhausted(format!("no thread for it: {error}")))?;
    Ok(cancel)
}

/// Passes the worker's answers on, up to the last.
async fn tell(
    answers: &mut mpsc::Receiver<FsAnswer>,
    channel: &Channel,
    inbox: &Inbox,
    progress: &AtomicU64,
) -> Result<(), ChannelError> {
    let mut told = 0;
    loop {
        let answer = select! {
            answer = answers.recv() => answer,
            () = sleep(SIGN_OF_LIFE) => {
                let done = progress.load(Ordering::Relaxed);
                if done != told {
                    told = done;
                    send(channel, FsAnswer::Working).await?;
                }
                continue;
            }
        };
        let answer = answer.unwrap_or_else(|| {
            let message = "the operation ended without an answer";
            FsAnswer::Failed(FsFailure::new(FsFailureKind::Other, message))
        });
        if let FsAnswer::Consumed(cost) = answer {
            // Before it is sent: the host may use it at once.
            inbox.widen(cost);
        }
        let last = matches!(
            answer,
            FsAnswer::Stat(_) | FsAnswer::Target(_) | FsAnswer::Done | FsAnswer::Failed(_)
        );
        send(channel, answer).await?;
        if last {
            return Ok(());
        }
    }
}

/// Takes what the host sends, until it closes the connection or makes a mistake.
async fn listen(
    channel: &Channel,
    inbox: &Inbox,
) -> Result<std::convert::Infallible, ChannelError> {
    loop {
        match channel.receive().await? {
            HostMessage::Fs(call @ (FsCall::Part(_) | FsCall::Finish)) => inbox.push(call)?,
            _ => {
                return Err(ChannelError::Unexpected(
                    "while files are worked on there is what is written to them, and its end",
                ));
            }
        }
    }
}

async fn send(channel: &Channel, answer: FsAnswer) -> Result<(), ChannelError> {
    channel.send(&GuestMessage::Fs(answer)).await
}
