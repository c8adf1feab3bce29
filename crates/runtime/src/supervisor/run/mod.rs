//! The run: what the supervisor decides, event by event.
//!
//! ```text
//! Starting ──agent ready──> Running ──stop, drain──> Draining ──guest is off──> over
//!    │                      │     ^                     │
//!    │                 pause│     │resume               │
//!    │                      v     │                     │
//!    │                      Paused                      │
//!    └──────── deadline, failure, kill, creator gone: VMM killed ──────────────> over
//! ```
//!
//! A run is over when the VMM process is reaped. Only then is the end written down, after that the
//! directory removed, and only after that the end told: who hears of it finds nothing left.

mod disk_trouble;
mod ending;
mod requests;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::time::Duration;

use msb_protocol::{Features, HostMessage, MONITOR_PORT, Ready, SUPERVISOR_PORT, Setting};
use msb_runtime::boot::{BootError, BootErrorKind, BootMarks, BootStage, BootTimings};
use msb_runtime::chain::chain;
use msb_runtime::clock::monotonic_ns;
use msb_runtime::control::{Launch, Notice, Refusal};
use msb_runtime::conversation::Speaker;
use msb_runtime::end::EndReason;
use msb_runtime::isolation::{self, Isolation};
use msb_runtime::jail;
use msb_runtime::lines::{LineReader, LineWriter};
use msb_runtime::logs::STARTED;
use msb_runtime::metrics::MetricsPage;
use msb_runtime::registry::RegistryError;
use msb_types::{SandboxConfig, SandboxStatus, StatusEvent};
use msb_vmapi::{Event as VmmEvent, FromVmm, Reply, Request as VmmRequest};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::disk_trouble::DiskTrouble;
use self::ending::Verdict;
use self::requests::VmmAsk;
use super::clients::{self, CREATOR};
use super::console::ConsoleTail;
use super::event::{EVENT_QUEUE, Event};
use super::launch::{Machine, required};
use super::logger::Logger;
use super::recorder::Recorder;
use super::root::{Root, Written};
use super::sampler::Sampler;
use super::ticker::Ticker;
use super::vmm::Vmm;
use super::{Begun, agent, clock, host_error, monitor, settings};

pub(crate) use self::ending::boot_end;

/// How often it is looked whether a sandbox is idle, when metrics are not sampled.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// How long it may take to hear what was said before the VMM went.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How long a guest whose agent broke off may take to turn itself off.
const AGENT_GRACE: Duration = Duration::from_secs(15);

/// Somebody who is connected.
#[derive(Debug)]
struct Client {
    notices: mpsc::Sender<Notice>,
    /// Ends when everything is written that it was told.
    writing: JoinHandle<()>,
    /// It is told of changes.
    watches: bool,
}

/// One sandbox, running.
#[derive(Debug)]
pub(crate) struct Run {
    launch: Launch,
    config: SandboxConfig,
    file: msb_runtime::sandbox_dir::RunFile,
    new: bool,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    recorder: Recorder,
    logger: Logger,
    vmm: Vmm,
    console: ConsoleTail,
    clients: HashMap<u64, Client>,
    /// The state it is in.
    status: SandboxStatus,
    /// The state that was last written down: the one that others are told.
    written: SandboxStatus,
    /// The last state could not be written down.
    unwritten: bool,
    /// The creator was told that it runs. Until then, whatever ends it is a boot that failed.
    announced: bool,
    stage: BootStage,
    /// When the current state has lasted too long.
    deadline: Option<Instant>,
    /// When the whole run has.
    expiry: Option<Instant>,
    idle_timeout: Option<Duration>,
    /// When it is looked whether anything goes on.
    idle_tick: Option<Ticker>,
    /// When metrics are sampled.
    tick: Option<Ticker>,
    sampler: Sampler,
    vmm_hung_up: bool,
    vmm_times: Option<(u64, u64)>,
    /// Taken once it is told to the creator.
    timings: Option<BootTimings>,
    agent: Option<Speaker>,
    /// The agent sets its clock when it is told the time.
    takes_time: bool,
    /// The host's clock jumped while there was no agent to be told.
    time_untold: bool,
    agent_called: bool,
    /// What the agent is told when it calls.
    boot_messages: Vec<HostMessage>,
    monitor: Option<Speaker>,
    monitor_called: bool,
    /// Ends when all is heard that the guest said of its sessions.
    monitoring: Option<JoinHandle<()>>,
    detached: bool,
    /// What was asked of the VMM and is not answered yet.
    asked: HashMap<u64, VmmAsk>,
    /// Who waits for what to be written down.
    written_for: Vec<(SandboxStatus, u64)>,
    /// Why the guest was told to end.
    goal: Option<EndReason>,
    /// Its agent broke off while it ran.
    agent_lost: bool,
    /// What the host cannot do for its disks.
    disk_trouble: DiskTrouble,
    /// What the clients are told in the end, once something has decided it.
    verdict: Option<Verdict>,
}

impl Run {
    /// Opens the files, starts the VMM, and tells it what to build.
    pub(crate) async fn start(launch: Launch, begun: Begun) -> Result<Self, BootError> {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        match Parts::open(&launch, &begun, &sender).await {
            Ok(parts) => Self::with(launch, begun, parts, sender, events),
            Err(mut error) => {
                begun.undo(&mut error);
                Err(error)
            }
        }
    }

    fn with(
        launch: Launch,
        begun: Begun,
        parts: Parts,
        sender: mpsc::Sender<Event>,
        events: mpsc::Receiver<Event>,
    ) -> Result<Self, BootError> {
        let Begun {
            owned,
            config,
            run,
            new,
            control,
        } = begun;
        let recorder = match Recorder::start(owned, run.clone(), sender.clone()) {
            Ok(recorder) => recorder,
            Err(failed) => {
                let (owned, error) = *failed;
                let mut error = host_error(BootStage::Supervisor, "cannot start a thread", &error);
                let begun = Begun {
                    owned,
                    config,
                    run,
                    new,
                    control,
                };
                begun.undo(&mut error);
                return Err(error);
            }
        };
        clients::accept(control, sender.clone());
        let memory = u64::from(config.resources.memory_mib) << 20;
        let deadline = Instant::now() + Duration::from_millis(launch.boot_timeout_ms);
        Ok(Self {
            detached: launch.detached,
            idle_timeout: config.lifecycle.idle_timeout_secs.map(Duration::from_secs),
            sampler: Sampler::new(parts.page, parts.vmm.pid(), memory, Some(parts.written)),
            idle_tick: None,
            tick: None,
            launch,
            config,
            file: run,
            new,
            events,
            sender,
            recorder,
            logger: parts.logger,
            vmm: parts.vmm,
            console: parts.console,
            clients: HashMap::new(),
            status: SandboxStatus::Starting,
            written: SandboxStatus::Starting,
            unwritten: false,
            announced: false,
            stage: BootStage::Vmm,
            deadline: Some(deadline),
            expiry: None,
            vmm_hung_up: false,
            vmm_times: None,
            timings: None,
            agent: None,
            takes_time: false,
            time_untold: false,
            agent_called: false,
            boot_messages: parts.boot_messages,
            monitor: None,
            monitor_called: false,
            monitoring: None,
            asked: HashMap::from([(parts.configure, VmmAsk::Configure)]),
            written_for: Vec::new(),
            goal: None,
            agent_lost: false,
            disk_trouble: DiskTrouble::new(parts.disks),
            verdict: None,
        })
    }

    /// Takes events until the VMM is gone; then cleans up and tells the end.
    pub(crate) async fn until_ended(mut self, reader: LineReader, writer: LineWriter) {
        let (notices, writing, begin) =
            clients::serve(CREATOR, reader, writer, self.sender.clone());
        self.joined(CREATOR, notices, writing);
        begin();
        let signals = self.sender.clone();
        tokio::spawn(async move {
            if let Ok(mut terminate) = signal(SignalKind::terminate()) {
                while terminate.recv().await.is_some() {
                    let _ = signals.send(Event::Terminate).await;
                }
            }
        });
        clock::watch(self.sender.clone());
        let status = self.reap().await;
        self.hear_out().await;
        self.conclude_run(status).await;
    }

    /// The loop: until the VMM process has ended.
    async fn reap(&mut self) -> Option<ExitStatus> {
        loop {
            let event = tokio::select! {
                event = self.events.recv() => event,
                () = until(self.deadline) => {
                    self.overdue();
                    continue;
                }
                () = until(self.expiry) => {
                    self.expired().await;
                    continue;
                }
                () = next(&self.idle_tick) => {
                    self.look_whether_idle().await;
                    continue;
                }
                () = next(&self.tick) => {
                    self.ticked().await;
                    continue;
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

    /// What the VMM and the guest said before they went: their sockets hold it still.
    async fn hear_out(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        let mut monitoring = self.monitoring.take();
        while !self.vmm_hung_up || monitoring.is_some() {
            let heard = tokio::select! {
                event = self.events.recv() => event,
                () = ended(&mut monitoring) => {
                    monitoring = None;
                    continue;
                }
                () = tokio::time::sleep_until(deadline) => None,
            };
            match heard {
                Some(event) => self.take(event).await,
                None => return,
            }
        }
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Vmm(FromVmm::Event(event), descriptors) => {
                self.take_vmm_event(event, descriptors);
            }
            Event::Vmm(FromVmm::Reply { id, reply }, _) => self.take_reply(id, reply),
            Event::Vmm(..) | Event::VmmExited(_) => {}
            // Its exit follows.
            Event::VmmHungUp => {
                self.vmm_hung_up = true;
                self.deadline = self.deadline.or(Some(Instant::now() + AGENT_GRACE));
            }
            Event::AgentReady(ready, speaker, features) => {
                self.agent_ready(&ready, speaker, features);
            }
            Event::ClockJumped => self.tell_time(),
            Event::AgentFailed(mut error) if self.status == SandboxStatus::Starting => {
                if let Some(trouble) = self.disk_trouble.first() {
                    error.message.push_str(&format!(" ({trouble})"));
                }
                self.conclude(Verdict::BootFailed(error));
                self.vmm.kill();
            }
            Event::AgentFailed(error) => {
                tracing::warn!(%error, "the guest's agent broke off");
                self.agent_gone();
            }
            Event::AgentGone => self.agent_gone(),
            Event::MonitorOpened(speaker) => self.monitor = Some(speaker),
            Event::MonitorGone => {
                self.monitor = None;
                self.sampler.sessions(None);
            }
            Event::Sessions(count) => self.sampler.sessions(Some(count)),
            Event::Sample(sample) => self.sampler.take_guest(sample),
            Event::Recorded(status, written) => self.recorded(status, written),
            Event::ClientJoined(id, notices, writing) => self.joined(id, notices, writing),
            Event::ClientAsked(id, request) => self.serve(id, request).await,
            Event::ClientLeft(id) => self.client_left(id).await,
            Event::Terminate => {
                self.stop_for(EndReason::Stopped, ending::DEFAULT_STOP)
                    .await
            }
        }
    }

    fn take_vmm_event(&mut self, event: VmmEvent, mut descriptors: Vec<OwnedFd>) {
        match event {
            VmmEvent::Booted {
                process_started_ns,
                booted_ns,
                isolation,
            } => {
                // Once: later ones would be a guest's words, from a VMM that it owns.
                if self.vmm_times.is_none() {
                    self.take_isolation(isolation);
                }
                self.vmm_times = Some((process_started_ns, booted_ns));
                self.stage = BootStage::Kernel;
            }
            VmmEvent::GuestConnected { port } => {
                // One conversation of each kind; any other connection is closed by being dropped.
                if let Some(socket) = descriptors.pop() {
                    self.guest_connected(port, socket);
                }
            }
            VmmEvent::DiskFailed { disk, error } => {
                if let Some(said) = self.disk_trouble.hear(disk, &error) {
                    tracing::warn!("{said}");
                    self.logger.say(&format!("--- {said} ---"));
                }
            }
            VmmEvent::Ended(outcome) => self.take_outcome(outcome),
            _ => {}
        }
    }

    /// What stands around the VMM: kept, said where it is less than all, and refused where more is asked for. The VMM
    /// was told what is, and does not come this far without it.
    fn take_isolation(&mut self, told: Isolation) {
        let told = isolation::bounded(told);
        let lacking: Vec<String> = told.lacking().map(ToString::to_string).collect();
        if !lacking.is_empty() {
            let said = format!(
                "the VMM's jail is weaker on this host: {}",
                lacking.join("; ")
            );
            tracing::warn!("{said}");
            self.logger.say(&format!("--- {said} ---"));
        }
        let required = required(&self.config);
        let unmet: Vec<String> = told.unmet(&required).map(|it| it.to_string()).collect();
        self.file.isolation = told;
        if !unmet.is_empty() {
            let why = format!(
                "the jail is weaker than what is required: {}",
                unmet.join("; ")
            );
            let kind = BootErrorKind::Vmm(msb_vmapi::ErrorKind::Isolation);
            self.fail_boot(BootStage::Vmm, kind, why);
        }
    }

    fn guest_connected(&mut self, port: u32, socket: OwnedFd) {
        match port {
            SUPERVISOR_PORT if !self.agent_called => {
                self.agent_called = true;
                self.stage = BootStage::Agent;
                agent::serve(
                    socket,
                    std::mem::take(&mut self.boot_messages),
                    Duration::from_millis(self.launch.boot_timeout_ms),
                    self.sender.clone(),
                );
            }
            MONITOR_PORT if !self.monitor_called => {
                self.monitor_called = true;
                let pieces = self.logger.pieces();
                self.monitoring = Some(monitor::serve(socket, pieces, self.sender.clone()));
            }
            _ => tracing::debug!(port, "a guest's connection is not taken"),
        }
    }

    fn take_reply(&mut self, id: u64, reply: Reply) {
        let Some(ask) = self.asked.remove(&id) else {
            return;
        };
        match (ask, reply) {
            (VmmAsk::Configure, Reply::Error(error)) => {
                self.fail_boot(
                    BootStage::Vmm,
                    BootErrorKind::Vmm(error.kind),
                    error.message,
                );
            }
            (VmmAsk::Counters, Reply::Counters(counters)) => self.sampler.take_counters(counters),
            (VmmAsk::Pause(client), reply) => self.paused(client, reply),
            (VmmAsk::Resume(client), reply) => self.resumed(client, reply),
            _ => {}
        }
    }

    fn agent_ready(&mut self, ready: &Ready, speaker: Speaker, features: Features) {
        let (SandboxStatus::Starting, None, Some((vmm_started_ns, guest_entered_ns))) =
            (self.status, &self.verdict, self.vmm_times)
        else {
            return;
        };
        self.agent = Some(speaker);
        self.takes_time = features.has(Features::SETTINGS);
        if self.time_untold {
            self.tell_time();
        }
        self.deadline = None;
        self.timings = Some(BootTimings::from(BootMarks {
            requested_ns: self.launch.requested_ns,
            vmm_started_ns,
            guest_entered_ns,
            ready_ns: monotonic_ns(),
            agent_ns: ready.ready_ns.saturating_sub(ready.init_ns),
        }));
        // The creator hears of it once it is written down.
        self.note(StatusEvent::Booted);
    }

    /// A state was written down, or could not be.
    fn recorded(&mut self, status: SandboxStatus, written: Result<(), RegistryError>) {
        let running = status == SandboxStatus::Running && !self.announced;
        if let Err(error) = written {
            let why = chain(&error);
            tracing::warn!(%status, error = %why, "the catalog does not take what happened");
            self.logger
                .say(&format!("--- the catalog could not be written: {why} ---"));
            self.unwritten = true;
            if running {
                // It would run, and nobody could see that it does.
                self.fail_boot(BootStage::Supervisor, BootErrorKind::Host, why);
            } else {
                self.answer(status, &Notice::Refused(Refusal::Catalog(why)));
            }
            return;
        }
        self.unwritten = false;
        self.written = status;
        if running && self.verdict.is_none() {
            self.announced = true;
            self.begin_to_count();
            if let Some(timings) = self.timings.take() {
                self.tell(CREATOR, Notice::Running(timings));
            }
        }
        self.answer(status, &Notice::Accepted);
        self.tell_watchers(status);
    }

    /// From now on it is counted how long it runs, and how long nothing goes on.
    fn begin_to_count(&mut self) {
        let lifecycle = self.config.lifecycle;
        self.expiry = lifecycle
            .max_duration_secs
            .and_then(|secs| Instant::now().checked_add(Duration::from_secs(secs)));
        self.idle_tick = self.idle_timeout.and_then(|_| ticks(IDLE_TICK));
        self.tick = self.config.runtime.metrics_interval().and_then(ticks);
        self.sampler.touch();
        self.logger.say(STARTED);
    }

    /// Time for a sample.
    async fn ticked(&mut self) {
        if self.unwritten && self.verdict.is_none() {
            self.unwritten = !self.recorder.note(self.status, &self.file);
        }
        if self.status == SandboxStatus::Paused {
            return;
        }
        if self.sampler.tick() && self.verdict.is_none() {
            self.ask_vmm(VmmRequest::Counters, VmmAsk::Counters).await;
            self.ask_guest_for_sample();
        }
    }

    /// Time to see whether anything goes on.
    async fn look_whether_idle(&mut self) {
        let idle = self.sampler.idle_for();
        match (self.status, self.idle_timeout) {
            (SandboxStatus::Running, Some(timeout)) if idle >= timeout => {
                self.stop_for(EndReason::Idle, ending::DEFAULT_STOP).await;
            }
            // Time stands still for it: so does its idling.
            (SandboxStatus::Paused, _) => self.sampler.touch(),
            _ => {}
        }
    }

    /// Tells the guest what time it is. One that stands still is told when it goes on: what lay
    /// waiting would be wrong by then.
    fn tell_time(&mut self) {
        self.time_untold = self.agent.is_none();
        if self.status == SandboxStatus::Paused || !self.takes_time {
            return;
        }
        if let Some(agent) = self.agent.clone() {
            // In a task of its own, as below.
            tokio::spawn(async move {
                let unix_ns = clock::unix_ns();
                let clock = HostMessage::Setting(Setting::Clock { id: 0, unix_ns });
                let _ = tokio::time::timeout(AGENT_GRACE, agent.send(&clock)).await;
            });
        }
    }

    fn ask_guest_for_sample(&self) {
        if let Some(monitor) = self.monitor.clone() {
            // In a task of its own: a guest that does not read must not hold up the run.
            tokio::spawn(async move {
                let asked = monitor.send(&HostMessage::Sample);
                let _ = tokio::time::timeout(AGENT_GRACE, asked).await;
            });
        }
    }

    /// Moves the state on and has that written down. `false` if it cannot be now.
    fn note(&mut self, event: StatusEvent) -> bool {
        let Ok(status) = self.status.after(event) else {
            return false;
        };
        self.status = status;
        let waiting = self.recorder.note(status, &self.file);
        if !waiting {
            tracing::warn!(%status, "too much happened at once to be written down");
            self.unwritten = true;
        }
        waiting
    }
}

/// What a run is made of before it runs.
struct Parts {
    vmm: Vmm,
    console: ConsoleTail,
    logger: Logger,
    page: Option<MetricsPage>,
    /// The number of the request that described the machine.
    configure: u64,
    boot_messages: Vec<HostMessage>,
    written: Written,
    disks: Vec<&'static str>,
}

impl Parts {
    async fn open(
        launch: &Launch,
        begun: &Begun,
        sender: &mpsc::Sender<Event>,
    ) -> Result<Self, BootError> {
        let host =
            |what: &str, error: &std::io::Error| host_error(BootStage::Supervisor, what, error);
        let lock = &begun.owned.lock;
        let root = Root::open(launch, &begun.config, begun.owned.dir())?;
        let disks = root.disks.iter().map(|disk| disk.id).collect();
        let boot_messages = settings::messages(&begun.config, root.guest, &root.wishes)?;
        let machine = Machine::open(launch, &begun.config, lock, root.disks, root.mapped)?;
        let page = match begun.config.runtime.metrics_interval() {
            Some(_) => {
                let page = MetricsPage::create(&lock.dir().metrics());
                Some(page.map_err(|error| host("cannot make the page of metrics", &error))?)
            }
            None => None,
        };
        let shared = lock
            .share_lock()
            .map_err(|error| host("cannot share the lock", &error))?;
        let mut vmm = Vmm::spawn(&launch.vmm, shared.into(), sender)
            .map_err(|error| host(&format!("cannot run {}", launch.vmm.display()), &error))?;
        // Before the threads that come now.
        let weaker = confine(launch, begun);
        let logger = Logger::start(&begun.owned.dir().logs())
            .map_err(|error| host("cannot open the logs", &error))?;
        for why in weaker {
            tracing::warn!("{why}");
            logger.say(&format!("--- {why} ---"));
        }
        let configure = vmm
            .ask(
                VmmRequest::Configure(Box::new(machine.config.clone())),
                &machine.descriptors(),
            )
            .await
            .map_err(|error| host_error(BootStage::Vmm, "cannot configure the VMM", &error))?;
        let console = ConsoleTail::default();
        console.follow(machine.console, logger.pieces());
        Ok(Self {
            vmm,
            console,
            logger,
            page,
            configure,
            boot_messages,
            written: root.writable,
            disks,
        })
    }
}

/// Gives up what is not needed any more, now that the VMM is there. Says what could not be.
fn confine(launch: &Launch, begun: &Begun) -> Vec<String> {
    let needs = jail::Needs {
        home: launch.home.clone(),
        sandbox: begun.owned.dir().path().to_path_buf(),
        run: begun.owned.lock.dir().path().to_path_buf(),
    };
    let weaker = |why: &str| format!("the supervisor's jail is weaker on this host: {why}");
    let mut lacking = Vec::new();
    let theirs = needs.clone();
    // It has the same kernel: what comes of it is what comes below.
    let catalogs = (begun.owned).in_catalogs_thread(move || drop(jail::paths(&theirs)));
    match (jail::paths(&needs), catalogs) {
        (Ok(true), Ok(())) => {}
        (Ok(false), _) => lacking.push(weaker("the kernel does not have landlock, or not enabled")),
        (Err(error), _) => lacking.push(weaker(&chain(&error))),
        (_, Err(error)) => lacking.push(weaker(&chain(&error))),
    }
    if let Err(error) = jail::calls::refuse() {
        lacking.push(weaker(&chain(&error)));
    }
    lacking
}

fn ticks(period: Duration) -> Option<Ticker> {
    Ticker::new(period)
        .inspect_err(|error| tracing::warn!(%error, "the host gives no timer"))
        .ok()
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn ended(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => {
            // However it ended, it says no more.
            let _ = task.await;
        }
        None => std::future::pending().await,
    }
}

async fn next(tick: &Option<Ticker>) {
    match tick {
        Some(ticker) if ticker.tick().await.is_ok() => {}
        // A timer that fails would be ready for ever.
        _ => std::future::pending().await,
    }
}
