//! What sandboxes printed: read at once, or followed.

use std::path::PathBuf;

use futures::Stream;
use futures::stream::BoxStream;

pub use msb_runtime::logs::{
    LogCursor, LogCursorParseError, LogEntry, LogOptions, LogSnapshot, LogSource, LogStreamOptions,
    LogStreamStart,
};

use crate::backend::{LocalBackend, default_backend};
use crate::error::MicrosandboxResult;
use crate::sandbox::validate_sandbox_name;

/// Log entries as they come.
pub type LogStream = BoxStream<'static, MicrosandboxResult<LogEntry>>;

/// The directory with the logs of the sandbox of this name, in the home that the environment names.
pub fn log_dir_for(name: &str) -> PathBuf {
    let local = LocalBackend::lazy();
    match local.sandbox_dir(name) {
        Ok(dir) => dir.logs(),
        // Without a home there are no logs either.
        Err(_) => PathBuf::from("logs"),
    }
}

/// What a sandbox has printed, whether it runs or not.
pub async fn read_logs(name: &str, options: &LogOptions) -> MicrosandboxResult<Vec<LogEntry>> {
    Ok(read_logs_snapshot(name, options).await?.entries)
}

/// The same, with the cursor from which a stream goes on.
pub async fn read_logs_snapshot(
    name: &str,
    options: &LogOptions,
) -> MicrosandboxResult<LogSnapshot> {
    validate_sandbox_name(name)?;
    default_backend()
        .sandboxes()
        .logs(name, options.clone())
        .await
}

/// What a sandbox has printed and prints.
pub async fn log_stream(
    name: &str,
    options: &LogStreamOptions,
) -> MicrosandboxResult<impl Stream<Item = MicrosandboxResult<LogEntry>> + Send + 'static + use<>> {
    validate_sandbox_name(name)?;
    default_backend()
        .sandboxes()
        .log_stream(name, options.clone())
        .await
}
