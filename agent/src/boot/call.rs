//! Calling the supervisor.
//!
//! The guest calls the host and not the other way round, so that nobody has to guess when
//! the guest is there. A call that nobody takes is no failure: a machine may have no
//! supervisor, or no way to reach one.

use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use tokio::time::timeout;

use crate::channel::Channel;
use crate::stream::Stream;
use crate::sys::vsock::VsockAddress;

/// How long is called for, where the call is neither taken nor refused.
const CALL: Duration = Duration::from_secs(10);

/// Why there is no supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// There is a vsock device, but nobody on the host's port.
    Nobody,
    /// There is no vsock device.
    NoVsock,
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct Dialing {
    stream: Stream,
    port: u32,
}

/// Calls the supervisor on one of its ports. Does not wait.
pub(super) fn dial(port: u32) -> Result<Dialing, Silence> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None)
        .map_err(|_no_such_family| Silence::NoVsock)?;
    let address = VsockAddress {
        cid: VsockAddress::HOST,
        port,
    };
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(silence(error)),
    }
    let stream = Stream::new(socket).map_err(|_no_memory| Silence::Nobody)?;
    Ok(Dialing { stream, port })
}

/// What a failed call says of the machine.
fn silence(error: Errno) -> Silence {
    match error {
        // No transport, or none that leads to the host.
        Errno::NODEV | Errno::AFNOSUPPORT | Errno::OPNOTSUPP => Silence::NoVsock,
        _ => Silence::Nobody,
    }
}

impl Dialing {
    /// Waits for the supervisor to take the call, or not to.
    pub(super) async fn answer(self) -> Result<Channel, Silence> {
        let Self { mut stream, port } = self;
        let calling = async {
            loop {
                stream.writable().await.map_err(|_broken| Silence::Nobody)?;
                match socket_error(&stream) {
                    Ok(Ok(())) => return Ok(Channel::new(stream)),
                    // The kernel gives up after two seconds; a busy host may need more.
                    Ok(Err(Errno::TIMEDOUT)) => stream = dial(port)?.stream,
                    Ok(Err(error)) | Err(error) => return Err(silence(error)),
                }
            }
        };
        timeout(CALL, calling).await.unwrap_or(Err(Silence::Nobody))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_vsock_is_told_from_one_without_supervisor() {
        assert_eq!(silence(Errno::NODEV), Silence::NoVsock);
        assert_eq!(silence(Errno::CONNRESET), Silence::Nobody);
        assert_eq!(silence(Errno::TIMEDOUT), Silence::Nobody);
    }
}
