//! Peers that do not keep to the protocol. The agent serves on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{Read, Write};

use msb_protocol::*;
use proptest::prelude::*;
use support::*;

fn still_serves() {
    assert_eq!(run(shell("echo alive")).stdout, b"alive\n");
}

/// What a peer that says `messages` is told last.
fn refusal(messages: &[HostMessage]) -> Refusal {
    let mut client = Client::new();
    for message in messages {
        client.send(message);
    }
    client.finish().refused.expect("a refusal")
}

#[test]
fn ping_is_answered() {
    let mut client = Client::new();
    client.send(&HostMessage::Ping);
    assert_eq!(client.receive(), GuestMessage::Pong);
    assert_eq!(client.next(), None);
}

#[test]
fn messages_out_of_place_are_refused() {
    for message in [
        HostMessage::Hello(Hello::ours()),
        HostMessage::StdinEof,
        HostMessage::Signal(9),
        HostMessage::Shutdown { grace_ms: 0 },
        HostMessage::Drain { grace_ms: 0 },
        HostMessage::Sample,
        HostMessage::Boot(BootRequest {
            root: Root::Initramfs,
            hostname: None,
            env: Vec::new(),
        }),
    ] {
        assert_eq!(refusal(&[message]).kind, RefusalKind::Unexpected);
    }
    let exec = HostMessage::Exec(request("sleep", &["1000"]));
    assert_eq!(refusal(&[exec.clone(), exec]).kind, RefusalKind::Unexpected);
    still_serves();
}

#[test]
fn another_generation_is_refused_with_advice() {
    let mut stream = connect();
    let hello = HostMessage::Hello(Hello {
        generation: 9,
        minimum: 8,
        features: Features(0),
    });
    let mut frame = Vec::new();
    encode(&hello, &mut frame).unwrap();
    stream.write_all(&frame).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let mut decoder = Decoder::new();
    decoder.feed(&answer);
    let _hello: Option<GuestMessage> = decoder.next_message().unwrap();
    match decoder.next_message().unwrap() {
        Some(GuestMessage::Refused(refusal)) => {
            assert_eq!(refusal.kind, RefusalKind::Generation);
            assert!(refusal.message.contains("same release"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn frames_too_long_or_cut_short_end_one_connection() {
    let mut long = connect();
    long.write_all(&u32::MAX.to_le_bytes()).unwrap();
    let mut answer = Vec::new();
    // Everything that comes, until the agent closes.
    let _ = long.read_to_end(&mut answer);
    assert!(!answer.is_empty());

    let mut short = connect();
    short.write_all(&[8, 0, 0, 0, 1]).unwrap();
    drop(short);
    still_serves();
}

#[test]
fn a_command_whose_peer_turns_to_nonsense_is_ended() {
    let mut client = Client::exec(shell("echo $$; sleep 1000"));
    let pid = client.until("\n");
    client.stream().write_all(&[1, 0, 0, 0, 255]).unwrap();
    let seen = client.finish();
    assert!(
        seen.refused.is_some() || seen.exit == Some(Exit::Signal(9)),
        "{seen:?}"
    );
    let path = format!("/proc/{}", pid.trim());
    while std::path::Path::new(&path).exists() {
        still_serves();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_bytes_end_nothing_but_their_connection(
        greeted in any::<bool>(),
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut stream = connect();
        let mut all = Vec::new();
        if greeted {
            encode(&HostMessage::Hello(Hello::ours()), &mut all).unwrap();
        }
        all.extend(&bytes);
        // It may have closed before all was written.
        let _ = stream.write_all(&all);
        drop(stream);
        let mut client = Client::new();
        client.send(&HostMessage::Ping);
        prop_assert_eq!(client.receive(), GuestMessage::Pong);
    }

    /// Frames that are well-formed and hold anything at all.
    #[test]
    fn random_frames_end_nothing_but_their_connection(
        bodies in prop::collection::vec((0u8..14, prop::collection::vec(any::<u8>(), 0..40)), 1..8),
    ) {
        let mut client = Client::new();
        for (kind, body) in bodies {
            // Not Exec and no session's start, which would run things on the machine that tests.
            let kind = if kind == 2 { 0 } else { kind };
            let mut body = body;
            if kind == 12 && body.first() == Some(&0) {
                body[0] = 1;
            }
            let length = u32::try_from(body.len() + 1).unwrap();
            let mut frame = length.to_le_bytes().to_vec();
            frame.push(kind);
            frame.extend(body);
            let _ = client.stream().write_all(&frame);
        }
        drop(client);
        let mut client = Client::new();
        client.send(&HostMessage::Ping);
        prop_assert_eq!(client.receive(), GuestMessage::Pong);
    }
}
