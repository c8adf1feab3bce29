//! Direct access to a guest's agent, for programs that want to speak its protocol themselves.
//!
//! [`Sandbox`](crate::Sandbox) does all that most programs need. What is here is below that: an
//! [`AgentClient`] opens conversations with the agent, sends messages of any
//! [`MessageType`] and hands back what the agent answers. Each request and each stream is a
//! conversation of its own, with a connection of its own, so none waits for another and none
//! stores more than one message that was not asked for yet. What the agent is too old for is refused
//! here, before anything of it is sent.
//!
//! The messages are those of this library ([`Request`], [`Message`]); a raw body is one of them in
//! bytes, without its length.

mod bridge;
mod client;
mod dialer;
mod error;
mod stream;

#[cfg(test)]
mod tests;

pub use bridge::{AgentBridge, StreamHandle};
pub use client::{AgentClient, AgentProtocol};
pub use error::AgentClientError;
pub use msb_protocol::{
    ExecRequest, GuestMessage as Message, HostMessage as Request, MessageType, Ready, Refusal,
    RefusalKind, SessionAnswer, SessionCall, SessionStart,
};
pub use stream::{AgentStream, RawFrame, RawStream};
