//! Hosts that do not keep to the protocol. The agent serves on.

use bytes::Bytes;
use msb_protocol::*;
use proptest::prelude::*;

use crate::support::{Client, run, shell};
use crate::talk::*;

fn still_serves() {
    assert_eq!(stat("/", true).kind, FsKind::Directory);
    assert_eq!(run(shell("echo alive")).stdout, b"alive\n");
}

/// What a host that says this is told at last: why it is refused, or nothing.
fn refusal(calls: Vec<FsCall>) -> Option<RefusalKind> {
    let mut client = Client::new();
    for call in calls {
        client.send(&HostMessage::Fs(call));
    }
    loop {
        match client.next() {
            Some(GuestMessage::Refused(refusal)) => return Some(refusal.kind),
            Some(_) => {}
            None => return None,
        }
    }
}

fn writing(dir: &std::path::Path) -> FsCall {
    FsCall::Open(FsRequest::Write {
        path: at(dir.join("file")),
        mode: 0o600,
    })
}

#[test]
fn calls_out_of_place_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("pipe");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, rustix::fs::Mode::RWXU, 0).unwrap();
    // It waits, so what comes after it comes in the middle of it.
    let reading = || FsCall::Open(FsRequest::Read { path: at(&fifo) });
    let data = || FsCall::Part(FsPart::Data(Bytes::from_static(b"x")));
    for calls in [
        vec![data()],
        vec![FsCall::Finish],
        vec![reading(), data()],
        vec![reading(), FsCall::Finish],
        vec![reading(), reading()],
        vec![writing(dir.path()), writing(dir.path())],
    ] {
        assert_eq!(refusal(calls), Some(RefusalKind::Unexpected));
    }
    still_serves();
}

#[test]
fn more_than_the_window_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("pipe");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, rustix::fs::Mode::RWXU, 0).unwrap();
    // Somebody has it open and reads nothing, so nothing is consumed.
    let _held = std::fs::File::options().read(true).write(true).open(&fifo);
    let mut calls = vec![FsCall::Open(FsRequest::Write {
        path: at(&fifo),
        mode: 0,
    })];
    // The pipe takes 64 KiB of them, and a little more is credited for what was begun.
    calls.extend(std::iter::repeat_n(
        FsCall::Part(FsPart::Data(vec![0; MAX_CHUNK].into())),
        7,
    ));
    assert_eq!(refusal(calls), Some(RefusalKind::Unexpected));
    let parts = usize::try_from(INITIAL_FS_WINDOW / FS_PART_COST).unwrap() + 2000;
    let mut calls = vec![writing(dir.path())];
    calls.extend(std::iter::repeat_n(FsCall::Part(FsPart::Leave), parts));
    // The first of them is an error of its own; the host is told one or the other.
    refusal(calls);
    still_serves();
}

fn call() -> impl Strategy<Value = FsCall> {
    let path = || {
        prop::sample::select(vec!["/none/x", "", "\0", "/proc/none", "/dev/null"])
            .prop_map(Bytes::from)
    };
    let request = prop_oneof![
        path().prop_map(|path| FsRequest::Read { path }),
        path().prop_map(|path| FsRequest::Write {
            path,
            mode: u32::MAX
        }),
        path().prop_map(|path| FsRequest::List { path }),
        path().prop_map(|path| FsRequest::Import {
            path: if path == "/dev/null" {
                Bytes::new()
            } else {
                path
            }
        }),
        path().prop_map(|path| FsRequest::Export { path }),
        path().prop_map(|path| FsRequest::ReadLink { path }),
    ];
    let part = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..100).prop_map(|data| FsPart::Data(data.into())),
        any::<u64>().prop_map(FsPart::Hole),
        Just(FsPart::Leave),
    ];
    prop_oneof![
        3 => request.prop_map(FsCall::Open),
        3 => part.prop_map(FsCall::Part),
        1 => Just(FsCall::Finish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn no_calls_hurt_the_agent(calls in prop::collection::vec(call(), 1..8)) {
        let mut client = Client::new();
        for call in calls {
            client.send(&HostMessage::Fs(call));
        }
        client.stream().shutdown(std::net::Shutdown::Write).unwrap();
        while client.next().is_some() {}
        still_serves();
    }
}
