//! Clients of agents that this test plays, behind a socket as the VMM's is.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use msb_protocol::{
    Arrival, Endpoint, Features, GuestMessage, GuestSide, Hello, HostMessage, LENGTH_BYTES,
    MessageType, Ready, Refusal, RefusalKind, SessionAnswer, SessionCall, encode,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// What is to pass without an answer.
const BRIEF: Duration = Duration::from_millis(100);

/// A socket of a VMM, and what the agent behind it can do.
struct Guest {
    _dir: TempDir,
    path: PathBuf,
    listener: UnixListener,
    features: Features,
}

impl Guest {
    fn with(features: Features) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vsock.sock");
        Self {
            listener: UnixListener::bind(&path).unwrap(),
            _dir: dir,
            path,
            features,
        }
    }

    /// Takes the next conversation.
    async fn accept(&self) -> Agent {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut call = [0; 13];
        stream.read_exact(&mut call).await.unwrap();
        assert_eq!(&call, b"CONNECT 1024\n");
        stream.write_all(b"OK 5\n").await.unwrap();
        Agent::on(stream, self.features).await
    }

    /// Answers a client's first question.
    async fn introduce(&self) {
        let mut agent = self.accept().await;
        if self.features.has(Features::SESSIONS) {
            let about = HostMessage::Session(SessionCall::About);
            assert_eq!(agent.hear().await, Some(about));
            agent
                .say(GuestMessage::Session(SessionAnswer::About(ready())))
                .await;
        }
        assert_eq!(agent.hear().await, None);
    }

    async fn client(&self) -> AgentClient {
        let connecting = AgentClient::connect_with_timeout(&self.path, PATIENCE);
        tokio::join!(connecting, self.introduce()).0.unwrap()
    }
}

fn ready() -> Ready {
    Ready {
        version: "1.2.3".to_owned(),
        init_ns: 5,
        ready_ns: 9,
    }
}

struct Agent {
    stream: UnixStream,
    endpoint: Endpoint<GuestSide>,
}

impl Agent {
    async fn on(stream: UnixStream, features: Features) -> Self {
        let hello = Hello {
            features,
            ..Hello::ours()
        };
        let mut agent = Self {
            stream,
            endpoint: Endpoint::new(hello),
        };
        let greeting = agent.endpoint.greeting();
        agent.say(greeting).await;
        agent
    }

    async fn say(&mut self, message: GuestMessage) {
        let mut frame = Vec::new();
        self.endpoint.encode(&message, &mut frame).unwrap();
        self.stream.write_all(&frame).await.unwrap();
    }

    async fn hear(&mut self) -> Option<HostMessage> {
        loop {
            match self.endpoint.next_arrival().unwrap() {
                Some(Arrival::Message(message)) => return Some(message),
                Some(Arrival::Greeted(_)) => continue,
                None => {}
            }
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await;
            match read.unwrap() {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.endpoint.feed(&buffer[..count]),
            }
        }
    }
}

fn body<M: serde::Serialize>(message: &M) -> Bytes {
    let mut frame = Vec::new();
    encode(message, &mut frame).unwrap();
    Bytes::from(frame).slice(LENGTH_BYTES..)
}

#[tokio::test]
async fn a_client_knows_its_agent() {
    let guest = Guest::with(Features::SUPPORTED);
    let client = guest.client().await;
    assert_eq!(client.ready(), Some(&ready()));
    assert_eq!(client.agent_version(), "1.2.3");
    let about = GuestMessage::Session(SessionAnswer::About(ready()));
    assert_eq!(client.ready_bytes(), body(&about));
    assert_eq!(client.negotiated_version(), 1);
    assert_eq!(client.protocol(), AgentProtocol::Current);
    assert!(client.supports(MessageType::Session));
    client.ensure_version_compat(MessageType::Session).unwrap();
}

#[tokio::test]
async fn what_an_older_agent_does_not_know_is_refused_before_anything_is_sent() {
    let guest = Guest::with(Features(0));
    let client = guest.client().await;
    assert_eq!((client.ready(), client.agent_version()), (None, ""));
    assert!(client.ready_bytes().is_empty());
    assert!(!client.supports(MessageType::Session) && client.supports(MessageType::Ping));
    let unsupported = |error: AgentClientError| {
        matches!(
            error,
            AgentClientError::UnsupportedOperation {
                operation: "sessions"
            }
        )
    };
    let kind = MessageType::Session;
    assert!(unsupported(client.ensure_version_compat(kind).unwrap_err()));
    let list = SessionCall::List;
    assert!(unsupported(client.request(kind, &list).await.unwrap_err()));
    assert!(unsupported(client.stream(kind, &list).await.unwrap_err()));
    let raw = body(&HostMessage::Session(list));
    assert!(unsupported(client.request_raw(0, &raw).await.unwrap_err()));
    assert!(unsupported(client.stream_raw(0, &raw).await.unwrap_err()));
    // Nobody was even called.
    let called = tokio::time::timeout(BRIEF, guest.listener.accept()).await;
    assert!(called.is_err());
}

#[tokio::test]
async fn a_request_has_an_answer() {
    let guest = Guest::with(Features::SUPPORTED);
    let client = guest.client().await;
    let answer = async {
        for _ in 0..2 {
            let mut agent = guest.accept().await;
            assert_eq!(agent.hear().await, Some(HostMessage::Ping));
            agent.say(GuestMessage::Pong).await;
            assert_eq!(agent.hear().await, None);
        }
        let mut agent = guest.accept().await;
        agent.hear().await;
        let refusal = Refusal {
            kind: RefusalKind::Draining,
            message: "later".to_owned(),
        };
        agent.say(GuestMessage::Refused(refusal)).await;
    };
    let ask = async {
        let pong = client.request(MessageType::Ping, &()).await.unwrap();
        assert_eq!(pong, GuestMessage::Pong);
        let raw = client.request_raw(0, body(&HostMessage::Ping)).await;
        let raw = raw.unwrap();
        assert_eq!((raw.flags, raw.body), (0, body(&GuestMessage::Pong)));
        let refused = client.request(MessageType::Ping, &()).await;
        assert!(
            matches!(refused, Err(AgentClientError::Refused(_))),
            "{refused:?}"
        );
    };
    tokio::join!(ask, answer);
}

#[tokio::test]
async fn a_stream_goes_both_ways_until_it_is_dropped() {
    let guest = Guest::with(Features::SUPPORTED);
    let client = guest.client().await;
    let attach = SessionCall::Attach { session: 3 };
    let opening = client.stream(MessageType::Session, &attach);
    let (opened, mut agent) = tokio::join!(opening, guest.accept());
    let (id, mut stream) = opened.unwrap();
    assert_eq!(id, stream.id());
    assert_eq!(agent.hear().await, Some(attach.into()));
    client.send(id, MessageType::Signal, &15).await.unwrap();
    assert_eq!(agent.hear().await, Some(HostMessage::Signal(15)));
    let eof = body(&HostMessage::StdinEof);
    client.send_raw(id, 0, eof).await.unwrap();
    assert_eq!(agent.hear().await, Some(HostMessage::StdinEof));
    let out = GuestMessage::Stdout(Bytes::from_static(b"out"));
    agent.say(out.clone()).await;
    assert_eq!(stream.next().await.unwrap(), Some(out));
    drop(stream);
    assert_eq!(agent.hear().await, None);
    let late = client.send(id, MessageType::Signal, &15).await;
    assert!(matches!(late, Err(AgentClientError::ReaderClosed(i)) if i == id));

    // The agent may be the one that ends it, and a closed client ends all.
    let ping = body(&HostMessage::Ping);
    let (opened, agent) = tokio::join!(client.stream_raw(0, &ping), guest.accept());
    let (_, mut stream) = opened.unwrap();
    drop(agent);
    assert_eq!(stream.next().await.unwrap(), None);
    let (opened, mut agent) = tokio::join!(client.stream_raw(0, &ping), guest.accept());
    let (_, _stream) = opened.unwrap();
    client.close().await;
    assert_eq!(agent.hear().await, Some(HostMessage::Ping));
    assert_eq!(agent.hear().await, None);
}

#[tokio::test]
async fn what_is_no_message_is_not_sent() {
    let guest = Guest::with(Features::SUPPORTED);
    let client = guest.client().await;
    let ping = body(&HostMessage::Ping);
    let flags = client.request_raw(1, &ping).await;
    assert!(matches!(flags, Err(AgentClientError::InvalidFlags(1))));
    let mut long = ping.to_vec();
    long.push(0);
    for wrong in [&b""[..], &[200], &long] {
        let sent = client.request_raw(0, wrong).await;
        assert!(matches!(sent, Err(AgentClientError::InvalidPacket(_))));
    }
    let sent = client.request(MessageType::Resize, &()).await;
    assert!(matches!(sent, Err(AgentClientError::InvalidPacket(_))));
    let called = tokio::time::timeout(BRIEF, guest.listener.accept()).await;
    assert!(called.is_err());
}

#[tokio::test]
async fn every_call_on_a_hostile_agent_ends_with_an_error_in_time() {
    use AgentClientError as E;
    let guest = Guest::with(Features::SUPPORTED);
    let connect = || AgentClient::connect_with_timeout(&guest.path, BRIEF);
    // It takes the call and says nothing.
    assert!(matches!(connect().await, Err(E::Timeout(_))));
    let deadline = Instant::now() + BRIEF;
    let until = AgentClient::connect_with_deadline(&guest.path, deadline).await;
    assert!(matches!(until, Err(E::Timeout(_))));
    let past = AgentClient::connect_with_deadline(&guest.path, Instant::now()).await;
    assert!(matches!(past, Err(E::Timeout(_))));
    // Those calls are still in the queue.
    while let Ok(accepted) = tokio::time::timeout(BRIEF, guest.listener.accept()).await {
        drop(accepted);
    }

    // It greets, and then stalls, lies, closes, or says nonsense.
    let stall = async {
        let mut agent = guest.accept().await;
        agent.hear().await;
        assert_eq!(agent.hear().await, None);
    };
    let (stalled, ()) = tokio::join!(connect(), stall);
    assert!(matches!(stalled, Err(E::Timeout(_))), "{stalled:?}");
    let lie = async {
        let mut agent = guest.accept().await;
        agent.say(GuestMessage::Pong).await;
        agent
    };
    let (lied, _agent) = tokio::join!(connect(), lie);
    assert!(matches!(lied, Err(E::Protocol(_))), "{lied:?}");
    let close = async { drop(guest.accept().await) };
    let (closed, ()) = tokio::join!(connect(), close);
    assert!(
        matches!(closed, Err(E::Closed | E::Io(_) | E::Protocol(_))),
        "{closed:?}"
    );
    let babble = async {
        let mut agent = guest.accept().await;
        agent.stream.write_all(&[255; 64]).await.unwrap();
        agent
    };
    let (babbled, _agent) = tokio::join!(connect(), babble);
    assert!(matches!(babbled, Err(E::Protocol(_))), "{babbled:?}");

    // So do later calls.
    let connecting = AgentClient::connect_with_timeout(&guest.path, BRIEF);
    let (client, ()) = tokio::join!(connecting, guest.introduce());
    let client = client.unwrap();
    let (stalled, _agent) = tokio::join!(client.request(MessageType::Ping, &()), guest.accept());
    assert!(matches!(stalled, Err(E::Timeout(_))), "{stalled:?}");
    let nobody = AgentClient::connect(guest.path.with_extension("none")).await;
    assert!(matches!(nobody, Err(E::Connect { .. })), "{nobody:?}");
}

#[tokio::test]
async fn one_connection_is_one_conversation() {
    let (ours, theirs) = tokio::io::duplex(1024);
    let (theirs, relay) = {
        let (socket, relay) = UnixStream::pair().unwrap();
        (socket, (theirs, relay))
    };
    tokio::spawn(async move {
        let (mut duplex, mut socket) = relay;
        let _ = tokio::io::copy_bidirectional(&mut duplex, &mut socket).await;
    });
    let connecting = AgentClient::connect_stream(ours);
    let greeting = Agent::on(theirs, Features::SUPPORTED);
    let (client, mut agent) = tokio::join!(connecting, greeting);
    let client = client.unwrap();
    assert!(client.supports(MessageType::Session));
    let answering = async {
        assert_eq!(agent.hear().await, Some(HostMessage::Ping));
        agent.say(GuestMessage::Pong).await;
    };
    let (pong, ()) = tokio::join!(client.request(MessageType::Ping, &()), answering);
    assert_eq!(pong.unwrap(), GuestMessage::Pong);
    let second = client.request(MessageType::Ping, &()).await;
    assert!(matches!(second, Err(AgentClientError::Closed)));

    let (ours, _theirs) = tokio::io::duplex(1024);
    let silent = AgentClient::connect_stream_with_timeout(ours, BRIEF).await;
    assert!(matches!(silent, Err(AgentClientError::Timeout(_))));
}

#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    for name in ["", "../x", "-a", &"x".repeat(200)] {
        let path = AgentClient::socket_path(name);
        assert!(matches!(path, Err(AgentClientError::InvalidSandboxName(_))));
        let client = AgentClient::connect_sandbox(name).await;
        assert!(matches!(
            client,
            Err(AgentClientError::InvalidSandboxName(_))
        ));
    }
    let path = AgentClient::socket_path("some-name").unwrap();
    assert!(path.ends_with("vsock.sock"), "{path:?}");
}

#[tokio::test]
async fn a_bridge_carries_bytes() {
    let guest = Guest::with(Features::SUPPORTED);
    let connecting = AgentBridge::connect_path_with_timeout(&guest.path, PATIENCE);
    let (bridge, ()) = tokio::join!(connecting, guest.introduce());
    let bridge = bridge.unwrap();
    assert!(!bridge.ready_bytes().is_empty());
    let ping = body(&HostMessage::Ping);
    let (opened, mut agent) = tokio::join!(bridge.stream_open(0, &ping), guest.accept());
    let (id, handle) = opened.unwrap();
    bridge.send(id, 0, &ping).await.unwrap();
    agent.say(GuestMessage::Pong).await;
    let next = bridge.stream_next(&handle).await.unwrap();
    assert_eq!(next, Some(body(&GuestMessage::Pong)));
    bridge.stream_close(handle).await;
    assert_eq!(agent.hear().await, Some(HostMessage::Ping));
    assert_eq!(agent.hear().await, Some(HostMessage::Ping));
    assert_eq!(agent.hear().await, None);
    bridge.close().await;
}
