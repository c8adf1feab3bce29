//! The conversation between `cargo xtask kvm` on the host and its runner in the nested machine.
//!
//! They share one byte stream, a virtio serial port. Each frame is a kind (one byte), a length
//! (four bytes, little-endian) and that many bytes. The host begins with `Start`; the runner ends
//! with `Exit` or `Failed`. Standard input is given in small credit, for a command that never reads
//! it must not stop the signals behind it: the host sends no more than [`STDIN_WINDOW`] bytes beyond
//! what `StdinTaken` has acknowledged.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The largest body of a frame: a command line and an environment fit (the kernel's own limit for
/// both together is 2 MiB on common settings), and nothing is allocated beyond it.
pub(crate) const MAX_BODY: usize = 8 << 20;
/// How much standard input may be under way.
pub(crate) const STDIN_WINDOW: usize = 256 << 10;
/// How much one data frame carries.
pub(crate) const CHUNK: usize = 32 << 10;

/// One message. The upper half goes to the runner, the lower half comes from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Run this.
    Start(Call),
    /// Bytes for the command's standard input; none means its end.
    Stdin(Vec<u8>),
    /// Deliver a signal to the command's process group.
    Signal(i32),
    /// Nobody reads standard output any more (or standard error).
    Closed(Stream),

    /// The runner is up and waits for `Start`.
    Ready,
    /// Bytes that the command wrote.
    Output(Stream, Vec<u8>),
    /// The command's pipe took so many bytes of standard input.
    StdinTaken(u32),
    /// The command ended by itself, with this code.
    Exited(i32),
    /// A signal ended the command.
    Killed(i32),
    /// The command could not be started: the operating system's error number and a sentence.
    Failed(i32, String),
}

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A command with its surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The program and its arguments.
    pub(crate) argv: Vec<OsString>,
    /// The whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The working directory.
    pub(crate) cwd: OsString,
}

impl Frame {
    /// Writes the frame with a single call, so that frames of several threads do not mix as long as
    /// each holds the lock on the stream.
    pub(crate) fn write_to(&self, mut to: impl Write) -> io::Result<()> {
        let (kind, body) = self.encode();
        let length = u32::try_from(body.len())
            .ok()
            .filter(|_| body.len() <= MAX_BODY)
            .ok_or_else(|| io::Error::other("arguments and environment are over 8 MiB"))?;
        let mut bytes = Vec::with_capacity(5 + body.len());
        bytes.push(kind);
        bytes.extend(length.to_le_bytes());
        bytes.extend(body);
        to.write_all(&bytes)
    }

    /// Reads the next frame; `None` at the end of the stream between two frames.
    pub(crate) fn read_from(mut from: impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 5];
        let got = from.read(&mut head[..1])?;
        if got == 0 {
            return Ok(None);
        }
        from.read_exact(&mut head[1..])?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_le_bytes(length)).map_err(invalid)?;
        if length > MAX_BODY {
            return Err(invalid("a frame is too long"));
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        Self::decode(kind, body).map(Some)
    }

    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Start(call) => (1, call.encode()),
            Self::Stdin(bytes) => (2, bytes.clone()),
            Self::Signal(signal) => (3, signal.to_le_bytes().to_vec()),
            Self::Closed(Stream::Out) => (4, Vec::new()),
            Self::Closed(Stream::Err) => (5, Vec::new()),
            Self::Ready => (6, Vec::new()),
            Self::Output(Stream::Out, bytes) => (7, bytes.clone()),
            Self::Output(Stream::Err, bytes) => (8, bytes.clone()),
            Self::StdinTaken(count) => (9, count.to_le_bytes().to_vec()),
            Self::Exited(code) => (10, code.to_le_bytes().to_vec()),
            Self::Killed(signal) => (11, signal.to_le_bytes().to_vec()),
            Self::Failed(errno, text) => {
                let mut body = errno.to_le_bytes().to_vec();
                body.extend(text.as_bytes());
                (12, body)
            }
        }
    }

    fn decode(kind: u8, body: Vec<u8>) -> io::Result<Self> {
        let number = |bytes: &[u8]| bytes.try_into().map(i32::from_le_bytes).map_err(invalid);
        let empty = |frame| {
            if body.is_empty() {
                Ok(frame)
            } else {
                Err(invalid("body too long"))
            }
        };
        match kind {
            1 => Call::decode(&body).map(Self::Start),
            2 => Ok(Self::Stdin(body)),
            3 => number(&body).map(Self::Signal),
            4 => empty(Self::Closed(Stream::Out)),
            5 => empty(Self::Closed(Stream::Err)),
            6 => empty(Self::Ready),
            7 => Ok(Self::Output(Stream::Out, body)),
            8 => Ok(Self::Output(Stream::Err, body)),
            9 => number(&body).map(|count| Self::StdinTaken(count.unsigned_abs())),
            10 => number(&body).map(Self::Exited),
            11 => number(&body).map(Self::Killed),
            12 => {
                let (errno, text) = body
                    .split_first_chunk::<4>()
                    .ok_or_else(|| invalid("short"))?;
                let text = String::from_utf8_lossy(text).into_owned();
                Ok(Self::Failed(i32::from_le_bytes(*errno), text))
            }
            _ => Err(invalid("unknown kind of frame")),
        }
    }
}

impl Call {
    /// Every string ends with a zero byte, which none of them can hold: the working directory, the
    /// number of arguments in decimal, the arguments, then names and values in turn.
    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let mut put = |text: &OsString| {
            body.extend(text.as_bytes());
            body.push(0);
        };
        put(&self.cwd);
        put(&OsString::from(self.argv.len().to_string()));
        self.argv.iter().for_each(&mut put);
        for (name, value) in &self.env {
            put(name);
            put(value);
        }
        body
    }

    fn decode(body: &[u8]) -> io::Result<Self> {
        let body = match body {
            [body @ .., 0] => body,
            _ => return Err(invalid("a command does not end with zero")),
        };
        let mut words = body
            .split(|byte| *byte == 0)
            .map(|word| OsString::from_vec(word.to_vec()));
        let mut next = || {
            words
                .next()
                .ok_or_else(|| invalid("a command is cut short"))
        };
        let cwd = next()?;
        let count: usize = next()?
            .to_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| invalid("a command has no argument count"))?;
        let mut argv = Vec::new();
        for _ in 0..count {
            argv.push(next()?);
        }
        let mut env = Vec::new();
        while let Some(name) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| invalid("a variable has no value"))?;
            env.push((name, value));
        }
        Ok(Self { argv, env, cwd })
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word() -> impl Strategy<Value = OsString> {
        prop::collection::vec(1_u8.., 0..20).prop_map(OsString::from_vec)
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..200);
        prop_oneof![
            (
                prop::collection::vec(word(), 0..5),
                prop::collection::vec((word(), word()), 0..5),
                word()
            )
                .prop_map(|(argv, env, cwd)| Frame::Start(Call { argv, env, cwd })),
            bytes().prop_map(Frame::Stdin),
            any::<i32>().prop_map(Frame::Signal),
            Just(Frame::Closed(Stream::Out)),
            Just(Frame::Closed(Stream::Err)),
            Just(Frame::Ready),
            bytes().prop_map(|bytes| Frame::Output(Stream::Out, bytes)),
            bytes().prop_map(|bytes| Frame::Output(Stream::Err, bytes)),
            (0_u32..1 << 30).prop_map(Frame::StdinTaken),
            any::<i32>().prop_map(Frame::Exited),
            any::<i32>().prop_map(Frame::Killed),
            (any::<i32>(), "[a-z ]{0,20}").prop_map(|(errno, text)| Frame::Failed(errno, text)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(frames in prop::collection::vec(frame(), 0..10)) {
            let mut bytes = Vec::new();
            for frame in &frames {
                frame.write_to(&mut bytes).unwrap();
            }
            let mut input = bytes.as_slice();
            let mut read = Vec::new();
            while let Some(frame) = Frame::read_from(&mut input).unwrap() {
                read.push(frame);
            }
            prop_assert_eq!(read, frames);
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut input = bytes.as_slice();
            while let Ok(Some(_)) = Frame::read_from(&mut input) {}
        }
    }

    #[test]
    fn a_cut_frame_is_an_error_and_a_clean_end_is_not() {
        let mut bytes = Vec::new();
        Frame::Stdin(b"abc".to_vec()).write_to(&mut bytes).unwrap();
        assert!(Frame::read_from(&bytes[..6]).is_err());
        assert!(Frame::read_from(&bytes[..0]).unwrap().is_none());
    }

    #[test]
    fn length_is_checked_before_memory_is_taken() {
        let mut bytes = vec![2];
        bytes.extend(u32::MAX.to_le_bytes());
        assert_eq!(
            Frame::read_from(bytes.as_slice()).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
