//! One connection: whole datagrams, with descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use msb_vmapi::{FromVmm, MAX_DATAGRAM, MAX_DESCRIPTORS, ToVmm};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Nothing was received that can be acted on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The peer has hung up.
    #[error("the peer has hung up")]
    Closed,
    /// There is nothing now.
    #[error("nothing to receive now")]
    Empty,
    /// The datagram makes no sense.
    #[error("{why}")]
    Malformed {
        /// The request's id, if that much could be read; otherwise 0.
        id: u64,
        /// What is wrong, and what to send instead.
        why: String,
    },
    /// The connection is broken.
    #[error("the connection is broken")]
    Broken(#[source] io::Error),
}

/// A connected control socket.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl From<OwnedFd> for Connection {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Connection {
    /// The next request and its descriptors, without waiting.
    pub fn receive(&self) -> Result<(ToVmm, Vec<OwnedFd>), ReceiveError> {
        // One byte more than may come, to see that more came.
        let mut bytes = vec![0; MAX_DATAGRAM + 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
            )
        })
        .map_err(|errno| match errno {
            rustix::io::Errno::AGAIN => ReceiveError::Empty,
            rustix::io::Errno::CONNRESET => ReceiveError::Closed,
            errno => ReceiveError::Broken(errno.into()),
        })?;
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(ReceiveError::Closed);
        }
        let bytes = bytes.get(..received.bytes).unwrap_or_default();
        let malformed = |why| Err(ReceiveError::Malformed { id: 0, why });
        if received.flags.contains(ReturnFlags::TRUNC) || bytes.len() > MAX_DATAGRAM {
            return malformed(format!(
                "the datagram is too long; send at most {MAX_DATAGRAM} bytes"
            ));
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            // The kernel lets nobody send more than there is room for.
            return malformed(format!(
                "some of the (at most {MAX_DESCRIPTORS}) descriptors beside the datagram did not arrive; \
                 raise the VMM's limit of open files (ulimit -n)"
            ));
        }
        Ok((decode(bytes)?, descriptors))
    }

    /// Another handle on the same connection.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Sends one message with nothing beside it, if the peer has room for it.
    pub fn tell(&self, message: &FromVmm) -> io::Result<()> {
        self.send(&encode(message), None)
    }

    /// Sends the bytes of one message, if the peer has room for it.
    pub fn send(&self, message: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.map(|fd| [fd]);
        if let Some(descriptors) = &descriptors {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        rustix::io::retry_on_intr(|| {
            sendmsg(
                &self.0,
                &[IoSlice::new(message)],
                &mut ancillary,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            )
        })?;
        Ok(())
    }
}

/// A message as it is sent.
pub(super) fn encode(message: &FromVmm) -> Vec<u8> {
    // Plain data with string keys: the encoder has nothing to refuse.
    serde_json::to_vec(message).unwrap_or_default()
}

fn decode(bytes: &[u8]) -> Result<ToVmm, ReceiveError> {
    serde_json::from_slice(bytes).map_err(|error| ReceiveError::Malformed {
        id: id_of(bytes),
        why: format!("not a request: {error}; send {{\"id\": 1, \"request\": \"state\"}}"),
    })
}

/// The id of something that is otherwise no request, so that its sender knows what was refused.
fn id_of(bytes: &[u8]) -> u64 {
    serde_json::from_slice::<serde_json::Value>(bytes)
        .ok()
        .and_then(|value| value.get("id")?.as_u64())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use msb_vmapi::Request;
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (Connection, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (a.into(), b)
    }

    fn put(peer: &OwnedFd, bytes: &[u8]) {
        rustix::net::send(peer, bytes, SendFlags::empty()).unwrap();
    }

    #[test]
    fn a_request_and_the_end() {
        let (connection, peer) = pair();
        assert!(matches!(connection.receive(), Err(ReceiveError::Empty)));
        put(&peer, br#"{"id": 7, "request": "state"}"#);
        let (message, descriptors) = connection.receive().unwrap();
        assert_eq!((message.id, message.request), (7, Request::State));
        assert!(descriptors.is_empty());
        drop(peer);
        assert!(matches!(connection.receive(), Err(ReceiveError::Closed)));
    }

    #[test]
    fn what_makes_no_sense_is_answered_by_its_id() {
        let (connection, peer) = pair();
        for (datagram, expected) in [
            (&b"nonsense"[..], 0),
            (br#"{"id": 9, "request": "dance"}"#, 9),
            (br#"{"id": -1, "request": "state"}"#, 0),
            (
                br#"{"id": 5, "request": {"configure": {"kernel": "k", "cpu": 1}}}"#,
                5,
            ),
        ] {
            put(&peer, datagram);
            let Err(ReceiveError::Malformed { id, .. }) = connection.receive() else {
                panic!("{}", String::from_utf8_lossy(datagram));
            };
            assert_eq!(id, expected);
        }
        put(&peer, &vec![b' '; MAX_DATAGRAM + 100]);
        assert!(matches!(
            connection.receive(),
            Err(ReceiveError::Malformed { id: 0, .. })
        ));
        put(&peer, br#"{"id": 1, "request": "kill"}"#);
        assert!(connection.receive().is_ok());
    }

    #[test]
    fn as_many_descriptors_as_can_be_sent_arrive() {
        let (connection, peer) = pair();
        let descriptors = vec![peer.as_fd(); MAX_DESCRIPTORS];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let datagram = br#"{"id": 1, "request": "state"}"#;
        let bytes = [IoSlice::new(datagram)];
        sendmsg(&peer, &bytes, &mut ancillary, SendFlags::empty()).unwrap();
        let (_, received) = connection.receive().unwrap();
        assert_eq!(received.len(), MAX_DESCRIPTORS);
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            let (connection, peer) = pair();
            put(&peer, &bytes);
            let _ = connection.receive();
        }
    }
}
