//! Where a connection leads that the guest makes to the host.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use vmm_virtio::vsock::Connector;

use crate::event_loop::Mailbox;
use crate::message::Message;
use crate::porter::Porter;

/// Standalone, outside of a jail: port P is whoever listens at `<socket>_P`.
#[derive(Debug)]
pub(super) struct ByPath {
    socket: PathBuf,
}

impl ByPath {
    pub(super) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }
}

impl Connector for ByPath {
    fn connect(&mut self, port: u32) -> io::Result<UnixStream> {
        let mut path = OsString::from(&self.socket);
        path.push(format!("_{port}"));
        let address = SocketAddrUnix::new(Path::new(&path))?;
        // Non-blocking: a listener whose queue is full refuses instead of holding up the loop.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &address)?;
        Ok(socket.into())
    }
}

/// Standalone, in a jail: the same, but the porter goes there.
#[derive(Debug)]
pub(super) struct ByPorter(Porter);

impl ByPorter {
    pub(super) fn new(porter: Porter) -> Self {
        Self(porter)
    }
}

impl Connector for ByPorter {
    fn connect(&mut self, port: u32) -> io::Result<UnixStream> {
        self.0.connect(port)
    }
}

/// For a supervisor: it gets the other end, with the port, and decides.
#[derive(Debug)]
pub(super) struct ToSupervisor {
    main: Mailbox<Message>,
}

impl ToSupervisor {
    pub(super) fn new(main: Mailbox<Message>) -> Self {
        Self { main }
    }
}

impl Connector for ToSupervisor {
    fn connect(&mut self, port: u32) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let socket = OwnedFd::from(theirs);
        self.main
            .offer(Message::Connection { port, socket })
            .map_err(io::Error::other)?;
        Ok(ours)
    }
}

/// A socket that came from elsewhere and no supervisor: nobody serves any port.
#[derive(Debug)]
pub(super) struct Nobody;

impl Connector for Nobody {
    fn connect(&mut self, _port: u32) -> io::Result<UnixStream> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}
