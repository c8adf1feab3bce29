//! What clients ask, and what becomes of it.

use std::time::Duration;

use msb_protocol::HostMessage;
use msb_runtime::control::{Notice, Refusal, Request};
use msb_runtime::end::EndReason;
use msb_types::{SandboxStatus, StatusEvent};
use msb_vmapi::{ErrorKind, Reply, Request as VmmRequest, VmError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::clients::CREATOR;
use super::ending::DEFAULT_STOP;
use super::{AGENT_GRACE, Client, Run};

/// Milliseconds that processes get which a drained guest still has when its last command ended.
const DRAIN_GRACE_MS: u32 = 5_000;

/// The most requests that may be open at the VMM.
const MAX_ASKED: usize = 64;

/// A request to the VMM whose answer is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VmmAsk {
    /// The machine's description.
    Configure,
    /// What it has done.
    Counters,
    /// To pause, for this client.
    Pause(u64),
    /// To resume, for this client; for nobody, before a stop.
    Resume(Option<u64>),
}

impl Run {
    pub(super) async fn serve(&mut self, id: u64, request: Request) {
        match request {
            Request::Detach if id == CREATOR => {
                self.detached = true;
                self.tell(id, Notice::Accepted);
            }
            Request::Stop { timeout_ms } => {
                self.stop_for(EndReason::Stopped, Duration::from_millis(timeout_ms))
                    .await;
                self.tell(id, Notice::Accepted);
            }
            Request::Kill => {
                self.kill();
                self.tell(id, Notice::Accepted);
            }
            Request::Drain => self.drain(id).await,
            Request::Pause => self.pause(id).await,
            Request::Resume => self.resume(id).await,
            Request::Status => self.tell(id, Notice::Status(self.told())),
            Request::Watch => {
                if let Some(client) = self.clients.get_mut(&id) {
                    client.watches = true;
                }
                self.tell(id, Notice::Status(self.told()));
            }
            // Launching twice, or detaching what one does not hold.
            Request::Launch(_) | Request::Detach => {
                self.tell(id, Notice::Refused(Refusal::Misplaced));
            }
            _ => self.tell(id, Notice::Refused(Refusal::Misplaced)),
        }
    }

    /// The state that others are told. One that is ending is over for all that they may want.
    fn told(&self) -> SandboxStatus {
        match self.verdict {
            Some(_) => SandboxStatus::Stopped,
            None => self.written,
        }
    }

    /// Has the guest end gracefully within `timeout`, and kills it after that.
    pub(super) async fn stop_for(&mut self, reason: EndReason, timeout: Duration) {
        if timeout.is_zero() || !self.announced {
            self.kill();
            return;
        }
        let deadline = Instant::now().checked_add(timeout);
        let stopping =
            self.status == SandboxStatus::Draining && self.goal != Some(EndReason::Drained);
        let sooner = match (self.deadline, deadline) {
            (Some(before), Some(now)) => now < before,
            (None, now) => now.is_some(),
            (Some(_), None) => false,
        };
        if stopping && !sooner {
            return;
        }
        self.wake().await;
        if self.tell_shutdown(timeout).await {
            self.deadline = deadline;
            if !stopping {
                self.goal = Some(reason);
                self.note(StatusEvent::DrainAsked);
            }
        } else {
            // Nobody in the guest to ask.
            self.kill();
        }
    }

    /// Tells the guest to end within `timeout`: half of it for the processes, half for the file
    /// systems. Told again, it can only become quicker.
    async fn tell_shutdown(&mut self, timeout: Duration) -> bool {
        let grace_ms = u32::try_from(timeout.as_millis() / 2).unwrap_or(u32::MAX);
        self.tell_agent(HostMessage::Shutdown { grace_ms }).await
    }

    async fn drain(&mut self, id: u64) {
        match self.status {
            // It ends already, whatever way.
            SandboxStatus::Draining => return self.tell(id, Notice::Accepted),
            SandboxStatus::Running | SandboxStatus::Paused if self.answers() => {}
            _ => return self.refuse(id),
        }
        self.wake().await;
        let told = self
            .tell_agent(HostMessage::Drain {
                grace_ms: DRAIN_GRACE_MS,
            })
            .await;
        if told {
            self.goal = Some(EndReason::Drained);
            self.move_for(id, StatusEvent::DrainAsked);
        } else {
            self.tell(id, Notice::Refused(Refusal::Agent));
        }
    }

    async fn pause(&mut self, id: u64) {
        match self.status {
            SandboxStatus::Paused => self.when_written(id),
            SandboxStatus::Running if self.answers() => {
                self.ask_vmm(VmmRequest::Pause, VmmAsk::Pause(id)).await;
            }
            _ => self.refuse(id),
        }
    }

    async fn resume(&mut self, id: u64) {
        let pausing = self
            .asked
            .values()
            .any(|ask| matches!(ask, VmmAsk::Pause(_)));
        match self.status {
            SandboxStatus::Running if !pausing && self.answers() => self.when_written(id),
            SandboxStatus::Running | SandboxStatus::Paused if self.answers() => {
                self.ask_vmm(VmmRequest::Resume, VmmAsk::Resume(Some(id)))
                    .await;
            }
            _ => self.refuse(id),
        }
    }

    /// Whether it is up, and not on its way out.
    fn answers(&self) -> bool {
        self.announced && self.verdict.is_none()
    }

    fn refuse(&self, id: u64) {
        let status = match self.answers() {
            true => self.status,
            false => self.told(),
        };
        self.tell(id, Notice::Refused(Refusal::Status(status)));
    }

    /// The VMM's answer to a pause.
    pub(super) fn paused(&mut self, client: u64, reply: Reply) {
        match reply {
            Reply::Error(error) => self.vmm_refused(client, error),
            _ => match self.status {
                SandboxStatus::Running => self.move_for(client, StatusEvent::Paused),
                // Asked twice.
                SandboxStatus::Paused => self.when_written(client),
                // Stopped meanwhile.
                _ => self.refuse(client),
            },
        }
    }

    /// The VMM's answer to a resumption.
    pub(super) fn resumed(&mut self, client: Option<u64>, reply: Reply) {
        let Some(client) = client else { return };
        match reply {
            Reply::Error(error) => self.vmm_refused(client, error),
            _ if self.status == SandboxStatus::Paused => {
                self.sampler.touch();
                self.move_for(client, StatusEvent::Resumed);
                // The host's may have jumped while nobody could be told.
                self.tell_time();
            }
            _ => self.when_written(client),
        }
    }

    fn vmm_refused(&self, client: u64, error: VmError) {
        let refusal = match error.kind {
            // The machine has ended.
            ErrorKind::State => Refusal::Status(SandboxStatus::Stopped),
            _ => Refusal::Vmm(error.message),
        };
        self.tell(client, Notice::Refused(refusal));
    }

    /// Moves the state on, and answers the client when that is written down.
    fn move_for(&mut self, client: u64, event: StatusEvent) {
        if self.note(event) {
            self.written_for.push((self.status, client));
        } else {
            let why = "too much happened at once".to_owned();
            self.tell(client, Notice::Refused(Refusal::Catalog(why)));
        }
    }

    /// Answers the client when the state that it is in is written down.
    fn when_written(&mut self, client: u64) {
        if self.status == self.written {
            self.tell(client, Notice::Accepted);
        } else {
            self.written_for.push((self.status, client));
        }
    }

    /// Answers all who wait for a state to be written down.
    pub(super) fn answer(&mut self, status: SandboxStatus, notice: &Notice) {
        let mut waiting = std::mem::take(&mut self.written_for);
        waiting.retain(|(awaited, client)| {
            let done = *awaited == status;
            if done {
                self.tell(*client, notice.clone());
            }
            !done
        });
        self.written_for = waiting;
    }

    /// Lets a paused guest run, so that it can be told something.
    async fn wake(&mut self) {
        let pausing = self
            .asked
            .values()
            .any(|ask| matches!(ask, VmmAsk::Pause(_)));
        if self.status == SandboxStatus::Paused || pausing {
            self.ask_vmm(VmmRequest::Resume, VmmAsk::Resume(None)).await;
        }
    }

    /// Asks the VMM; it answers by an event.
    pub(super) async fn ask_vmm(&mut self, request: VmmRequest, ask: VmmAsk) {
        if self.asked.len() >= MAX_ASKED
            || (ask == VmmAsk::Counters && self.asked.values().any(|open| *open == ask))
        {
            // It answers nobody; its deadline or its end will tell.
            return;
        }
        match self.vmm.ask(request, &[]).await {
            Ok(id) => {
                self.asked.insert(id, ask);
            }
            Err(error) => tracing::debug!(%error, ?ask, "the VMM cannot be asked"),
        }
    }

    async fn tell_agent(&mut self, message: HostMessage) -> bool {
        match &self.agent {
            Some(agent) => {
                let sent = tokio::time::timeout(AGENT_GRACE, agent.send(&message)).await;
                matches!(sent, Ok(Ok(())))
            }
            None => false,
        }
    }

    /// The whole run has lasted as long as it may.
    pub(super) async fn expired(&mut self) {
        self.expiry = None;
        self.logger.say("--- the sandbox's time is up ---");
        self.stop_for(EndReason::MaxDuration, DEFAULT_STOP).await;
    }

    pub(super) fn joined(
        &mut self,
        id: u64,
        notices: mpsc::Sender<Notice>,
        writing: JoinHandle<()>,
    ) {
        let client = Client {
            notices,
            writing,
            watches: false,
        };
        self.clients.insert(id, client);
    }

    pub(super) async fn client_left(&mut self, id: u64) {
        self.clients.remove(&id);
        // One that nobody was told of yet is nobody's, detached or not.
        if id == CREATOR && !(self.detached && self.announced) {
            self.disown().await;
        }
    }

    pub(super) fn tell_watchers(&mut self, status: SandboxStatus) {
        // Who does not read would miss something: it is to look again.
        self.clients.retain(|_, client| {
            !client.watches || client.notices.try_send(Notice::Changed(status)).is_ok()
        });
    }

    pub(super) fn tell(&self, id: u64, notice: Notice) {
        // A client that reads nothing misses notices; it can ask for the status.
        if let Some(client) = self.clients.get(&id) {
            let _ = client.notices.try_send(notice);
        }
    }
}
