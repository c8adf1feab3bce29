//! From what was stored to what was compressed: the part of unpacking that has a thread of its own.
//!
//! How a layer is compressed is seen from its first bytes, as in other engines: descriptors in manifests
//! have been wrong about it. gzip may have several members and zstd several frames.

use std::io::{self, BufReader, Cursor, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use flate2::bufread::MultiGzDecoder;

use super::LayerError;
use super::stream::Chunk;

/// How many bytes are given on at once.
const CHUNK: usize = 256 << 10;
/// How many bytes are read at once.
const INPUT: usize = 128 << 10;

/// Reads to the end, and sends what comes out. Ends when nobody listens any more.
pub(super) fn pump(
    reader: impl Read,
    count: &AtomicU64,
    full: &SyncSender<Chunk>,
    empty: &Receiver<Vec<u8>>,
) {
    let mut source = Source {
        reader,
        count,
        failed: false,
    };
    let outcome = run(&mut source, full, empty);
    let error = match outcome {
        Ok(()) => return,
        Err(Failure::Refused(error)) => error,
        Err(Failure::Io(error)) if source.failed => LayerError::Read(error),
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            LayerError::Truncated
        }
        Err(Failure::Io(error)) => LayerError::Decompress(error),
    };
    // If nobody listens, nobody misses it.
    let _ = full.send(Err(error));
}

enum Failure {
    Io(io::Error),
    Refused(LayerError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn run<R: Read>(
    source: &mut Source<'_, R>,
    full: &SyncSender<Chunk>,
    empty: &Receiver<Vec<u8>>,
) -> Result<(), Failure> {
    let mut first = Vec::new();
    source.by_ref().take(6).read_to_end(&mut first)?;
    let compression = Compression::of(&first).map_err(Failure::Refused)?;
    let whole = BufReader::with_capacity(INPUT, Cursor::new(first).chain(source));
    let mut decoder: Box<dyn Read + '_> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(whole)?),
    };
    loop {
        let mut chunk = empty.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        let length = fill(&mut decoder, &mut chunk)?;
        chunk.truncate(length);
        if length == 0 || full.send(Ok(chunk)).is_err() {
            return Ok(());
        }
    }
}

/// Fills a buffer as far as there is something.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(first: &[u8]) -> Result<Self, LayerError> {
        match first {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err(LayerError::UnknownCompression("bzip2")),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(LayerError::UnknownCompression("xz")),
            _ => Ok(Self::None),
        }
    }
}

/// What the layer is read from. Counts, and knows whether it was this that failed.
struct Source<'a, R> {
    reader: R,
    count: &'a AtomicU64,
    failed: bool,
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(buffer) {
            Ok(length) => {
                self.count.fetch_add(length as u64, Ordering::Relaxed);
                Ok(length)
            }
            Err(error) => {
                self.failed = error.kind() != io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }
}
