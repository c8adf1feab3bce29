//! The guest's settings: host name, loopback, how many files may be open.

use std::io;

use msb_protocol::{BootRequest, BootStage};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::system::sethostname;

use super::BootError;
use crate::log;

/// Descriptors of the agent: its sessions' pipes and connections, with room.
const AGENT_FILES: u64 = 16384;

/// What commands get: as many as `select(2)` can handle, and to be raised by themselves up
/// to the most that the kernel allows anyone (`fs.nr_open`).
const COMMAND_FILES: (u64, u64) = (1024, 1024 * 1024);

/// Applies what the request says and what every guest gets.
pub(super) fn apply(request: &BootRequest) -> Result<(), BootError> {
    if let Some(hostname) = &request.hostname {
        sethostname(hostname.as_bytes()).map_err(|error| {
            let what = format!("setting the host name to {hostname:?} (at most 64 bytes)");
            BootError::new(BootStage::Settings, what, error)
        })?;
    }
    if let Err(error) = loopback_up() {
        log::info(&format!("the loopback interface stays down: {error}"));
    }
    Ok(())
}

/// Raises the agent's own limit. Returns what commands are to have instead of it.
pub(super) fn raise_open_files() -> Option<(u64, u64)> {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: Some(AGENT_FILES),
        maximum: Some(COMMAND_FILES.1),
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::info(&format!(
            "the limit of open files stays {before:?}: {error}"
        ));
        return None;
    }
    Some(COMMAND_FILES)
}

/// Length of the request: `struct nlmsghdr` and `struct ifinfomsg`, 16 bytes each.
const REQUEST_BYTES: u32 = 32;

/// `RTM_NEWLINK`, to change a link (`linux/rtnetlink.h`).
const NEW_LINK: u16 = 16;

/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST_WITH_ANSWER: u16 = 5;

/// `NLMSG_ERROR`, which also says that there was none.
const ANSWER: u16 = 2;

/// The loopback interface's number: it is the first in every network namespace.
const LOOPBACK: u32 = 1;

/// `IFF_UP`.
const UP: u32 = 1;

/// Brings `lo` up; the kernel then gives it its addresses.
fn loopback_up() -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // Protocol 0 is NETLINK_ROUTE.
        None,
    )?;
    sendto(
        &socket,
        &link_request(),
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )?;
    let mut answer = [0; 256];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    match answer_errno(&answer[..length.min(answer.len())]) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn link_request() -> Vec<u8> {
    let mut request = Vec::new();
    // nlmsghdr: length, type, flags, sequence, port
    request.extend(REQUEST_BYTES.to_ne_bytes());
    request.extend(NEW_LINK.to_ne_bytes());
    request.extend(REQUEST_WITH_ANSWER.to_ne_bytes());
    request.extend([0; 8]);
    // ifinfomsg: family, padding, type, index, flags, which of them change
    request.extend([0; 4]);
    request.extend(LOOPBACK.to_ne_bytes());
    request.extend(UP.to_ne_bytes());
    request.extend(UP.to_ne_bytes());
    request
}

/// The error number in an answer: negative, or zero for success.
fn answer_errno(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let errno = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == ANSWER).then_some(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_length_it_says() {
        let request = link_request();
        assert_eq!(u32::try_from(request.len()).unwrap(), REQUEST_BYTES);
    }

    #[test]
    fn answers_are_read() {
        let mut answer = vec![0; 36];
        answer[4..6].copy_from_slice(&ANSWER.to_ne_bytes());
        assert_eq!(answer_errno(&answer), Some(0));
        answer[16..20].copy_from_slice(&(-1i32).to_ne_bytes());
        assert_eq!(answer_errno(&answer), Some(-1));
        assert_eq!(answer_errno(&answer[..18]), None);
        assert_eq!(answer_errno(&[]), None);
    }
}
