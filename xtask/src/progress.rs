//! Progress of long steps: a bar on a terminal, a plain line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a log that is no terminal gets a line.
const LOG_EVERY: Duration = Duration::from_secs(20);

/// One long step with a known or estimated number of parts.
#[derive(Debug)]
pub(crate) struct Progress {
    what: String,
    total: u64,
    done: u64,
    bar: Option<ProgressBar>,
    started: Instant,
    logged: Instant,
}

impl Progress {
    /// Begins a step of about `total` parts.
    pub(crate) fn new(what: &str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) =
                ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {elapsed_precise}")
            {
                bar.set_style(style);
            }
            bar.set_message(what.to_owned());
            bar
        });
        if bar.is_none() {
            eprintln!("{what} ...");
        }
        let now = Instant::now();
        Self {
            what: what.to_owned(),
            total,
            done: 0,
            bar,
            started: now,
            logged: now,
        }
    }

    /// One more part is done. More parts than were estimated are fine.
    pub(crate) fn step(&mut self) {
        self.done = (self.done + 1).min(self.total);
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if self.logged.elapsed() >= LOG_EVERY => {
                self.logged = Instant::now();
                eprintln!("{} ... {}%", self.what, self.done * 100 / self.total.max(1));
            }
            None => {}
        }
    }

    /// The step is over.
    pub(crate) fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!(
            "{}: {:.0} s",
            self.what,
            self.started.elapsed().as_secs_f64()
        );
    }
}
