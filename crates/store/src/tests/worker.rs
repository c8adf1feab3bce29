//! Who gives up first: the caller or the thread.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use redb::Database;

use crate::StoreError;
use crate::file::Placement;
use crate::session::{Session, Source};
use crate::worker::Worker;

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(60);

/// A source that is never opened. Its channel closes when the session that owns it ends.
struct Alive(#[allow(dead_code, reason = "it is there to be dropped")] Sender<()>);

impl Source for Alive {
    fn path(&self) -> &Path {
        here()
    }

    fn open(&mut self) -> Result<Database, StoreError> {
        unreachable!("no test opens it")
    }

    fn is_current(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn keep(&self) -> Result<Option<Placement<'_>>, StoreError> {
        Ok(None)
    }
}

fn here() -> &'static Path {
    Path::new("nowhere")
}

fn worker() -> (Worker, Receiver<()>) {
    let (sender, alive) = channel();
    (Worker::spawn(Session::new(Alive(sender))).unwrap(), alive)
}

#[test]
fn the_thread_ends_with_its_last_owner() {
    let (worker, alive) = worker();
    assert_eq!(worker.call(here(), LONG, |_, _| Ok(1)).unwrap(), 1);
    drop(worker);
    assert_eq!(
        alive.recv_timeout(LONG),
        Err(RecvTimeoutError::Disconnected)
    );
}

#[test]
fn what_was_given_up_is_not_carried_out() {
    let (worker, alive) = worker();
    let (release, released) = channel::<()>();
    let (ran, runs) = channel();
    // The first is at something; the second waits behind it; both give up.
    let late = ran.clone();
    let first = worker.call(here(), SHORT, move |_, ticket| {
        let _ = released.recv();
        late.send(ticket.begin_commit()).unwrap();
        Ok(())
    });
    assert!(matches!(first, Err(StoreError::Busy { waited, .. }) if waited >= SHORT));
    let second = worker.call(here(), SHORT, move |_, _| {
        ran.send(true).unwrap();
        Ok(())
    });
    assert!(matches!(second, Err(StoreError::Busy { .. })));
    release.send(()).unwrap();
    worker.call(here(), LONG, |_, _| Ok(())).unwrap();
    assert_eq!(
        runs.iter().collect::<Vec<_>>(),
        [false],
        "the first may not commit and the second may not begin"
    );
    drop(worker);
    alive.recv().unwrap_err();
}

#[test]
fn a_commit_that_has_begun_is_in_doubt() {
    let (worker, _alive) = worker();
    let (release, released) = channel::<()>();
    let doubt = worker.call(here(), SHORT, move |_, ticket| {
        assert!(ticket.begin_commit());
        let _ = released.recv();
        Ok(())
    });
    assert!(
        matches!(doubt, Err(StoreError::InDoubt { .. })),
        "{doubt:?}"
    );
    drop(release);
}

#[test]
fn the_queue_has_an_end() {
    let (worker, _alive) = worker();
    let (release, released) = channel::<()>();
    let busy = worker.call(here(), SHORT, move |_, _| {
        let _ = released.recv();
        Ok(())
    });
    assert!(matches!(busy, Err(StoreError::Busy { .. })));
    let mut accepted = Vec::new();
    loop {
        // Dropped when its request is; those in the queue keep it.
        let (kept, gone) = channel::<()>();
        let full = worker.call(here(), Duration::ZERO, move |_, _| {
            drop(kept);
            Ok(())
        });
        assert!(matches!(full, Err(StoreError::Busy { .. })));
        if gone.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
            break;
        }
        accepted.push(gone);
        assert!(accepted.len() < 100_000, "the queue has no end");
    }
    assert!(accepted.len() > 500, "{}", accepted.len());
    drop(release);
    for gone in accepted {
        assert_eq!(gone.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    }
    worker.call(here(), LONG, |_, _| Ok(())).unwrap();
}
