//! The signals that ask a command to end, on their way to it.

use std::sync::mpsc::SyncSender;
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

/// Turns each that we get into an event.
pub(super) fn forward<E: Send + 'static>(
    events: SyncSender<E>,
    event: impl Fn(i32) -> E + Send + 'static,
) -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT]).context("cannot watch for signals")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if events.send(event(signal)).is_err() {
                break;
            }
        }
    });
    Ok(())
}
