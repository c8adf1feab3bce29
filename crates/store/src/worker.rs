//! The thread that waits, so that nobody else waits too long.
//!
//! ```text
//!            is_wanted()            begin_commit()
//!  Waiting ─────────────> Waiting ───────────────> Committing ──> answered
//!     │ give_up()                                       │ give_up() = false
//!     v                                                 v
//!  GivenUp: Busy, and the request is not carried out   InDoubt: the disk has it
//! ```
//!
//! A request and its [`Ticket`] go to the thread over a bounded channel; the caller waits for the
//! answer until its deadline. The ticket's state settles who was first: a caller that gives up
//! before the commit begins can be sure that nothing happens.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::StoreError;
use crate::session::Session;

/// Requests that may wait for the thread: more than the threads of a program that would send them.
const MAX_QUEUED: usize = 1024;

/// Longer than anything waits; a longer deadline is cut to this.
const MAX_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

const WAITING: u8 = 0;
const COMMITTING: u8 = 1;
const GIVEN_UP: u8 = 2;

type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// What a caller and the thread both hold of a request.
#[derive(Debug)]
pub(crate) struct Ticket {
    state: AtomicU8,
    started: Instant,
    deadline: Instant,
}

/// The thread. It ends when this is dropped and what it is at is done.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: SyncSender<Job>,
}

impl Ticket {
    pub(crate) fn new(wait: Duration) -> Self {
        let started = Instant::now();
        Self {
            state: AtomicU8::new(WAITING),
            started,
            deadline: started + wait.min(MAX_WAIT),
        }
    }

    /// Whether the caller still waits.
    pub(crate) fn is_wanted(&self) -> bool {
        self.state.load(Ordering::Acquire) == WAITING && Instant::now() < self.deadline
    }

    /// Takes the right to carry the request out. From here on giving up comes too late.
    pub(crate) fn begin_commit(&self) -> bool {
        self.is_wanted() && self.move_to(COMMITTING)
    }

    /// The error of a request that was given up.
    pub(crate) fn busy(&self, path: &Path) -> StoreError {
        StoreError::Busy {
            path: path.to_owned(),
            waited: self.started.elapsed(),
        }
    }

    /// Takes that right away. False if the thread has it already.
    fn give_up(&self) -> bool {
        self.move_to(GIVEN_UP)
    }

    fn move_to(&self, state: u8) -> bool {
        self.state
            .compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl Worker {
    /// Starts the thread.
    pub(crate) fn spawn(mut session: Session) -> io::Result<Self> {
        let (jobs, queue) = sync_channel::<Job>(MAX_QUEUED);
        thread::Builder::new()
            .name("msb-catalog".into())
            .spawn(move || {
                while let Ok(job) = queue.recv() {
                    job(&mut session);
                }
            })?;
        Ok(Self { jobs })
    }

    /// Has `operation` carried out on the thread and waits for it for at most `wait`.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        path: &Path,
        wait: Duration,
        operation: impl FnOnce(&mut Session, &Ticket) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let ticket = Arc::new(Ticket::new(wait));
        let (answer, answered) = sync_channel(1);
        let held = ticket.clone();
        let job: Job = Box::new(move |session| {
            if held.is_wanted() {
                // A caller that has given up does not hear it.
                let _ = answer.send(operation(session, &held));
            }
        });
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(ticket.busy(path)),
            Err(TrySendError::Disconnected(_)) => return Err(ended(path)),
        }
        match answered.recv_timeout(ticket.left()) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) if ticket.is_wanted() => Err(ended(path)),
            Err(_) if ticket.give_up() => Err(ticket.busy(path)),
            // It may have come in this very moment.
            Err(_) => answered.try_recv().unwrap_or_else(|_| {
                Err(StoreError::InDoubt {
                    path: path.to_owned(),
                    waited: ticket.started.elapsed(),
                })
            }),
        }
    }
}

fn ended(path: &Path) -> StoreError {
    StoreError::Io {
        path: path.to_owned(),
        source: io::Error::other("the thread that works on it has ended"),
    }
}
