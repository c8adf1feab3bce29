//! The link to a supervisor: what tells a program of its sandbox's end.
//!
//! A program that launched a supervisor holds its launch channel, a socket pair. While that is open
//! the sandbox has an owner; when it closes, by a drop or by the program's death, the supervisor
//! ends the machine, unless it was told to outlive its creator. A program that only reached
//! a sandbox holds a connection to its control socket, whose closing means nothing.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use msb_runtime::boot::BootTimings;
use msb_runtime::control::{Launch, LaunchError, Notice, Request};
use msb_runtime::end::{EndReason, EndRecord};
use msb_runtime::lines::{self, LineReader, LineWriter};
use msb_runtime::rundir::RunDir;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, watch};

use super::control;
use super::wait::until_free;
use crate::error::{MicrosandboxError, MicrosandboxResult};

/// How long a supervisor may take beyond the boot's own deadline to say how it went.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(30);

/// How long a supervisor may take to make and check what a machine needs: an image of many gigabytes may have
/// to be read, and directories of the host copied into it.
const PREPARING: Duration = Duration::from_secs(60 * 60);

/// How a run ended: by the supervisor's word, or without one.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The supervisor said so.
    Told(EndRecord),
    /// The supervisor itself was ended, or ended before it could be heard.
    Lost,
}

impl End {
    pub(crate) fn reason(&self) -> EndReason {
        match self {
            Self::Told(record) => record.reason.clone(),
            Self::Lost => EndReason::SupervisorLost,
        }
    }
}

/// A running sandbox's supervisor, as this program is linked to it.
#[derive(Debug)]
pub(crate) struct Link {
    /// The process id of the supervisor, if this program started it.
    pub(crate) pid: Option<u32>,
    /// Where the time of the boot went, if this program started it.
    pub(crate) timings: Option<BootTimings>,
    /// Whether the sandbox ends when this is dropped.
    pub(crate) owner: bool,
    writer: Mutex<LineWriter>,
    end: watch::Receiver<Option<End>>,
    accepted: watch::Receiver<u64>,
    /// Ended when this is dropped, which closes the channel's reading half.
    listener: tokio::task::JoinHandle<()>,
}

impl Link {
    /// Starts a supervisor and waits until its sandbox is up.
    pub(crate) async fn launch(
        runtime: &Path,
        launch: Launch,
        dir: RunDir,
        log: Option<&str>,
    ) -> MicrosandboxResult<Self> {
        let name = launch.what.name().to_owned();
        let owner = !launch.detached;
        let patience = Duration::from_millis(launch.boot_timeout_ms) + SUPERVISOR_GRACE;
        let (mut child, mut reader, mut writer) = spawn(runtime, log)?;
        let pid = child.id();
        // One that is gone already is noticed by its silence.
        let _ = writer.send(&Request::Launch(Box::new(launch))).await;
        let mut heard = tokio::time::timeout(PREPARING, reader.next()).await;
        if let Ok(Ok(Some(Notice::Prepared))) = heard {
            heard = tokio::time::timeout(patience, reader.next()).await;
        }
        let failure = match heard {
            Ok(Ok(Some(Notice::Running(timings)))) => {
                return Ok(Self::new(
                    reader,
                    writer,
                    Some((child, dir)),
                    pid,
                    Some(timings),
                    owner,
                ));
            }
            Ok(Ok(Some(Notice::NotLaunched(error)))) => not_launched(name, error),
            Ok(Ok(other)) => lost(&format!("it said {other:?}")),
            Ok(Err(error)) => lost(&error.to_string()),
            Err(_) => lost("it did not answer in time"),
        };
        // It ends by itself, and its end of the channel closing tells that it has.
        drop((reader, writer));
        if tokio::time::timeout(SUPERVISOR_GRACE, child.wait())
            .await
            .is_err()
        {
            let _ = child.kill().await;
        }
        clean_up_after(dir).await;
        Err(failure)
    }

    /// Reaches a supervisor that runs; `None` when there is none.
    pub(crate) async fn reach(dir: &RunDir) -> MicrosandboxResult<Option<Self>> {
        let Some((reader, writer)) = control::connect(dir).await? else {
            return Ok(None);
        };
        Ok(Some(Self::new(reader, writer, None, None, None, false)))
    }

    fn new(
        reader: LineReader,
        writer: LineWriter,
        child: Option<(Child, RunDir)>,
        pid: Option<u32>,
        timings: Option<BootTimings>,
        owner: bool,
    ) -> Self {
        let (told, end) = watch::channel(None);
        let (count, accepted) = watch::channel(0);
        let listener = tokio::spawn(listen(reader, child, told, count));
        Self {
            pid,
            timings,
            owner,
            writer: Mutex::new(writer),
            end,
            accepted,
            listener,
        }
    }

    /// Lets the sandbox outlive this program.
    pub(crate) async fn detach(&mut self) -> MicrosandboxResult<()> {
        if !self.owner {
            return Ok(());
        }
        self.writer.lock().await.send(&Request::Detach).await?;
        let heard = self.accepted.wait_for(|count| *count > 0);
        match tokio::time::timeout(SUPERVISOR_GRACE, heard).await {
            Ok(Ok(_)) => {
                self.owner = false;
                Ok(())
            }
            // It ended meanwhile: there is nothing to be let go of.
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(lost("it did not answer in time")),
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<End> {
        self.end.borrow().clone()
    }

    /// What tells how it ended, once it has.
    pub(crate) fn end(&self) -> watch::Receiver<Option<End>> {
        self.end.clone()
    }

    /// Waits until it has ended and nothing of it is left. Cancel-safe.
    pub(crate) async fn wait(&self) -> End {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(End::Lost),
            // The listener always says how it ended before it goes.
            Err(_) => End::Lost,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // With the writer, this closes the channel: the supervisor of an owner then ends the
        // machine. The task must not be what keeps the socket open.
        self.listener.abort();
    }
}

fn spawn(runtime: &Path, log: Option<&str>) -> MicrosandboxResult<(Child, LineReader, LineWriter)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let wanted = std::env::var_os("MSB_LOG").or_else(|| log.map(Into::into));
    let child = Command::new(runtime)
        .env_clear()
        .envs(wanted.as_ref().map(|level| ("MSB_LOG", level)))
        .current_dir("/")
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(if wanted.is_some() {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .spawn()?;
    ours.set_nonblocking(true)?;
    let (reader, writer) = lines::split(UnixStream::from_std(ours)?);
    Ok((child, reader, writer))
}

/// Hears the supervisor out, and reaps it if it is ours.
async fn listen(
    mut reader: LineReader,
    child: Option<(Child, RunDir)>,
    told: watch::Sender<Option<End>>,
    accepted: watch::Sender<u64>,
) {
    let end = loop {
        match reader.next().await {
            Ok(Some(Notice::Ended(record))) => break End::Told(record),
            Ok(Some(Notice::Accepted)) => accepted.send_modify(|count| *count += 1),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break End::Lost,
        }
    };
    if let Some((mut child, dir)) = child {
        let _ = child.wait().await;
        if matches!(end, End::Lost) {
            clean_up_after(dir).await;
        }
    }
    let _ = told.send(Some(end));
}

/// Removes what a supervisor that was killed could not; its VMM follows it by itself.
/// Where another run has begun meanwhile, nothing is touched.
async fn clean_up_after(dir: RunDir) {
    if dir.path().exists() {
        settle(&dir).await;
        let _ = tokio::task::spawn_blocking(move || dir.remove_if_free()).await;
    }
}

/// Waits, not for ever, for a run that is on its way out.
pub(super) async fn settle(dir: &RunDir) {
    if !matches!(dir.is_held(), Ok(true)) || control::status(dir).await.is_some() {
        return;
    }
    match tokio::time::timeout(SUPERVISOR_GRACE, until_free(dir)).await {
        Ok(Ok(())) => {}
        // Whoever wants the lock next says so.
        Ok(Err(error)) => tracing::warn!(%error, "the lock of a run cannot be waited for"),
        Err(_) => tracing::warn!("a supervisor that is gone still holds its run directory"),
    }
}

fn not_launched(name: String, error: LaunchError) -> MicrosandboxError {
    match error {
        LaunchError::Exists => MicrosandboxError::SandboxAlreadyExists(name),
        LaunchError::Missing => MicrosandboxError::SandboxNotFound(name),
        LaunchError::Running => MicrosandboxError::SandboxStillRunning(name),
        LaunchError::Config(what) => MicrosandboxError::InvalidConfig(format!(
            "the stored configuration of sandbox {name:?} cannot be read: {what}"
        )),
        LaunchError::Home(error) => MicrosandboxError::Database(error),
        LaunchError::Boot(err) => MicrosandboxError::BootStart { name, err },
        other => lost(&other.to_string()),
    }
}

pub(crate) fn lost(what: &str) -> MicrosandboxError {
    MicrosandboxError::Runtime(format!(
        "the supervisor failed ({what}); set MSB_LOG=debug to see its messages"
    ))
}
