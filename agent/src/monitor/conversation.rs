//! The monitor conversation: tells what sessions do, and answers how the guest is.
//!
//! One task writes everything, the answers too, so that no message lands in the middle of
//! another. Whatever goes wrong ends this conversation and nothing else.

use std::convert::Infallible;

use msb_protocol::{GuestMessage, HostMessage};
use tokio::select;
use tokio::time::timeout;

use super::{Line, News, sample};
use crate::agent::Agent;
use crate::channel::{Channel, ChannelError};
use crate::conversation::OPENING;
use crate::log;

/// Holds the conversation, to its end.
pub(crate) async fn serve(agent: &Agent, line: Line, channel: Channel) {
    let end = converse(agent, &line, &channel).await;
    // Before the peer is waited for: nothing is kept for one that is on its way out.
    line.close();
    match end {
        Ok(End::Told) => {}
        Ok(End::Overrun) => log::error("sessions go on unlogged: the monitor was too far behind"),
        Err(error) => log::info(&format!("sessions go on without a monitor: {error}")),
    }
    channel.close().await;
}

/// How a conversation ended in which nothing went wrong.
#[derive(Debug)]
enum End {
    Told,
    Overrun,
}

async fn converse(agent: &Agent, line: &Line, channel: &Channel) -> Result<End, ChannelError> {
    let opening = async {
        channel.greet().await?;
        channel.greeted().await
    };
    let opened = timeout(OPENING, opening)
        .await
        .unwrap_or(Err(ChannelError::Late));
    if let Err(error) = opened {
        channel.explain(&error).await;
        return Err(error);
    }
    let listening = async {
        let Err(error) = obey(line, channel).await;
        // The telling goes on, so this message does not land in the middle of another.
        channel.explain(&error).await;
        error
    };
    select! {
        end = tell(agent, line, channel) => end,
        error = listening => Err(error),
    }
}

async fn tell(agent: &Agent, line: &Line, channel: &Channel) -> Result<End, ChannelError> {
    loop {
        let message = match line.next().await {
            News::Sample => GuestMessage::Sample(sample::take(agent)),
            News::Message(message) => message,
            News::End => return Ok(End::Told),
            News::Overrun => return Ok(End::Overrun),
        };
        channel.send(&message).await?;
    }
}

async fn obey(line: &Line, channel: &Channel) -> Result<Infallible, ChannelError> {
    loop {
        match channel.receive().await? {
            HostMessage::Sample => line.ask_sample(),
            _ => return Err(ChannelError::Unexpected("a monitor asks for samples only")),
        }
    }
}
