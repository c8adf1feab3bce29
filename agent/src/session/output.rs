//! From the command's output into its ring, and a copy of it to the monitor.
//!
//! A chunk is read only when the ring has room. With a viewer there is room when the viewer
//! has what came before, so one that stops reading stops the command at its next full pipe.

use bytes::Bytes;
use msb_protocol::{MAX_CHUNK, OutputSource};
use tokio::select;

use super::Session;
use crate::stream::Stream;

/// The most that is taken from a stream after the command's end, in case somebody else
/// goes on writing to it: as much as a pipe can hold (`fs.pipe-max-size`).
const LEFT_BEHIND_MAX: usize = 1024 * 1024;

/// Takes in what `stream` gives, until it ends or the command does.
///
/// Whatever the command wrote is taken. But it may have left a process behind that keeps
/// the stream open, perhaps for ever; nobody waits for what that one will write.
pub(super) async fn take_in(session: &Session, source: OutputSource, stream: &Stream) {
    let process = &*session.process;
    let running = async {
        loop {
            session.room().await;
            match stream.read(MAX_CHUNK, Bytes::copy_from_slice).await {
                Ok(chunk) if !chunk.is_empty() => session.wrote(source, chunk),
                // The end: of a pipe by saying so, of a terminal by an error.
                Ok(_) | Err(_) => return,
            }
        }
    };
    select! {
        () = running => return,
        _ = process.ended() => {}
    }
    let mut left = LEFT_BEHIND_MAX;
    while left > 0 {
        session.room().await;
        match stream.read_now(left.min(MAX_CHUNK), Bytes::copy_from_slice) {
            Ok(Some(chunk)) if !chunk.is_empty() => {
                left -= chunk.len();
                session.wrote(source, chunk);
            }
            Ok(_) | Err(_) => break,
        }
    }
}
