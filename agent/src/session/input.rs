//! From the viewer to the command's standard input.
//!
//! The viewer may be ahead of the command by a window of bytes and is told, as the command
//! takes them, how many more it may send. So what is queued here is bounded without ever
//! leaving messages unread on the connection, where a signal may be next.

use std::cell::RefCell;

use bytes::{Buf, BytesMut};
use msb_protocol::{GuestMessage, INITIAL_STDIN_WINDOW};
use tokio::select;
use tokio::sync::Notify;

use crate::channel::{Channel, ChannelError};
use crate::exec::Input;
use crate::reaper::Process;
use crate::stream::Stream;

/// The viewer is told of this much at the latest: often enough that it never waits while
/// the command does too, and seldom enough that the telling costs little.
const CREDIT_STEP: u32 = INITIAL_STDIN_WINDOW / 4;

/// Bytes on their way.
#[derive(Debug)]
pub(crate) struct InputQueue {
    state: RefCell<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    bytes: BytesMut,
    /// What the viewer may still send.
    window: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The viewer said that this was all.
    Ended,
    /// Nobody reads; what comes is dropped.
    Closed,
}

impl InputQueue {
    pub(super) fn open() -> Self {
        Self::in_phase(Phase::Open)
    }

    /// Of a command with no standard input.
    pub(super) fn closed() -> Self {
        Self::in_phase(Phase::Closed)
    }

    fn in_phase(phase: Phase) -> Self {
        Self {
            state: RefCell::new(State {
                bytes: BytesMut::new(),
                window: INITIAL_STDIN_WINDOW,
                phase,
            }),
            changed: Notify::new(),
        }
    }

    /// Takes bytes from the viewer.
    pub(crate) fn push(&self, bytes: &[u8]) -> Result<(), ChannelError> {
        let mut state = self.state.borrow_mut();
        match state.phase {
            Phase::Closed => return Ok(()),
            Phase::Ended => {
                return Err(ChannelError::Unexpected("standard input was ended before"));
            }
            Phase::Open => {}
        }
        let room = u32::try_from(bytes.len())
            .ok()
            .and_then(|length| state.window.checked_sub(length));
        let Some(window) = room else {
            return Err(ChannelError::Unexpected(
                "more standard input was sent than the window allows",
            ));
        };
        state.window = window;
        state.bytes.extend_from_slice(bytes);
        self.changed.notify_one();
        Ok(())
    }

    /// No more comes.
    pub(crate) fn end(&self) {
        let mut state = self.state.borrow_mut();
        if state.phase == Phase::Open {
            state.phase = Phase::Ended;
        }
        self.changed.notify_one();
    }

    /// Hands everything on to the command until either side has no more to do with it.
    pub(super) async fn feed(
        &self,
        input: Option<Input>,
        process: &Process,
        channel: &Channel,
    ) -> Result<(), ChannelError> {
        let Some(input) = input else { return Ok(()) };
        let result = self.pump(input.stream(), process, channel).await;
        let mut state = self.state.borrow_mut();
        state.phase = Phase::Closed;
        state.bytes = BytesMut::new();
        result
        // Dropping a pipe here is how the command learns of the end.
    }

    /// Only waits are given up when the command ends; a message once begun is sent whole.
    async fn pump(
        &self,
        stream: &Stream,
        process: &Process,
        channel: &Channel,
    ) -> Result<(), ChannelError> {
        let mut consumed = 0;
        loop {
            let next = select! {
                next = self.next() => next,
                _ = process.ended() => None,
            };
            let Some(mut chunk) = next else { return Ok(()) };
            while chunk.has_remaining() {
                let written = select! {
                    written = stream.write(&chunk) => written,
                    _ = process.ended() => return Ok(()),
                };
                let Ok(written) = written else {
                    // EPIPE, or a terminal that hung up.
                    self.state.borrow_mut().phase = Phase::Closed;
                    return channel.send(&GuestMessage::StdinClosed).await;
                };
                chunk.advance(written);
                consumed += u32::try_from(written).unwrap_or(u32::MAX);
                let waits = !chunk.has_remaining() && self.state.borrow().bytes.is_empty();
                if consumed >= CREDIT_STEP || waits {
                    // Before it is sent: the viewer may use it at once.
                    self.state.borrow_mut().window += consumed;
                    channel.send(&GuestMessage::StdinConsumed(consumed)).await?;
                    consumed = 0;
                }
            }
        }
    }

    /// What has come, all of it; `None` once it has ended.
    async fn next(&self) -> Option<BytesMut> {
        loop {
            {
                let mut state = self.state.borrow_mut();
                if !state.bytes.is_empty() {
                    return Some(state.bytes.split());
                }
                if state.phase != Phase::Open {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}
