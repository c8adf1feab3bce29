//! What passes between a machine and its porter: fixed bytes, and a descriptor beside an answer.
//!
//! ```text
//! errand   number  kind (0 connect, 1 leave)  port     3 × u32, little-endian
//! answer   number  errno, or 0                         2 × u32, little-endian
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

const CONNECT: u32 = 0;
const LEAVE: u32 = 1;

/// Bytes of an errand.
pub(super) const ERRAND: usize = 12;
/// Bytes of an answer.
const ANSWER: usize = 8;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Connect to whoever serves this port of the host.
    Connect(u32),
    /// Remove the machine's sockets, and end.
    Leave,
}

/// One request to the porter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Errand {
    /// Repeated in the answer.
    pub(super) number: u32,
    pub(super) what: What,
}

impl Errand {
    pub(super) fn encode(self) -> [u8; ERRAND] {
        let (kind, port) = match self.what {
            What::Connect(port) => (CONNECT, port),
            What::Leave => (LEAVE, 0),
        };
        let words = [self.number, kind, port].map(u32::to_le_bytes);
        let mut bytes = [0; ERRAND];
        for (to, from) in bytes.iter_mut().zip(words.as_flattened()) {
            *to = *from;
        }
        bytes
    }

    /// `None` for what no machine of ours sends.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<4>() else {
            return None;
        };
        let &[number, kind, port] = words else {
            return None;
        };
        let what = match u32::from_le_bytes(kind) {
            CONNECT => What::Connect(u32::from_le_bytes(port)),
            LEAVE => What::Leave,
            _ => return None,
        };
        Some(Self {
            number: u32::from_le_bytes(number),
            what,
        })
    }
}

/// What came of an errand.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) number: u32,
    /// The connection, if that was the errand.
    pub(super) result: io::Result<Option<OwnedFd>>,
}

impl Answer {
    /// The next answer, which must have come.
    pub(super) fn receive(socket: impl AsFd) -> io::Result<Self> {
        let mut bytes = [0; ANSWER];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = rustix::io::retry_on_intr(|| {
            let mut into = [IoSliceMut::new(&mut bytes)];
            recvmsg(&socket, &mut into, &mut ancillary, flags)
        })?;
        let connection = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
            _ => None,
        });
        let ([number, errno], ANSWER) = (bytes.as_chunks::<4>().0, received.bytes) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        Ok(Self {
            number: u32::from_le_bytes(*number),
            result: match i32::from_le_bytes(*errno) {
                0 => Ok(connection),
                errno => Err(io::Error::from_raw_os_error(errno)),
            },
        })
    }
}

/// Answers an errand.
pub(super) fn answer(
    socket: BorrowedFd<'_>,
    number: u32,
    result: Result<Option<BorrowedFd<'_>>, rustix::io::Errno>,
) -> Result<(), rustix::io::Errno> {
    let errno = result.map_or_else(|errno| errno.raw_os_error(), |_| 0);
    let bytes = [number.to_le_bytes(), errno.to_le_bytes()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let connection = result.ok().flatten().map(|fd| [fd]);
    if let Some(connection) = &connection {
        ancillary.push(SendAncillaryMessage::ScmRights(connection));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let slices = [IoSlice::new(bytes.as_flattened())];
    rustix::io::retry_on_intr(|| sendmsg(socket, &slices, &mut ancillary, flags))?;
    Ok(())
}
