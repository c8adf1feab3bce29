//! The decoder against every way a stream may be cut, and against bytes that are no stream.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use msb_protocol::*;
use proptest::prelude::*;

fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        any::<i32>().prop_map(Exit::Code),
        any::<i32>().prop_map(Exit::Signal),
    ]
}

fn source() -> impl Strategy<Value = OutputSource> {
    prop_oneof![
        Just(OutputSource::Stdout),
        Just(OutputSource::Stderr),
        Just(OutputSource::Terminal),
    ]
}

fn sample() -> impl Strategy<Value = GuestSample> {
    let root = any::<Option<u64>>;
    let count = any::<u32>;
    (any::<[u64; 3]>(), root(), root(), count(), count()).prop_map(
        |([up, total, available], used, free, sessions, connections)| GuestSample {
            uptime_ns: up,
            memory_total_bytes: total,
            memory_available_bytes: available,
            root_used_bytes: used,
            root_free_bytes: free,
            sessions,
            connections,
        },
    )
}

fn setting() -> impl Strategy<Value = Setting> {
    let texts = || proptest::collection::vec(".{0,16}", 0..4);
    prop_oneof![
        (".{0,64}", any::<Option<u64>>(), any::<[bool; 4]>()).prop_map(
            |(path, size_bytes, [read_only, noexec, nosuid, nodev])| {
                Setting::Tmpfs(Tmpfs {
                    path,
                    size_bytes,
                    read_only,
                    noexec,
                    nosuid,
                    nodev,
                })
            }
        ),
        (".{0,32}", any::<Vec<u8>>()).prop_map(|(name, data)| Setting::Script {
            name,
            data: data.into(),
        }),
        Just(Setting::Restricted),
        (".{0,32}", texts(), texts()).prop_map(|(program, args, env)| {
            let env = env.into_iter().map(|text| (text.clone(), text)).collect();
            Setting::Init(InitProgram { program, args, env })
        }),
        any::<(u32, u64)>().prop_map(|(id, unix_ns)| Setting::Clock { id, unix_ns }),
    ]
}

fn host_message() -> impl Strategy<Value = HostMessage> {
    prop_oneof![
        any::<u32>().prop_map(|grace_ms| HostMessage::Drain { grace_ms }),
        setting().prop_map(HostMessage::Setting),
        any::<u32>().prop_map(|grace_ms| HostMessage::Shutdown { grace_ms }),
        Just(HostMessage::Sample),
        Just(HostMessage::Ping),
    ]
}

fn monitor_message() -> impl Strategy<Value = GuestMessage> {
    prop_oneof![
        (any::<u64>(), any::<u32>(), ".{0,256}").prop_map(|(session, pid, program)| {
            GuestMessage::SessionStarted {
                session,
                pid,
                program,
            }
        }),
        (any::<u64>(), exit())
            .prop_map(|(session, exit)| GuestMessage::SessionEnded { session, exit }),
        (
            any::<u64>(),
            source(),
            prop::collection::vec(any::<u8>(), 0..3000)
        )
            .prop_map(|(session, source, data)| GuestMessage::SessionOutput {
                session,
                source,
                data: data.into(),
            }),
        any::<[u64; 2]>()
            .prop_map(|[session, bytes]| GuestMessage::OutputDropped { session, bytes }),
        sample().prop_map(GuestMessage::Sample),
    ]
}

fn message() -> impl Strategy<Value = GuestMessage> {
    prop_oneof![
        Just(GuestMessage::Hello(Hello::ours())),
        (any::<u64>(), any::<u32>())
            .prop_map(|(session, pid)| GuestMessage::Started { session, pid }),
        prop::collection::vec(any::<u8>(), 0..3000)
            .prop_map(|bytes| GuestMessage::Stdout(Bytes::from(bytes))),
        any::<u32>().prop_map(GuestMessage::StdinConsumed),
        any::<i32>().prop_map(|signal| GuestMessage::Exited(Exit::Signal(signal))),
        (".{0,40}", any::<Option<i32>>()).prop_map(|(message, errno)| {
            GuestMessage::ExecFailed(ExecFailure {
                kind: ExecFailureKind::BadCwd,
                message,
                errno,
            })
        }),
        Just(GuestMessage::Pong),
        monitor_message(),
    ]
}

fn drain(decoder: &mut Decoder, into: &mut Vec<GuestMessage>) -> Result<(), FrameError> {
    while let Some(message) = decoder.next_message()? {
        into.push(message);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_messages(
        messages in prop::collection::vec(message(), 0..12),
        cuts in prop::collection::vec(1usize..700, 1..60),
    ) {
        let mut stream = Vec::new();
        for message in &messages {
            encode(message, &mut stream).unwrap();
        }
        let mut decoder = Decoder::new();
        let mut seen = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            decoder.feed(now);
            drain(&mut decoder, &mut seen).unwrap();
            rest = later;
        }
        prop_assert_eq!(seen, messages);
        prop_assert!(decoder.finish().is_ok());
        prop_assert_eq!(decoder.pending(), 0);
    }

    #[test]
    fn what_the_host_says_comes_back(message in host_message()) {
        let mut stream = Vec::new();
        encode(&message, &mut stream).unwrap();
        let mut decoder = Decoder::new();
        decoder.feed(&stream);
        prop_assert_eq!(decoder.next_message().unwrap(), Some(message));
        prop_assert!(decoder.finish().is_ok());
    }

    #[test]
    fn no_bytes_panic_or_pile_up(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..30)
    ) {
        let mut decoder = Decoder::new();
        for chunk in chunks {
            decoder.feed(&chunk);
            while let Ok(Some(_)) = decoder.next_message::<HostMessage>() {}
            prop_assert!(decoder.pending() <= LENGTH_BYTES + MAX_FRAME + chunk.len());
        }
    }

    #[test]
    fn a_body_of_noise_is_refused_or_a_message(body in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut stream = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        stream.extend(&body);
        let mut decoder = Decoder::new();
        decoder.feed(&stream);
        if let Ok(Some(message)) = decoder.next_message::<GuestMessage>() {
            let mut again = Vec::new();
            encode(&message, &mut again).unwrap();
        }
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_at_once_and_for_good() {
    for length in [u32::try_from(MAX_FRAME).unwrap() + 1, u32::MAX] {
        let mut decoder = Decoder::new();
        decoder.feed(&length.to_le_bytes());
        assert!(matches!(
            decoder.next_message::<GuestMessage>(),
            Err(FrameError::TooLong { length: l }) if l == length
        ));
        decoder.feed(&[0; 1000]);
        assert_eq!(decoder.pending(), 0, "a failed stream holds nothing");
        assert!(matches!(
            decoder.next_message::<GuestMessage>(),
            Err(FrameError::Failed)
        ));
    }
}

#[test]
fn a_length_inside_a_message_cannot_make_us_allocate() {
    // Stdout (variant 4) announcing 2^63 bytes: 253 marks a u64 in bincode's variable integers.
    let mut body = vec![4u8, 253];
    body.extend((1u64 << 63).to_le_bytes());
    let mut stream = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    stream.extend(body);
    let mut decoder = Decoder::new();
    decoder.feed(&stream);
    assert!(matches!(
        decoder.next_message::<GuestMessage>(),
        Err(FrameError::Codec(CodecError::Malformed(_)))
    ));
}

#[test]
fn trailing_bytes_and_truncation_are_told() {
    let mut stream = Vec::new();
    encode(&GuestMessage::Pong, &mut stream).unwrap();
    let mut longer = stream.clone();
    longer.push(0);
    longer[..4].copy_from_slice(&2u32.to_le_bytes());
    let mut decoder = Decoder::new();
    decoder.feed(&longer);
    assert!(matches!(
        decoder.next_message::<GuestMessage>(),
        Err(FrameError::Codec(CodecError::TrailingBytes { extra: 1 }))
    ));

    let mut decoder = Decoder::new();
    decoder.feed(&stream[..4]);
    assert!(decoder.next_message::<GuestMessage>().unwrap().is_none());
    assert!(matches!(decoder.finish(), Err(FrameError::Truncated)));
}

#[test]
fn what_does_not_fit_a_frame_is_not_written() {
    let mut out = b"before".to_vec();
    let huge = GuestMessage::Stdout(Bytes::from(vec![7; MAX_FRAME]));
    assert!(matches!(encode(&huge, &mut out), Err(CodecError::TooLong)));
    assert_eq!(out, b"before");
    encode(
        &GuestMessage::Stdout(Bytes::from(vec![7; MAX_CHUNK])),
        &mut out,
    )
    .unwrap();
    let copied = GuestMessage::SessionOutput {
        session: u64::MAX,
        source: OutputSource::Terminal,
        data: Bytes::from(vec![7; MAX_CHUNK]),
    };
    encode(&copied, &mut out).unwrap();
}
