//! The agent's port.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use msb_protocol::{AGENT_PORT, BootStage};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, acceptfrom_with, bind, listen, socket_with,
};
use tokio::time::timeout;

use super::BootError;
use crate::agent::{Agent, MAX_SESSIONS};
use crate::log;
use crate::stream::Stream;
use crate::sys::vsock::VsockAddress;

/// How long to wait, at most, before a connection is tried to be accepted again for which
/// there was no memory or descriptor.
const RETRY: Duration = Duration::from_millis(100);

/// Opens the port and serves it, in a task, for good.
pub(super) fn serve(agent: &Rc<Agent>) -> Result<(), BootError> {
    let listener = open().map_err(|error| {
        BootError::new(BootStage::Serve, format!("vsock port {AGENT_PORT}"), error)
    })?;
    let agent = Rc::clone(agent);
    tokio::task::spawn_local(async move { accept(&agent, &listener).await });
    Ok(())
}

fn open() -> io::Result<Stream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None)?;
    let address = VsockAddress {
        cid: VsockAddress::ANY,
        port: AGENT_PORT,
    };
    bind(&socket, &address)?;
    listen(&socket, i32::try_from(MAX_SESSIONS).unwrap_or(i32::MAX))?;
    Stream::reader(socket)
}

async fn accept(agent: &Rc<Agent>, listener: &Stream) {
    loop {
        agent.room().await;
        let accepted = listener
            .when_readable(|fd| Ok(acceptfrom_with(fd.as_fd(), SocketFlags::CLOEXEC)?))
            .await;
        let (connection, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_of_one_connection(&error) {
                    log::error(&format!("a connection has to wait: {error}"));
                    let _ = timeout(RETRY, agent.fewer()).await;
                }
                continue;
            }
        };
        // vsock also connects processes within the guest. What is served here is done as
        // root, so it is the host's alone.
        let peer = peer.as_ref().and_then(VsockAddress::from_any);
        if peer.is_none_or(|peer| peer.cid != VsockAddress::HOST) {
            log::info("a connection that is not the host's was closed");
            continue;
        }
        match Stream::new(connection) {
            Ok(stream) => agent.accept(stream),
            Err(error) => log::error(&format!("a connection was lost: {error}")),
        }
    }
}

/// The connection that was to be accepted is gone, and with it the error. Any other error,
/// a lack of descriptors first of all, stays for a while.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ECONNABORTED | libc::ECONNRESET | libc::EINTR)
    )
}
