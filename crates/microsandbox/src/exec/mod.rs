//! Running commands: options, output, live streams.

mod handle;
mod link;
mod options;
mod output;
mod pump;
mod session;
mod start;

#[cfg(test)]
mod tests;

pub use handle::{ExecControl, ExecHandle, ExecSink};
pub use options::{ExecOptions, ExecOptionsBuilder, RlimitResource, StdinMode};
pub use output::{ExecEvent, ExecOutput, ExecStdinError, Exit, ExitStatus};
pub use session::{SessionInfo, SessionState};

pub(crate) use session::list;
pub(crate) use start::{Start, attach, start};
