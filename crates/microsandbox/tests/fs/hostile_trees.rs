//! Guests that send trees which would be elsewhere.

use std::fs;
use std::time::{Duration, Instant};

use microsandbox::MicrosandboxError;
use microsandbox::fs::*;
use msb_protocol::*;

use crate::guest::*;

/// Copies from a guest that answers so, in a directory that has a file beside the target's.
async fn copied(answers: Vec<FsAnswer>) -> (Guest, Result<(), MicrosandboxError>) {
    let guest = Guest::new(move |peer, _| {
        for answer in &answers {
            peer.answer(answer.clone());
        }
        peer.until_gone();
    })
    .await;
    fs::create_dir(guest.dir.path().join("room")).unwrap();
    fs::write(guest.dir.path().join("outside"), "untouched").unwrap();
    let target = guest.dir.path().join("room/target");
    let result = ends(guest.fs().copy_to_host("/x", target)).await;
    assert_eq!(guest.names(), ["outside", "room"]);
    let outside = fs::read(guest.dir.path().join("outside")).unwrap();
    assert_eq!(outside, b"untouched");
    (guest, result)
}

fn room(guest: &Guest) -> usize {
    fs::read_dir(guest.dir.path().join("room")).unwrap().count()
}

#[tokio::test]
async fn names_lead_nowhere_else() {
    for name in [
        &b"../outside"[..],
        b"..",
        b".",
        b"../../outside",
        b"/tmp/outside",
        b"a/../../outside",
        b"",
        b"outside\0",
    ] {
        for node in [FsNode::File, FsNode::Directory, FsNode::Symlink("x".into())] {
            let (guest, result) = copied(vec![
                entry(b"", FsNode::Directory),
                entry(name, node),
                data(b"overwritten"),
                FsAnswer::Part(FsPart::Leave),
                FsAnswer::Done,
            ])
            .await;
            match result {
                Err(MicrosandboxError::SandboxFsOps(error)) => {
                    assert_eq!(
                        (error.kind, error.side),
                        (FsErrorKind::InvalidName, FsSide::Guest)
                    );
                }
                other => panic!("{name:?}: {other:?}"),
            }
            assert_eq!(room(&guest), 0);
        }
    }
}

#[tokio::test]
async fn a_link_is_not_walked_through() {
    for node in [FsNode::File, FsNode::Directory] {
        let (guest, result) = copied(vec![
            entry(b"", FsNode::Directory),
            entry(b"way", FsNode::Symlink("../..".into())),
            entry(b"way", node),
            entry(b"outside", FsNode::File),
            data(b"overwritten"),
            FsAnswer::Done,
        ])
        .await;
        assert!(matches!(
            result,
            Err(MicrosandboxError::SandboxFsOps(error)) if error.kind == FsErrorKind::ChangedUnderneath
        ));
        assert_eq!(room(&guest), 0);
    }
}

#[tokio::test]
async fn what_is_no_tree_is_no_copy() {
    let root = || entry(b"", FsNode::Directory);
    for answers in [
        vec![FsAnswer::Done],
        vec![root(), FsAnswer::Done],
        vec![data(b"x"), FsAnswer::Done],
        vec![entry(b"", FsNode::Symlink("/etc".into())), FsAnswer::Done],
        vec![
            root(),
            FsAnswer::Part(FsPart::Leave),
            entry(b"late", FsNode::File),
            FsAnswer::Done,
        ],
        vec![
            entry(b"", FsNode::File),
            FsAnswer::Part(FsPart::Leave),
            FsAnswer::Done,
        ],
    ] {
        let (guest, result) = copied(answers).await;
        assert!(matches!(
            result,
            Err(MicrosandboxError::SandboxFsOps(error)) if error.kind == FsErrorKind::BadTree
        ));
        assert_eq!(room(&guest), 0);
    }
}

#[tokio::test]
async fn a_size_is_a_claim() {
    let (guest, result) = copied(vec![
        entry(b"", FsNode::File),
        FsAnswer::Part(FsPart::Hole(u64::MAX)),
        FsAnswer::Done,
    ])
    .await;
    assert!(matches!(
        result,
        Err(MicrosandboxError::SandboxFsOps(error)) if error.kind == FsErrorKind::TooLarge
    ));
    assert_eq!(room(&guest), 0);
}

#[tokio::test]
async fn a_guest_that_stops_in_the_middle_leaves_what_was_there() {
    let (guest, result) = copied(vec![
        entry(b"", FsNode::Directory),
        entry(b"file", FsNode::File),
        data(b"half"),
    ])
    .await;
    assert!(matches!(result, Err(MicrosandboxError::Protocol(_))));
    assert_eq!(room(&guest), 0);
}

#[tokio::test]
async fn a_copy_that_is_dropped_leaves_nothing() {
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let guest = Guest::new(move |peer, _| {
        peer.answer(entry(b"", FsNode::Directory));
        peer.answer(entry(b"file", FsNode::File));
        peer.answer(data(b"half"));
        told.send("begun").unwrap();
        peer.until_gone();
        told.send("gone").unwrap();
    })
    .await;
    let fs = guest.fs().with_stall_timeout(Duration::from_secs(3600));
    let target = guest.dir.path().join("target");
    let copy = tokio::spawn(async move { fs.copy_to_host("/x", target).await });
    assert_eq!(hear.recv().await, Some("begun"));
    copy.abort();
    assert!(copy.await.unwrap_err().is_cancelled());
    // The guest sees the connection close.
    assert_eq!(hear.recv().await, Some("gone"));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !guest.names().is_empty() {
        assert!(Instant::now() < deadline, "left: {:?}", guest.names());
        tokio::task::yield_now().await;
    }
}
