//! The guest's console: all of it goes to `kernel.log`, and its end is shown when a boot fails.
//!
//! One thing in it is acted upon: the kernel's last words, when the program that was its init has ended.
//! Nobody in the guest is left then to tell it. A guest may write there what it likes, and is believed
//! only about itself.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use super::logger::{Piece, Pieces};

/// How much of the console is kept.
const TAIL_BYTES: usize = 8 * 1024;

/// What the kernel says before it stops because its init has ended; a wait status follows.
const INIT_ENDED: &str = "Attempted to kill init! exitcode=0x";

/// The last bytes that came through a pipe.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConsoleTail {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    closed: Arc<watch::Sender<bool>>,
}

impl ConsoleTail {
    /// Reads `pipe` until it closes, hands all on to `log`, and keeps the tail.
    pub(crate) fn follow(&self, pipe: Receiver, log: Pieces) {
        let tail = self.clone();
        tokio::spawn(async move {
            // What was read until then is all that there is.
            let _ = tail.read(pipe, log).await;
            tail.closed.send_replace(true);
        });
    }

    /// Waits until all is read that ever comes.
    pub(crate) async fn closed(&self) {
        // Fails only if the sender is gone, which is `self`.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// What is kept, as text; bytes that are not UTF-8 are replaced.
    pub(crate) fn text(&self) -> String {
        let mut kept = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }

    async fn read(&self, mut pipe: Receiver, log: Pieces) -> io::Result<()> {
        let mut chunk = [0; 1024];
        loop {
            let count = pipe.read(&mut chunk).await?;
            if count == 0 {
                return Ok(());
            }
            let bytes = chunk.get(..count).unwrap_or_default();
            {
                let mut kept = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(bytes);
                let excess = kept.len().saturating_sub(TAIL_BYTES);
                kept.drain(..excess);
            }
            // A log that cannot be written any more is no reason to stop reading.
            let _ = log
                .send(Piece::Console(Bytes::copy_from_slice(bytes)))
                .await;
        }
    }
}

/// How the init ended, if the console says that it did.
pub(crate) fn init_ended(console: &str) -> Option<String> {
    let (_, after) = console.rsplit_once(INIT_ENDED)?;
    let status = u32::from_str_radix(after.get(..8)?, 16).ok()?;
    Some(match (status & 0x7f, status >> 8 & 0xff) {
        (0, code) => format!("exit code {code}"),
        (signal, _) => format!("signal {signal}"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernels_last_words_say_how_the_init_ended() {
        let said = |words: &str| init_ended(words);
        let panic = "[    0.5] Kernel panic - not syncing: Attempted to kill init! exitcode=0x";
        assert_eq!(
            said(&format!("{panic}00000300\r\n")).unwrap(),
            "exit code 3"
        );
        assert_eq!(said(&format!("{panic}00000009\n...")).unwrap(), "signal 9");
        assert_eq!(said(&format!("{panic}0000008b")).unwrap(), "signal 11");
        assert_eq!(said(&format!("{panic}000003")), None);
        assert_eq!(said("Kernel panic - not syncing: Fatal exception"), None);
    }

    proptest! {
        #[test]
        fn any_console_is_read(console in ".{0,64}(Attempted to kill init! exitcode=0x.{0,16})?") {
            init_ended(&console);
        }
    }
}
