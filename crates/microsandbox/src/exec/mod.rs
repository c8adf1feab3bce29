//! Running commands: options, output, live streams.

mod handle;
mod options;
mod output;
mod pump;

pub use handle::{ExecControl, ExecHandle, ExecSink};
pub use options::{ExecOptions, ExecOptionsBuilder, RlimitResource, StdinMode};
pub use output::{ExecEvent, ExecOutput, ExecStdinError, Exit, ExitStatus};

use msb_protocol::{ExecRequest, HostMessage};
use msb_runtime::conversation::Conversation;

use crate::error::MicrosandboxResult;

/// Starts a command in a conversation with the agent.
pub(crate) async fn start(
    conversation: Conversation,
    request: ExecRequest,
) -> MicrosandboxResult<ExecHandle> {
    let piped = request.stdin == msb_protocol::Stdin::Pipe;
    conversation
        .speaker
        .send(&HostMessage::Exec(request))
        .await?;
    pump::start(conversation, piped).await
}
