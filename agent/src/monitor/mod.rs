//! The monitor: what the supervisor is told of all sessions.
//!
//! Clients talk to the agent and not to the supervisor, which yet has to keep the log and to
//! know whether anything happens. So the agent copies what sessions do to one more
//! connection:
//!
//! ```text
//! session ──┬──> its own conversation, at the pace of its reader
//!           └──> Queue (bounded) ──> Line ──> monitor conversation
//! ```
//!
//! Copying never waits, and copies no bytes: it takes a reference to those that go to the
//! viewer, or counts what finds no room. Without a [`Line`] nothing is taken at all.

mod conversation;
mod queue;
mod sample;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use msb_protocol::{Exit, GuestMessage, MAX_PROGRAM, OutputSource};
use tokio::sync::Notify;

use queue::Queue;

pub(crate) use conversation::serve;

/// Where sessions say what they do.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    /// There is one while somebody is, or soon may be, at the other end.
    queue: RefCell<Option<Queue>>,
    /// Samples that were asked for.
    samples: Cell<u32>,
    /// No session is to come.
    closing: Cell<bool>,
    lines: Cell<usize>,
    /// There is something for the line to do.
    work: Notify,
    /// A line ended.
    fewer: Notify,
}

/// The end at which what sessions do comes out.
#[derive(Debug)]
pub(crate) struct Line {
    monitor: Rc<Monitor>,
    /// The queue is this line's.
    open: Cell<bool>,
}

/// What the monitor is to be told next.
#[derive(Debug, PartialEq)]
pub(crate) enum News {
    /// How the guest is now.
    Sample,
    /// This.
    Message(GuestMessage),
    /// No more: the guest shuts down.
    End,
    /// No more: it did not listen.
    Overrun,
}

impl Monitor {
    /// From now on what sessions do is kept for the line. `None` if there is one.
    pub(crate) fn open(self: &Rc<Self>) -> Option<Line> {
        let mut queue = self.queue.borrow_mut();
        if queue.is_some() {
            return None;
        }
        *queue = Some(Queue::default());
        self.samples.set(0);
        self.lines.update(|count| count + 1);
        Some(Line {
            monitor: Rc::clone(self),
            open: Cell::new(true),
        })
    }

    /// A command runs.
    pub(crate) fn started(&self, session: u64, pid: u32, program: &str) {
        self.tell(|queue| {
            let cut = program.floor_char_boundary(MAX_PROGRAM);
            queue.started(session, pid, program[..cut].to_owned());
        });
    }

    /// It wrote something.
    pub(crate) fn output(&self, session: u64, source: OutputSource, data: &Bytes) {
        self.tell(|queue| queue.output(session, source, data));
    }

    /// It ended, and all it wrote has been said.
    pub(crate) fn ended(&self, session: u64, exit: Exit) {
        self.tell(|queue| queue.ended(session, exit));
    }

    /// Waits until all was told that there is to tell. No session is started from here on.
    pub(crate) async fn finish(&self) {
        self.closing.set(true);
        self.work.notify_one();
        loop {
            let fewer = self.fewer.notified();
            if self.lines.get() == 0 {
                return;
            }
            fewer.await;
        }
    }

    fn tell(&self, what: impl FnOnce(&mut Queue)) {
        if let Some(queue) = self.queue.borrow_mut().as_mut() {
            what(queue);
            self.work.notify_one();
        }
    }

    fn news(&self) -> Option<News> {
        if let Some(left) = self.samples.get().checked_sub(1) {
            self.samples.set(left);
            return Some(News::Sample);
        }
        let mut queue = self.queue.borrow_mut();
        let Some(queue) = queue.as_mut() else {
            return Some(News::End);
        };
        if let Some(message) = queue.pop() {
            Some(News::Message(message))
        } else if queue.overrun() {
            Some(News::Overrun)
        } else if self.closing.get() && queue.all_ended() {
            Some(News::End)
        } else {
            None
        }
    }
}

impl Line {
    /// Waits for what is to be told next.
    pub(crate) async fn next(&self) -> News {
        loop {
            if let Some(news) = self.monitor.news() {
                return news;
            }
            self.monitor.work.notified().await;
        }
    }

    /// Asks for a sample, which goes before whatever waits.
    pub(crate) fn ask_sample(&self) {
        self.monitor.samples.update(|asked| asked.saturating_add(1));
        self.monitor.work.notify_one();
    }

    /// Nothing more is kept. The line itself is there until it is dropped.
    pub(crate) fn close(&self) {
        if self.open.replace(false) {
            *self.monitor.queue.borrow_mut() = None;
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.close();
        self.monitor.lines.update(|count| count - 1);
        self.monitor.fewer.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_nobody_there_nothing_is_copied_or_kept() {
        let monitor = Rc::new(Monitor::default());
        let data = Bytes::from(vec![7; 100]);
        let tell = || {
            monitor.started(1, 2, "sh");
            monitor.output(1, OutputSource::Stdout, &data);
        };
        tell();
        assert!(data.is_unique() && monitor.queue.borrow().is_none());

        let line = monitor.open().unwrap();
        assert!(monitor.open().is_none(), "there is one line at a time");
        tell();
        assert!(!data.is_unique(), "the bytes are shared, not copied");
        line.close();
        assert!(data.is_unique(), "a line that closes lets go of them");
        tell();
        assert!(data.is_unique() && monitor.queue.borrow().is_none());

        let next = monitor.open().unwrap();
        drop(line);
        tell();
        assert!(!data.is_unique(), "a line that was closed is not the next");
        drop(next);
        assert!(data.is_unique(), "nobody took the call");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let monitor = Rc::new(Monitor::default());
        let _line = monitor.open().unwrap();
        monitor.started(1, 2, &format!("x{}", "é".repeat(300)));
        match monitor.news() {
            Some(News::Message(GuestMessage::SessionStarted { program, .. })) => {
                assert_eq!(program, format!("x{}", "é".repeat(127)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_that_did_not_listen_is_told_what_is_there_and_ends() {
        let monitor = Rc::new(Monitor::default());
        let _line = monitor.open().unwrap();
        for session in 0..100_000 {
            monitor.started(session, 1, "sh");
            monitor.ended(session, Exit::Code(0));
        }
        let mut starts = 0;
        let end = loop {
            match monitor.news().expect("all that there will be") {
                News::Message(GuestMessage::SessionStarted { session, .. }) => {
                    assert_eq!(session, starts);
                    starts += 1;
                }
                News::Message(GuestMessage::SessionEnded { .. }) => {}
                other => break other,
            }
        };
        assert_eq!(end, News::Overrun);
        assert!((5_000..100_000).contains(&starts), "{starts}");
    }

    #[test]
    fn the_end_waits_for_every_session() {
        let monitor = Rc::new(Monitor::default());
        let line = monitor.open().unwrap();
        monitor.started(1, 2, "sh");
        monitor.closing.set(true);
        assert!(matches!(monitor.news(), Some(News::Message(_))));
        assert_eq!(monitor.news(), None);
        line.ask_sample();
        monitor.ended(1, Exit::Code(0));
        assert_eq!(monitor.news(), Some(News::Sample));
        assert!(matches!(monitor.news(), Some(News::Message(_))));
        assert_eq!(monitor.news(), Some(News::End));
    }
}
