//! Waiting for a sandbox to come to a state, without asking again and again.
//!
//! While a sandbox is active its supervisor listens, and tells whoever watches of every change
//! until it ends. Where it cannot be reached it is ending, and the run's lock tells when that is
//! done. So every step of the loop waits for an event of the kernel.

use std::io;

use chrono::Utc;
use msb_runtime::control::{Notice, Request};
use msb_runtime::end::EndRecord;
use msb_runtime::rundir::RunDir;
use msb_types::SandboxStatus;

use super::link::settle;
use super::{LocalBackend, control};
use crate::backend::{SandboxBackend, SandboxInfo};
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::sandbox::SandboxStopResult;

/// What a watch saw.
enum Seen {
    /// The state that was waited for.
    Status,
    /// The end, as the supervisor told it.
    End(EndRecord),
    /// That the supervisor is gone, or is going.
    Gone,
}

impl LocalBackend {
    /// Waits for the end of the run that is there now, and of no later one.
    pub(super) async fn stopped(&self, name: &str) -> MicrosandboxResult<SandboxStopResult> {
        let dir = self.run_dir(name)?;
        let mut run = None;
        loop {
            let info = match self.get(name).await {
                // It went with its run.
                Err(MicrosandboxError::SandboxNotFound(_)) if run.is_some() => {
                    return Ok(removed(name));
                }
                info => info?,
            };
            if !info.status.is_active() || run.is_some_and(|run| run != info.run) {
                // Whoever ran it may be about to let go of the last.
                settle(&dir).await;
                return Ok(result(&info));
            }
            run = Some(info.run);
            match watch(&dir, |_| false).await? {
                // Told only after everything is written down and let go.
                Seen::End(end) => return Ok(SandboxStopResult::of(name, &end)),
                Seen::Gone | Seen::Status => until_ending(&dir).await?,
            }
        }
    }

    /// Waits for a state of the run that is there now.
    pub(super) async fn reached(
        &self,
        name: &str,
        wanted: SandboxStatus,
    ) -> MicrosandboxResult<()> {
        let dir = self.run_dir(name)?;
        let mut known = false;
        loop {
            let status = match self.get(name).await {
                // It went with its run.
                Err(MicrosandboxError::SandboxNotFound(_)) if known && wanted.is_terminal() => {
                    return Ok(());
                }
                info => info?.status,
            };
            known = true;
            if status == wanted {
                return Ok(());
            }
            if !status.is_active() {
                return Err(MicrosandboxError::SandboxNotRunning {
                    name: name.to_owned(),
                    status: Some(status),
                    reason: None,
                });
            }
            match watch(&dir, |status| status == wanted).await? {
                Seen::Status => return Ok(()),
                Seen::End(_) => {}
                Seen::Gone => until_ending(&dir).await?,
            }
        }
    }
}

/// Watches a supervisor until it says what is waited for, or ends.
async fn watch(dir: &RunDir, wanted: impl Fn(SandboxStatus) -> bool) -> io::Result<Seen> {
    let Some((mut reader, mut writer)) = control::connect(dir).await? else {
        return Ok(Seen::Gone);
    };
    if writer.send(&Request::Watch).await.is_err() {
        return Ok(Seen::Gone);
    }
    loop {
        match reader.next::<Notice>().await {
            Ok(Some(Notice::Status(status) | Notice::Changed(status))) if wanted(status) => {
                return Ok(Seen::Status);
            }
            Ok(Some(Notice::Ended(end))) => return Ok(Seen::End(end)),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Ok(Seen::Gone),
        }
    }
}

/// After a watch broke off: nothing if the supervisor is there still and it is to be watched again,
/// else waits until nobody owns the run's lock.
async fn until_ending(dir: &RunDir) -> io::Result<()> {
    if control::status(dir).await.is_some() {
        return Ok(());
    }
    until_free(dir).await
}

/// Waits until nobody owns the run's lock. The thread that waits for it outlives a cancelled call,
/// holding nothing, and does not keep the program from ending.
pub(super) async fn until_free(dir: &RunDir) -> io::Result<()> {
    let dir = dir.clone();
    let (done, free) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().spawn(move || {
        let _ = done.send(dir.wait_until_free());
    })?;
    free.await
        .unwrap_or_else(|_| Err(io::Error::other("a thread that waited for a lock failed")))
}

/// What a handle says of a sandbox that is over.
pub(super) fn result(info: &SandboxInfo) -> SandboxStopResult {
    let end = info.end.as_ref();
    SandboxStopResult {
        name: info.name.clone(),
        status: info.status,
        exit_code: end.and_then(|end| end.exit_code),
        signal: end.and_then(|end| end.signal),
        observed_at: end.map_or_else(Utc::now, |end| end.at),
        source: end.map(|end| end.source.clone()),
    }
}

/// The same for one that was removed when it ended, unseen.
pub(super) fn removed(name: &str) -> SandboxStopResult {
    SandboxStopResult {
        name: name.to_owned(),
        status: SandboxStatus::Stopped,
        exit_code: None,
        signal: None,
        observed_at: Utc::now(),
        source: None,
    }
}
