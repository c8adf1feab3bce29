//! Listening Unix sockets, and taking them away again.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    sockopt,
};

use super::BlueprintError;

/// Bytes of a path that fit in a socket address beside the terminating zero.
const MAX_PATH: usize = 107;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket in the file system, removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that nobody else's socket of the same path is removed.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// The socket that is at this path now.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            identity: identity(path),
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == self.identity {
            // It may be gone already, which is what is wanted.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A listening stream socket.
pub(super) fn stream(
    path: &Path,
    made: &mut Vec<SocketFile>,
) -> Result<UnixListener, BlueprintError> {
    Ok(listen_at(path, SocketType::STREAM, made)?.into())
}

/// A listening control socket: one datagram is one message.
pub(super) fn control(
    path: PathBuf,
    made: &mut Vec<SocketFile>,
) -> Result<OwnedFd, BlueprintError> {
    listen_at(&path, SocketType::SEQPACKET, made)
}

/// Refuses a descriptor that is not a listening Unix stream socket.
pub(super) fn check_listening(socket: BorrowedFd<'_>, index: u32) -> Result<(), BlueprintError> {
    let good = sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(socket) == Ok(SocketType::STREAM)
        && sockopt::socket_acceptconn(socket) == Ok(true);
    if good {
        Ok(())
    } else {
        Err(BlueprintError::NotListening { index })
    }
}

fn listen_at(
    path: &Path,
    kind: SocketType,
    made: &mut Vec<SocketFile>,
) -> Result<OwnedFd, BlueprintError> {
    let name = || path.display().to_string();
    let error = |source: io::Error| BlueprintError::Socket {
        name: name(),
        source,
    };
    let len = path.as_os_str().as_bytes().len();
    if len > MAX_PATH {
        return Err(BlueprintError::SocketPathTooLong {
            path: name(),
            len,
            max: MAX_PATH,
        });
    }
    let address = SocketAddrUnix::new(path).map_err(|errno| error(errno.into()))?;
    let socket = new_socket(kind).map_err(error)?;
    match bind(&socket, &address) {
        Ok(()) => {}
        Err(Errno::ADDRINUSE) => {
            if !is_stale(path, &address, kind).map_err(error)? {
                return Err(BlueprintError::SocketTaken { path: name() });
            }
            fs::remove_file(path).map_err(error)?;
            bind(&socket, &address).map_err(|errno| match errno {
                Errno::ADDRINUSE => BlueprintError::SocketTaken { path: name() },
                errno => error(errno.into()),
            })?;
        }
        Err(errno) => return Err(error(errno.into())),
    }
    made.push(SocketFile::at(path));
    listen(&socket, BACKLOG).map_err(|errno| error(errno.into()))?;
    Ok(socket)
}

fn new_socket(kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, kind, flags, None)?)
}

/// Whether what is at the path is a socket that nobody listens on any more.
fn is_stale(path: &Path, address: &SocketAddrUnix, kind: SocketType) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Ok(false);
    }
    let probe = new_socket(kind)?;
    // Refused is the one answer that a listener, however busy or of whatever kind, does not give.
    Ok(connect(&probe, address) == Err(Errno::CONNREFUSED))
}
