//! From standard input to the guest, with an eye for the escape key.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use vmm_virtio::{Interest, Register, Tag};

use crate::legacy::Serial;

const CTRL_A: u8 = 1;

/// Bytes taken from the terminal at a time; no more are taken while these wait.
const CHUNK: usize = 256;

const INPUT: Tag = Tag(0);
const SINK: Tag = Tag(1);

/// What a byte typed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// For the guest.
    Send(u8),
    /// End the machine.
    Quit,
    /// Nothing yet, or nothing at all.
    Nothing,
}

/// Recognises the escape sequences.
#[derive(Clone, Copy, Debug, Default)]
pub struct Escape {
    escaped: bool,
}

impl Escape {
    /// Takes one byte typed.
    pub fn key(&mut self, byte: u8) -> Key {
        match (std::mem::take(&mut self.escaped), byte) {
            (true, b'x' | b'X') => Key::Quit,
            (true, CTRL_A) => Key::Send(CTRL_A),
            (true, _) => Key::Nothing,
            (false, CTRL_A) => {
                self.escaped = true;
                Key::Nothing
            }
            (false, byte) => Key::Send(byte),
        }
    }
}

/// Where the keys go.
#[derive(Debug)]
pub enum Sink {
    /// The console device reads the other end of this pipe.
    Pipe(OwnedFd),
    /// The serial port.
    Serial(Arc<Serial>),
}

/// Feeds standard input to the guest.
#[derive(Debug)]
pub struct Keyboard {
    from: OwnedFd,
    /// `None` when it is not a person at a terminal.
    escape: Option<Escape>,
    sink: Sink,
    waiting: Vec<u8>,
    /// The loop cannot watch it: a regular file or the null device, which are always ready.
    always_ready: bool,
    ended: bool,
}

impl Keyboard {
    /// A keyboard; with `escape`, Ctrl-A is the escape key.
    pub fn new(from: OwnedFd, escape: Option<Escape>, sink: Sink) -> Self {
        Self {
            from,
            escape,
            sink,
            waiting: Vec::new(),
            always_ready: false,
            ended: false,
        }
    }

    /// Starts to listen.
    pub fn start(&mut self, reg: &mut dyn Register) -> io::Result<()> {
        match &self.sink {
            Sink::Pipe(pipe) => reg.add(pipe.as_fd(), Interest::NONE, SINK)?,
            Sink::Serial(serial) => reg.add(serial.drained_fd(), Interest::READABLE, SINK)?,
        }
        match reg.add(self.from.as_fd(), Interest::READABLE, INPUT) {
            Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                self.always_ready = true;
                Ok(())
            }
            result => result,
        }
    }

    /// Serves an event. `true`: end the machine.
    pub fn ready(&mut self, tag: Tag, reg: &mut dyn Register) -> io::Result<bool> {
        if tag == SINK
            && let Sink::Serial(serial) = &self.sink
        {
            serial.clear_drained();
        }
        let readable = tag == INPUT || self.always_ready;
        let mut quit = false;
        if readable && self.waiting.is_empty() && !self.ended {
            quit = self.read(reg)?;
        }
        self.feed(reg)?;
        Ok(quit)
    }

    fn read(&mut self, reg: &mut dyn Register) -> io::Result<bool> {
        let mut bytes = [0; CHUNK];
        let bytes = match rustix::io::read(&self.from, &mut bytes) {
            Ok(0) | Err(Errno::IO) => {
                self.ended = true;
                if !self.always_ready {
                    reg.remove(self.from.as_fd())?;
                }
                return Ok(false);
            }
            Ok(count) => bytes.get(..count).unwrap_or_default().to_vec(),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        let Some(escape) = &mut self.escape else {
            self.waiting = bytes;
            return Ok(false);
        };
        for byte in bytes {
            match escape.key(byte) {
                Key::Send(byte) => self.waiting.push(byte),
                Key::Quit => return Ok(true),
                Key::Nothing => {}
            }
        }
        Ok(false)
    }

    /// Gives the guest what it has room for, and stops listening while something is left.
    fn feed(&mut self, reg: &mut dyn Register) -> io::Result<()> {
        let had_some = !self.waiting.is_empty();
        let taken = match &self.sink {
            _ if !had_some => 0,
            Sink::Pipe(pipe) => match rustix::io::write(pipe, &self.waiting) {
                Ok(taken) => taken,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(errno) => return Err(errno.into()),
            },
            Sink::Serial(serial) => {
                let room = serial.room().min(self.waiting.len());
                serial
                    .input(self.waiting.get(..room).unwrap_or_default())
                    .map_err(io::Error::other)?
            }
        };
        self.waiting.drain(..taken.min(self.waiting.len()));
        let stuck = !self.waiting.is_empty();
        if !self.always_ready && !self.ended {
            let interest = if stuck {
                Interest::NONE
            } else {
                Interest::READABLE
            };
            reg.modify(self.from.as_fd(), interest, INPUT)?;
        }
        if let Sink::Pipe(pipe) = &self.sink {
            let interest = if stuck {
                Interest::WRITABLE
            } else {
                Interest::NONE
            };
            reg.modify(pipe.as_fd(), interest, SINK)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_key() {
        let typed = |bytes: &[u8]| {
            let mut escape = Escape::default();
            bytes.iter().map(|b| escape.key(*b)).collect::<Vec<_>>()
        };
        assert_eq!(typed(b"ax"), [Key::Send(b'a'), Key::Send(b'x')]);
        assert_eq!(typed(b"\x01x"), [Key::Nothing, Key::Quit]);
        assert_eq!(typed(b"\x01\x01"), [Key::Nothing, Key::Send(1)]);
        assert_eq!(
            typed(b"\x01bx"),
            [Key::Nothing, Key::Nothing, Key::Send(b'x')]
        );
    }
}
