//! The run: what the supervisor decides, event by event.
//!
//! ```text
//! Starting ──agent ready──> Running ──stop──> Stopping ──guest is off──> over
//!    └────────── deadline, failure, kill, creator gone: VMM killed ───────^
//! ```
//!
//! A run is over when the VMM process is reaped. Only then is the directory removed, and
//! only after that is the end told: who hears of it finds nothing left.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use chrono::Utc;
use msb_protocol::{HostMessage, Ready, SUPERVISOR_PORT};
use msb_runtime::boot::{BootError, BootErrorKind, BootMarks, BootStage, BootTimings};
use msb_runtime::clock::monotonic_ns;
use msb_runtime::control::{EndReason, EndRecord, Launch, Notice, Request, RunState};
use msb_runtime::conversation::Speaker;
use msb_runtime::lines::{LineReader, LineWriter};
use msb_runtime::rundir::LockedRunDir;
use msb_vmapi::{CrashCause, Event as VmmEvent, FromVmm, Outcome, Reply, Request as VmmRequest};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::clients::{self, CREATOR};
use super::console::ConsoleTail;
use super::event::{EVENT_QUEUE, Event};
use super::launch::{self, Machine};
use super::vmm::Vmm;
use super::{agent, host_error};

/// How long a VMM that said its last word may take to exit.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// How long clients may take to read the last notice.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a stop is given that has no time of its own, or nobody who waits for it.
const DEFAULT_STOP: Duration = Duration::from_secs(10);

/// One sandbox, running.
#[derive(Debug)]
pub(crate) struct Run {
    launch: Launch,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    vmm: Vmm,
    console: ConsoleTail,
    clients: HashMap<u64, mpsc::Sender<Notice>>,
    state: RunState,
    stage: BootStage,
    /// When the current state has lasted too long.
    deadline: Option<Instant>,
    vmm_times: Option<(u64, u64)>,
    agent: Option<Speaker>,
    agent_called: bool,
    detached: bool,
    /// What the clients are told in the end, once something has decided it.
    verdict: Option<Verdict>,
}

#[derive(Debug)]
enum Verdict {
    BootFailed(BootError),
    Ended(EndReason),
}

impl Run {
    /// Opens the files, starts the VMM, and tells it what to build.
    pub(crate) async fn start(launch: Launch, dir: &LockedRunDir) -> Result<Self, BootError> {
        let host =
            |what: &str, error: &std::io::Error| host_error(BootStage::Supervisor, what, error);
        dir.clear()
            .map_err(|error| host("cannot clear the run directory", &error))?;
        let machine = Machine::open(&launch, dir)?;
        let control = UnixListener::bind(dir.dir().control_socket())
            .map_err(|error| host("cannot make control.sock", &error))?;
        let lock = dir
            .share_lock()
            .map_err(|error| host("cannot share the lock", &error))?;

        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let mut vmm = Vmm::spawn(&launch.vmm, lock.into(), &sender)
            .map_err(|error| host(&format!("cannot run {}", launch.vmm.display()), &error))?;
        vmm.ask(
            VmmRequest::Configure(Box::new(machine.config.clone())),
            &machine.descriptors(),
        )
        .await
        .map_err(|error| host_error(BootStage::Vmm, "cannot configure the VMM", &error))?;
        let console = ConsoleTail::default();
        console.follow(machine.console);
        clients::accept(control, sender.clone());
        let deadline = Instant::now() + Duration::from_millis(launch.boot_timeout_ms);
        Ok(Self {
            launch,
            events,
            sender,
            vmm,
            console,
            clients: HashMap::new(),
            state: RunState::Starting,
            stage: BootStage::Vmm,
            deadline: Some(deadline),
            vmm_times: None,
            agent: None,
            agent_called: false,
            detached: false,
            verdict: None,
        })
    }

    /// Takes events until the VMM is gone; then cleans up and tells the end.
    pub(crate) async fn until_ended(
        mut self,
        dir: LockedRunDir,
        reader: LineReader,
        writer: LineWriter,
    ) {
        let (notices, creator) = clients::serve(CREATOR, reader, writer, &self.sender);
        self.clients.insert(CREATOR, notices);
        let signals = self.sender.clone();
        tokio::spawn(async move {
            if let Ok(mut terminate) = signal(SignalKind::terminate()) {
                while terminate.recv().await.is_some() {
                    let _ = signals.send(Event::Terminate).await;
                }
            }
        });

        let status = self.reap().await;
        if let Err(error) = dir.remove() {
            tracing::warn!(%error, "the run directory could not be removed");
        }
        self.tell_end(status).await;
        let _ = tokio::time::timeout(FAREWELL, creator).await;
    }

    /// The loop: until the VMM process has ended.
    async fn reap(&mut self) -> Option<ExitStatus> {
        loop {
            let event = match self.deadline {
                None => self.events.recv().await,
                Some(deadline) => {
                    match tokio::time::timeout_at(deadline, self.events.recv()).await {
                        Ok(event) => event,
                        Err(_) => {
                            self.overdue();
                            continue;
                        }
                    }
                }
            };
            match event {
                Some(Event::VmmExited(Ok(status))) => return Some(status),
                Some(Event::VmmExited(Err(error))) => {
                    tracing::warn!(%error, "the VMM process cannot be waited for");
                    return None;
                }
                Some(event) => self.take(event).await,
                None => return None,
            }
        }
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Vmm(FromVmm::Event(event), descriptors) => {
                self.take_vmm_event(event, descriptors);
            }
            Event::Vmm(
                FromVmm::Reply {
                    reply: Reply::Error(error),
                    ..
                },
                _,
            ) => {
                self.fail_boot(
                    BootStage::Vmm,
                    BootErrorKind::Vmm(error.kind),
                    error.message,
                );
            }
            Event::Vmm(..) => {}
            // It says how it ended before it hangs up; without that, it is lost.
            Event::VmmHungUp => self.expect_exit(EndReason::VmmLost),
            Event::VmmExited(_) => {}
            Event::AgentReady(ready, speaker) => self.agent_ready(&ready, speaker),
            Event::AgentFailed(error) if self.state == RunState::Starting => {
                self.conclude(Verdict::BootFailed(error));
                self.vmm.kill();
            }
            Event::AgentFailed(error) => {
                tracing::warn!(%error, "the guest's agent broke off");
                self.agent = None;
            }
            // The machine's own end follows, or a stop's deadline.
            Event::AgentGone => self.agent = None,
            Event::ClientJoined(id, notices) => {
                self.clients.insert(id, notices);
            }
            Event::ClientAsked(id, request) => self.serve(id, request).await,
            Event::ClientLeft(id) => {
                self.clients.remove(&id);
                if id == CREATOR && !self.detached {
                    self.disown();
                }
            }
            Event::Terminate => self.stop(DEFAULT_STOP).await,
        }
    }

    fn take_vmm_event(&mut self, event: VmmEvent, mut descriptors: Vec<OwnedFd>) {
        match event {
            VmmEvent::Booted {
                process_started_ns,
                booted_ns,
            } => {
                self.vmm_times = Some((process_started_ns, booted_ns));
                self.stage = BootStage::Kernel;
            }
            VmmEvent::GuestConnected { port } => {
                // One boot conversation; any other connection is closed by being dropped.
                if let (SUPERVISOR_PORT, false, Some(socket)) =
                    (port, self.agent_called, descriptors.pop())
                {
                    self.agent_called = true;
                    self.stage = BootStage::Agent;
                    agent::serve(
                        socket,
                        launch::boot_request(&self.launch),
                        Duration::from_millis(self.launch.boot_timeout_ms),
                        self.sender.clone(),
                    );
                }
            }
            VmmEvent::Ended(outcome) => self.take_outcome(outcome),
            _ => {}
        }
    }

    fn take_outcome(&mut self, outcome: Outcome) {
        let reason = match outcome {
            Outcome::Error(error) if self.state == RunState::Starting => {
                self.fail_boot(self.stage, BootErrorKind::Vmm(error.kind), error.message);
                return;
            }
            Outcome::PowerOff if self.state == RunState::Stopping => EndReason::Stopped,
            Outcome::PowerOff => EndReason::GuestPowerOff,
            Outcome::Reset => EndReason::GuestReset,
            Outcome::Crash(CrashCause::TripleFault) => {
                EndReason::GuestCrash("triple fault".to_owned())
            }
            Outcome::Crash(CrashCause::Vcpu(what)) => EndReason::GuestCrash(what),
            Outcome::Killed => EndReason::Killed,
            Outcome::Error(error) => EndReason::VmmError(error.message),
            other => EndReason::VmmError(format!("it ended in an unknown way: {other:?}")),
        };
        self.expect_exit(reason);
    }

    fn agent_ready(&mut self, ready: &Ready, speaker: Speaker) {
        let (RunState::Starting, Some((vmm_started_ns, guest_entered_ns))) =
            (self.state, self.vmm_times)
        else {
            return;
        };
        self.agent = Some(speaker);
        self.state = RunState::Running;
        self.deadline = None;
        let timings = BootTimings::from(BootMarks {
            requested_ns: self.launch.requested_ns,
            vmm_started_ns,
            guest_entered_ns,
            ready_ns: monotonic_ns(),
            agent_ns: ready.ready_ns.saturating_sub(ready.init_ns),
        });
        self.tell(CREATOR, Notice::Running(timings));
    }

    async fn serve(&mut self, id: u64, request: Request) {
        match request {
            Request::Detach if id == CREATOR => self.detached = true,
            Request::Stop { timeout_ms } => self.stop(Duration::from_millis(timeout_ms)).await,
            Request::Kill => self.kill(),
            Request::Status => self.tell(id, Notice::Status(self.state)),
            // Launching twice, or detaching what one does not hold.
            Request::Launch(_) | Request::Detach => {
                self.clients.remove(&id);
            }
            _ => {}
        }
    }

    async fn stop(&mut self, timeout: Duration) {
        if self.state == RunState::Stopping || timeout.is_zero() {
            if timeout.is_zero() {
                self.kill();
            }
            return;
        }
        // Half of the time for the processes, half for the file systems.
        let grace_ms = u32::try_from(timeout.as_millis() / 2).unwrap_or(u32::MAX);
        let told = match &self.agent {
            Some(agent) => agent
                .send(&HostMessage::Shutdown { grace_ms })
                .await
                .is_ok(),
            None => false,
        };
        if told {
            self.state = RunState::Stopping;
            self.deadline = Some(Instant::now() + timeout);
        } else {
            // Nobody in the guest to ask.
            self.kill();
        }
    }

    /// The creator is gone. A stop that it asked for still has its time, within reason.
    fn disown(&mut self) {
        match (self.state, self.deadline) {
            (RunState::Stopping, Some(deadline)) => {
                self.deadline = Some(deadline.min(Instant::now() + DEFAULT_STOP));
            }
            _ => self.kill(),
        }
    }

    fn kill(&mut self) {
        if self.state == RunState::Starting {
            self.fail_boot(self.stage, BootErrorKind::Cancelled, "it was called off");
        } else {
            self.conclude(Verdict::Ended(EndReason::Killed));
            self.state = RunState::Stopping;
            self.vmm.kill();
        }
    }

    /// The deadline of the current state passed.
    fn overdue(&mut self) {
        self.deadline = None;
        match self.state {
            RunState::Starting => {
                let waited = Duration::from_millis(self.launch.boot_timeout_ms);
                self.fail_boot(
                    self.stage,
                    BootErrorKind::Timeout,
                    format!("it was not done after {waited:?}"),
                );
            }
            _ => {
                tracing::warn!(sandbox = %self.launch.config.name, "the guest did not end in time; killing it");
                self.kill();
            }
        }
    }

    /// The machine is over, for `reason`; its process is about to exit.
    fn expect_exit(&mut self, reason: EndReason) {
        if self.state == RunState::Starting {
            self.fail_boot(
                self.stage,
                BootErrorKind::GuestEnded,
                format!("the machine ended before it was ready: {reason:?}"),
            );
        }
        self.conclude(Verdict::Ended(reason));
        self.state = RunState::Stopping;
        self.deadline = Some(Instant::now() + EXIT_GRACE);
    }

    fn fail_boot(&mut self, stage: BootStage, kind: BootErrorKind, message: impl Into<String>) {
        self.conclude(Verdict::BootFailed(BootError::new(stage, kind, message)));
        self.state = RunState::Stopping;
        self.vmm.kill();
    }

    /// The first cause stands.
    fn conclude(&mut self, verdict: Verdict) {
        self.verdict.get_or_insert(verdict);
    }

    fn tell(&mut self, id: u64, notice: Notice) {
        // A client that reads nothing misses notices; it can ask for the status.
        if let Some(client) = self.clients.get(&id) {
            let _ = client.try_send(notice);
        }
    }

    async fn tell_end(&mut self, status: Option<ExitStatus>) {
        let notice = match self.verdict.take() {
            Some(Verdict::BootFailed(error)) => {
                Notice::BootFailed(error.with_console(self.console.text()))
            }
            verdict => Notice::Ended(EndRecord {
                reason: match verdict {
                    Some(Verdict::Ended(reason)) => reason,
                    _ => EndReason::VmmLost,
                },
                exit_code: status.and_then(|status| status.code()),
                signal: status.and_then(|status| status.signal()),
                observed_at: Utc::now(),
            }),
        };
        for (_, client) in self.clients.drain() {
            let _ = tokio::time::timeout(FAREWELL, client.send(notice.clone())).await;
        }
    }
}
