//! The link to the supervisor process: its launch channel.
//!
//! The channel is a socket pair, its other end the supervisor's standard input. While it
//! is open the sandbox has an owner; when it closes, by a drop or by this program's
//! death, the supervisor ends the machine.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use msb_runtime::boot::{BootErrorKind, BootTimings};
use msb_runtime::clock::monotonic_ns;
use msb_runtime::control::{EndRecord, Launch, Notice, Request};
use msb_runtime::lines::{self, LineReader, LineWriter};
use msb_runtime::rundir::{self, RunDir};
use msb_types::SandboxConfig;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, watch};

use crate::error::{Component, MicrosandboxError, MicrosandboxResult};
use crate::home;

/// How long a sandbox may take to come up. Generous: a host without hardware
/// virtualization of its own, nested in another, is an order of magnitude slower.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a supervisor may take beyond that to say so.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(30);

/// How a run ended: by the supervisor's word, or without one.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The supervisor said so.
    Told(EndRecord),
    /// The supervisor itself was ended.
    Lost,
}

/// A running sandbox's supervisor, owned by this process.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// The process id of the supervisor.
    pub(crate) pid: Option<u32>,
    /// Where the time of the boot went.
    pub(crate) timings: BootTimings,
    /// The run directory, where the sockets are.
    pub(crate) dir: RunDir,
    writer: Mutex<LineWriter>,
    end: watch::Receiver<Option<End>>,
    /// Ended when this is dropped, which closes the channel's reading half.
    listener: tokio::task::JoinHandle<()>,
}

impl Supervisor {
    /// Starts a supervisor and waits until its sandbox is up.
    pub(crate) async fn launch(config: &SandboxConfig) -> MicrosandboxResult<Self> {
        let requested_ns = monotonic_ns();
        let home = home::home()?;
        let runtime = home::find(Component::Runtime, &home)?;
        let dir = RunDir::of(&home, &config.name);
        let launch = Launch {
            config: config.clone(),
            run_dir: dir.path().to_path_buf(),
            vmm: home::find(Component::Vmm, &home)?,
            kernel: home::find(Component::Kernel, &home)?,
            initramfs: home::find(Component::Initramfs, &home)?,
            requested_ns,
            boot_timeout_ms: u64::try_from(BOOT_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
        };
        rundir::sweep(&home);
        // An owner that just went leaves a supervisor that is about to end: wait for that.
        if dir.is_held() && is_ending(&dir).await {
            wait_until_free(dir.clone()).await;
        }

        let (mut child, mut reader, mut writer) = spawn(&runtime)?;
        let pid = child.id();
        writer.send(&Request::Launch(Box::new(launch))).await?;
        let answer = tokio::time::timeout(BOOT_TIMEOUT + SUPERVISOR_GRACE, reader.next()).await;
        let failure = match answer {
            Ok(Ok(Some(Notice::Running(timings)))) => {
                let (told, end) = watch::channel(None);
                let listener = tokio::spawn(listen(reader, child, dir.clone(), told));
                return Ok(Self {
                    pid,
                    timings,
                    dir,
                    writer: Mutex::new(writer),
                    end,
                    listener,
                });
            }
            Ok(Ok(Some(Notice::BootFailed(err)))) => {
                let name = config.name.clone();
                match err.kind {
                    BootErrorKind::AlreadyRunning => MicrosandboxError::SandboxAlreadyExists(name),
                    _ => MicrosandboxError::BootStart { name, err },
                }
            }
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

    /// Asks the supervisor for something.
    pub(crate) async fn ask(&self, request: &Request) -> std::io::Result<()> {
        self.writer.lock().await.send(request).await
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<End> {
        self.end.borrow().clone()
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

impl Drop for Supervisor {
    fn drop(&mut self) {
        // With the writer, this closes the channel: the supervisor then ends the machine.
        // The task must not be what keeps the socket open.
        self.listener.abort();
    }
}

fn spawn(runtime: &Path) -> MicrosandboxResult<(Child, LineReader, LineWriter)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let log = std::env::var_os("MSB_LOG");
    let child = Command::new(runtime)
        .env_clear()
        .envs(log.as_ref().map(|level| ("MSB_LOG", level)))
        .current_dir("/")
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(if log.is_some() {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .spawn()?;
    ours.set_nonblocking(true)?;
    let (reader, writer) = lines::split(UnixStream::from_std(ours)?);
    Ok((child, reader, writer))
}

/// Hears the supervisor out, and reaps it.
async fn listen(
    mut reader: LineReader,
    mut child: Child,
    dir: RunDir,
    told: watch::Sender<Option<End>>,
) {
    let end = loop {
        match reader.next().await {
            Ok(Some(Notice::Ended(record))) => break End::Told(record),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break End::Lost,
        }
    };
    let _ = child.wait().await;
    if matches!(end, End::Lost) {
        clean_up_after(dir).await;
    }
    let _ = told.send(Some(end));
}

/// Whether the run that holds `dir` is on its way out: nobody answers, or it says so.
async fn is_ending(dir: &RunDir) -> bool {
    use msb_runtime::control::RunState;
    let asked = async {
        let stream = UnixStream::connect(dir.control_socket()).await.ok()?;
        let (mut reader, mut writer) = lines::split(stream);
        writer.send(&Request::Status).await.ok()?;
        reader.next::<Notice>().await.ok()?
    };
    matches!(
        tokio::time::timeout(SUPERVISOR_GRACE, asked).await,
        Ok(None
            | Some(Notice::Status(RunState::Stopping) | Notice::Ended(_) | Notice::BootFailed(_)))
    )
}

/// Removes what a supervisor that was killed could not; its VMM follows it by itself.
/// Where another sandbox has taken the name meanwhile, nothing is touched.
async fn clean_up_after(dir: RunDir) {
    if dir.path().exists() {
        if is_ending(&dir).await {
            wait_until_free(dir.clone()).await;
        }
        dir.remove_if_free();
    }
}

async fn wait_until_free(dir: RunDir) {
    let free = tokio::task::spawn_blocking(move || dir.wait_until_free());
    if tokio::time::timeout(SUPERVISOR_GRACE, free).await.is_err() {
        tracing::warn!("a supervisor that is gone still holds its run directory");
    }
}

fn lost(what: &str) -> MicrosandboxError {
    MicrosandboxError::Runtime(format!(
        "the supervisor failed ({what}); set MSB_LOG=debug to see its messages"
    ))
}
