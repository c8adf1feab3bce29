//! The first word of a supervisor: what machine to build.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use msb_vmapi::{ErrorKind, FromVmm, Reply, Request, VmConfig, VmError, VmState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::socket::{Connection, ReceiveError, encode};

/// How long a supervisor may take. One that is gone is noticed at once; this is for one that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine to build.
#[derive(Debug)]
pub struct Configured {
    /// The request's id, to be answered once the machine is built or refused.
    pub id: u64,
    /// The description.
    pub config: VmConfig,
    /// The descriptors that it refers to.
    pub descriptors: Vec<OwnedFd>,
}

/// No machine was described.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigureError {
    /// The supervisor hung up before.
    #[error("the supervisor hung up before it described a machine")]
    Closed,
    /// It ended this process before.
    #[error("killed before a machine was described")]
    Killed,
    /// It took too long.
    #[error("no machine was described within {} s; send a configure request", PATIENCE.as_secs())]
    Late,
    /// The connection is broken, or none.
    #[error("the control connection is broken; pass one end of a seqpacket socket pair")]
    Broken(#[source] io::Error),
}

/// Waits for the description, answering other requests meanwhile.
pub fn wait(connection: &Connection) -> Result<Configured, ConfigureError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (message, descriptors) = match connection.receive() {
            Ok(received) => received,
            Err(ReceiveError::Closed) => return Err(ConfigureError::Closed),
            Err(ReceiveError::Broken(error)) => return Err(ConfigureError::Broken(error)),
            Err(ReceiveError::Empty) => {
                wait_readable(connection, deadline)?;
                continue;
            }
            Err(ReceiveError::Malformed { id, why }) => {
                answer(connection, id, error(ErrorKind::Malformed, why))?;
                continue;
            }
        };
        match message.request {
            Request::Configure(config) => {
                return Ok(Configured {
                    id: message.id,
                    config: *config,
                    descriptors,
                });
            }
            Request::State => {
                answer(connection, message.id, Reply::State(VmState::Unconfigured))?;
            }
            Request::Kill => {
                answer(connection, message.id, Reply::Done)?;
                return Err(ConfigureError::Killed);
            }
            _ => {
                let why = "there is no machine yet; send a configure request".to_owned();
                answer(connection, message.id, error(ErrorKind::State, why))?;
            }
        }
    }
}

fn error(kind: ErrorKind, message: String) -> Reply {
    Reply::Error(VmError { kind, message })
}

fn answer(connection: &Connection, id: u64, reply: Reply) -> Result<(), ConfigureError> {
    connection
        .send(&encode(&FromVmm::Reply { id, reply }), None)
        .map_err(ConfigureError::Broken)
}

fn wait_readable(connection: &Connection, deadline: Instant) -> Result<(), ConfigureError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ConfigureError::Late);
    }
    let timeout = Timespec::try_from(left).map_err(|_| ConfigureError::Late)?;
    let mut fds = [PollFd::new(connection, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(ConfigureError::Broken(errno.into())),
    }
}
