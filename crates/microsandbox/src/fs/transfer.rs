//! Copies between host and guest.
//!
//! The host's files are worked on by a thread that may block (`msb_files`), the conversation by
//! this task, and between the two is a short queue. Either side's error ends the other: the
//! thread finds the queue closed and removes what it made, the conversation is closed.

use std::path::PathBuf;

use msb_files::{TreeWriter, cancelled, export};
use msb_protocol::{FsAnswer, FsFailure, FsFailureKind, FsPart};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::call::{Call, out_of_turn};
use super::{FsError, FsSide};
use crate::blocking::shutting_down;
use crate::error::MicrosandboxResult;

/// How many parts wait between the two; each has at most 64 KiB.
const QUEUE: usize = 4;

/// What a file or directory counts, beside its contents.
const ENTRY_BYTES: u64 = 4096;

/// What the writing thread is told.
enum Told {
    Part(FsPart),
    /// That was all of it.
    Finish,
}

/// Copies what is at `source` into the operation that `dial` opens.
pub(super) async fn from_host(
    source: PathBuf,
    dial: impl Future<Output = MicrosandboxResult<Call>>,
) -> MicrosandboxResult<()> {
    let (queue, mut parts) = mpsc::channel(QUEUE);
    let reading = spawn_blocking(move || {
        export(&source, &mut |part| {
            queue.blocking_send(part).map_err(|_| cancelled())
        })
    });
    // Nothing is asked of the guest if there is nothing to copy.
    let Some(first) = parts.recv().await else {
        return host(reading).await;
    };
    let mut call = dial.await?;
    call.opened().await?;
    call.part(first).await?;
    while let Some(part) = parts.recv().await {
        call.part(part).await?;
    }
    host(reading).await?;
    call.finish().await
}

/// Copies what the operation that `dial` opens gives out to `target`.
pub(super) async fn to_host(
    target: PathBuf,
    dial: impl Future<Output = MicrosandboxResult<Call>>,
    limit: u64,
) -> MicrosandboxResult<()> {
    let writer = host(spawn_blocking(move || TreeWriter::new(&target))).await?;
    let mut call = dial.await?;
    let (queue, parts) = mpsc::channel(QUEUE);
    let writing = spawn_blocking(move || write(writer, parts));
    let received = receive(&mut call, queue, limit).await;
    // When this returns, what is to be removed is removed.
    match (received, host(writing).await) {
        // The thread only noticed that there is no more.
        (Err(error), _) => Err(error),
        (Ok(()), written) => written,
    }
}

/// Hands on what the guest gives out. It also ends when the other side of the queue has.
async fn receive(call: &mut Call, queue: mpsc::Sender<Told>, limit: u64) -> MicrosandboxResult<()> {
    let mut left = limit;
    loop {
        let told = match call.next().await? {
            FsAnswer::Part(part) => {
                let cost = match &part {
                    FsPart::Entry(_) => ENTRY_BYTES,
                    FsPart::Data(data) => u64::try_from(data.len()).unwrap_or(u64::MAX),
                    _ => 0,
                };
                left = left.checked_sub(cost).ok_or_else(|| {
                    let message = format!("the copy is more than its limit of {limit} bytes");
                    FsError::guest(FsFailureKind::TooLarge, message)
                })?;
                Told::Part(part)
            }
            FsAnswer::Done => Told::Finish,
            _ => return Err(out_of_turn()),
        };
        let last = matches!(told, Told::Finish);
        if queue.send(told).await.is_err() || last {
            return Ok(());
        }
    }
}

/// Makes the tree, on a thread that may block.
fn write(mut writer: TreeWriter, mut parts: mpsc::Receiver<Told>) -> Result<(), FsFailure> {
    while let Some(told) = parts.blocking_recv() {
        match told {
            Told::Part(part) => writer.part(part)?,
            Told::Finish => return writer.finish(),
        }
    }
    Err(cancelled())
}

/// What a thread that works on the host's files has come to.
async fn host<T>(work: JoinHandle<Result<T, FsFailure>>) -> MicrosandboxResult<T> {
    match work.await {
        Ok(result) => result.map_err(|failure| {
            let side = match failure.kind {
                // What the guest sent was at fault, and not what is on the host.
                FsFailureKind::BadTree | FsFailureKind::InvalidName => FsSide::Guest,
                _ => FsSide::Host,
            };
            FsError::of(failure, side).into()
        }),
        Err(_) => Err(shutting_down()),
    }
}
