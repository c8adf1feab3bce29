//! Work that may block, on threads that may.

use crate::error::{MicrosandboxError, MicrosandboxResult};

/// Does what may block elsewhere, and waits for it. Dropping this does not end the work.
///
/// # Errors
///
/// [`Runtime`](MicrosandboxError::Runtime) when the program's event loop is shutting down.
pub(crate) async fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> MicrosandboxResult<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| shutting_down())
}

/// A task came to nothing because nothing goes on any more.
pub(crate) fn shutting_down() -> MicrosandboxError {
    MicrosandboxError::Runtime("the program's event loop is shutting down".to_owned())
}
