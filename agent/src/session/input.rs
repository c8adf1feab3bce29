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

use crate::channel::ChannelError;
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
    /// The part of it that the viewer does not know of yet.
    credit: u32,
    phase: Phase,
    /// The command closed its end, which the viewer does not know yet.
    closed: bool,
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
                credit: 0,
                phase,
                closed: false,
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

    /// There is a new viewer. What it may send; `None` if nobody reads that.
    pub(super) fn viewed(&self) -> Option<u32> {
        let mut state = self.state.borrow_mut();
        state.credit = 0;
        state.closed = false;
        (state.phase == Phase::Open).then_some(state.window)
    }

    /// What the viewer is to be told.
    pub(super) fn next_news(&self) -> Option<GuestMessage> {
        let mut state = self.state.borrow_mut();
        if state.credit > 0 {
            return Some(GuestMessage::StdinConsumed(std::mem::take(
                &mut state.credit,
            )));
        }
        std::mem::take(&mut state.closed).then_some(GuestMessage::StdinClosed)
    }

    /// Hands everything on to the command until either side has no more to do with it.
    pub(super) async fn feed(&self, input: Option<Input>, process: &Process, news: &Notify) {
        let Some(input) = input else { return };
        self.pump(input.stream(), process, news).await;
        let mut state = self.state.borrow_mut();
        state.phase = Phase::Closed;
        state.bytes = BytesMut::new();
        // Dropping a pipe here is how the command learns of the end.
    }

    async fn pump(&self, stream: &Stream, process: &Process, news: &Notify) {
        let mut consumed = 0;
        loop {
            let next = select! {
                next = self.next() => next,
                _ = process.ended() => None,
            };
            let Some(mut chunk) = next else { return };
            while chunk.has_remaining() {
                let written = select! {
                    written = stream.write(&chunk) => written,
                    _ = process.ended() => return,
                };
                let Ok(written) = written else {
                    // EPIPE, or a terminal that hung up.
                    self.state.borrow_mut().closed = true;
                    news.notify_one();
                    return;
                };
                chunk.advance(written);
                consumed += u32::try_from(written).unwrap_or(u32::MAX);
                let mut state = self.state.borrow_mut();
                let waits = !chunk.has_remaining() && state.bytes.is_empty();
                if consumed >= CREDIT_STEP || waits {
                    state.window += consumed;
                    state.credit += consumed;
                    consumed = 0;
                    news.notify_one();
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
