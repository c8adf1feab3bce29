//! The reader's side.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::{HEAD, MAGIC, Sample, VERSION, WORDS, Words, checksum};

/// A writer needs well under a microsecond, so after this many looks it is not writing but dead.
const TRIES: u32 = 100;

/// Metrics that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The host refused.
    #[error("cannot read the metrics page")]
    Io(#[from] io::Error),
    /// The file is not a metrics page, or no longer a whole one.
    #[error("the file is not a metrics page")]
    NotMetrics,
    /// The page is of another release.
    #[error("the metrics page has version {found} and {VERSION} is known; use one release for all")]
    Version {
        /// Its version.
        found: u64,
    },
    /// The run that the page was opened for is over.
    #[error("the sandbox's run is over; open its metrics again")]
    Replaced,
    /// There is no sample: none was published yet, or the supervisor died while publishing one.
    #[error("there are no metrics yet, or the sandbox's supervisor died; ask for its status")]
    Unavailable,
}

/// A sandbox's metrics page, open for reading: of one run, until that is over.
#[derive(Debug)]
pub struct MetricsReader {
    file: File,
    run: u64,
}

impl MetricsReader {
    /// Opens the page at `path`.
    pub fn open(path: &Path) -> Result<Self, MetricsError> {
        // Whatever lies there must not block the reader.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(MetricsError::NotMetrics);
        }
        let [_, _, run, ..] = words(&file)?;
        Ok(Self { file, run })
    }

    /// The number that was drawn for this run.
    pub fn run_id(&self) -> u64 {
        self.run
    }

    /// The newest sample.
    pub fn read(&self) -> Result<Sample, MetricsError> {
        // A page that was removed or replaced keeps its last sample for ever.
        if self.file.metadata()?.nlink() == 0 {
            return Err(MetricsError::Replaced);
        }
        for _ in 0..TRIES {
            let words = words(&self.file)?;
            let (head, payload) = words.split_at(HEAD);
            let ([_, _, run, sequence, sum], Ok(payload)) = (head, payload.try_into()) else {
                return Err(MetricsError::NotMetrics);
            };
            if *run != self.run {
                return Err(MetricsError::Replaced);
            }
            if *sequence == 0 {
                break;
            }
            if sequence % 2 == 0 && checksum(*run, *sequence, &payload) == *sum {
                return Sample::from_words(payload).ok_or(MetricsError::NotMetrics);
            }
            // The writer may need this very processor.
            std::thread::yield_now();
        }
        Err(MetricsError::Unavailable)
    }
}

/// The page as it is at this moment, perhaps between two samples.
fn words(file: &File) -> Result<Words, MetricsError> {
    let mut bytes = [0; WORDS * 8];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(MetricsError::NotMetrics);
        }
        read => read?,
    }
    let mut words = [0; WORDS];
    for (word, eight) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*eight);
    }
    let [magic, version, ..] = words;
    match (magic, version) {
        (MAGIC, VERSION) => Ok(words),
        (MAGIC, found) => Err(MetricsError::Version { found }),
        _ => Err(MetricsError::NotMetrics),
    }
}
