//! Files that may stand still: the rest goes on, and nothing stays behind.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use msb_protocol::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::{run, shell};
use crate::talk::*;

fn pipe(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    path
}

fn reading(path: &Path) -> Call {
    let mut call = Call::open(FsRequest::Read { path: at(path) });
    assert_eq!(call.answer(), FsAnswer::Opened);
    call
}

#[test]
fn a_pipe_is_read_when_somebody_writes_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = pipe(dir.path());
    let mut call = reading(&path);
    // Opening it for writing waits for a reader, which is there.
    let mut writer = File::options().write(true).open(&path).unwrap();
    for text in ["one", "two"] {
        writer.write_all(text.as_bytes()).unwrap();
        assert_eq!(
            call.answer(),
            FsAnswer::Part(FsPart::Data(text.as_bytes().into()))
        );
    }
    drop(writer);
    assert_eq!(call.last(), FsAnswer::Done);
}

#[test]
fn a_pipe_without_a_reader_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = pipe(dir.path());
    assert_eq!(failed(write(&path, b"x")), FsFailureKind::NotSupported);
}

#[test]
fn a_full_pipe_stalls_its_writer_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = pipe(dir.path());
    let both = OpenOptions::new().read(true).write(true).open(&path);
    let mut reader = both.unwrap();
    let mut call = Call::open(FsRequest::Write {
        path: at(&path),
        mode: 0,
    });
    assert_eq!(call.answer(), FsAnswer::Opened);
    let chunk = || FsPart::Data(vec![1; 60_000].into());
    // More than the pipe takes, less than the window.
    for _ in 0..4 {
        assert_eq!(call.part(chunk()), None);
    }
    assert!(stat(&path, true).kind == FsKind::Other);
    assert_eq!(run(shell("echo on")).stdout, b"on\n");
    let mut all = vec![0; 240_000];
    reader.read_exact(&mut all).unwrap();
    assert_eq!(call.finish(), FsAnswer::Done);
}

/// Operations that wait are as many as there may be, and are gone when their hosts are.
#[test]
fn what_waits_is_bounded_and_ends_with_its_host() {
    let dir = tempfile::tempdir().unwrap();
    let path = pipe(dir.path());
    let deadline = Instant::now() + Duration::from_secs(60);
    for _round in 0..2 {
        let mut waiting = Vec::new();
        let refused = loop {
            let mut call = Call::open(FsRequest::Read { path: at(&path) });
            match call.answer() {
                FsAnswer::Opened => waiting.push(call),
                FsAnswer::Failed(failure) => break failure,
                other => panic!("{other:?}"),
            }
            assert!(waiting.len() <= 64, "there is no bound");
        };
        assert_eq!(refused.kind, FsFailureKind::ResourceExhausted);
        assert_eq!(run(shell("echo on")).stdout, b"on\n");
        drop(waiting);
        // Their threads hear of it a little later.
        loop {
            match ask(FsRequest::Stat {
                path: at(&path),
                follow: true,
            })
            .pop()
            {
                Some(FsAnswer::Stat(_)) => break,
                Some(FsAnswer::Failed(failure)) => {
                    assert_eq!(failure.kind, FsFailureKind::ResourceExhausted);
                }
                other => panic!("{other:?}"),
            }
            assert!(Instant::now() < deadline, "the threads are not given back");
        }
    }
}
