//! How a run ends, and what is said of it.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use chrono::Utc;
use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
use msb_runtime::chain::chain;
use msb_runtime::control::{LaunchError, Notice};
use msb_runtime::end::{EndReason, EndRecord, EndSource};
use msb_runtime::logs::STOPPED;
use msb_types::SandboxStatus;
use msb_vmapi::{CrashCause, ExitCode, Outcome, Violation};
use tokio::time::Instant;

use super::super::clients::CREATOR;
use super::super::console::init_ended;
use super::{AGENT_GRACE, Client, LAST_WORDS, Run};

/// What a stop is given that has no time of its own, or nobody who waits for it.
pub(super) const DEFAULT_STOP: Duration = Duration::from_secs(10);

/// How long a VMM that said its last word may take to exit.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// How long clients may take to read the last notice.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long the logs may take to be written in the end.
const LOGS: Duration = Duration::from_secs(5);

/// What decided the run.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It did not come up.
    BootFailed(BootError),
    /// It came up, and is over.
    Ended(EndReason),
}

/// The end of a run that did not come up.
pub(crate) fn boot_end(error: &BootError, status: Option<ExitStatus>) -> EndRecord {
    record(EndReason::BootFailed(error.to_string()), status)
}

fn record(reason: EndReason, status: Option<ExitStatus>) -> EndRecord {
    EndRecord {
        reason,
        exit_code: status.and_then(|status| status.code()),
        signal: status.and_then(|status| status.signal()),
        observed_at: Utc::now(),
        source: EndSource::Supervisor,
    }
}

/// What is said of a violation by a VMM that did not say it.
const UNTOLD: &str = "it made a system call that the jail forbids";

/// The longest name of a system call that is repeated.
const MAX_CALL: usize = 32;

/// Linux's number of `SIGSYS`.
const SIGSYS: i32 = 31;

/// A violation as it is told. Whoever said it may own the VMM, so a name is repeated only if it is one.
fn told(mut violation: Violation) -> String {
    let name = &violation.syscall;
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || name.len() > MAX_CALL || !name.chars().all(is_name) {
        violation.syscall = "something".to_owned();
    }
    violation.to_string()
}

/// Whether the kernel ended the VMM for a system call, which is true whatever the VMM itself said.
fn was_killed_for_a_call(status: Option<ExitStatus>) -> bool {
    status.and_then(|status| status.signal()) == Some(SIGSYS)
}

/// Whether the VMM ended itself for a system call, and the word of it was lost.
fn exited_for_a_call(status: Option<ExitStatus>) -> bool {
    let code = status.and_then(|status| status.code());
    code == Some(ExitCode::Violation.code().into())
}

impl Run {
    pub(super) fn take_outcome(&mut self, outcome: Outcome) {
        let reason = match (outcome, &self.goal) {
            (Outcome::Error(error), _) if !self.announced => {
                self.fail_boot(self.stage, BootErrorKind::Vmm(error.kind), error.message);
                return;
            }
            (Outcome::PowerOff, goal) => goal.clone().unwrap_or(EndReason::GuestPowerOff),
            // To some inits to be told to end is to end themselves, or the machine in this way.
            (Outcome::Reset, Some(goal)) if self.config.init.is_some() => goal.clone(),
            (Outcome::Reset, _) => EndReason::GuestReset,
            (Outcome::Crash(CrashCause::TripleFault), _) => {
                EndReason::GuestCrash("triple fault".to_owned())
            }
            (Outcome::Crash(CrashCause::Vcpu(what)), _) => EndReason::GuestCrash(what),
            (Outcome::Killed, _) => EndReason::Killed,
            (Outcome::Error(error), _) => EndReason::VmmError(error.message),
            (Outcome::Violation(violation), _) => EndReason::VmmViolation(told(violation)),
            (other, _) => EndReason::VmmError(format!("it ended in an unknown way: {other:?}")),
        };
        self.expect_exit(reason);
    }

    /// The machine is over, for `reason`; its process is about to exit.
    fn expect_exit(&mut self, reason: EndReason) {
        self.conclude(Verdict::Ended(reason));
        self.deadline = Some(Instant::now() + EXIT_GRACE);
    }

    /// The creator is gone. A stop that it asked for still has its time, within reason.
    pub(super) async fn disown(&mut self) {
        match (self.status, self.deadline) {
            (SandboxStatus::Draining, Some(_)) => {
                self.stop_for(EndReason::Stopped, DEFAULT_STOP).await;
            }
            _ => self.kill(),
        }
    }

    pub(super) fn kill(&mut self) {
        if self.announced {
            self.conclude(Verdict::Ended(EndReason::Killed));
            self.vmm.kill();
        } else {
            self.fail_boot(self.stage, BootErrorKind::Cancelled, "it was called off");
        }
    }

    /// The agent's conversation is over. Without it the guest turns itself off.
    pub(super) fn agent_gone(&mut self) {
        self.agent = None;
        self.agent_lost = self.goal.is_none();
        self.deadline = self.deadline.or(Some(Instant::now() + AGENT_GRACE));
    }

    /// The deadline of the current state passed.
    pub(super) fn overdue(&mut self) {
        self.deadline = None;
        if !self.announced {
            let waited = Duration::from_millis(self.launch.boot_timeout_ms);
            self.fail_boot(
                self.stage,
                BootErrorKind::Timeout,
                format!("it was not done after {waited:?}"),
            );
            return;
        }
        tracing::warn!(sandbox = %self.config.name, "the guest did not end in time; killing it");
        self.logger
            .say("--- the guest did not end in time and is killed ---");
        match self.goal.take() {
            // What a limit began stays the limit's doing, however it had to end.
            Some(reason @ (EndReason::MaxDuration | EndReason::Idle)) => {
                self.conclude(Verdict::Ended(reason));
            }
            None if self.agent_lost => self.conclude(Verdict::Ended(EndReason::AgentLost)),
            _ => {}
        }
        self.kill();
    }

    pub(super) fn fail_boot(
        &mut self,
        stage: BootStage,
        kind: BootErrorKind,
        message: impl Into<String>,
    ) {
        self.conclude(Verdict::BootFailed(BootError::new(stage, kind, message)));
        self.vmm.kill();
    }

    /// The first cause stands.
    pub(super) fn conclude(&mut self, verdict: Verdict) {
        self.verdict.get_or_insert(verdict);
    }

    /// The VMM is reaped: writes the end down, removes what is the run's, and tells.
    pub(super) async fn conclude_run(mut self, status: Option<ExitStatus>) {
        self.hear_console_out().await;
        let (mut end, boot_error) = self.judge(status);
        // Their end came before the word of it was written.
        let drained = std::mem::take(&mut self.written_for);
        for (awaited, client) in drained {
            if awaited == SandboxStatus::Draining {
                self.tell(client, Notice::Accepted);
            }
        }
        let Self {
            recorder,
            logger,
            mut file,
            new,
            clients,
            events,
            sender,
            disk_trouble,
            ..
        } = self;
        // A disk that had no room may have had none for the first word of it either.
        if let Some(trouble) = disk_trouble.first() {
            logger.say(&format!("--- while it ran, {trouble} ---"));
        }
        // The queues' other ends must be gone before their threads are waited for.
        drop((events, sender));
        let logged = tokio::time::timeout(LOGS, logger.finish(STOPPED)).await;
        if logged.is_err() {
            tracing::warn!("the logs could not be written in time");
        }
        if let Some(owned) = recorder.finish().await {
            let nothing_left = new && boot_error.is_some();
            let finished = tokio::task::spawn_blocking(move || {
                let written = if nothing_left {
                    owned.remove_record()
                } else {
                    owned.end(&mut file, &end)
                };
                if let Err(error) = written {
                    // Whoever looks next finds the lock free and writes it down.
                    tracing::warn!(error = %chain(&error), "the end could not be written down");
                }
                if let Err(error) = owned.lock.remove() {
                    tracing::warn!(%error, "the run directory could not be removed");
                }
                end
            });
            match finished.await {
                Ok(told) => end = told,
                Err(_) => return,
            }
        } else {
            // The lock goes with this process, and whoever looks next writes the end down.
            tracing::warn!("the catalog's disk hangs; the end is not written down");
            return;
        }
        let creators = match boot_error {
            Some(error) => Notice::NotLaunched(LaunchError::Boot(error)),
            None => Notice::Ended(end.clone()),
        };
        farewell(clients, &creators, &Notice::Ended(end)).await;
    }

    /// What the console said last is in its pipe still. Where an init was PID 1, that may be the
    /// reason why the guest is no more.
    async fn hear_console_out(&mut self) {
        if self.config.init.is_none() {
            return;
        }
        let _ = tokio::time::timeout(LAST_WORDS, self.console.closed()).await;
        if let Some(Verdict::Ended(reason @ EndReason::GuestReset)) = &mut self.verdict
            && let Some(how) = init_ended(&self.console.text())
        {
            *reason = EndReason::InitEnded(how);
        }
    }

    /// How it ended; and if it never came up, what its creator is told of that.
    fn judge(&mut self, status: Option<ExitStatus>) -> (EndRecord, Option<BootError>) {
        let error = match self.verdict.take() {
            Some(Verdict::BootFailed(error)) => error,
            verdict => {
                let reason = match verdict {
                    _ if was_killed_for_a_call(status) => {
                        EndReason::VmmViolation(UNTOLD.to_owned())
                    }
                    Some(Verdict::Ended(reason)) => reason,
                    _ if exited_for_a_call(status) => EndReason::VmmViolation(UNTOLD.to_owned()),
                    _ => EndReason::VmmLost,
                };
                if self.announced {
                    return (record(reason, status), None);
                }
                let stage = match reason {
                    EndReason::InitEnded(_) => BootStage::Init,
                    _ => self.stage,
                };
                let message = format!("the machine ended before it was ready: {reason}");
                BootError::new(stage, BootErrorKind::GuestEnded, message)
            }
        };
        let end = boot_end(&error, status);
        (end, Some(error.with_console(self.console.text())))
    }
}

/// Tells everybody the last word, all at once, and waits until it is written.
async fn farewell(clients: HashMap<u64, Client>, creators: &Notice, others: &Notice) {
    let mut tasks = tokio::task::JoinSet::new();
    for (id, client) in clients {
        let notice = match id {
            CREATOR => creators.clone(),
            _ => others.clone(),
        };
        tasks.spawn(async move {
            let Client {
                notices, writing, ..
            } = client;
            let _ = notices.send(notice).await;
            drop(notices);
            let _ = writing.await;
        });
    }
    // Who does not read does not hear it.
    let _ = tokio::time::timeout(FAREWELL, tasks.join_all()).await;
}

#[cfg(test)]
mod tests {
    use msb_vmapi::ThreadRole;

    use super::*;

    #[test]
    fn names_of_calls_are_repeated_and_nothing_else() {
        let tell = |name: &str| {
            told(Violation {
                thread: ThreadRole::Vcpu,
                syscall: name.to_owned(),
            })
        };
        assert_eq!(
            tell("io_uring_setup"),
            "its vcpu thread called io_uring_setup, which the jail forbids"
        );
        for name in ["", "rm -rf /", "\x1b[2J", &"a".repeat(33), "Execve"] {
            assert!(tell(name).contains("called something,"), "{name:?}");
        }
    }

    #[test]
    fn the_kernels_word_is_heard() {
        let signalled = Some(ExitStatus::from_raw(SIGSYS));
        let exited = Some(ExitStatus::from_raw(13 << 8));
        let killed = Some(ExitStatus::from_raw(9));
        assert!(was_killed_for_a_call(signalled) && !exited_for_a_call(signalled));
        assert!(!was_killed_for_a_call(exited) && exited_for_a_call(exited));
        for other in [killed, None] {
            assert!(!was_killed_for_a_call(other) && !exited_for_a_call(other));
        }
    }
}
