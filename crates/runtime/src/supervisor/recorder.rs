//! Writes the sandbox's state down, on a thread of its own: the catalog may keep a writer
//! waiting, and the run must go on hearing the VMM meanwhile.
//!
//! States are written in the order in which they came, and each comes back as
//! [`Event::Recorded`]: who is told of a state is told after it was written. Once the run is over,
//! what still waits is not written any more: the end is, by whoever gets the lock back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SendError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use msb_runtime::isolation::Isolation;
use msb_runtime::registry::Owned;
use msb_runtime::sandbox_dir::RunFile;
use msb_types::SandboxStatus;

use super::event::{Event, Events};

/// How many states may wait to be written. A sandbox has few in its life; whoever toggles it
/// faster than the disk writes is refused.
const QUEUE: usize = 64;

/// How long the write that is under way in the end may take. The catalog's own deadline is shorter.
const FINISH: Duration = Duration::from_secs(20);

/// A state, and what is known of the run by then.
#[derive(Debug)]
struct Note {
    status: SandboxStatus,
    isolation: Isolation,
}

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Recorder {
    queue: SyncSender<Note>,
    over: Arc<AtomicBool>,
    thread: JoinHandle<Option<Owned>>,
}

impl Recorder {
    /// Starts it. Where the host gives no thread, what it would have owned comes back, to be undone.
    pub(crate) fn start(
        owned: Owned,
        mut run: RunFile,
        events: Events,
    ) -> Result<Self, Box<(Owned, std::io::Error)>> {
        let (queue, waiting) = sync_channel(QUEUE);
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        // Handed over once the thread is there.
        let (hand, handed) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                let owned = handed.recv().ok()?;
                Some(write(owned, &mut run, &waiting, &seen, &events))
            });
        let thread = match thread {
            Ok(thread) => thread,
            Err(error) => return Err(Box::new((owned, error))),
        };
        match hand.send(owned) {
            Ok(()) => Ok(Self {
                queue,
                over,
                thread,
            }),
            Err(SendError(owned)) => Err(Box::new((owned, std::io::ErrorKind::BrokenPipe.into()))),
        }
    }

    /// Has a state written. `false` when too many are waiting.
    pub(crate) fn note(&self, status: SandboxStatus, run: &RunFile) -> bool {
        let isolation = run.isolation.clone();
        self.queue.try_send(Note { status, isolation }).is_ok()
    }

    /// Takes the lock back. `None` if the thread failed, or the disk hangs.
    pub(crate) async fn finish(self) -> Option<Owned> {
        self.over.store(true, Ordering::Relaxed);
        drop(self.queue);
        let thread = self.thread;
        let joined = tokio::task::spawn_blocking(move || thread.join());
        tokio::time::timeout(FINISH, joined)
            .await
            .ok()?
            .ok()?
            .ok()?
    }
}

fn write(
    owned: Owned,
    run: &mut RunFile,
    waiting: &Receiver<Note>,
    over: &AtomicBool,
    events: &Events,
) -> Owned {
    while let Ok(Note { status, isolation }) = waiting.recv() {
        if over.load(Ordering::Relaxed) {
            continue;
        }
        let described = if run.isolation == isolation {
            Ok(())
        } else {
            run.isolation = isolation;
            owned.describe(run)
        };
        let written = described.and_then(|()| owned.note(run, status));
        // Nobody listens any more once the run is over.
        let _ = events.blocking_send(Event::Recorded(status, written));
    }
    owned
}
