//! The log as a stream.
//!
//! Nothing runs while nobody asks: each time the consumer wants an entry and none is at hand, one block
//! of the file is read, on a thread that may block. A consumer that is slow reads from the files
//! later, and if they have been rotated away by then it is told.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use chrono::{DateTime, Utc};
use futures::{FutureExt, Stream, stream};

use super::scan::{Found, Scanner};
use super::types::Filter;
use super::watch::Subscription;
use super::{LogCursor, LogEntry, LogError, LogStreamOptions, LogStreamStart};

/// The log in `dir`, entry by entry. The directory and the log may come later.
///
/// A stream that follows ends when `terminal` has resolved (the sandbox is over and nobody writes any
/// more) and all that was written until then is given out, or at `until`, even if nothing is printed. One
/// that does not follow ends where the log ended when it was first polled.
///
/// If entries are gone before they could be read there is one [`LogError::MissedRotation`] in their
/// place, and the stream goes on with the oldest that is left. Any other error ends it.
///
/// Must be polled within a tokio runtime that has timers.
pub fn log_stream<F>(
    dir: &Path,
    options: LogStreamOptions,
    terminal: F,
) -> impl Stream<Item = Result<LogEntry, LogError>> + Send + use<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (start, since) = match options.start {
        LogStreamStart::Beginning => (LogCursor::empty(), None),
        LogStreamStart::Since(time) => (LogCursor::empty(), Some(time)),
        LogStreamStart::From(cursor) => (cursor, None),
    };
    let filter = Filter::new(&options.sources, since, options.until);
    let follower = Follower {
        dir: dir.to_owned(),
        scanner: Some(Scanner::new(dir.to_owned(), filter, start)),
        ready: VecDeque::new(),
        failed: None,
        subscription: None,
        terminal: Box::pin(terminal),
        until: options.until,
        closing: !options.follow,
        ended: false,
    };
    stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await?;
        Some((item, follower))
    })
}

struct Follower {
    dir: PathBuf,
    /// None only while it is on another thread.
    scanner: Option<Scanner>,
    /// What was read and not given out: one block's entries.
    ready: VecDeque<LogEntry>,
    failed: Option<LogError>,
    subscription: Option<Subscription>,
    terminal: Pin<Box<dyn Future<Output = ()> + Send>>,
    until: Option<DateTime<Utc>>,
    /// No more is waited for.
    closing: bool,
    ended: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<LogEntry, LogError>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(Ok(entry));
            }
            if let Some(error) = self.failed.take() {
                self.ended = !matches!(error, LogError::MissedRotation { .. });
                return Some(Err(error));
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.prepare() {
                self.failed = Some(error);
                continue;
            }
            match self.read().await {
                Ok(Found::More) => {}
                Ok(Found::Idle) => self.wait().await,
                Ok(Found::End) => self.ended = true,
                Err(error) => self.failed = Some(error),
            }
        }
    }

    /// Sees whether the end has come, and if not that a later change will be heard of.
    fn prepare(&mut self) -> Result<(), LogError> {
        if !self.closing {
            let over = (&mut self.terminal).now_or_never().is_some();
            self.closing = over || self.until.is_some_and(|until| Utc::now() >= until);
        }
        if self.closing {
            self.subscription = None;
        } else if self
            .subscription
            .as_ref()
            .is_none_or(Subscription::is_stale)
        {
            // Before reading, so that nothing comes in between unheard.
            self.subscription = Some(Subscription::new(&self.dir)?);
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<Found, LogError> {
        let Some(mut scanner) = self.scanner.take() else {
            // The thread that had it was given up with the runtime.
            return Ok(Found::End);
        };
        let (closing, mut ready) = (self.closing, std::mem::take(&mut self.ready));
        let work = move || {
            let found = match closing {
                true => scanner.close().and_then(|()| scanner.read(&mut ready)),
                false => scanner.read(&mut ready),
            };
            (scanner, ready, found)
        };
        let (scanner, ready, found) =
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| LogError::Io {
                    path: self.dir.clone(),
                    source: io::Error::other(error),
                })?;
        self.scanner = Some(scanner);
        self.ready = ready;
        found
    }

    /// Waits until there may be more, or the end has come.
    async fn wait(&mut self) {
        let Some(subscription) = &self.subscription else {
            return;
        };
        let (terminal, closing) = (&mut self.terminal, &mut self.closing);
        let woken = async {
            tokio::select! {
                () = subscription.changed() => {}
                () = terminal => *closing = true,
            }
        };
        match self.until {
            Some(until) => {
                let left = (until - Utc::now()).to_std().unwrap_or_default();
                // Whether the time is up is looked at before the next read.
                let _ = tokio::time::timeout(left, woken).await;
            }
            None => woken.await,
        }
    }
}
