//! One blob: downloaded once, whatever number of programs want it, and gone on with after a cut.
//!
//! Whoever has the blob's lock downloads it; the others watch it grow, and look again when the lock is free. By
//! then it is there, or it is their turn, and they go on from what has come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};

use super::client::{Get, Repository};
use super::error::{Failure, RegistryError};
use super::pull::{PullError, blocking};
use super::resolve::LayerBlob;
use super::timing::Tries;
use crate::store::{Blob, BlobTurn, BlobWriter, Claim, Elsewhere, StoreError};

/// Bytes that are gathered before they are written, for a thread is woken each time.
const GATHERED: usize = 512 << 10;

/// How long they are gathered at most, so that who watches sees them.
const GATHERING: Duration = Duration::from_millis(250);

/// How long one look at somebody else's download takes.
const LOOK: Duration = Duration::from_millis(500);

/// Says how many bytes are here.
pub(super) type Told = Arc<dyn Fn(u64) + Send + Sync>;

/// What ended one try.
enum Ended {
    Failed(Failure),
    Store(StoreError),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Bytes on their way to the disk. The writer is with whoever writes.
struct Sink {
    writer: Option<BlobWriter>,
    offset: u64,
    gathered: Vec<Bytes>,
    bytes: usize,
    since: Instant,
    told: Told,
}

impl Repository {
    /// Brings a blob into the store, unless it is there.
    pub(super) async fn blob(
        &self,
        claim: &Arc<Claim>,
        blob: LayerBlob,
        told: &Told,
    ) -> Result<Blob, PullError> {
        let mut again = true;
        loop {
            let (claimed, digest, size) = (Arc::clone(claim), blob.digest, blob.size);
            let begin = move || claimed.begin_blob(&digest, size);
            match blocking(begin).await? {
                BlobTurn::Present(found) => {
                    told(blob.size);
                    return Ok(found);
                }
                BlobTurn::Elsewhere(elsewhere) => self.follow(elsewhere, blob, told).await?,
                BlobTurn::Mine(writer) => {
                    let resumed = writer.offset() > 0;
                    match self.fetch(writer, blob, told).await {
                        // What was here before was not of this blob.
                        Err(PullError::Registry(RegistryError::Digest { .. }))
                            if resumed && again =>
                        {
                            again = false;
                        }
                        fetched => return fetched,
                    }
                }
            }
        }
    }

    /// Watches somebody else download.
    async fn follow(
        &self,
        mut elsewhere: Elsewhere,
        blob: LayerBlob,
        told: &Told,
    ) -> Result<(), PullError> {
        let (mut here, mut since) = (0, Instant::now());
        loop {
            let watched = Arc::clone(told);
            let looked = blocking(move || {
                let mut here = 0;
                let freed = elsewhere.wait(LOOK, &mut |bytes| {
                    here = bytes;
                    watched(bytes.min(blob.size));
                })?;
                Ok((elsewhere, freed, here))
            });
            let (back, freed, now) = looked.await?;
            elsewhere = back;
            if freed {
                return Ok(());
            }
            if now != here {
                (here, since) = (now, Instant::now());
            }
            let limit = self.timing().elsewhere;
            if since.elapsed() >= limit {
                return Err(PullError::Elsewhere {
                    digest: blob.digest,
                    waited: limit,
                });
            }
        }
    }

    /// Downloads what is missing.
    async fn fetch(
        &self,
        writer: BlobWriter,
        blob: LayerBlob,
        told: &Told,
    ) -> Result<Blob, PullError> {
        let mut tries = Tries::new(self.timing());
        let mut sink = Sink::new(writer, Arc::clone(told));
        let mut highest = sink.offset;
        while sink.offset < blob.size {
            let tried = self.try_fetch(&mut sink, blob).await;
            // What came before a cut is kept.
            let written = sink.flush().await;
            if sink.offset > highest {
                tries.came(sink.offset - highest);
                highest = sink.offset;
            }
            match (tried, written) {
                (Err(Ended::Store(error)), _) | (_, Err(error)) => {
                    return Err(self.store_error(error));
                }
                (Err(Ended::Failed(failure)), Ok(())) => tries.again(failure).await?,
                (Ok(()), Ok(())) => {}
            }
        }
        let finished = match sink.writer {
            Some(writer) => blocking(move || writer.finish()).await,
            None => Err(gone()),
        };
        match finished {
            Err(PullError::Store(error)) => Err(self.store_error(error)),
            finished => finished,
        }
    }

    /// One request. It may end well with bytes missing still.
    async fn try_fetch(&self, sink: &mut Sink, blob: LayerBlob) -> Result<(), Ended> {
        let get = Get {
            path: &format!("blobs/{}", blob.digest),
            accept: "*/*",
            from: sink.offset,
            what: &format!("the layer {}", blob.digest),
        };
        let mut response = self.get(get).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&response) == Some(get.from) => {}
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                sink.restart().await.map_err(Ended::Store)?;
                let error = RegistryError::Cut {
                    registry: self.registry(),
                    detail: "it gave another part than was asked for".to_owned(),
                };
                return Err(Failure::passing(error).into());
            }
            // All of it: parts are not known there.
            _ if get.from > 0 => sink.restart().await.map_err(Ended::Store)?,
            _ => {}
        }
        if let Some(length) = response.content_length() {
            self.sized(blob, sink.offset.saturating_add(length))?;
        }
        loop {
            let mut next = std::pin::pin!(self.piece(&mut response));
            let piece = match tokio::time::timeout(GATHERING, &mut next).await {
                Ok(piece) => piece?,
                // What has come goes to the disk meanwhile: it may be all that comes.
                Err(_) => {
                    sink.flush().await.map_err(Ended::Store)?;
                    next.await?
                }
            };
            match piece {
                Some(piece) => sink.take(piece).await.map_err(Ended::Store)?,
                None => break,
            }
        }
        let here = sink.offset + sink.bytes as u64;
        if here < blob.size {
            let error = RegistryError::Cut {
                registry: self.registry(),
                detail: format!("it ended after {here} of {} bytes", blob.size),
            };
            return Err(Failure::passing(error).into());
        }
        Ok(())
    }

    fn sized(&self, blob: LayerBlob, found: u64) -> Result<(), Failure> {
        match found == blob.size {
            true => Ok(()),
            false => Err(Failure::Final(RegistryError::Size {
                registry: self.registry(),
                digest: blob.digest,
                expected: blob.size,
                found,
            })),
        }
    }

    /// What the store says of what came is the registry's doing.
    fn store_error(&self, error: StoreError) -> PullError {
        let registry = self.registry();
        match error {
            StoreError::WrongDigest { expected, found } => {
                PullError::Registry(RegistryError::Digest {
                    registry,
                    expected,
                    found,
                })
            }
            StoreError::WrongSize {
                digest,
                expected,
                found,
            } => PullError::Registry(RegistryError::Size {
                registry,
                digest,
                expected,
                found,
            }),
            error => PullError::Store(error),
        }
    }
}

impl Sink {
    fn new(writer: BlobWriter, told: Told) -> Self {
        Self {
            offset: writer.offset(),
            writer: Some(writer),
            gathered: Vec::new(),
            bytes: 0,
            since: Instant::now(),
            told,
        }
    }

    async fn take(&mut self, piece: Bytes) -> Result<(), StoreError> {
        self.bytes += piece.len();
        self.gathered.push(piece);
        match self.bytes >= GATHERED || self.since.elapsed() >= GATHERING {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        self.since = Instant::now();
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.is_empty() {
            return Ok(());
        }
        self.with(move |writer| gathered.iter().try_for_each(|piece| writer.write(piece)))
            .await
    }

    async fn restart(&mut self) -> Result<(), StoreError> {
        self.with(BlobWriter::restart).await
    }

    async fn with(
        &mut self,
        write: impl FnOnce(&mut BlobWriter) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let Some(mut writer) = self.writer.take() else {
            return Err(lost());
        };
        let written = tokio::task::spawn_blocking(move || {
            let written = write(&mut writer);
            (writer, written)
        });
        let (writer, written) = written.await.map_err(|_| lost())?;
        self.offset = writer.offset();
        self.writer = Some(writer);
        (self.told)(self.offset);
        written
    }
}

/// The first byte of a part.
fn begins_at(response: &Response) -> Option<u64> {
    first_byte(response.headers().get(CONTENT_RANGE)?.to_str().ok()?)
}

/// The same, of `bytes 200-999/1000`.
pub(super) fn first_byte(range: &str) -> Option<u64> {
    let range = range.trim().strip_prefix("bytes")?.trim_start();
    let (first, _) = range.split_once('-')?;
    first.trim().parse().ok()
}

pub(super) fn lost() -> StoreError {
    let source = std::io::Error::other("the program's event loop is shutting down");
    StoreError::Io {
        path: std::path::PathBuf::from("the image store"),
        source,
    }
}

pub(super) fn gone() -> PullError {
    PullError::Store(lost())
}
