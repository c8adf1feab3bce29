//! Commands of agents that this test plays: honest ones, and ones that lie, flood, stall and go.

use std::time::Duration;

use bytes::Bytes;
use msb_protocol::{
    Arrival, Endpoint, ExecFailure, ExecRequest, Features, GuestMessage, GuestSide, Hello,
    HostMessage, INITIAL_STDIN_WINDOW, SessionAnswer, SessionAttached, SessionCall, SessionEntry,
    Stdin,
};
use msb_runtime::conversation::{Conversation, ConversationError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use super::*;
use crate::error::{ExecFailedKind, MicrosandboxError, MicrosandboxResult};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to pass without anything happening.
const BRIEF: Duration = Duration::from_millis(100);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it does not end")
}

/// The guest's side.
struct Agent {
    stream: UnixStream,
    endpoint: Endpoint<GuestSide>,
}

impl Agent {
    async fn say(&mut self, message: GuestMessage) {
        let mut frame = Vec::new();
        self.endpoint.encode(&message, &mut frame).unwrap();
        within(self.stream.write_all(&frame)).await.unwrap();
    }

    /// What the host says next; `None` when it has hung up.
    async fn hear(&mut self) -> Option<HostMessage> {
        loop {
            match self.endpoint.next_arrival().unwrap() {
                Some(Arrival::Message(message)) => return Some(message),
                Some(Arrival::Greeted(_)) => continue,
                None => {}
            }
            let mut buffer = [0; 4096];
            let count = within(self.stream.read(&mut buffer)).await.unwrap();
            if count == 0 {
                return None;
            }
            self.endpoint.feed(&buffer[..count]);
        }
    }

    async fn session(&mut self) -> SessionCall {
        match self.hear().await {
            Some(HostMessage::Session(call)) => call,
            other => panic!("{other:?}"),
        }
    }

    async fn out(&mut self, bytes: &'static [u8]) {
        self.say(GuestMessage::Stdout(Bytes::from_static(bytes)))
            .await;
    }
}

async fn greeted(features: Features) -> (Conversation, Agent) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut agent = Agent {
        stream: theirs,
        endpoint: Endpoint::new(Hello {
            features,
            ..Hello::ours()
        }),
    };
    let greeting = agent.endpoint.greeting();
    agent.say(greeting).await;
    let conversation = Conversation::accept(ours, PATIENCE).await.unwrap();
    (conversation, agent)
}

fn command(detachable: bool, timeout: Option<Duration>) -> Start {
    Start {
        request: ExecRequest {
            program: "true".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            user: None,
            stdin: Stdin::Pipe,
            terminal: None,
            limits: Vec::new(),
        },
        detachable,
        timeout,
    }
}

const STARTED: GuestMessage = GuestMessage::Started { session: 7, pid: 9 };

/// What starting comes to when the agent's answer is this.
async fn answered(answer: Option<GuestMessage>) -> MicrosandboxResult<ExecHandle> {
    let (conversation, mut agent) = greeted(Features::SUPPORTED).await;
    let starting = tokio::spawn(start(conversation, command(false, None), None));
    assert!(agent.hear().await.is_some());
    match answer {
        Some(answer) => agent.say(answer).await,
        None => drop(agent),
    }
    within(starting).await.unwrap()
}

/// A command that runs, and its agent.
async fn running(detachable: bool, timeout: Option<Duration>) -> (ExecHandle, Agent) {
    let (conversation, mut agent) = greeted(Features::SUPPORTED).await;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let starting = start(conversation, command(detachable, timeout), deadline);
    let starting = tokio::spawn(starting);
    match agent.session().await {
        SessionCall::Start(start) => {
            assert_eq!(start.detachable, detachable);
            assert_eq!(start.limit_ms.is_some(), timeout.is_some());
        }
        other => panic!("{other:?}"),
    }
    agent.say(STARTED).await;
    let mut handle = within(starting).await.unwrap().unwrap();
    assert_eq!(handle.id(), "7");
    let first = within(handle.recv()).await;
    assert_eq!(first, Some(ExecEvent::Started { pid: 9 }));
    (handle, agent)
}

#[tokio::test]
async fn an_agent_that_does_not_start_a_command_as_it_should_is_an_error() {
    use ConversationError as C;
    use MicrosandboxError as E;
    assert!(matches!(answered(None).await, Err(E::Protocol(C::Closed))));
    for out_of_turn in [
        GuestMessage::Pong,
        GuestMessage::Exited(Exit::Code(0)),
        GuestMessage::Stdout(Bytes::from_static(b"x")),
        GuestMessage::Session(SessionAnswer::ListEnd),
        GuestMessage::Hello(Hello::ours()),
    ] {
        let failed = answered(Some(out_of_turn)).await;
        assert!(
            matches!(failed, Err(E::Protocol(C::OutOfTurn))),
            "{failed:?}"
        );
    }
}

#[tokio::test]
async fn every_kind_of_failure_reaches_the_program() {
    use ExecFailedKind::*;
    for kind in [
        NotFound,
        PermissionDenied,
        NotExecutable,
        BadCwd,
        BadUser,
        BadArguments,
        ResourceExhausted,
        Other,
    ] {
        let failure = ExecFailure {
            kind,
            message: "because".to_owned(),
            errno: Some(1),
        };
        match answered(Some(GuestMessage::ExecFailed(failure))).await {
            Err(MicrosandboxError::ExecFailed(failed)) => {
                assert_eq!((failed.kind, failed.errno), (kind, Some(1)));
                assert_eq!(failed.message, "because");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_says_nothing_is_not_waited_for_for_ever() {
    let (conversation, _agent) = greeted(Features::SUPPORTED).await;
    let stalled = start(conversation, command(false, None), None).await;
    assert!(
        matches!(
            stalled,
            Err(MicrosandboxError::Protocol(ConversationError::Timeout(_)))
        ),
        "{stalled:?}"
    );
    let (conversation, _agent) = greeted(Features::SUPPORTED).await;
    let listed = list(conversation).await;
    assert!(matches!(listed, Err(ConversationError::Timeout(_))));
    let (conversation, _agent) = greeted(Features::SUPPORTED).await;
    assert!(attach(conversation, 7).await.is_err());
}

#[tokio::test]
async fn an_agent_that_goes_in_the_middle_is_an_error_and_no_end() {
    let (mut handle, mut agent) = running(false, None).await;
    agent.out(b"half").await;
    drop(agent);
    assert!(matches!(
        within(handle.wait()).await,
        Err(MicrosandboxError::Protocol(ConversationError::Closed))
    ));
    let (mut handle, mut agent) = running(false, None).await;
    // Half a frame.
    agent.stream.write_all(&[9, 0, 0, 0, 4]).await.unwrap();
    drop(agent);
    match within(handle.recv()).await {
        Some(ExecEvent::Failed(failed)) => assert_eq!(failed.kind, ExecFailedKind::Other),
        other => panic!("{other:?}"),
    }
    assert_eq!(within(handle.recv()).await, None);
}

#[tokio::test]
async fn an_agent_that_floods_is_held_up_and_not_stored() {
    let (mut handle, agent) = running(false, None).await;
    let agent = agent.stream.into_std().unwrap();
    let mut frame = Vec::new();
    let chunk = GuestMessage::Stdout(Bytes::from(vec![7; 65_536]));
    msb_protocol::encode(&chunk, &mut frame).unwrap();
    let flags = rustix::net::SendFlags::DONTWAIT;
    // Until nothing more is taken: the socket, what waits for the program, and one in hand.
    let mut sent = 0;
    loop {
        match rustix::net::send(&agent, &frame, flags) {
            Ok(count) if count == frame.len() => sent += 1,
            _ if sent > 0 && timeout(BRIEF, writable(&agent)).await.is_err() => break,
            _ => {}
        }
        assert!(sent < 1000, "there is no bound");
        tokio::task::yield_now().await;
    }
    let mut taken = 0;
    while let Ok(Some(ExecEvent::Stdout(_))) = timeout(BRIEF, handle.recv()).await {
        taken += 1;
    }
    assert!(taken > 0 && taken <= sent + 1, "{taken} of {sent}");
}

async fn writable(socket: &std::os::unix::net::UnixStream) {
    let stream = UnixStream::from_std(socket.try_clone().unwrap()).unwrap();
    stream.writable().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_lies_about_the_window_gets_no_more_than_it() {
    let (mut handle, mut agent) = running(false, None).await;
    let sink = handle.take_stdin().unwrap();
    for _ in 0..100 {
        agent.say(GuestMessage::StdinConsumed(u32::MAX)).await;
    }
    agent.out(b"after the lies").await;
    assert!(matches!(
        within(handle.recv()).await,
        Some(ExecEvent::Stdout(_))
    ));
    let writing = tokio::spawn(async move { sink.write(vec![0; 1 << 20]).await });
    let mut got = 0;
    while got < INITIAL_STDIN_WINDOW as usize {
        match agent.hear().await {
            Some(HostMessage::Stdin(bytes)) => got += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, INITIAL_STDIN_WINDOW as usize);
    assert!(
        timeout(BRIEF, agent.hear()).await.is_err(),
        "the window is full"
    );
    agent.say(GuestMessage::StdinClosed).await;
    assert!(within(writing).await.unwrap().is_err());
    assert!(matches!(
        within(handle.recv()).await,
        Some(ExecEvent::StdinError(_))
    ));
}

#[tokio::test]
async fn a_late_command_is_killed_though_nobody_looks() {
    let (mut handle, mut agent) = running(true, Some(BRIEF)).await;
    assert_eq!(agent.session().await, SessionCall::End);
    assert_eq!(agent.hear().await, None);
    let late = within(handle.wait()).await;
    assert!(
        matches!(late, Err(MicrosandboxError::ExecTimeout(BRIEF))),
        "{late:?}"
    );

    // Nor does one that nobody reads live on.
    let (mut handle, agent) = running(false, Some(BRIEF)).await;
    let (mut reading, mut writing) = agent.stream.into_split();
    let chunk = GuestMessage::Stdout(Bytes::from(vec![7; 65_536]));
    let mut frame = Vec::new();
    msb_protocol::encode(&chunk, &mut frame).unwrap();
    let flooding = tokio::spawn(async move { while writing.write_all(&frame).await.is_ok() {} });
    let mut said = Vec::new();
    within(reading.read_to_end(&mut said)).await.unwrap();
    within(flooding).await.unwrap();
    let late = within(handle.collect()).await;
    assert!(matches!(late, Err(MicrosandboxError::ExecTimeout(BRIEF))));
}

#[tokio::test]
async fn a_kill_by_the_agents_own_clock_is_a_timeout_too() {
    let (mut handle, mut agent) = running(false, Some(Duration::from_nanos(1))).await;
    // Whoever was first.
    agent.say(GuestMessage::Exited(Exit::Signal(9))).await;
    assert!(matches!(
        within(handle.wait()).await,
        Err(MicrosandboxError::ExecTimeout(_))
    ));
}

#[tokio::test]
async fn a_dropped_handle_says_that_this_is_the_end() {
    for detachable in [true, false] {
        let (handle, mut agent) = running(detachable, None).await;
        drop(handle);
        assert_eq!(agent.session().await, SessionCall::End);
        assert_eq!(agent.hear().await, None);
    }
    // So does a start that is given up, once the command was asked for.
    let (conversation, mut agent) = greeted(Features::SUPPORTED).await;
    let starting = tokio::spawn(start(conversation, command(true, None), None));
    assert!(matches!(agent.session().await, SessionCall::Start(_)));
    starting.abort();
    assert_eq!(agent.session().await, SessionCall::End);
    // An attempt to attach that is given up ends nothing.
    let (conversation, mut agent) = greeted(Features::SUPPORTED).await;
    let attaching = tokio::spawn(attach(conversation, 7));
    assert_eq!(agent.session().await, SessionCall::Attach { session: 7 });
    attaching.abort();
    assert_eq!(agent.hear().await, None);
}

#[tokio::test]
async fn a_dropped_handle_ends_its_command_though_the_event_loop_ends_too() {
    let (outer, inner) = std::sync::mpsc::channel();
    let (asked, question) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (handle, agent) = running(true, None).await;
            drop(handle);
            outer.send(agent.stream.into_std().unwrap()).unwrap();
        });
        drop(runtime);
        let _ = question.recv();
    });
    let mut stream = inner.recv().unwrap();
    stream.set_nonblocking(false).unwrap();
    let mut said = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut said).unwrap();
    let mut end = Vec::new();
    let last = HostMessage::Session(SessionCall::End);
    msb_protocol::encode(&last, &mut end).unwrap();
    assert!(said.ends_with(&end));
    drop(asked);
}

#[tokio::test]
async fn what_the_program_took_is_acknowledged_and_the_rest_is_left_at_a_detach() {
    let (mut handle, mut agent) = running(true, None).await;
    agent.out(b"one").await;
    agent.out(b"two").await;
    agent.out(b"three").await;
    let one = within(handle.recv()).await;
    assert_eq!(one, Some(ExecEvent::Stdout(Bytes::from_static(b"one"))));
    // It has dealt with that when it comes for more.
    assert!(timeout(BRIEF, agent.hear()).await.is_err());
    within(handle.recv()).await;
    assert_eq!(agent.session().await, SessionCall::Received { offset: 3 });
    let detaching = tokio::spawn(handle.detach());
    assert_eq!(agent.session().await, SessionCall::Detach { offset: 6 });
    // What is on its way does not matter.
    agent.out(b"four").await;
    agent
        .say(GuestMessage::Session(SessionAnswer::Detached))
        .await;
    within(detaching).await.unwrap().unwrap();
    // Not a word of an end.
    assert_eq!(agent.hear().await, None);
}

#[tokio::test]
async fn a_detach_can_come_when_the_end_was_not_received() {
    let (handle, mut agent) = running(false, None).await;
    agent.out(b"last").await;
    agent.say(GuestMessage::Exited(Exit::Code(3))).await;
    let detaching = tokio::spawn(handle.detach());
    assert_eq!(agent.session().await, SessionCall::Detach { offset: 0 });
    agent
        .say(GuestMessage::Session(SessionAnswer::Detached))
        .await;
    within(detaching).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_detach_that_nobody_answers_fails_and_ends_the_command() {
    let (handle, mut agent) = running(true, None).await;
    assert!(matches!(
        handle.detach().await,
        Err(MicrosandboxError::Protocol(ConversationError::Timeout(_)))
    ));
    assert_eq!(agent.session().await, SessionCall::Detach { offset: 0 });
    assert_eq!(agent.session().await, SessionCall::End);
}

#[tokio::test]
async fn an_older_agent_runs_commands_but_keeps_none() {
    let (conversation, mut agent) = greeted(Features(0)).await;
    let starting = tokio::spawn(start(conversation, command(false, None), None));
    assert!(matches!(agent.hear().await, Some(HostMessage::Exec(_))));
    agent.say(STARTED).await;
    let handle = within(starting).await.unwrap().unwrap();
    let unsupported = |result: MicrosandboxResult<()>| {
        matches!(
            result,
            Err(MicrosandboxError::Protocol(
                ConversationError::Unsupported { .. }
            ))
        )
    };
    assert!(unsupported(handle.detach().await));
    // The handle went with that, and the command with it.
    assert_eq!(agent.hear().await, None);

    // What it does not know is not even sent to it.
    let (conversation, mut agent) = greeted(Features(0)).await;
    let started = start(conversation, command(true, None), None).await;
    assert!(unsupported(started.map(drop)));
    assert_eq!(agent.hear().await, None);
    let (conversation, mut agent) = greeted(Features(0)).await;
    assert!(unsupported(attach(conversation, 1).await.map(drop)));
    assert_eq!(agent.hear().await, None);
    let (conversation, _agent) = greeted(Features(0)).await;
    assert!(list(conversation).await.is_err());
}

#[tokio::test]
async fn an_attached_session_goes_on_and_tells_what_is_missing() {
    let (conversation, mut agent) = greeted(Features::SUPPORTED).await;
    let attaching = tokio::spawn(attach(conversation, 7));
    assert_eq!(agent.session().await, SessionCall::Attach { session: 7 });
    let attached = SessionAttached {
        session: 7,
        pid: 9,
        offset: 100,
        window: Some(10),
        terminal: false,
    };
    agent
        .say(GuestMessage::Session(SessionAnswer::Attached(attached)))
        .await;
    let mut handle = within(attaching).await.unwrap().unwrap();
    assert_eq!((handle.id(), handle.dropped_bytes()), ("7".to_owned(), 0));
    let missing = SessionAnswer::Dropped { bytes: 50 };
    agent.say(GuestMessage::Session(missing)).await;
    agent.out(b"newest").await;
    let first = within(handle.recv()).await;
    assert_eq!(first, Some(ExecEvent::Started { pid: 9 }));
    let newest = Some(ExecEvent::Stdout(Bytes::from_static(b"newest")));
    assert_eq!(within(handle.recv()).await, newest);
    assert_eq!(handle.dropped_bytes(), 50);
    assert!(timeout(BRIEF, handle.recv()).await.is_err());
    assert_eq!(agent.session().await, SessionCall::Received { offset: 156 });
    // Only the window that is left.
    let sink = handle.take_stdin().unwrap();
    let writing = tokio::spawn(async move { sink.write([0; 11]).await });
    assert!(timeout(BRIEF, agent.hear()).await.is_err());
    agent.say(GuestMessage::StdinConsumed(1)).await;
    assert!(matches!(agent.hear().await, Some(HostMessage::Stdin(bytes)) if bytes.len() == 11));
    within(writing).await.unwrap().unwrap();
    agent.say(GuestMessage::Exited(Exit::Code(5))).await;
    assert_eq!(within(handle.wait()).await.unwrap().code, 5);
    assert_eq!(agent.session().await, SessionCall::End);
    // Nothing that is said to it now does anything, and nothing of that is an error.
    handle.signal(15).await.unwrap();
    handle.kill().await.unwrap();
}

fn entry(session: u64, command: &str) -> SessionEntry {
    SessionEntry {
        session,
        pid: 9,
        command: command.to_owned(),
        started_ms: 1_700_000_000_000,
        terminal: true,
        attached: false,
        exit: (session == 2).then_some(Exit::Signal(9)),
    }
}

/// What a list comes to when the agent answers so.
async fn listed(answers: Vec<SessionAnswer>) -> Result<Vec<SessionInfo>, ConversationError> {
    let (conversation, mut agent) = greeted(Features::SUPPORTED).await;
    let listing = tokio::spawn(list(conversation));
    assert_eq!(agent.session().await, SessionCall::List);
    for answer in answers {
        let mut frame = Vec::new();
        msb_protocol::encode(&GuestMessage::Session(answer), &mut frame).unwrap();
        // It may have heard enough.
        let _ = agent.stream.write_all(&frame).await;
    }
    within(listing).await.unwrap()
}

#[tokio::test]
async fn sessions_are_listed() {
    use SessionAnswer as A;
    let all = listed(vec![
        A::Listed(vec![entry(1, "sh")]),
        A::Listed(vec![entry(2, "cat -n")]),
        A::ListEnd,
    ]);
    let all = all.await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(
        (all[0].id.as_str(), all[0].state),
        ("1", SessionState::Running)
    );
    assert_eq!(
        (all[1].state, all[1].exit),
        (SessionState::Exited, Some(Exit::Signal(9)))
    );
    assert_eq!(
        (all[1].command.as_str(), all[1].pid, all[1].tty),
        ("cat -n", 9, true)
    );
    assert_eq!(all[1].started_at.timestamp(), 1_700_000_000);
}

#[tokio::test]
async fn a_list_that_no_agent_would_make_is_refused() {
    use SessionAnswer as A;
    let long = entry(1, &"x".repeat(2000));
    let mut early = entry(1, "x");
    early.started_ms = u64::MAX;
    for answers in [
        vec![A::Listed(vec![long])],
        vec![A::Listed(vec![early])],
        vec![A::Listed(vec![entry(1, "x"); 1000])],
        vec![A::Listed(vec![entry(1, "x"); 64]); 200],
        vec![A::Detached],
    ] {
        assert!(matches!(
            listed(answers).await,
            Err(ConversationError::OutOfTurn)
        ));
    }
}
