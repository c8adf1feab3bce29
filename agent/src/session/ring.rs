//! What a command wrote and what has not arrived yet, in order and within bounds.
//!
//! Every byte has an offset, counted over all streams together. Three of them matter:
//!
//! ```text
//!   start          acked            sent           end
//!     ├──────────────┼────────────────┼──────────────┤
//!     │ let go of    │ on its way to  │ not sent     │
//!     │ at once      │ the viewer     │              │
//! ```
//!
//! A viewer that goes without a word loses what was on its way, so the next one begins at
//! `acked`. While somebody views, the command is read only as fast as they take it, and nothing
//! that is not sent is ever dropped. While nobody does, the oldest makes room for the newest; the
//! next viewer is told how much that was, in its place.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use msb_protocol::OutputSource;

/// The most that one session keeps: bytes, and [`PIECE_COST`] for each piece.
pub(super) const RING_MAX: usize = 1024 * 1024;

/// What a piece costs beside its bytes, its allocations included.
const PIECE_COST: usize = 128;

/// Pieces of one source grow together up to this, so that a command that writes little at a time
/// fills its ring with output and not with the costs of pieces.
const GROWN: usize = 16 * 1024;

/// One command's output.
#[derive(Debug)]
pub(crate) struct Ring {
    pieces: VecDeque<Piece>,
    held: usize,
    start: u64,
    acked: u64,
    sent: u64,
    end: u64,
    /// How many pieces at the front are sent.
    sent_pieces: usize,
    /// Whether the viewer says what has arrived; if not, what is sent has.
    acks: bool,
    viewed: bool,
}

#[derive(Debug)]
struct Piece {
    source: OutputSource,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Whole(Bytes),
    Growing(BytesMut),
}

impl Piece {
    fn len(&self) -> usize {
        match &self.data {
            Data::Whole(bytes) => bytes.len(),
            Data::Growing(bytes) => bytes.len(),
        }
    }

    fn cost(&self) -> usize {
        self.len() + PIECE_COST
    }

    /// The bytes, which from now on do not change.
    fn bytes(&mut self) -> Bytes {
        let whole = match &mut self.data {
            Data::Whole(bytes) => return bytes.clone(),
            Data::Growing(bytes) => bytes.split().freeze(),
        };
        self.data = Data::Whole(whole.clone());
        whole
    }
}

/// What the viewer is to be sent next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// So many bytes are missing here.
    Dropped(u64),
    /// These are next.
    Output(OutputSource, Bytes),
}

impl Ring {
    /// An empty ring that its first viewer views.
    pub(super) fn new(acks: bool) -> Self {
        Self {
            pieces: VecDeque::new(),
            held: 0,
            start: 0,
            acked: 0,
            sent: 0,
            end: 0,
            sent_pieces: 0,
            acks,
            viewed: true,
        }
    }

    /// What it takes of the agent's memory.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether the command may be read on: what it wrote before is with the viewer, or on its way.
    pub(super) fn has_room(&self) -> bool {
        !self.viewed || self.all_sent()
    }

    /// Whether there is nothing to be sent.
    pub(super) fn all_sent(&self) -> bool {
        self.sent == self.end
    }

    /// Takes what the command wrote.
    pub(super) fn push(&mut self, source: OutputSource, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.end += number(bytes.len());
        if let Some(last) = self.growing(source, bytes.len()) {
            last.extend_from_slice(&bytes);
            self.held += bytes.len();
        } else {
            let data = match self.viewed || bytes.len() >= GROWN {
                true => Data::Whole(bytes),
                false => Data::Growing(BytesMut::from(&bytes[..])),
            };
            let piece = Piece { source, data };
            self.held += piece.cost();
            self.pieces.push_back(piece);
        }
        while self.held > RING_MAX && self.drop_oldest() {}
    }

    /// The last piece, if that many bytes of this source may be added to it.
    fn growing(&mut self, source: OutputSource, more: usize) -> Option<&mut BytesMut> {
        if self.viewed || self.pieces.len() == self.sent_pieces {
            return None;
        }
        match self.pieces.back_mut() {
            Some(Piece {
                source: last,
                data: Data::Growing(bytes),
            }) if *last == source && bytes.len() + more <= GROWN => Some(bytes),
            _ => None,
        }
    }

    /// Whether there is something to let go of.
    pub(super) fn may_drop(&self) -> bool {
        // While somebody views, the command waits for what is not sent: it must arrive.
        match self.viewed {
            true => self.sent_pieces > 0,
            false => !self.pieces.is_empty(),
        }
    }

    /// Lets go of the oldest piece. `false` if there is none that may go.
    pub(super) fn drop_oldest(&mut self) -> bool {
        if !self.may_drop() {
            return false;
        }
        let Some(piece) = self.pieces.pop_front() else {
            return false;
        };
        self.held -= piece.cost();
        self.start += number(piece.len());
        self.sent_pieces = self.sent_pieces.saturating_sub(1);
        if self.pieces.is_empty() {
            self.pieces.shrink_to(0);
        }
        true
    }

    /// What is to be sent next, which counts as sent from now on.
    pub(super) fn next(&mut self) -> Option<Next> {
        if self.sent < self.start {
            let missing = self.start - self.sent;
            self.sent = self.start;
            self.acked = self.acked.max(self.start);
            return Some(Next::Dropped(missing));
        }
        let piece = self.pieces.get_mut(self.sent_pieces)?;
        let (source, bytes) = (piece.source, piece.bytes());
        self.sent += number(bytes.len());
        self.sent_pieces += 1;
        if !self.acks {
            self.acked(self.sent);
        }
        Some(Next::Output(source, bytes))
    }

    /// Everything before `offset` has arrived. The viewer is not believed to have more than it
    /// was sent, nor to lose again what it had.
    pub(super) fn acked(&mut self, offset: u64) {
        self.acked = offset.clamp(self.acked, self.sent.max(self.acked));
        while self.sent_pieces > 0 && self.start < self.acked {
            let Some(first) = self.pieces.front_mut() else {
                return;
            };
            let whole = number(first.len());
            if self.start + whole <= self.acked {
                self.drop_oldest();
                continue;
            }
            let part = usize::try_from(self.acked - self.start).unwrap_or(0);
            let mut rest = first.bytes();
            rest.advance(part);
            first.data = Data::Whole(rest);
            self.held -= part;
            self.start = self.acked;
        }
    }

    /// There is no viewer any more. What was on its way is to be sent again.
    pub(super) fn left(&mut self) {
        self.viewed = false;
        self.sent = self.acked;
        self.sent_pieces = 0;
    }

    /// There is a viewer, which says what has arrived. It begins at the offset returned.
    pub(super) fn viewed(&mut self) -> u64 {
        self.viewed = true;
        self.acks = true;
        self.sent
    }

    /// Nobody waits for the viewer any longer.
    pub(super) fn abandon(&mut self) {
        self.viewed = false;
    }
}

/// Lengths are no wider than 64 bits.
fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
