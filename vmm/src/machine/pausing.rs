//! Pausing and resuming a machine, as a state machine without threads or descriptors.
//!
//! ```text
//!            pause: tell the vCPUs                the last vCPU is out
//! Running ───────────────────────▶ Pausing{left} ─────────────────────▶ Paused
//!    ▲                                                                     │
//!    └────────────────────── resume: let the vCPUs in ─────────────────────┘
//! ```
//!
//! Nobody waits in it. While a pause is under way the main loop goes on serving everyone, a vCPU that
//! needs the loop before it can leave the guest too, and each vCPU's acknowledgement is a message like
//! any other. Requests are answered in the order in which they came: one that comes during a pause
//! waits in line behind it, so a resume is never lost to the pause before it.
//!
//! Each pause has a number. An acknowledgement names it, so that a late one of an earlier pause does
//! not count for this one.

use std::collections::VecDeque;

use crate::vcpu::PauseNumber;

/// Requests that may be in line. Whoever asks more while a pause is under way is refused.
const MAX_WAITING: usize = 64;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// All vCPUs out of the guest.
    Pause,
    /// All vCPUs in.
    Resume,
}

/// What is to be done, in this order. `R` says who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<R> {
    /// Take the vCPUs out of the guest; each acknowledges this number.
    TakeOut(PauseNumber),
    /// Let the vCPUs in again.
    LetIn,
    /// The machine is paused: say so to everyone.
    Paused,
    /// The machine runs again: say so to everyone.
    Resumed,
    /// The request was carried out.
    Done(R),
    /// The request cannot be taken: too many are in line.
    Refused(R),
    /// The machine ended before the request was carried out.
    Over(R),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Pausing { left: usize },
    Paused,
    Over,
}

/// The state, and the requests in line. The first in line is the one being carried out.
#[derive(Debug)]
pub(super) struct Pausing<R> {
    state: State,
    vcpus: usize,
    /// The number of the last pause that was begun.
    number: PauseNumber,
    waiting: VecDeque<(Verb, R)>,
}

impl<R> Pausing<R> {
    /// A machine of so many vCPUs, running.
    pub(super) fn new(vcpus: usize) -> Self {
        Self {
            state: State::Running,
            vcpus,
            number: PauseNumber::default(),
            waiting: VecDeque::new(),
        }
    }

    /// Somebody asks for something.
    pub(super) fn ask(&mut self, verb: Verb, who: R) -> Vec<Step<R>> {
        if self.waiting.len() >= MAX_WAITING {
            return vec![Step::Refused(who)];
        }
        self.waiting.push_back((verb, who));
        let mut steps = Vec::new();
        self.advance(&mut steps);
        steps
    }

    /// A vCPU is out of the guest, as the pause of that number wants it.
    pub(super) fn acknowledge(&mut self, number: PauseNumber) -> Vec<Step<R>> {
        let mut steps = Vec::new();
        let State::Pausing { left } = self.state else {
            return steps;
        };
        if number == self.number {
            self.out(left.saturating_sub(1), &mut steps);
            self.advance(&mut steps);
        }
        steps
    }

    /// The machine is over.
    pub(super) fn end(&mut self) -> Vec<Step<R>> {
        self.state = State::Over;
        let mut steps = Vec::new();
        self.advance(&mut steps);
        steps
    }

    /// So many vCPUs are still in the guest.
    fn out(&mut self, left: usize, steps: &mut Vec<Step<R>>) {
        self.state = if left == 0 {
            steps.push(Step::Paused);
            State::Paused
        } else {
            State::Pausing { left }
        };
    }

    /// Serves the line as far as it goes.
    fn advance(&mut self, steps: &mut Vec<Step<R>>) {
        while let Some((verb, _)) = self.waiting.front() {
            match (self.state, verb) {
                (State::Pausing { .. }, _) => return,
                (State::Running, Verb::Pause) => {
                    self.number = self.number.next();
                    steps.push(Step::TakeOut(self.number));
                    self.out(self.vcpus, steps);
                    // It stays in line until it is done.
                    continue;
                }
                (State::Paused, Verb::Resume) => {
                    self.state = State::Running;
                    steps.extend([Step::LetIn, Step::Resumed]);
                }
                (State::Running, Verb::Resume) | (State::Paused, Verb::Pause) => {}
                (State::Over, _) => {
                    steps.extend(self.waiting.drain(..).map(|(_, who)| Step::Over(who)));
                    return;
                }
            }
            if let Some((_, who)) = self.waiting.pop_front() {
                steps.push(Step::Done(who));
            }
        }
    }
}

#[cfg(test)]
mod tests;
