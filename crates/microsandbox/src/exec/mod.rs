//! Running commands: options, output, live streams.

mod handle;
mod options;
mod output;
mod pump;

pub use handle::{ExecControl, ExecHandle, ExecSink};
pub use options::{ExecOptions, ExecOptionsBuilder, RlimitResource, StdinMode};
pub use output::{ExecEvent, ExecOutput, ExecStdinError, Exit, ExitStatus};

use std::path::Path;
use std::time::Duration;

use msb_protocol::{ExecRequest, HostMessage};
use msb_runtime::conversation::Conversation;

use crate::error::MicrosandboxResult;

/// How long the agent may take to answer a new connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens a conversation with the agent behind `socket` and starts a command in it.
pub(crate) async fn start(socket: &Path, request: ExecRequest) -> MicrosandboxResult<ExecHandle> {
    let piped = request.stdin == msb_protocol::Stdin::Pipe;
    let conversation = Conversation::connect(socket, CONNECT_TIMEOUT).await?;
    conversation
        .speaker
        .send(&HostMessage::Exec(request))
        .await?;
    pump::start(conversation, piped).await
}
