//! One connection's conversation: who are you, what do you want, and doing that.
//!
//! Whatever goes wrong ends this conversation and nothing else.

use std::rc::Rc;
use std::time::Duration;

use msb_protocol::{ExecRequest, FsCall, GuestMessage, HostMessage};
use tokio::select;
use tokio::time::timeout;

use crate::agent::{Agent, NoSession};
use crate::channel::{Channel, ChannelError};
use crate::fs;
use crate::session::Session;
use crate::stream::Stream;

/// How long a peer may take to greet and to say what it wants.
pub(crate) const OPENING: Duration = Duration::from_secs(10);

/// Holds the conversation, to its end.
pub(crate) async fn serve(agent: &Rc<Agent>, stream: Stream) {
    let channel = Channel::new(stream);
    if let Err(error) = converse(agent, &channel).await {
        channel.explain(&error).await;
    }
    channel.close().await;
}

async fn converse(agent: &Agent, channel: &Channel) -> Result<(), ChannelError> {
    let opening = async {
        channel.greet().await?;
        channel.greeted().await?;
        channel.receive().await
    };
    match timeout(OPENING, opening).await {
        Err(_elapsed) => Err(ChannelError::Late),
        Ok(Err(error)) => Err(error),
        Ok(Ok(HostMessage::Ping)) => channel.send(&GuestMessage::Pong).await,
        Ok(Ok(HostMessage::Exec(request))) => command(agent, channel, request).await,
        Ok(Ok(HostMessage::Fs(FsCall::Open(request)))) => fs::serve(agent, channel, request).await,
        Ok(Ok(_)) => Err(ChannelError::Unexpected(
            "a conversation opens with Exec, Ping or an operation on files",
        )),
    }
}

/// Runs a command for as long as somebody is there to see it.
async fn command(
    agent: &Agent,
    channel: &Channel,
    request: ExecRequest,
) -> Result<(), ChannelError> {
    let open = match agent.open_session(&request) {
        Ok(open) => open,
        Err(NoSession::Refused(refusal)) => {
            return channel.send(&GuestMessage::Refused(refusal)).await;
        }
        Err(NoSession::Failed(failure)) => {
            return channel.send(&GuestMessage::ExecFailed(failure)).await;
        }
    };
    drop(request);
    let session = &*open.session;
    let listening = async {
        let Err(error) = obey(session, channel).await;
        session.kill();
        // The viewer still runs, so this message does not land in the middle of another.
        channel.explain(&error).await;
    };
    let seen = select! {
        seen = session.view(channel) => {
            if seen.is_err() {
                session.kill();
            }
            seen
        }
        () = listening => Ok(()),
    };
    session.abandon();
    seen
}

/// Does what the peer says, until it closes the connection or makes a mistake.
async fn obey(
    session: &Session,
    channel: &Channel,
) -> Result<std::convert::Infallible, ChannelError> {
    loop {
        match channel.receive().await? {
            HostMessage::Stdin(bytes) => session.input.push(&bytes)?,
            HostMessage::StdinEof => session.input.end(),
            HostMessage::Signal(signal) => session.signal(signal),
            HostMessage::Resize(size) => session.resize(size),
            _ => {
                return Err(ChannelError::Unexpected(
                    "while a command runs there is input, signals and sizes",
                ));
            }
        }
    }
}
