use std::os::unix::net::UnixStream as Blocking;

use bytes::Bytes;
use msb_protocol::{Features, Hello, RefusalKind, SessionCall, encode};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Long, for what is to end by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short, for what is to end by its deadline.
const BRIEF: Duration = Duration::from_millis(50);

fn frames(messages: &[GuestMessage]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        encode(message, &mut bytes).unwrap();
    }
    bytes
}

fn hello(features: Features) -> GuestMessage {
    GuestMessage::Hello(Hello {
        features,
        ..Hello::ours()
    })
}

/// A host that talks to whoever has the other end.
async fn greeted(features: Features) -> (Conversation, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&frames(&[hello(features)])).await.unwrap();
    (Conversation::accept(ours, PATIENCE).await.unwrap(), theirs)
}

async fn opening(bytes: &[u8], then_close: bool) -> ConversationError {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(bytes).await.unwrap();
    if then_close {
        theirs.shutdown().await.unwrap();
    }
    let deadline = if then_close { PATIENCE } else { BRIEF };
    Conversation::accept(ours, deadline).await.unwrap_err()
}

#[tokio::test]
async fn an_agent_that_does_not_greet_is_an_error_in_time() {
    use ConversationError as E;
    let refused = GuestMessage::Refused(Refusal {
        kind: RefusalKind::Generation,
        message: "another release".to_owned(),
    });
    let far = GuestMessage::Hello(Hello {
        generation: 9,
        minimum: 9,
        features: Features(0),
    });
    let half = &frames(&[hello(Features(0))])[..5];
    assert!(matches!(opening(b"", false).await, E::Timeout(BRIEF)));
    assert!(matches!(opening(half, false).await, E::Timeout(BRIEF)));
    assert!(matches!(opening(b"", true).await, E::Closed));
    assert!(matches!(
        opening(half, true).await,
        E::Frame(FrameError::Truncated)
    ));
    let pong = frames(&[GuestMessage::Pong]);
    assert!(matches!(opening(&pong, true).await, E::OutOfTurn));
    assert!(matches!(
        opening(&frames(&[refused]), true).await,
        E::RefusedByAgent(_)
    ));
    assert!(matches!(
        opening(&frames(&[far]), true).await,
        E::Handshake(_)
    ));
    let long = u32::MAX.to_le_bytes();
    assert!(matches!(
        opening(&long, true).await,
        E::Frame(FrameError::TooLong { .. })
    ));
}

#[tokio::test]
async fn a_vmm_that_answers_nonsense_is_an_error_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vsock.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    for answer in ["", "NO\n", "OK 1", &"x".repeat(1000)] {
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 13];
            stream.read_exact(&mut asked).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        };
        let (connected, _stream) = tokio::join!(Conversation::connect(&path, PATIENCE), serve);
        assert!(
            matches!(connected, Err(ConversationError::Refused)),
            "{answer:?}"
        );
    }
    // One that takes the call and says nothing.
    let silent = Conversation::connect(&path, BRIEF).await;
    assert!(matches!(silent, Err(ConversationError::Timeout(_))));
    let gone = directory.path().join("nobody.sock");
    let nobody = Conversation::connect(&gone, PATIENCE).await;
    assert!(matches!(nobody, Err(ConversationError::Unreachable(_))));
}

#[tokio::test]
async fn what_the_agent_does_not_know_is_not_sent() {
    let call = HostMessage::Session(SessionCall::List);
    let (conversation, mut agent) = greeted(Features(0)).await;
    let refused = conversation.speaker.send(&call).await;
    let kind = MessageType::Session;
    assert!(matches!(refused, Err(ConversationError::Unsupported { kind: k }) if k == kind));
    assert!(!conversation.speaker.try_send(&call));
    // The conversation goes on.
    conversation.speaker.send(&HostMessage::Ping).await.unwrap();
    conversation.speaker.hang_up();
    let mut heard = Vec::new();
    agent.read_to_end(&mut heard).await.unwrap();
    let mut meant = Vec::new();
    encode(&HostMessage::Hello(Hello::ours()), &mut meant).unwrap();
    encode(&HostMessage::Ping, &mut meant).unwrap();
    assert_eq!(heard, meant);
}

#[tokio::test]
async fn an_agent_that_floods_is_read_no_faster_than_it_is_heard() {
    let (mut conversation, agent) = greeted(Features(0)).await;
    let agent: Blocking = agent.into_std().unwrap();
    let frame = frames(&[GuestMessage::Stdout(Bytes::from(vec![7; 60_000]))]);
    let mut sent = 0;
    while rustix::net::send(&agent, &frame, SendFlags::DONTWAIT).is_ok() {
        sent += 1;
        assert!(sent < 1000, "there is no bound");
    }
    // All that is held here is one read and what a frame lacks.
    assert!(matches!(
        conversation.listener.next().await,
        Ok(GuestMessage::Stdout(_))
    ));
    let held = conversation.listener.endpoint.pending() + conversation.listener.buffer.len();
    assert!(held <= 2 * (60_000 + READ_BYTES), "{held}");
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_that_never_stops_talking_holds_up_nobody() {
    let (mut conversation, mut agent) = greeted(Features(0)).await;
    let flood = frames(&vec![GuestMessage::StdinConsumed(1); 10_000]);
    let talking = tokio::spawn(async move { while agent.write_all(&flood).await.is_ok() {} });
    let listening =
        tokio::spawn(async move { while conversation.listener.next().await.is_ok() {} });
    // On the same thread, others have their turn all the same.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    talking.abort();
    listening.abort();
}

#[tokio::test]
async fn an_agent_that_does_not_read_can_be_given_up_and_taken_up_again() {
    let (conversation, mut agent) = greeted(Features(0)).await;
    let speaker = conversation.speaker;
    let message = HostMessage::Stdin(Bytes::from(vec![0; 60_000]));
    let mut sent = 0;
    let stuck = async {
        loop {
            speaker.send(&message).await.unwrap();
            sent += 1;
        }
    };
    assert!(tokio::time::timeout(BRIEF, stuck).await.is_err());
    // Nothing can be said now, and nobody waits longer than they want to.
    assert!(!speaker.try_send(&HostMessage::Ping));
    let next = speaker.send(&HostMessage::Ping);
    assert!(tokio::time::timeout(BRIEF, next).await.is_err());
    // Once it reads, it gets whole messages: the one that was begun, and then the last.
    let reading = tokio::spawn(async move {
        let mut endpoint = Endpoint::<msb_protocol::GuestSide>::default();
        let mut heard = Vec::new();
        while heard.last() != Some(&Arrival::Message(HostMessage::Signal(9))) {
            if let Some(arrival) = endpoint.next_arrival().unwrap() {
                heard.push(arrival);
                continue;
            }
            let mut bytes = vec![0; 4096];
            let count = agent.read(&mut bytes).await.unwrap();
            endpoint.feed(&bytes[..count]);
        }
        heard
    });
    speaker.send(&HostMessage::Signal(9)).await.unwrap();
    let heard = tokio::time::timeout(PATIENCE, reading)
        .await
        .unwrap()
        .unwrap();
    let stdin = heard
        .iter()
        .filter(|arrival| **arrival == Arrival::Message(message.clone()));
    assert_eq!(stdin.count(), sent + 1);
}

#[tokio::test]
async fn a_short_message_is_said_without_waiting() {
    let (conversation, mut agent) = greeted(Features(0)).await;
    assert!(conversation.speaker.try_send(&HostMessage::Signal(9)));
    conversation.speaker.hang_up();
    let mut heard = Vec::new();
    agent.read_to_end(&mut heard).await.unwrap();
    let mut meant = Vec::new();
    encode(&HostMessage::Signal(9), &mut meant).unwrap();
    assert!(heard.ends_with(&meant));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_an_agent_says_ends(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut conversation, mut agent) = greeted(Features(u64::MAX)).await;
            agent.write_all(&bytes).await.unwrap();
            drop(agent);
            while conversation.listener.next().await.is_ok() {}
            // And stays ended.
            assert!(conversation.listener.next().await.is_err());
        });
    }
}
