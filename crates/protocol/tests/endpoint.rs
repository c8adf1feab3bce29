//! Two endpoints against each other, and one against peers that do not keep to the protocol.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use msb_protocol::*;
use proptest::prelude::*;

fn hello(features: Features) -> Hello {
    Hello {
        features,
        ..Hello::ours()
    }
}

/// A host that has been greeted by a guest with these features.
fn host_of(features: Features) -> Endpoint<HostSide> {
    let mut host = Endpoint::default();
    let mut bytes = Vec::new();
    encode(&GuestMessage::Hello(hello(features)), &mut bytes).unwrap();
    host.feed(&bytes);
    assert!(matches!(
        host.next_arrival().unwrap(),
        Some(Arrival::Greeted(_))
    ));
    host
}

#[test]
fn two_sides_come_to_speak_whoever_is_first() {
    let mut host = Endpoint::<HostSide>::default();
    let mut guest = Endpoint::<GuestSide>::default();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    // Nothing but a greeting may be said first.
    assert!(matches!(
        host.encode(&HostMessage::Ping, &mut up),
        Err(SendError::Unsupported {
            kind: MessageType::Ping
        })
    ));
    assert!(up.is_empty());
    host.encode(&host.greeting(), &mut up).unwrap();
    guest.encode(&guest.greeting(), &mut down).unwrap();
    guest.feed(&up);
    host.feed(&down);
    let (Some(Arrival::Greeted(theirs)), Some(Arrival::Greeted(ours))) =
        (guest.next_arrival().unwrap(), host.next_arrival().unwrap())
    else {
        panic!("no greeting");
    };
    assert_eq!(theirs, ours);
    up.clear();
    host.encode(&HostMessage::Ping, &mut up).unwrap();
    guest.feed(&up);
    assert_eq!(
        guest.next_arrival().unwrap(),
        Some(Arrival::Message(HostMessage::Ping))
    );
    assert!(guest.finish().is_ok() && host.finish().is_ok());
}

#[test]
fn what_the_guest_does_not_know_is_not_sent() {
    let call = HostMessage::Session(SessionCall::List);
    for (features, sent) in [
        (Features(0), false),
        (Features::FILES, false),
        (Features::SESSIONS, true),
        (Features(u64::MAX), true),
    ] {
        let host = host_of(features);
        let mut out = b"before".to_vec();
        assert_eq!(host.encode(&call, &mut out).is_ok(), sent);
        assert_eq!(
            out.len() > 6,
            sent,
            "nothing is written of what is not sent"
        );
        // What every guest knows goes to every guest.
        assert!(host.encode(&HostMessage::Ping, &mut out).is_ok());
        let session = host.session().unwrap();
        assert_eq!(session.understands(MessageType::Session), sent);
        assert_eq!(session.encode(&call, &mut out).is_ok(), sent);
    }
}

#[test]
fn a_peer_that_does_not_greet_is_not_spoken_to() {
    let refusal = Refusal {
        kind: RefusalKind::Generation,
        message: "another".into(),
    };
    let far = Hello {
        generation: 9,
        minimum: 8,
        features: Features(0),
    };
    for message in [
        GuestMessage::Pong,
        GuestMessage::Refused(refusal),
        GuestMessage::Hello(far),
    ] {
        let mut host = Endpoint::<HostSide>::default();
        let mut bytes = Vec::new();
        encode(&message, &mut bytes).unwrap();
        encode(&GuestMessage::Hello(Hello::ours()), &mut bytes).unwrap();
        host.feed(&bytes);
        let error = host.next_arrival().unwrap_err();
        match message {
            GuestMessage::Pong => assert!(matches!(error, EndpointError::NoHello)),
            GuestMessage::Refused(_) => assert!(matches!(error, EndpointError::Refused(_))),
            _ => assert!(matches!(error, EndpointError::Handshake(_))),
        }
        // It stays so, and holds nothing.
        assert!(host.next_arrival().is_err());
        assert_eq!(host.pending(), 0);
        assert!(host.session().is_none());
    }
}

fn guest_message() -> impl Strategy<Value = GuestMessage> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    prop_oneof![
        any::<(u64, u32)>().prop_map(|(session, pid)| GuestMessage::Started { session, pid }),
        bytes().prop_map(GuestMessage::Stdout),
        bytes().prop_map(GuestMessage::Stderr),
        any::<u32>().prop_map(GuestMessage::StdinConsumed),
        Just(GuestMessage::StdinClosed),
        any::<i32>().prop_map(|code| GuestMessage::Exited(Exit::Code(code))),
        Just(GuestMessage::Pong),
        any::<u64>().prop_map(|bytes| GuestMessage::Session(SessionAnswer::Dropped { bytes })),
        Just(GuestMessage::Session(SessionAnswer::Detached)),
        (any::<u64>(), any::<Option<u32>>()).prop_map(|(offset, window)| {
            GuestMessage::Session(SessionAnswer::Attached(SessionAttached {
                session: 1,
                pid: 1,
                offset,
                window,
                terminal: false,
            }))
        }),
    ]
}

proptest! {
    /// Whatever a guest says in whatever order: one start, then what belongs to it, then one end.
    #[test]
    fn no_guest_confuses_a_viewer(
        attaching in any::<bool>(),
        messages in prop::collection::vec(guest_message(), 0..40),
    ) {
        let mut viewer = if attaching { Viewer::attaching() } else { Viewer::starting() };
        let (mut runs, mut over) = (false, false);
        for message in messages {
            let before = viewer.offset();
            let taken = viewer.take(message);
            prop_assert!(!over || taken.is_err(), "nothing comes after the end");
            match taken {
                Ok(ViewEvent::Running(attached)) => {
                    prop_assert!(!runs);
                    prop_assert!(attached.window.is_none_or(|w| w <= INITIAL_STDIN_WINDOW));
                    runs = true;
                }
                Ok(ViewEvent::Stdout(bytes) | ViewEvent::Stderr(bytes)) => {
                    prop_assert!(runs && !bytes.is_empty());
                    prop_assert!(viewer.offset() >= before);
                }
                Ok(ViewEvent::Dropped(_) | ViewEvent::Room(_) | ViewEvent::StdinClosed) => {
                    prop_assert!(runs && viewer.offset() >= before);
                }
                Ok(_) | Err(_) => over = true,
            }
            prop_assert_eq!(viewer.is_over(), over);
        }
    }

    #[test]
    fn no_bytes_confuse_an_endpoint(
        greeted in any::<bool>(),
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
    ) {
        let mut guest = Endpoint::<GuestSide>::default();
        if greeted {
            let mut bytes = Vec::new();
            encode(&HostMessage::Hello(Hello::ours()), &mut bytes).unwrap();
            guest.feed(&bytes);
            prop_assert!(guest.next_arrival().is_ok());
        }
        let mut failed = false;
        for chunk in chunks {
            guest.feed(&chunk);
            loop {
                match guest.next_arrival() {
                    Ok(Some(_)) => prop_assert!(!failed),
                    Ok(None) => break,
                    Err(_) => { failed = true; break; }
                }
            }
            prop_assert!(guest.pending() <= LENGTH_BYTES + MAX_FRAME + chunk.len());
        }
    }
}
