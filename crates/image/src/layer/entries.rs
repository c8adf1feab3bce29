//! Archives that are no layers, for who wants their entries as they are.

use std::io::Read;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::sync_channel;
use std::thread;

pub(crate) use super::archive::{Archive as TarReader, Entry as TarEntry};
use super::stream::Stream;
use super::{LayerError, source};

/// Buffers between the two threads.
const CHUNKS: usize = 4;
/// The most bytes of an archive, uncompressed.
const MOST: u64 = 1 << 40;

/// Reads an archive, plain or compressed with gzip or zstd. One thread decompresses while `read` takes it apart.
pub(crate) fn read_tar<T, E: From<LayerError>>(
    reader: impl Read + Send,
    read: impl FnOnce(&mut TarReader<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let count = &AtomicU64::new(0);
    thread::scope(|scope| {
        let (full, chunks) = sync_channel(CHUNKS);
        let (empty, back) = sync_channel(CHUNKS);
        thread::Builder::new()
            .name("archive".into())
            .spawn_scoped(scope, move || source::pump(reader, count, &full, &back))
            .map_err(LayerError::Thread)?;
        let mut go_on = |_| ControlFlow::Continue(());
        let stream = Stream::new(chunks, empty, MOST, count, &mut go_on);
        // Whatever is behind the archive's end is left, and the other thread hears that nobody listens any more.
        read(&mut TarReader::new(stream))
    })
}
