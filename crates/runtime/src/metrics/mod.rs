//! What a running sandbox uses: one page, written by its supervisor, read by any program.
//!
//! `<run dir>/metrics` is one page of 4 KiB. The supervisor maps it, so publishing a sample is a few
//! stores and no system call. The page is a *sequence lock*: its sequence number is odd while a
//! sample is being written, and a checksum over number and sample tells one that was read in halves.
//!
//! ```text
//! words of 8 bytes, in the machine's order
//! 0 magic   1 version   2 run id   3 sequence   4 checksum   5.. the sample
//! ```
//!
//! The reader does *not* map the page. A mapped file that somebody shortens kills whoever touches
//! it (SIGBUS), and a reader is a user's program, often with many sandboxes; no check of the size
//! beforehand closes that gap. It reads the page with one `pread` instead: file and mapping are the
//! same memory, a shortened file is a short read, and the checksum makes up for the copy
//! not being one atomic step. That costs about a microsecond.
//!
//! Sequence number and checksum also cover a writer that was killed in the middle: the reader tries
//! a bounded number of times and then says [`MetricsError::Unavailable`].

mod page;
mod reader;
mod sample;
#[cfg(test)]
mod tests;

pub use page::MetricsPage;
pub use reader::{MetricsError, MetricsReader};
pub use sample::Sample;

/// The page's name in the run directory.
pub const METRICS: &str = "metrics";

/// "MSBMETRC".
const MAGIC: u64 = u64::from_be_bytes(*b"MSBMETRC");

/// Goes up with every change of what the words mean.
const VERSION: u64 = 1;

/// How long the file is. Only its first [`WORDS`] words mean something.
const PAGE: usize = 4096;

/// Words before the sample.
const HEAD: usize = 5;

/// Words that are read.
const WORDS: usize = HEAD + sample::WORDS;

/// What a page is in memory.
type Words = [u64; WORDS];

/// Over the run, the sequence number and the sample: two halves of different samples do not fit.
fn checksum(run: u64, sequence: u64, sample: &[u64; sample::WORDS]) -> u64 {
    [run, sequence]
        .iter()
        .chain(sample)
        .fold(MAGIC, |sum, word| {
            // Every step is reversible, so one wrong word always shows.
            (sum ^ word)
                .rotate_left(29)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
}
