//! What a client says and hears about sessions.

use std::path::Path;

use msb_protocol::*;

use super::*;

pub(crate) fn start(exec: ExecRequest, detachable: bool) -> Client {
    open(SessionCall::Start(SessionStart {
        exec,
        detachable,
        limit_ms: None,
    }))
}

pub(crate) fn open(call: SessionCall) -> Client {
    let mut client = Client::new();
    client.send(&call.into());
    client
}

pub(crate) fn say(client: &mut Client, call: SessionCall) {
    client.send(&call.into());
}

pub(crate) fn started(client: &mut Client) -> (u64, u32) {
    match client.receive() {
        GuestMessage::Started { session, pid } => (session, pid),
        other => panic!("not started: {other:?}"),
    }
}

/// A viewer of a session, which has to be free.
pub(crate) fn attach(session: u64) -> (Client, SessionAttached) {
    let mut client = open(SessionCall::Attach { session });
    match client.receive() {
        GuestMessage::Session(SessionAnswer::Attached(attached)) => (client, attached),
        other => panic!("not attached: {other:?}"),
    }
}

pub(crate) fn refusal(call: SessionCall) -> RefusalKind {
    let mut client = open(call);
    match client.receive() {
        GuestMessage::Refused(refusal) => refusal.kind,
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) fn list() -> Vec<SessionEntry> {
    let mut client = open(SessionCall::List);
    let mut all = Vec::new();
    loop {
        match client.receive() {
            GuestMessage::Session(SessionAnswer::Listed(entries)) => {
                assert!((1..=MAX_LISTED_SESSIONS).contains(&entries.len()));
                all.extend(entries);
            }
            GuestMessage::Session(SessionAnswer::ListEnd) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.next(), None);
    all
}

pub(crate) fn listed(session: u64) -> Option<SessionEntry> {
    list().into_iter().find(|entry| entry.session == session)
}

/// Waits until the list says so.
pub(crate) fn until(
    session: u64,
    so: impl Fn(Option<&SessionEntry>) -> bool,
) -> Option<SessionEntry> {
    loop {
        let entry = listed(session);
        if so(entry.as_ref()) {
            return entry;
        }
        // The agent is asked again, which takes its time.
        assert_eq!(run(request("true", &[])).exit, Some(Exit::Code(0)));
    }
}

/// Waits until it is over, and whoever viewed it is seen to be gone.
pub(crate) fn over(session: u64) -> SessionEntry {
    let alone = |entry: &SessionEntry| entry.exit.is_some() && !entry.attached;
    until(session, |entry| entry.is_some_and(alone)).unwrap()
}

/// What a viewer is told, to the end of its conversation.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) bytes: Vec<u8>,
    pub(crate) dropped: u64,
    pub(crate) exit: Option<Exit>,
    pub(crate) detached: bool,
}

pub(crate) fn hear(client: &mut Client) -> Told {
    let mut told = Told::default();
    while let Some(message) = client.next() {
        match message {
            GuestMessage::Stdout(bytes) | GuestMessage::Stderr(bytes) => told.bytes.extend(bytes),
            GuestMessage::Session(SessionAnswer::Dropped { bytes }) => {
                assert!(told.bytes.is_empty(), "the oldest is what is dropped");
                told.dropped += bytes;
            }
            GuestMessage::StdinConsumed(_) | GuestMessage::StdinClosed => {}
            GuestMessage::Exited(exit) => {
                told.exit = Some(exit);
                say(client, SessionCall::End);
            }
            GuestMessage::Session(SessionAnswer::Detached) => told.detached = true,
            other => panic!("{other:?}"),
        }
    }
    told
}

pub(crate) fn detach(client: &mut Client, offset: u64) {
    say(client, SessionCall::Detach { offset });
    assert!(hear(client).detached);
}

pub(crate) fn gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

pub(crate) fn until_gone(pid: u32) {
    while !gone(pid) {
        assert_eq!(run(request("true", &[])).exit, Some(Exit::Code(0)));
    }
}

pub(crate) fn piped(mut exec: ExecRequest) -> ExecRequest {
    exec.stdin = Stdin::Pipe;
    exec
}
