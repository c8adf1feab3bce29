//! One connection's conversation: who are you, what do you want, and doing that.
//!
//! Whatever goes wrong ends this conversation and nothing else.

use std::rc::Rc;
use std::time::Duration;

use msb_protocol::{
    ExecRequest, FsCall, GuestMessage, HostMessage, MAX_COMMAND_LINE, MAX_LISTED_SESSIONS, Refusal,
    RefusalKind, SessionAnswer, SessionCall, SessionStart,
};
use tokio::select;
use tokio::time::{Instant, timeout};

use crate::agent::{Agent, Visit};
use crate::channel::{Channel, ChannelError};
use crate::fs;
use crate::session::{Session, Terms, Viewed};
use crate::stream::Stream;

/// How long a peer may take to greet and to say what it wants.
pub(crate) const OPENING: Duration = Duration::from_secs(10);

/// How long a viewer of a session is waited for that just went without being seen to go: its
/// connection's end and the call of the next one are not told in their order.
const CHANGE_OF_VIEWER: Duration = Duration::from_millis(500);

/// How long a viewer that was told everything has to say what becomes of the session.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Holds the conversation, to its end.
pub(crate) async fn serve(agent: &Rc<Agent>, stream: Stream) {
    let channel = Channel::new(stream);
    if let Err(error) = converse(agent, &channel).await {
        channel.explain(&error).await;
    }
    channel.close().await;
}

async fn converse(agent: &Rc<Agent>, channel: &Channel) -> Result<(), ChannelError> {
    let opening = async {
        channel.greet().await?;
        channel.greeted().await?;
        channel.receive().await
    };
    let request = match timeout(OPENING, opening).await {
        Err(_elapsed) => return Err(ChannelError::Late),
        Ok(request) => request?,
    };
    match request {
        HostMessage::Ping => channel.send(&GuestMessage::Pong).await,
        HostMessage::Exec(request) => {
            let terms = Terms {
                outlives: false,
                acks: false,
                limit: None,
                command: command_line(&request),
            };
            command(agent, channel, request, terms).await
        }
        HostMessage::Session(SessionCall::Start(start)) => {
            let terms = terms(&start);
            command(agent, channel, start.exec, terms).await
        }
        HostMessage::Session(SessionCall::Attach { session }) => {
            attach(agent, channel, session).await
        }
        HostMessage::Session(SessionCall::List) => list(agent, channel).await,
        HostMessage::Session(SessionCall::About) => {
            let about = SessionAnswer::About(agent.ready());
            channel.send(&GuestMessage::Session(about)).await
        }
        HostMessage::Fs(FsCall::Open(request)) => fs::serve(agent, channel, request).await,
        _ => Err(ChannelError::Unexpected(
            "a conversation opens with a command, a session, an operation on files or a ping",
        )),
    }
}

fn terms(start: &SessionStart) -> Terms {
    let limit = start.limit_ms.map(Duration::from_millis);
    Terms {
        outlives: start.detachable,
        acks: true,
        // What lies beyond the clock's end is no limit.
        limit: limit.and_then(|limit| Instant::now().checked_add(limit)),
        command: command_line(&start.exec),
    }
}

/// The command as it stands in a list.
fn command_line(request: &ExecRequest) -> String {
    let mut line = String::new();
    for word in std::iter::once(&request.program).chain(&request.args) {
        if !line.is_empty() {
            line.push(' ');
        }
        // No more is copied than is kept.
        let word = &word[..word.floor_char_boundary(MAX_COMMAND_LINE)];
        line.push_str(word);
        if line.len() >= MAX_COMMAND_LINE {
            line.truncate(line.floor_char_boundary(MAX_COMMAND_LINE));
            break;
        }
    }
    line
}

/// Starts a command, and shows it.
async fn command(
    agent: &Rc<Agent>,
    channel: &Channel,
    request: ExecRequest,
    terms: Terms,
) -> Result<(), ChannelError> {
    let acks = terms.acks;
    let visit = match agent.open_session(&request, terms) {
        Ok(visit) => visit,
        Err(message) => return channel.send(&message).await,
    };
    drop(request);
    if let Err(failure) = visit.session.started().await {
        visit.failed();
        return channel.send(&GuestMessage::ExecFailed(failure)).await;
    }
    agent.run(&visit.session);
    let started = GuestMessage::Started {
        session: visit.session.id(),
        pid: visit.session.pid(),
    };
    show(agent, channel, &visit, started, acks).await
}

/// Shows a session that nobody views.
async fn attach(agent: &Rc<Agent>, channel: &Channel, id: u64) -> Result<(), ChannelError> {
    let refuse = |kind, message: String| GuestMessage::Refused(Refusal { kind, message });
    if let Some(session) = agent.session(id) {
        let _ = timeout(CHANGE_OF_VIEWER, session.free()).await;
    }
    // Only now: the viewer that was waited for may have ended it.
    let Some(session) = agent.session(id) else {
        let message = format!("there is no session {id}");
        return channel.send(&refuse(RefusalKind::NoSession, message)).await;
    };
    let Some(attached) = session.attach() else {
        let message = format!("session {id} is attached elsewhere; detach it there first");
        return channel.send(&refuse(RefusalKind::Attached, message)).await;
    };
    let visit = Visit::new(agent, session);
    let attached = GuestMessage::Session(SessionAnswer::Attached(attached));
    show(agent, channel, &visit, attached, true).await
}

/// Shows the viewer what happens, from `first` on, and does what it says. `last_word` if it says what
/// becomes of the session when it knows the end.
async fn show(
    agent: &Agent,
    channel: &Channel,
    visit: &Visit,
    first: GuestMessage,
    last_word: bool,
) -> Result<(), ChannelError> {
    let session = &*visit.session;
    let showing = async {
        channel.send(&first).await?;
        session.view(channel).await
    };
    let viewed = select! {
        viewed = showing => viewed,
        heard = listen(session, channel) => match heard {
            Ok(()) => return Ok(()),
            Err(error) => Err(error),
        },
    };
    match viewed {
        Ok(Viewed::All) => {
            agent.changed();
            if last_word {
                // Whoever says nothing may not have heard.
                let said = timeout(LAST_WORD, obey(session, channel)).await;
                if matches!(said, Ok(Ok(Word::Detach))) {
                    return detached(channel).await;
                }
            }
            Ok(())
        }
        Ok(Viewed::Left) => detached(channel).await,
        Err(error) => Err(error),
    }
}

async fn detached(channel: &Channel) -> Result<(), ChannelError> {
    let detached = GuestMessage::Session(SessionAnswer::Detached);
    channel.send(&detached).await
}

/// Does what the viewer says, until it closes the connection or makes a mistake, which it is told,
/// or ends the session.
async fn listen(session: &Session, channel: &Channel) -> Result<(), ChannelError> {
    loop {
        match obey(session, channel).await {
            // The view ends by itself when it can.
            Ok(Word::Detach) => {}
            Ok(Word::End) => return Ok(()),
            Err(error) => {
                if !session.outlives() {
                    session.kill();
                }
                // The view still runs, so this message does not land in the middle of another.
                channel.explain(&error).await;
                return Ok(());
            }
        }
    }
}

/// What a viewer said that is not about the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Detach,
    End,
}

/// Does what the viewer says, until it says what becomes of the session.
async fn obey(session: &Session, channel: &Channel) -> Result<Word, ChannelError> {
    loop {
        match channel.receive().await? {
            HostMessage::Stdin(bytes) => session.input.push(&bytes)?,
            HostMessage::StdinEof => session.input.end(),
            HostMessage::Signal(signal) => session.signal(signal),
            HostMessage::Resize(size) => session.resize(size),
            HostMessage::Session(SessionCall::Received { offset }) => session.received(offset),
            HostMessage::Session(SessionCall::Detach { offset }) => {
                session.leave(offset);
                return Ok(Word::Detach);
            }
            HostMessage::Session(SessionCall::End) => {
                session.set_outlives(false);
                session.kill();
                return Ok(Word::End);
            }
            _ => {
                return Err(ChannelError::Unexpected(
                    "while a command runs there is input, signals and sizes",
                ));
            }
        }
    }
}

/// Lists the sessions, a few in each message.
async fn list(agent: &Agent, channel: &Channel) -> Result<(), ChannelError> {
    for ids in agent.session_ids().chunks(MAX_LISTED_SESSIONS) {
        let entry = |id: &u64| agent.session(*id).map(|session| session.entry());
        let entries = ids.iter().filter_map(entry).collect();
        let listed = GuestMessage::Session(SessionAnswer::Listed(entries));
        channel.send(&listed).await?;
    }
    channel
        .send(&GuestMessage::Session(SessionAnswer::ListEnd))
        .await
}

#[cfg(test)]
mod tests {
    use msb_protocol::Stdin;

    use super::*;

    #[test]
    fn a_long_command_line_is_cut_between_characters() {
        let mut request = ExecRequest {
            program: "sh".into(),
            args: vec!["-c".into(), "é".repeat(MAX_COMMAND_LINE)],
            env: Vec::new(),
            cwd: None,
            user: None,
            stdin: Stdin::Null,
            terminal: None,
            limits: Vec::new(),
        };
        let line = command_line(&request);
        assert!(line.starts_with("sh -c éé") && line.len() <= MAX_COMMAND_LINE);
        assert!(line.len() > MAX_COMMAND_LINE - 4);
        request.args = vec!["x".into(); 10_000];
        assert_eq!(command_line(&request).len(), MAX_COMMAND_LINE);
        request.args.clear();
        assert_eq!(command_line(&request), "sh");
    }
}
