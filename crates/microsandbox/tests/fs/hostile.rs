//! Guests that lie, flood, stop in the middle, or say nothing: every call ends, with an error that
//! has a type.

use std::io::Write;

use microsandbox::MicrosandboxError as E;
use microsandbox::MicrosandboxResult;
use microsandbox::fs::*;
use msb_protocol::*;
use msb_runtime::conversation::ConversationError as C;
use proptest::prelude::*;

use crate::guest::*;

/// Every call, by its number.
const CALLS: usize = 16;

async fn call(fs: SandboxFs<'_>, dir: &std::path::Path, number: usize) -> MicrosandboxResult<()> {
    let source = dir.join("source");
    match number {
        0 => fs.read("/x").await.map(drop),
        1 => fs.read_to_string("/x").await.map(drop),
        2 => fs.read_stream("/x").await?.collect().await.map(drop),
        3 => fs.write("/x", vec![1; 1_000_000]).await,
        4 => fs.write_stream("/x").await?.close().await,
        5 => fs.list("/x").await.map(drop),
        6 => fs.mkdir("/x").await,
        7 => fs.remove_dir("/x").await,
        8 => fs.remove("/x").await,
        9 => fs.copy("/x", "/y").await,
        10 => fs.rename("/x", "/y").await,
        11 => fs.stat("/x").await.map(drop),
        12 => fs.set_stat("/x", true, FsSetAttrs::default()).await,
        13 => fs.read_link("/x").await.map(drop),
        14 => fs.copy_from_host(&source, "/x").await,
        _ => fs.copy_to_host("/x", dir.join("copy")).await,
    }
}

/// What each call comes to with such a guest. No call leaves anything on the host.
async fn each(script: impl Fn(&mut Peer) + Send + Sync + 'static, check: impl Fn(usize, E)) {
    let guest = Guest::new(move |peer, _| script(peer)).await;
    std::fs::write(guest.dir.path().join("source"), vec![1; 1_000_000]).unwrap();
    let calls = (0..CALLS).map(|number| ends(call(guest.fs(), guest.dir.path(), number)));
    let results = futures::future::join_all(calls).await;
    for (number, result) in results.into_iter().enumerate() {
        check(number, result.expect_err("such a guest cannot please"));
    }
    assert_eq!(guest.names(), ["source"]);
}

fn out_of_turn(number: usize, error: E) {
    let typed = matches!(error, E::Protocol(C::OutOfTurn));
    assert!(typed, "call {number}: {error:?}");
}

#[tokio::test]
async fn silence_has_an_end() {
    each(
        |peer| peer.until_gone(),
        |number, error| {
            let timeout = matches!(error, E::Protocol(C::Timeout(after)) if after == STALL);
            assert!(timeout, "call {number}: {error:?}");
        },
    )
    .await;
}

#[tokio::test]
async fn silence_in_the_middle_has_an_end() {
    each(
        |peer| {
            peer.answer(FsAnswer::Opened);
            peer.until_gone();
        },
        |number, error| {
            let typed = matches!(error, E::Protocol(C::Timeout(_) | C::OutOfTurn));
            assert!(typed, "call {number}: {error:?}");
        },
    )
    .await;
}

#[tokio::test]
async fn a_closed_connection_says_so() {
    each(
        |_| {},
        |number, error| {
            let typed = matches!(error, E::Protocol(C::Closed | C::Io(_)));
            assert!(typed, "call {number}: {error:?}");
        },
    )
    .await;
}

#[tokio::test]
async fn half_a_message_says_so() {
    each(
        |peer| {
            let mut frame = Vec::new();
            encode(&GuestMessage::Fs(data(b"data")), &mut frame).unwrap();
            let _ = peer.stream.write_all(&frame[..frame.len() - 2]);
        },
        |number, error| {
            let typed = matches!(error, E::Protocol(C::Frame(_) | C::Closed | C::Io(_)));
            assert!(typed, "call {number}: {error:?}");
        },
    )
    .await;
}

#[tokio::test]
async fn a_frame_that_claims_to_be_huge_is_not_waited_for() {
    each(
        |peer| {
            let _ = peer.stream.write_all(&[0xff; 64]);
            peer.until_gone();
        },
        |number, error| {
            let typed = matches!(error, E::Protocol(C::Frame(FrameError::TooLong { .. })));
            assert!(typed, "call {number}: {error:?}");
        },
    )
    .await;
}

#[tokio::test]
async fn signs_of_life_are_counted() {
    each(|peer| while peer.answer(FsAnswer::Working) {}, out_of_turn).await;
}

#[tokio::test]
async fn credit_that_nobody_used_is_a_lie() {
    for lie in [0, 1, u32::MAX] {
        each(
            move |peer| {
                peer.answer(FsAnswer::Opened);
                while peer.answer(FsAnswer::Consumed(lie)) {}
            },
            |number, error| {
                // Where something was sent, a little of it is no lie, but nobody reads the rest.
                let typed = matches!(error, E::Protocol(C::OutOfTurn | C::Timeout(_)));
                assert!(typed, "call {number}: {error:?}");
            },
        )
        .await;
    }
}

#[tokio::test]
async fn what_is_said_of_a_command_has_no_place_here() {
    each(
        |peer| {
            peer.say(&GuestMessage::Stdout("x".into()));
            peer.until_gone();
        },
        out_of_turn,
    )
    .await;
}

#[tokio::test]
async fn data_without_end_meets_a_limit() {
    let guest = Guest::new(|peer, _| {
        peer.answer(FsAnswer::Opened);
        let chunk = FsAnswer::Part(FsPart::Data(vec![0; MAX_CHUNK].into()));
        while peer.answer(chunk.clone()) {}
    })
    .await;
    let fs = guest.fs().with_memory_limit(10 << 20);
    assert_eq!(failure(fs.read("/x")).await.kind, FsErrorKind::TooLarge);
    let copy = guest.dir.path().join("copy");
    let fs = guest.fs().with_copy_limit(10 << 20);
    // It begins with what no copy begins with.
    assert!(matches!(
        ends(fs.copy_to_host("/x", copy)).await,
        Err(E::Protocol(C::OutOfTurn))
    ));
}

#[tokio::test]
async fn entries_without_end_meet_a_limit() {
    let guest = Guest::new(|peer, _| {
        let listed = FsListed {
            name: vec![b'x'; 255].into(),
            stat: stat(FsKind::File),
        };
        let batch = FsAnswer::Entries(vec![listed; 500]);
        while peer.answer(batch.clone()) {}
    })
    .await;
    let fs = guest.fs().with_memory_limit(4 << 20);
    assert_eq!(failure(fs.list("/x")).await.kind, FsErrorKind::TooLarge);
}

#[tokio::test]
async fn what_is_listed_has_names() {
    for name in [
        &b""[..],
        b".",
        b"..",
        b"../x",
        b"/etc/passwd",
        b"a/b",
        b"a\0",
    ] {
        let guest = Guest::new(move |peer, _| {
            let listed = FsListed {
                name: name.into(),
                stat: stat(FsKind::File),
            };
            peer.answer(FsAnswer::Entries(vec![listed]));
            peer.answer(FsAnswer::Done);
            peer.until_gone();
        })
        .await;
        assert_eq!(
            failure(guest.fs().list("/x")).await.kind,
            FsErrorKind::InvalidName
        );
    }
}

#[tokio::test]
async fn nothing_is_no_data_and_no_batch() {
    for empty in [
        FsAnswer::Part(FsPart::Data(bytes::Bytes::new())),
        FsAnswer::Entries(Vec::new()),
    ] {
        let guest = Guest::new(move |peer, request| {
            if matches!(request, FsRequest::Read { .. }) {
                peer.answer(FsAnswer::Opened);
            }
            while peer.answer(empty.clone()) {}
        })
        .await;
        let read = ends(guest.fs().read("/x")).await;
        assert!(matches!(read, Err(E::Protocol(C::OutOfTurn))));
        let listed = ends(guest.fs().list("/x")).await;
        assert!(matches!(listed, Err(E::Protocol(C::OutOfTurn))));
    }
}

#[tokio::test]
async fn an_older_guest_is_not_asked() {
    let guest = Guest::with(Features(0), |_, request| panic!("asked: {request:?}")).await;
    assert!(matches!(
        ends(guest.fs().stat("/")).await,
        Err(E::Unsupported { .. })
    ));
}

#[tokio::test]
async fn a_sandbox_that_is_not_there_says_so() {
    let guest = Guest::new(|_, _| {}).await;
    let backend = microsandbox::LocalBackend::builder()
        .home(guest.dir.path().join("home"))
        .build()
        .await
        .unwrap();
    let fs = SandboxFs::with_backend(std::sync::Arc::new(backend), "other");
    assert!(matches!(
        ends(fs.stat("/")).await,
        Err(E::SandboxNotFound(name)) if name == "other"
    ));
}

#[tokio::test]
async fn a_refusal_is_passed_on() {
    let guest = Guest::new(|peer, _| {
        peer.say(&GuestMessage::Refused(Refusal {
            kind: RefusalKind::Draining,
            message: "no".to_owned(),
        }));
        peer.until_gone();
    })
    .await;
    assert!(matches!(
        ends(guest.fs().mkdir("/x")).await,
        Err(E::Protocol(C::RefusedByAgent(refusal))) if refusal.kind == RefusalKind::Draining
    ));
}

fn answer() -> impl Strategy<Value = FsAnswer> {
    let names: [&'static [u8]; 6] = [b"", b"a", b"..", b"../x", b"/x", b"b"];
    let node = prop_oneof![
        Just(FsNode::Directory),
        Just(FsNode::File),
        Just(FsNode::Symlink("..".into()))
    ];
    prop_oneof![
        2 => Just(FsAnswer::Opened),
        1 => Just(FsAnswer::Done),
        1 => Just(FsAnswer::Working),
        1 => any::<u32>().prop_map(FsAnswer::Consumed),
        1 => Just(FsAnswer::Stat(stat(FsKind::File))),
        1 => Just(FsAnswer::Target("x".into())),
        2 => Just(data(b"data")),
        1 => any::<u64>().prop_map(|size| FsAnswer::Part(FsPart::Hole(size))),
        2 => Just(FsAnswer::Part(FsPart::Leave)),
        4 => (prop::sample::select(names.to_vec()), node)
            .prop_map(|(name, node)| entry(name, node)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn whatever_a_guest_says_every_call_ends_and_writes_only_its_target(
        answers in prop::collection::vec(answer(), 0..10),
        number in 0..CALLS,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let guest = Guest::new(move |peer, _| {
                for answer in &answers {
                    peer.answer(answer.clone());
                }
            }).await;
            std::fs::write(guest.dir.path().join("source"), vec![1; 1000]).unwrap();
            let result = ends(call(guest.fs(), guest.dir.path(), number)).await;
            let names = guest.names();
            if number == CALLS - 1 && result.is_ok() {
                assert_eq!(names, ["copy", "source"]);
            } else {
                assert_eq!(names, ["source"]);
            }
        });
    }
}
