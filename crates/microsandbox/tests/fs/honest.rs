//! What an honest guest is asked, and what becomes of its answers.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use microsandbox::fs::*;
use microsandbox::{MicrosandboxError, MicrosandboxResult};
use msb_files::{TreeWriter, export};
use msb_protocol::*;

use crate::guest::*;

/// Files as the agent handles them, but below the directory of the test.
fn serve(peer: &mut Peer, request: FsRequest) {
    let path = |bytes: &Bytes| PathBuf::from(String::from_utf8(bytes.to_vec()).unwrap());
    match request {
        FsRequest::Export { path: from } => {
            let result = export(&path(&from), &mut |part| {
                peer.answer(FsAnswer::Part(part));
                Ok(())
            });
            finish(peer, result);
        }
        FsRequest::Import { path: to } => match TreeWriter::new(&path(&to)) {
            Ok(writer) => {
                peer.answer(FsAnswer::Opened);
                let result = receive(peer, writer);
                finish(peer, result);
            }
            Err(failure) => finish(peer, Err(failure)),
        },
        FsRequest::Read { path: from } => {
            peer.answer(FsAnswer::Opened);
            for piece in fs::read(path(&from)).unwrap().chunks(1000) {
                peer.answer(FsAnswer::Part(FsPart::Data(Bytes::copy_from_slice(piece))));
            }
            finish(peer, Ok(()));
        }
        FsRequest::Write { path: to, mode } => {
            assert_eq!(mode, 0o666);
            peer.answer(FsAnswer::Opened);
            let mut all = Vec::new();
            let mut window = INITIAL_FS_WINDOW;
            while let Some(HostMessage::Fs(FsCall::Part(part))) = peer.next() {
                window = window.checked_sub(part.cost()).expect("the window is kept");
                let FsPart::Data(data) = &part else {
                    panic!("{part:?}")
                };
                all.extend_from_slice(data);
                peer.answer(FsAnswer::Consumed(part.cost()));
                window += part.cost();
            }
            fs::write(path(&to), all).unwrap();
            finish(peer, Ok(()));
        }
        other => panic!("{other:?} is not played here"),
    }
    peer.until_gone();
}

fn receive(peer: &mut Peer, mut writer: TreeWriter) -> msb_files::Result<()> {
    loop {
        match peer.next() {
            Some(HostMessage::Fs(FsCall::Part(part))) => {
                let cost = part.cost();
                writer.part(part)?;
                peer.answer(FsAnswer::Consumed(cost));
            }
            Some(HostMessage::Fs(FsCall::Finish)) => return writer.finish(),
            other => panic!("{other:?}"),
        }
    }
}

fn finish(peer: &mut Peer, result: msb_files::Result<()>) {
    let last = result.map_or_else(FsAnswer::Failed, |()| FsAnswer::Done);
    peer.answer(last);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn files_are_written_and_read_whatever_their_size() {
    let guest = Guest::new(serve).await;
    let path = guest.dir.path().join("file");
    let content: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[1]).collect();
    ends(guest.fs().write(text(&path), &content)).await.unwrap();
    assert!(ends(guest.fs().read(text(&path))).await.unwrap() == content);
    let error = failure(guest.fs().read_to_string(text(&path))).await;
    assert_eq!(
        (error.kind, error.side),
        (FsErrorKind::NotUtf8, FsSide::Guest)
    );

    ends(guest.fs().write(text(&path), "")).await.unwrap();
    assert_eq!(
        ends(guest.fs().read_to_string(text(&path))).await.unwrap(),
        ""
    );

    let sink = guest.fs().write_stream(text(&path)).await.unwrap();
    for piece in ["a", "", "bc"] {
        sink.write(piece).await.unwrap();
    }
    ends(sink.close()).await.unwrap();
    let mut stream = guest.fs().read_stream(text(&path)).await.unwrap();
    assert_eq!(
        stream.recv().await.unwrap(),
        Some(Bytes::from_static(b"abc"))
    );
    assert_eq!(stream.recv().await.unwrap(), None);
    assert_eq!(stream.recv().await.unwrap(), None);
}

fn walk(root: &Path, path: &Path, seen: &mut Vec<String>) {
    let metadata = path.symlink_metadata().unwrap();
    let content = match metadata.is_file() {
        true if metadata.len() < 1 << 20 => fs::read(path).unwrap(),
        _ => Vec::new(),
    };
    let size = if metadata.is_dir() { 0 } else { metadata.len() };
    seen.push(format!(
        "{:?} {:o} {size} {}.{} {:?}",
        path.strip_prefix(root).unwrap(),
        metadata.mode(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        content,
    ));
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(root, &entry.unwrap().path(), seen);
        }
    }
}

fn look(root: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    walk(root, root, &mut seen);
    seen.sort();
    seen
}

#[tokio::test]
async fn trees_come_back_as_they_went() {
    let guest = Guest::new(serve).await;
    let at = |name: &str| guest.dir.path().join(name);
    for n in 0..30 {
        let below = at("tree").join(format!("d{n}"));
        fs::create_dir_all(&below).unwrap();
        for m in 0..10 {
            fs::write(below.join(format!("f{m}")), vec![m; usize::from(m) * 2000]).unwrap();
        }
        symlink("../../none", below.join("link")).unwrap();
    }
    fs::File::create(at("tree/holes"))
        .unwrap()
        .set_len(5 << 30)
        .unwrap();
    let mode = fs::Permissions::from_mode(0o500);
    fs::set_permissions(at("tree/d3"), mode).unwrap();
    let guest_path = at("inside");
    ends(guest.fs().copy_from_host(at("tree"), text(&guest_path)))
        .await
        .unwrap();
    ends(guest.fs().copy_to_host(text(&guest_path), at("back")))
        .await
        .unwrap();
    let before = look(&at("tree"));
    assert_eq!(before.len(), 1 + 30 * 12 + 1);
    assert_eq!(before, look(&at("inside")));
    assert_eq!(before, look(&at("back")));
    assert_eq!(guest.names(), ["back", "inside", "tree"]);
}

#[tokio::test]
async fn a_copy_fails_as_either_side_says() {
    let guest = Guest::new(serve).await;
    let at = |name: &str| guest.dir.path().join(name);
    let (files, inside) = (guest.fs(), at("inside"));
    fs::write(at("file"), "x").unwrap();
    fs::create_dir_all(at("full/of")).unwrap();
    let side = |error: FsError| (error.kind, error.side);
    use FsErrorKind as K;
    use FsSide::{Guest as G, Host as H};
    assert_eq!(
        side(failure(files.copy_from_host(at("none"), "/x")).await),
        (K::NotFound, H)
    );
    let nowhere = at("none/x");
    let failed = failure(files.copy_from_host(at("file"), text(&nowhere))).await;
    assert_eq!(side(failed), (K::NotFound, G));
    let full = at("full");
    let failed = failure(files.copy_from_host(at("file"), text(&full))).await;
    assert_eq!(side(failed), (K::IsADirectory, G));
    let failed = failure(files.copy_to_host(text(&inside), at("copy"))).await;
    assert_eq!(side(failed), (K::NotFound, G));
    let file = at("file");
    let failed = failure(files.copy_to_host(text(&file), at("full"))).await;
    assert_eq!(side(failed), (K::IsADirectory, H));
    let failed = failure(files.copy_to_host(text(&full), at("full"))).await;
    assert_eq!(side(failed), (K::NotEmpty, H));
    let failed = failure(files.copy_to_host(text(&file), at("none/copy"))).await;
    assert_eq!(side(failed), (K::NotFound, H));
    assert_eq!(guest.names(), ["file", "full"]);
}

#[tokio::test]
async fn a_copy_has_the_limit_that_it_is_given() {
    let guest = Guest::new(serve).await;
    let at = |name: &str| guest.dir.path().join(name);
    fs::write(at("file"), vec![1; 100_000]).unwrap();
    let file = at("file");
    let small = guest.fs().with_copy_limit(100_000);
    let error = failure(small.copy_to_host(text(&file), at("copy"))).await;
    assert_eq!(error.kind, FsErrorKind::TooLarge);
    assert_eq!(guest.names(), ["file"]);
    let enough = guest.fs().with_copy_limit(104_096);
    ends(enough.copy_to_host(text(&file), at("copy")))
        .await
        .unwrap();
}

#[tokio::test]
async fn questions_and_answers_are_passed_on() {
    let guest = Guest::new(|peer, request| {
        let listed = |name: &'static [u8], kind| FsListed {
            name: Bytes::from_static(name),
            stat: stat(kind),
        };
        let answer = match request {
            FsRequest::List { path } if path == "/d/" => {
                peer.answer(FsAnswer::Entries(vec![listed(b"z", FsKind::File)]));
                let rest = vec![
                    listed(b"b\xff", FsKind::Other),
                    listed(b"a", FsKind::Directory),
                ];
                peer.answer(FsAnswer::Entries(rest));
                FsAnswer::Done
            }
            FsRequest::Stat { path, follow: true } if path == "/f" => {
                FsAnswer::Stat(stat(FsKind::File))
            }
            FsRequest::Stat {
                path,
                follow: false,
            } if path == "/f" => FsAnswer::Stat(stat(FsKind::Symlink)),
            FsRequest::ReadLink { path } if path == "/l" => FsAnswer::Target("/t".into()),
            FsRequest::ReadLink { .. } => FsAnswer::Target(Bytes::from_static(b"\xff")),
            FsRequest::Symlink { target, path } if target == "t" && path == "/l" => FsAnswer::Done,
            FsRequest::MakeDirectory { path } if path == "/m" => FsAnswer::Done,
            FsRequest::Remove { path } if path == "/m" => FsAnswer::Done,
            FsRequest::RemoveTree { path } if path == "/m" => {
                peer.answer(FsAnswer::Working);
                FsAnswer::Done
            }
            FsRequest::Rename { from, to } | FsRequest::Copy { from, to }
                if from == "/1" && to == "/2" =>
            {
                FsAnswer::Done
            }
            FsRequest::SetStat {
                path,
                follow: true,
                attributes,
            } if path == "/f" => {
                let time = |seconds| Some(FsTime { seconds, nanos: 0 });
                assert_eq!(
                    attributes,
                    FsAttributes {
                        mode: Some(0o640),
                        uid: Some(1),
                        gid: Some(2),
                        size: Some(3),
                        accessed: time(-4),
                        modified: time(5),
                    }
                );
                FsAnswer::Done
            }
            other => FsAnswer::Failed(FsFailure::new(
                FsFailureKind::NotFound,
                format!("not foreseen: {other:?}"),
            )),
        };
        peer.answer(answer);
        peer.until_gone();
    })
    .await;
    let fs = guest.fs();
    let entries = ends(fs.list("/d/")).await.unwrap();
    let seen: Vec<_> = entries
        .iter()
        .map(|entry| (entry.path.as_str(), entry.kind))
        .collect();
    assert_eq!(
        seen,
        [
            ("/d/a", FsEntryKind::Directory),
            ("/d/b\u{fffd}", FsEntryKind::Other),
            ("/d/z", FsEntryKind::File),
        ]
    );
    let metadata = ends(fs.stat("/f")).await.unwrap();
    assert_eq!((metadata.kind, metadata.size), (FsEntryKind::File, 5 << 30));
    assert!(metadata.readonly && metadata.mode == 0o444);
    let modified = metadata.modified.unwrap();
    assert_eq!(modified.timestamp(), 1_000_000_000);
    assert_eq!(metadata.created, Some(modified));
    let link = ends(fs.stat_with_follow("/f", false)).await.unwrap();
    assert_eq!(link.kind, FsEntryKind::Symlink);
    assert_eq!(ends(fs.read_link("/l")).await.unwrap(), "/t");
    assert_eq!(failure(fs.read_link("/m")).await.kind, FsErrorKind::NotUtf8);
    ends(fs.symlink("t", "/l")).await.unwrap();
    ends(fs.mkdir("/m")).await.unwrap();
    ends(fs.remove("/m")).await.unwrap();
    ends(fs.remove_dir("/m")).await.unwrap();
    ends(fs.rename("/1", "/2")).await.unwrap();
    ends(fs.copy("/1", "/2")).await.unwrap();
    let attrs = FsSetAttrs {
        mode: Some(0o640),
        uid: Some(1),
        gid: Some(2),
        size: Some(3),
        atime: Some(-4),
        mtime: Some(5),
    };
    ends(fs.set_stat("/f", true, attrs)).await.unwrap();
    assert!(ends(fs.exists("/f")).await.unwrap());
    assert!(!ends(fs.exists("/none")).await.unwrap());
}

/// As a program would that was written before there were kinds.
fn described(result: MicrosandboxResult<()>) -> String {
    match result {
        Err(MicrosandboxError::SandboxFsOps(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_failure_can_be_matched_on_and_shown() {
    let guest = Guest::new(|peer, _| {
        peer.answer(FsAnswer::Failed(FsFailure {
            kind: FsFailureKind::NoSpace,
            message: "/x: the file system is full".to_owned(),
            errno: Some(28),
        }));
        peer.until_gone();
    })
    .await;
    let error = failure(guest.fs().mkdir("/x")).await;
    assert_eq!((error.kind, error.errno), (FsErrorKind::NoSpace, Some(28)));
    let shown = described(ends(guest.fs().mkdir("/x")).await);
    assert_eq!(shown, "in the guest: /x: the file system is full");
    assert!(failure(guest.fs().exists("/x")).await.kind == FsErrorKind::NoSpace);
}
