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
    input: Watch,
    /// Whether the loop watches for room in the pipe.
    sink_watched: bool,
    ended: bool,
}

/// How the input is waited for. What is not wanted is not watched at all: a terminal that has hung up
/// would be reported for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    No,
    Yes,
    /// The loop cannot watch it: a regular file or the null device, which are always ready.
    Needless,
}

impl Keyboard {
    /// A keyboard; with `escape`, Ctrl-A is the escape key.
    pub fn new(from: OwnedFd, escape: Option<Escape>, sink: Sink) -> Self {
        Self {
            from,
            escape,
            sink,
            waiting: Vec::new(),
            input: Watch::No,
            sink_watched: false,
            ended: false,
        }
    }

    /// Starts to listen.
    pub fn start(&mut self, reg: &mut dyn Register) -> io::Result<()> {
        if let Sink::Serial(serial) = &self.sink {
            reg.add(serial.drained_fd(), Interest::READABLE, SINK)?;
            // There is room from the start, and that may be the only event that there is.
            serial.signal_drained();
        }
        self.watch(reg)
    }

    /// Serves an event. `true`: end the machine.
    pub fn ready(&mut self, tag: Tag, reg: &mut dyn Register) -> io::Result<bool> {
        if tag == SINK
            && let Sink::Serial(serial) = &self.sink
        {
            serial.clear_drained();
        }
        let readable = tag == INPUT || self.input == Watch::Needless;
        if readable && self.waiting.is_empty() && !self.ended && self.read()? {
            return Ok(true);
        }
        self.feed()?;
        self.watch(reg)?;
        Ok(false)
    }

    /// Watches the input while nothing waits for the guest, and the pipe while something does.
    fn watch(&mut self, reg: &mut dyn Register) -> io::Result<()> {
        let stuck = !self.waiting.is_empty();
        match (self.input, stuck || self.ended) {
            (Watch::No, false) => {
                self.input = match reg.add(self.from.as_fd(), Interest::READABLE, INPUT) {
                    Ok(()) => Watch::Yes,
                    Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                        Watch::Needless
                    }
                    Err(error) => return Err(error),
                };
            }
            (Watch::Yes, true) => {
                reg.remove(self.from.as_fd())?;
                self.input = Watch::No;
            }
            _ => {}
        }
        let Sink::Pipe(pipe) = &self.sink else {
            return Ok(());
        };
        match (self.sink_watched, stuck) {
            (false, true) => reg.add(pipe.as_fd(), Interest::WRITABLE, SINK)?,
            (true, false) => reg.remove(pipe.as_fd())?,
            _ => {}
        }
        self.sink_watched = stuck;
        Ok(())
    }

    /// Takes what was typed. `true`: end the machine.
    fn read(&mut self) -> io::Result<bool> {
        let mut bytes = [0; CHUNK];
        let bytes = match rustix::io::read(&self.from, &mut bytes) {
            Ok(0) | Err(Errno::IO) => {
                self.ended = true;
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

    /// Gives the guest what it has room for.
    fn feed(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let taken = match &self.sink {
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use crate::event_loop::EventLoop;

    #[test]
    fn a_long_paste_arrives_whole_and_in_order() {
        let mut events = EventLoop::new().unwrap();
        let slot = events.slot().unwrap();
        let (mut typist, from) = UnixStream::pair().unwrap();
        let (mut guest, sink) = UnixStream::pair().unwrap();
        sink.set_nonblocking(true).unwrap();
        guest.set_nonblocking(true).unwrap();
        let mut keyboard = Keyboard::new(from.into(), None, Sink::Pipe(sink.into()));
        keyboard.start(&mut events.register(slot)).unwrap();
        let paste: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        let copy = paste.clone();
        let typing = std::thread::spawn(move || typist.write_all(&copy).unwrap());
        let mut arrived = Vec::new();
        let mut tokens = Vec::new();
        let mut stuck = false;
        while arrived.len() < paste.len() {
            events.wait(&mut tokens).unwrap();
            for token in tokens.drain(..) {
                let mut reg = events.register(slot);
                assert!(!keyboard.ready(token.tag(), &mut reg).unwrap());
            }
            // The guest reads only when it has made the sink full, or at the end.
            let full = !keyboard.waiting.is_empty();
            stuck |= full;
            if full || keyboard.ended || arrived.len() + (1 << 16) > paste.len() || !stuck {
                let _ = guest.read_to_end(&mut arrived);
            }
        }
        assert_eq!(arrived, paste);
        typing.join().unwrap();
    }

    #[test]
    fn a_terminal_that_hung_up_is_watched_no_more() {
        let mut events = EventLoop::new().unwrap();
        let slot = events.slot().unwrap();
        let (typist, from) = UnixStream::pair().unwrap();
        let (_guest, sink) = UnixStream::pair().unwrap();
        let mut keyboard = Keyboard::new(from.into(), None, Sink::Pipe(sink.into()));
        keyboard.start(&mut events.register(slot)).unwrap();
        drop(typist);
        let mut tokens = Vec::new();
        events.wait(&mut tokens).unwrap();
        keyboard
            .ready(tokens[0].tag(), &mut events.register(slot))
            .unwrap();
        assert!(keyboard.ended && keyboard.input == Watch::No);
    }

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
