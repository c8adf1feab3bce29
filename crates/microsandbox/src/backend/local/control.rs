//! Asking a supervisor, over its control socket.

use std::io;
use std::time::Duration;

use msb_runtime::control::{Notice, Refusal, Request};
use msb_runtime::end::EndRecord;
use msb_runtime::lines::{self, LineReader, LineWriter};
use msb_runtime::rundir::RunDir;
use msb_types::SandboxStatus;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{RecvFlags, recv};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::UnixStream;

use crate::error::{MicrosandboxError, MicrosandboxResult};

/// How long a supervisor may take to answer. It decides in microseconds; its machine may be
/// emulated, and a pause waits for every virtual processor.
const ANSWER: Duration = Duration::from_secs(30);

/// A supervisor's answer to a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// It does so.
    Accepted,
    /// It does not.
    Refused(Refusal),
    /// It ended before it answered; how, if it said that.
    Ended(Option<EndRecord>),
    /// There is no supervisor.
    Gone,
}

/// A connection to a supervisor; `None` when nobody listens.
pub(super) async fn connect(dir: &RunDir) -> io::Result<Option<(LineReader, LineWriter)>> {
    match UnixStream::connect(dir.control_socket()).await {
        Ok(stream) => Ok(Some(lines::split(stream))),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Asks for something and hears the answer.
pub(super) async fn ask(dir: &RunDir, request: &Request) -> MicrosandboxResult<Answer> {
    let asking = async {
        let Some((mut reader, mut writer)) = connect(dir).await? else {
            return Ok(Answer::Gone);
        };
        // A supervisor that ends meanwhile is noticed below.
        let _ = writer.send(request).await;
        loop {
            match reader.next::<Notice>().await {
                Ok(Some(Notice::Accepted)) => return Ok(Answer::Accepted),
                Ok(Some(Notice::Refused(refusal))) => return Ok(Answer::Refused(refusal)),
                Ok(Some(Notice::Ended(end))) => return Ok(Answer::Ended(Some(end))),
                Ok(None) | Err(_) => return Ok(Answer::Ended(None)),
                Ok(Some(_)) => {}
            }
        }
    };
    match tokio::time::timeout(ANSWER, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(MicrosandboxError::Runtime(format!(
            "the sandbox's supervisor did not answer within {ANSWER:?}; kill() ends it all the same"
        ))),
    }
}

/// The state that the supervisor says; `None` when there is none, or it is ending.
pub(super) async fn status(dir: &RunDir) -> Option<SandboxStatus> {
    let asking = async {
        let (mut reader, mut writer) = connect(dir).await.ok()??;
        writer.send(&Request::Status).await.ok()?;
        match reader.next::<Notice>().await.ok()?? {
            Notice::Status(status) if status.is_active() => Some(status),
            _ => None,
        }
    };
    tokio::time::timeout(ANSWER, asking).await.ok().flatten()
}

/// Ends a supervisor that does not answer, by a signal. Who it is, its own socket tells: a process
/// id from a record may be a stranger's by now.
pub(super) async fn kill(dir: &RunDir) -> io::Result<()> {
    let Ok(stream) = UnixStream::connect(dir.control_socket()).await else {
        // Nobody is there to be killed.
        return Ok(());
    };
    let pid = socket_peercred(&stream)?.pid;
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        process => process?,
    };
    // The descriptor now stands for whoever has the number. It is the supervisor if that still
    // holds its socket: a number is given again only after its owner, and so its socket, is gone.
    let mut probe = [0; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match recv(&stream, &mut probe[..], flags) {
        Ok((0, _)) => return Ok(()),
        Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
        Err(_) => return Ok(()),
    }
    match pidfd_send_signal(process, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
