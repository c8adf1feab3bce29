//! The boot conversation, which lasts as long as the machine.
//!
//! The guest dials, so that the supervisor need not guess when it is there. The supervisor
//! says what to boot, hears that it is done, and may say when it is to end. Losing it ends
//! the guest too: nobody would ever stop it otherwise.

use std::rc::Rc;
use std::time::Duration;

use msb_protocol::{BootRequest, GuestMessage, HostMessage, Ready, RefusalKind, SUPERVISOR_PORT};
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use tokio::time::timeout;

use super::{BootError, bring_up, clock_ns, serve as port, start_agent};
use crate::agent::Agent;
use crate::channel::{Channel, ChannelError};
use crate::log;
use crate::shutdown::{DEFAULT_GRACE, Order};
use crate::stream::Stream;
use crate::sys::vsock::VsockAddress;

/// How long a supervisor that took the call may take to say what to boot.
const REQUEST: Duration = Duration::from_secs(60);

/// How long it is called for, where the call is neither taken nor refused.
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
}

/// Calls the supervisor. Does not wait.
pub(super) fn dial() -> Result<Dialing, Silence> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None)
        .map_err(|_no_such_family| Silence::NoVsock)?;
    let address = VsockAddress {
        cid: VsockAddress::HOST,
        port: SUPERVISOR_PORT,
    };
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(silence(error)),
    }
    let stream = Stream::new(socket).map_err(|_no_memory| Silence::Nobody)?;
    Ok(Dialing { stream })
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
        let mut stream = self.stream;
        let calling = async {
            loop {
                stream.writable().await.map_err(|_broken| Silence::Nobody)?;
                match socket_error(&stream) {
                    Ok(Ok(())) => return Ok(Channel::new(stream)),
                    // The kernel gives up after two seconds; a busy host may need more.
                    Ok(Err(Errno::TIMEDOUT)) => stream = dial()?.stream,
                    Ok(Err(error)) | Err(error) => return Err(silence(error)),
                }
            }
        };
        timeout(CALL, calling).await.unwrap_or(Err(Silence::Nobody))
    }
}

/// Boots as the supervisor says and serves. `None` if that did not succeed: what went wrong
/// has been told.
pub(super) async fn serve(
    channel: Channel,
    mounted: Result<(), BootError>,
    began: u64,
    order: &Rc<Order>,
) -> Option<Rc<Agent>> {
    let request = match timeout(REQUEST, listen(&channel)).await {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => return give_up(channel, error).await,
        Err(_elapsed) => return give_up(channel, ChannelError::Late).await,
    };
    match boot(mounted, request).await {
        Ok((agent, old)) => {
            let ready = GuestMessage::Ready(Ready {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                init_ns: began,
                ready_ns: clock_ns(),
            });
            if let Err(error) = channel.send(&ready).await {
                return give_up(channel, error).await;
            }
            let order = Rc::clone(order);
            tokio::task::spawn_local(async move { obey(&channel, &order).await });
            // After the message: the host need not wait for this.
            if let Some(old) = old {
                old.free();
            }
            Some(agent)
        }
        Err(error) => {
            error.log();
            // If the host cannot be told, the console was.
            let _ = channel.send(&GuestMessage::BootFailed(error.into())).await;
            channel.close().await;
            None
        }
    }
}

/// The supervisor's first words.
async fn listen(channel: &Channel) -> Result<BootRequest, ChannelError> {
    channel.greet().await?;
    channel.greeted().await?;
    match channel.receive().await? {
        HostMessage::Boot(request) => Ok(request),
        _ => Err(ChannelError::Unexpected(
            "the boot conversation opens with Boot",
        )),
    }
}

async fn give_up(channel: Channel, error: ChannelError) -> Option<Rc<Agent>> {
    log::error(&format!("the supervisor could not be understood: {error}"));
    channel.explain(&error).await;
    channel.close().await;
    None
}

async fn boot(
    mounted: Result<(), BootError>,
    request: BootRequest,
) -> Result<(Rc<Agent>, Option<super::switch::OldRoot>), BootError> {
    mounted?;
    let old = bring_up(&request).await?;
    let agent = start_agent(request.env)?;
    port::serve(&agent)?;
    Ok((agent, old))
}

/// Does what the supervisor says until it is gone.
async fn obey(channel: &Channel, order: &Order) {
    loop {
        match channel.receive().await {
            Ok(HostMessage::Shutdown { grace_ms }) => {
                order.give(Duration::from_millis(u64::from(grace_ms)));
            }
            Ok(HostMessage::Ping) => {
                // If this fails, so does the next receive.
                let _ = channel.send(&GuestMessage::Pong).await;
            }
            Ok(_) => {
                let message = "a booted guest takes Shutdown here";
                channel.refuse(RefusalKind::Unexpected, message).await;
                break;
            }
            Err(error) => {
                log::info(&format!("the supervisor is gone: {error}"));
                break;
            }
        }
    }
    order.give(DEFAULT_GRACE);
}

#[cfg(test)]
mod tests {
    use msb_protocol::BootStage;

    use super::*;

    #[test]
    fn a_machine_without_vsock_is_told_from_one_without_supervisor() {
        assert_eq!(silence(Errno::NODEV), Silence::NoVsock);
        assert_eq!(silence(Errno::CONNRESET), Silence::Nobody);
        assert_eq!(silence(Errno::TIMEDOUT), Silence::Nobody);
    }

    #[test]
    fn a_boot_error_becomes_the_protocols() {
        let error = BootError::new(
            BootStage::Root,
            "mounting",
            std::io::Error::from_raw_os_error(5),
        );
        let failure = msb_protocol::BootFailure::from(error);
        assert_eq!((failure.stage, failure.errno), (BootStage::Root, Some(5)));
        assert!(failure.message.starts_with("mounting: "));
    }
}
