//! The VMM process and its control socket.
//!
//! The VMM finds its end of a socket pair as its standard input and the run's lock as its
//! standard output, which it never writes to: so it needs no path, and the run stays
//! locked until it is gone.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use msb_vmapi::{FromVmm, MAX_DATAGRAM, MAX_DESCRIPTORS, Request, ToVmm};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::event::{Event, Events};

/// The control socket, shared by the task that listens and the run that asks.
///
/// Tokio has no type for packet sockets; its stream type carries the descriptor and waits
/// for it, and all reading and writing goes through `sendmsg` and `recvmsg`.
#[derive(Debug)]
pub(crate) struct VmmSocket(UnixStream);

/// A running VMM.
#[derive(Debug)]
pub(crate) struct Vmm {
    socket: std::sync::Arc<VmmSocket>,
    /// Taken when the process is to be killed.
    kill: Option<oneshot::Sender<()>>,
    pid: Option<u32>,
    next_id: u64,
}

impl Vmm {
    /// Starts the executable `path`; what it says and its end go to `events`.
    pub(crate) fn spawn(path: &Path, lock: OwnedFd, events: &Events) -> io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let child = Command::new(path)
            .args(["--control-fd", "0"])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(lock))
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let ours = UnixStream::from_std(std::os::unix::net::UnixStream::from(ours))?;
        let socket = std::sync::Arc::new(VmmSocket(ours));
        let (kill, killed) = oneshot::channel();
        let pid = child.id();
        tokio::spawn(listen(std::sync::Arc::clone(&socket), events.clone()));
        tokio::spawn(wait(child, killed, events.clone()));
        Ok(Self {
            socket,
            kill: Some(kill),
            pid,
            next_id: 0,
        })
    }

    /// The process. It is not reaped before its end was told as an event.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Sends a request with descriptors beside it, and returns the number by which its answer
    /// will be known.
    pub(crate) async fn ask(
        &mut self,
        request: Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<u64> {
        self.next_id += 1;
        let datagram = serde_json::to_vec(&ToVmm {
            id: self.next_id,
            request,
        })?;
        self.socket.send(&datagram, descriptors).await?;
        Ok(self.next_id)
    }

    /// Ends the process by SIGKILL. Its end arrives as an event.
    pub(crate) fn kill(&mut self) {
        if let Some(kill) = self.kill.take() {
            // The process may have ended by itself.
            let _ = kill.send(());
        }
    }
}

impl VmmSocket {
    async fn send(&self, datagram: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if datagram.len() > MAX_DATAGRAM || descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the machine description is too long for the VMM's control socket",
            ));
        }
        self.0
            .async_io(Interest::WRITABLE, || {
                let mut space =
                    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                if !descriptors.is_empty() {
                    ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
                }
                sendmsg(
                    &self.0,
                    &[IoSlice::new(datagram)],
                    &mut ancillary,
                    SendFlags::NOSIGNAL,
                )?;
                Ok(())
            })
            .await
    }

    /// The next datagram into `buffer`; `None` when the VMM closed.
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(FromVmm, Vec<OwnedFd>)>> {
        let (length, descriptors) = self
            .0
            .async_io(Interest::READABLE, || {
                let mut space =
                    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
                let mut ancillary = RecvAncillaryBuffer::new(&mut space);
                let message = recvmsg(
                    &self.0,
                    &mut [IoSliceMut::new(buffer)],
                    &mut ancillary,
                    RecvFlags::CMSG_CLOEXEC,
                )?;
                let mut descriptors = Vec::new();
                for message in ancillary.drain() {
                    if let RecvAncillaryMessage::ScmRights(received) = message {
                        descriptors.extend(received);
                    }
                }
                Ok((message.bytes, descriptors))
            })
            .await?;
        match buffer.get(..length) {
            Some([]) | None => Ok(None),
            Some(datagram) => Ok(Some((serde_json::from_slice(datagram)?, descriptors))),
        }
    }
}

async fn listen(socket: std::sync::Arc<VmmSocket>, events: Events) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    let mut reset = false;
    loop {
        let event = match socket.receive(&mut buffer).await {
            Ok(Some((message, descriptors))) => Event::Vmm(message, descriptors),
            Ok(None) => Event::VmmHungUp,
            // It went with a request of ours unread. The kernel says that once, before the last
            // words that it did send.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !reset => {
                reset = true;
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "the VMM's control socket failed");
                Event::VmmHungUp
            }
        };
        let last = matches!(event, Event::VmmHungUp);
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

async fn wait(mut child: Child, killed: oneshot::Receiver<()>, events: Events) {
    let status: io::Result<ExitStatus> = tokio::select! {
        status = child.wait() => status,
        // A dropped sender means that the run is over: then too the VMM must go.
        _ = killed => match child.start_kill() {
            Ok(()) => child.wait().await,
            Err(error) => Err(error),
        },
    };
    let _ = events.send(Event::VmmExited(status)).await;
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use msb_vmapi::{Event as VmmEvent, Outcome};
    use tokio::sync::mpsc;

    use super::*;

    /// A control socket, and the VMM's end of it.
    fn connected() -> (VmmSocket, OwnedFd) {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::io::ioctl_fionbio(&ours, true).unwrap();
        let ours = UnixStream::from_std(std::os::unix::net::UnixStream::from(ours)).unwrap();
        (VmmSocket(ours), theirs)
    }

    /// An image's layers are a file each, and all of them go with one request.
    #[tokio::test]
    async fn as_many_files_as_an_image_may_have_go_at_once() {
        let (socket, theirs) = connected();
        let files = vec![theirs.as_fd(); MAX_DESCRIPTORS];
        socket.send(b"{}", &files).await.unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 8];
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(&theirs, &mut pieces, &mut ancillary, flags).unwrap();
        let came: usize = ancillary
            .drain()
            .map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => files.count(),
                _ => 0,
            })
            .sum();
        assert_eq!(came, MAX_DESCRIPTORS);
        // Two hundred layers, what an image and its patches have besides, and what every machine needs.
        const { assert!(MAX_DESCRIPTORS >= msb_image::limits::MAX_LAYERS + 8) };
        let more = vec![theirs.as_fd(); MAX_DESCRIPTORS + 1];
        assert!(socket.send(b"{}", &more).await.is_err());
    }

    /// A VMM may end while a request is on its way: what it said before is heard all the same.
    #[tokio::test]
    async fn last_words_are_heard_though_a_request_was_not() {
        let (socket, theirs) = connected();
        let socket = std::sync::Arc::new(socket);
        socket.send(b"{}", &[]).await.unwrap();
        let last = FromVmm::Event(VmmEvent::Ended(Outcome::PowerOff));
        let word = serde_json::to_vec(&last).unwrap();
        rustix::net::send(&theirs, &word, SendFlags::empty()).unwrap();
        drop(theirs);

        let (events, mut heard) = mpsc::channel(4);
        listen(socket, events).await;
        let first = heard.recv().await;
        assert!(
            matches!(&first, Some(Event::Vmm(message, _)) if *message == last),
            "{first:?}"
        );
        assert!(matches!(heard.recv().await, Some(Event::VmmHungUp)));
    }
}
