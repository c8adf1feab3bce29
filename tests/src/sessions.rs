//! Sessions, waited for.

use anyhow::{Context, Result, bail, ensure};
use microsandbox::{ExecEvent, ExecHandle, MicrosandboxError, Sandbox, SessionInfo, SessionState};
use tokio::time::Instant;

use crate::{PATIENCE, within};

/// Reads until standard output has said this.
pub async fn until(handle: &mut ExecHandle, marker: &str) -> Result<String> {
    let mut text = String::new();
    while !text.contains(marker) {
        match within(handle.recv()).await {
            Some(ExecEvent::Stdout(bytes)) => text.push_str(std::str::from_utf8(&bytes)?),
            Some(ExecEvent::Started { .. }) => {}
            other => bail!("{other:?} after {text:?}"),
        }
    }
    Ok(text)
}

/// What the list says of a session; `None` where it is not in it.
pub async fn session(sandbox: &Sandbox, id: &str) -> Result<Option<SessionInfo>> {
    let sessions = within(sandbox.sessions()).await?;
    Ok(sessions.into_iter().find(|session| session.id == id))
}

/// Waits until the session is over, and returns what the list says of it.
pub async fn over(sandbox: &Sandbox, id: &str) -> Result<SessionInfo> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let info = session(sandbox, id).await?.context("it is not listed")?;
        if info.state == SessionState::Exited {
            return Ok(info);
        }
        ensure!(Instant::now() < deadline, "{info:?} does not end");
        // The guest needs the processor to get on.
        sandbox.exec("sleep", ["0.1"]).await?;
    }
}

/// Attaches, as soon as it is known that whoever held the handle is gone.
pub async fn attach(sandbox: &Sandbox, id: &str) -> Result<ExecHandle> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match within(sandbox.attach_session(id)).await {
            Err(MicrosandboxError::SessionAttached(_)) if Instant::now() < deadline => {}
            attached => return Ok(attached?),
        }
    }
}

/// Fails unless there is no session of this number to attach.
pub fn not_found(result: Result<ExecHandle, MicrosandboxError>, id: &str) -> Result<()> {
    ensure!(
        matches!(&result, Err(MicrosandboxError::SessionNotFound(of)) if of == id),
        "session {id} is found: {result:?}"
    );
    Ok(())
}
