//! virtio-console: one port of bytes in both directions (virtio 1.2, section 5.3).
//!
//! What the guest writes goes to the output at once if that takes it. What the output does not take
//! waits in a bounded buffer, and what does not fit there is dropped, counted, and said in the output
//! once there is room. Holding the guest's buffer instead would look kinder, but a Linux guest spins
//! with interrupts off until its console takes a line: one unread pipe would stop the machine.
//!
//! What the host writes is read only into buffers that the guest has offered, so input that nobody
//! takes stays with whoever sent it.
//!
//! Both descriptors may be a terminal or a pipe that other processes share, so their flags are left
//! alone; `stream` has the ways not to wait on them.

mod stream;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock};

use crate::{
    COMMON_FEATURES, ConfigSpace, Device, Fault, GuestRam, Interest, Irq, Live, Placement, Queue,
    Register, Spec, StartError, Tag,
};
use stream::Stream;

/// Output that may wait for a slow reader.
const BUFFER_BYTES: usize = 64 << 10;
/// Output taken from one chain; Linux writes at most 32 KiB at a time.
const MAX_WRITE: u32 = 1 << 20;
/// Bytes moved at a time, in either direction.
const PIECE: usize = 4096;
/// Chains before other devices of the loop have their turn.
const BATCH: usize = 64;

const RX: usize = 0;
const TX: usize = 1;
const INPUT: Tag = Tag(0x1_0000);
const OUTPUT: Tag = Tag(0x1_0001);

static SPEC: LazyLock<Spec> = LazyLock::new(|| Spec {
    kind: virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE,
    name: "console",
    features: COMMON_FEATURES,
    queue_sizes: vec![64, 64],
    placement: Placement::Shared,
});

/// A console.
#[derive(Debug)]
pub struct Console {
    config: Arc<ConfigSpace>,
    input: Input,
    output: Output,
    live: Option<Live>,
}

/// Where the guest's input comes from.
#[derive(Debug)]
struct Input {
    /// `None`: there is none, or it has ended.
    stream: Option<Stream>,
    watch: Watch,
}

/// Whether the event loop reports readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    No,
    Yes,
    /// The loop cannot watch a regular file or the null device; neither ever waits.
    Needless,
}

/// Where the guest's output goes.
#[derive(Debug)]
struct Output {
    stream: Option<Stream>,
    /// The reader has gone; the stream is closed once the loop no longer watches it.
    gone: bool,
    waiting: VecDeque<u8>,
    /// Bytes dropped since the last time that it was said.
    dropped: u64,
    watched: bool,
}

impl Console {
    /// A console between the guest and two descriptors.
    pub fn new(input: Option<OwnedFd>, output: OwnedFd) -> Self {
        Self {
            // struct virtio_console_config: all of it belongs to features that are not offered.
            config: ConfigSpace::new(&[0; 12]),
            input: Input {
                stream: input.map(Stream::new),
                watch: Watch::No,
            },
            output: Output {
                stream: Some(Stream::new(output)),
                gone: false,
                waiting: VecDeque::new(),
                dropped: 0,
                watched: false,
            },
            live: None,
        }
    }
}

impl Device for Console {
    fn spec(&self) -> &Spec {
        &SPEC
    }

    fn config(&self) -> Arc<ConfigSpace> {
        Arc::clone(&self.config)
    }

    fn start(&mut self, live: Live, reg: &mut dyn Register) -> Result<(), StartError> {
        let live = self.live.insert(live);
        live.register_kicks(&SPEC, reg)?;
        self.input.watch = Watch::No;
        self.output.watched = false;
        Ok(self.output.flush(reg)?)
    }

    fn ready(&mut self, tag: Tag, reg: &mut dyn Register) -> Result<(), Fault> {
        let Some(live) = self.live.as_mut() else {
            return Ok(());
        };
        let Live {
            mem, irq, queues, ..
        } = live;
        let [rx, tx] = queues.as_mut_slice() else {
            return Ok(());
        };
        match tag {
            OUTPUT => self.output.flush(reg),
            INPUT => self.input.pump(mem, irq, rx, reg),
            tag if tag == kick(RX) => {
                rx.clear_kick();
                self.input.pump(mem, irq, rx, reg)
            }
            tag if tag == kick(TX) => {
                tx.clear_kick();
                self.output.pump(mem, irq, tx, reg)
            }
            _ => Ok(()),
        }
    }

    fn stop(&mut self) -> Vec<Queue> {
        self.input.watch = Watch::No;
        self.output.watched = false;
        self.output.write_waiting();
        self.live.take().map(|live| live.queues).unwrap_or_default()
    }
}

const fn kick(queue: usize) -> Tag {
    Tag::queue(if queue == RX { 0 } else { 1 })
}

impl Input {
    /// Reads into the guest's buffers until there is no more of one or the other.
    fn pump(
        &mut self,
        mem: &GuestRam,
        irq: &Irq,
        rx: &mut Queue,
        reg: &mut dyn Register,
    ) -> Result<(), Fault> {
        for _ in 0..BATCH {
            let Some(stream) = &self.stream else {
                return rx.signal(mem, irq);
            };
            let Some(chain) = rx.pop(mem)? else {
                if rx.enable_kicks(mem)? {
                    continue;
                }
                // Nowhere to put it: look again when the guest offers a buffer.
                self.unwatch(reg)?;
                return rx.signal(mem, irq);
            };
            if chain.writable_len() == 0 {
                return Err(Fault::Malformed {
                    device: "console",
                    problem: "a receive buffer that cannot be written",
                });
            }
            let pieces = chain.writable_iovecs(mem, 0, PIECE)?;
            match stream.read(&pieces) {
                Ok(bytes) if bytes > 0 => {
                    let bytes = u32::try_from(bytes).unwrap_or_default();
                    rx.complete(mem, chain, bytes)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    rx.undo_pop(chain);
                    self.watch(reg)?;
                    return rx.signal(mem, irq);
                }
                // The end, or a terminal that has gone away, which is the same to a guest.
                Ok(_) | Err(_) => {
                    rx.undo_pop(chain);
                    self.unwatch(reg)?;
                    self.stream = None;
                }
            }
        }
        rx.signal(mem, irq)?;
        rx.kick_again()
    }

    fn watch(&mut self, reg: &mut dyn Register) -> Result<(), Fault> {
        let (Some(stream), Watch::No) = (&self.stream, self.watch) else {
            return Ok(());
        };
        self.watch = match reg.add(stream.fd(), Interest::READABLE, INPUT) {
            Ok(()) => Watch::Yes,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Watch::Needless,
            Err(error) => return Err(Fault::Host(error)),
        };
        Ok(())
    }

    fn unwatch(&mut self, reg: &mut dyn Register) -> Result<(), Fault> {
        if let (Some(stream), Watch::Yes) = (&self.stream, self.watch) {
            reg.remove(stream.fd()).map_err(Fault::Host)?;
            self.watch = Watch::No;
        }
        Ok(())
    }
}

impl Output {
    /// Takes what the guest has written.
    fn pump(
        &mut self,
        mem: &GuestRam,
        irq: &Irq,
        tx: &mut Queue,
        reg: &mut dyn Register,
    ) -> Result<(), Fault> {
        for _ in 0..BATCH {
            let Some(chain) = tx.pop(mem)? else {
                tx.signal(mem, irq)?;
                if tx.enable_kicks(mem)? {
                    continue;
                }
                return self.flush(reg);
            };
            let len = chain.readable_len().min(MAX_WRITE);
            let mut at = 0;
            while at < len {
                let mut piece = [0; PIECE];
                let here = usize::try_from(len - at).unwrap_or(PIECE).min(PIECE);
                let piece = piece.get_mut(..here).unwrap_or_default();
                chain.read_at(mem, at, piece)?;
                self.take(piece);
                at += u32::try_from(here).unwrap_or(u32::MAX);
            }
            self.dropped += u64::from(chain.readable_len() - len);
            tx.complete(mem, chain, 0)?;
        }
        tx.signal(mem, irq)?;
        tx.kick_again()?;
        self.flush(reg)
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.waiting.is_empty() && self.dropped == 0 {
            let done = self.write(bytes);
            bytes = bytes.get(done..).unwrap_or_default();
        }
        if self.gone {
            return;
        }
        // Once something was dropped, all that follows is, until the gap has been told of.
        let room = match self.dropped {
            0 => BUFFER_BYTES.saturating_sub(self.waiting.len()),
            _ => 0,
        };
        let (kept, lost) = bytes.split_at(room.min(bytes.len()));
        self.waiting.extend(kept);
        self.dropped += lost.len() as u64;
    }

    /// Writes what waits, as far as the reader takes it, and asks to be told of room for the rest.
    fn flush(&mut self, reg: &mut dyn Register) -> Result<(), Fault> {
        self.write_waiting();
        let Some(stream) = &self.stream else {
            return Ok(());
        };
        let wanted = !self.waiting.is_empty();
        if wanted != self.watched {
            if wanted {
                reg.add(stream.fd(), Interest::WRITABLE, OUTPUT)
            } else {
                reg.remove(stream.fd())
            }
            .map_err(Fault::Host)?;
            self.watched = wanted;
        }
        if self.gone {
            self.stream = None;
        }
        Ok(())
    }

    fn write_waiting(&mut self) {
        loop {
            if self.waiting.is_empty() && self.dropped > 0 && !self.gone {
                let note = format!("\r\n[{} bytes of console output dropped]\r\n", self.dropped);
                self.waiting.extend(note.as_bytes());
                self.dropped = 0;
            }
            let waiting = std::mem::take(&mut self.waiting);
            let done = self.write(waiting.as_slices().0);
            self.waiting = waiting;
            self.waiting.drain(..done.min(self.waiting.len()));
            if self.gone {
                self.waiting.clear();
            }
            if self.waiting.is_empty() {
                self.waiting.shrink_to(PIECE);
            }
            let more = !self.waiting.is_empty() || self.dropped > 0;
            if done == 0 || !more {
                return;
            }
        }
    }

    /// How many of `bytes` the reader took. A reader that has gone takes none, ever again.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let Some(stream) = self.stream.as_ref().filter(|_| !self.gone) else {
            return 0;
        };
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match stream.write(rest) {
                Ok(bytes) if bytes > 0 => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => {
                    tracing::info!("console output has no reader any more");
                    self.gone = true;
                    break;
                }
            }
        }
        done
    }
}
