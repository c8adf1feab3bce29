//! Operations on files when the guest drains and ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use msb_protocol::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use support::*;

fn refused(request: FsRequest) -> RefusalKind {
    let mut client = Client::new();
    client.send(&HostMessage::Fs(FsCall::Open(request)));
    match client.receive() {
        GuestMessage::Refused(refusal) => refusal.kind,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_drain_waits_for_operations_and_the_end_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let path = Bytes::copy_from_slice(pipe.as_os_str().as_encoded_bytes());
    let open = || {
        let mut client = Client::new();
        let request = FsRequest::Read { path: path.clone() };
        client.send(&HostMessage::Fs(FsCall::Open(request)));
        assert_eq!(client.receive(), GuestMessage::Fs(FsAnswer::Opened));
        client
    };
    let (one, mut two) = (open(), open());
    let drained = drain(Duration::from_secs(1));
    let stat = || FsRequest::Stat {
        path: Bytes::from_static(b"/"),
        follow: true,
    };
    // The order is given before this is, so it is in force.
    assert_eq!(refused(stat()), RefusalKind::Draining);
    drop(one);
    assert!(drained.try_recv().is_err(), "one operation still goes on");

    let ended = shut_down(Duration::from_secs(30));
    match two.receive() {
        GuestMessage::Refused(refusal) => assert_eq!(refusal.kind, RefusalKind::ShuttingDown),
        other => panic!("not refused: {other:?}"),
    }
    assert_eq!(two.next(), None);
    drop(two);
    ended.recv_timeout(Duration::from_secs(60)).unwrap();
    drained.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(refused(stat()), RefusalKind::ShuttingDown);
}
