//! From the command's output to its viewer, and a copy of it to the monitor.
//!
//! A chunk is read only when the one before it has been sent, so a viewer that stops
//! reading stops the command at its next full pipe, and nothing is held here but one chunk.

use bytes::Bytes;
use msb_protocol::{GuestMessage, MAX_CHUNK};
use tokio::select;

use crate::channel::{Channel, ChannelError};
use crate::reaper::Process;
use crate::stream::Stream;

/// The most that is taken from a stream after the command's end, in case somebody else
/// goes on writing to it: as much as a pipe can hold (`fs.pipe-max-size`).
const LEFT_BEHIND_MAX: usize = 1024 * 1024;

/// Sends on what `source` gives, until it ends or the command does.
///
/// Whatever the command wrote is sent. But it may have left a process behind that keeps
/// the stream open, perhaps for ever; nobody waits for what that one will write.
pub(super) async fn forward(
    source: &Stream,
    wrap: impl Fn(Bytes) -> GuestMessage,
    copy: impl Fn(&Bytes),
    process: &Process,
    channel: &Channel,
) -> Result<(), ChannelError> {
    loop {
        let chunk = select! {
            chunk = source.read(MAX_CHUNK, Bytes::copy_from_slice) => chunk,
            _ = process.ended() => break,
        };
        match chunk {
            Ok(chunk) if !chunk.is_empty() => {
                copy(&chunk);
                channel.send(&wrap(chunk)).await?;
            }
            // The end: of a pipe by saying so, of a terminal by an error.
            Ok(_) | Err(_) => return Ok(()),
        }
    }
    let mut left = LEFT_BEHIND_MAX;
    while left > 0 {
        match source.read_now(left.min(MAX_CHUNK), Bytes::copy_from_slice) {
            Ok(Some(chunk)) if !chunk.is_empty() => {
                left -= chunk.len();
                copy(&chunk);
                channel.send(&wrap(chunk)).await?;
            }
            Ok(_) | Err(_) => break,
        }
    }
    Ok(())
}
