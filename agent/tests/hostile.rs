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

    /// Messages about sessions, each well-formed, in no sensible order, from viewers that come and go.
    #[test]
    fn viewers_without_sense_end_nothing_but_their_own(
        visits in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(word(), 0..12), any::<bool>()), 1..6,
        ),
    ) {
        let mut sessions = Vec::new();
        for (detachable, words, polite) in visits {
            let mut exec = shell("cat; seq 1 100");
            exec.stdin = Stdin::Pipe;
            let mut client = Client::new();
            client.send(&HostMessage::Session(SessionCall::Start(SessionStart {
                exec,
                detachable,
                limit_ms: Some(60_000),
            })));
            match client.receive() {
                GuestMessage::Started { session, .. } => sessions.push(session),
                other => panic!("{other:?}"),
            }
            let mut frames = Vec::new();
            for word in words {
                encode(&word, &mut frames).unwrap();
            }
            // It may have been turned away in the middle.
            let _ = client.stream().write_all(&frames);
            if polite {
                let _ = client.stream().shutdown(std::net::Shutdown::Write);
                let _ = std::io::copy(client.stream(), &mut std::io::sink());
            }
        }
        // Whatever is left can be attached and ended.
        for session in sessions {
            let mut client = Client::new();
            client.send(&HostMessage::Session(SessionCall::Attach { session }));
            match client.receive() {
                GuestMessage::Refused(_) => {}
                GuestMessage::Session(SessionAnswer::Attached(attached)) => {
                    prop_assert_eq!(attached.session, session);
                    client.send(&HostMessage::Session(SessionCall::End));
                    let _ = std::io::copy(client.stream(), &mut std::io::sink());
                }
                other => panic!("{other:?}"),
            }
        }
        still_serves();
    }
}

/// What a viewer may say, and some of what it may not.
fn word() -> impl Strategy<Value = HostMessage> {
    let offset = || prop_oneof![0u64..400, any::<u64>()];
    prop_oneof![
        4 => (0usize..200).prop_map(|n| HostMessage::Stdin(vec![b'x'; n].into())),
        1 => Just(HostMessage::StdinEof),
        1 => prop_oneof![Just(0), Just(15), Just(28), any::<i32>()].prop_map(HostMessage::Signal),
        4 => offset().prop_map(|offset| SessionCall::Received { offset }.into()),
        1 => offset().prop_map(|offset| SessionCall::Detach { offset }.into()),
        1 => Just(SessionCall::End.into()),
        1 => Just(SessionCall::List.into()),
        1 => (0u64..50).prop_map(|session| SessionCall::Attach { session }.into()),
        1 => any::<[u16; 2]>().prop_map(|[rows, columns]| {
            HostMessage::Resize(TerminalSize { rows, columns })
        }),
    ]
}

#[test]
fn a_client_that_floods_with_small_words_holds_up_nobody() {
    let mut exec = request("cat", &[]);
    exec.stdin = Stdin::Pipe;
    let mut client = Client::new();
    client.send(&HostMessage::Session(SessionCall::Start(SessionStart {
        exec,
        detachable: false,
        limit_ms: None,
    })));
    client.started();
    let mut frames = Vec::new();
    for offset in 0..50_000 {
        encode(
            &HostMessage::Session(SessionCall::Received { offset }),
            &mut frames,
        )
        .unwrap();
    }
    let flood = {
        let mut stream = client.stream().try_clone().unwrap();
        std::thread::spawn(move || {
            for _ in 0..20 {
                stream.write_all(&frames).unwrap();
            }
        })
    };
    for _ in 0..20 {
        still_serves();
    }
    flood.join().unwrap();
    client.signal(9);
    assert_eq!(client.finish().exit, Some(Exit::Signal(9)));
}

#[test]
fn many_clients_that_do_not_read_a_list_hold_up_nobody() {
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let mut client = Client::new();
            client.send(&HostMessage::Session(SessionCall::List));
            client
        })
        .collect();
    still_serves();
    drop(clients);
    still_serves();
}
