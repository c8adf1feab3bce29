//! The bytes of generation 1's messages about files, frozen.
//!
//! As `golden.rs` is for the rest: each line of `golden/generation-1-fs.txt` is a message's
//! name and its frame in hex, and none ever changes. `MSB_BLESS=1 cargo test -p msb-protocol
//! --test golden_fs` appends lines for new messages.

#![allow(clippy::unwrap_used)]

mod frozen;

use bytes::Bytes;
use msb_protocol::*;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/generation-1-fs.txt"
);

const TIME: FsTime = FsTime {
    seconds: -1,
    nanos: 999_999_999,
};

fn path(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}

fn entry(name: &'static [u8], node: FsNode) -> FsPart {
    FsPart::Entry(FsTreeEntry {
        name: path(name),
        node,
        mode: 0o755,
        accessed: FsTime::default(),
        modified: TIME,
    })
}

fn parts() -> Vec<(&'static str, FsPart)> {
    vec![
        ("entry.directory", entry(b"", FsNode::Directory)),
        ("entry.file", entry(b"\xff", FsNode::File)),
        ("entry.symlink", entry(b"l", FsNode::Symlink(path(b"../x")))),
        ("data", FsPart::Data(path(b"data"))),
        ("hole", FsPart::Hole(5 << 30)),
        ("leave", FsPart::Leave),
    ]
}

fn requests() -> Vec<(&'static str, FsRequest)> {
    use FsRequest as R;
    let (a, b) = (path(b"/a"), path(b"/b"));
    let attributes = FsAttributes {
        mode: Some(0o4755),
        uid: Some(1000),
        gid: Some(1000),
        size: Some(1 << 33),
        accessed: Some(FsTime::default()),
        modified: Some(TIME),
    };
    vec![
        ("read", R::Read { path: a.clone() }),
        (
            "write",
            R::Write {
                path: a.clone(),
                mode: 0o666,
            },
        ),
        ("list", R::List { path: a.clone() }),
        (
            "stat",
            R::Stat {
                path: a.clone(),
                follow: true,
            },
        ),
        (
            "set-stat",
            R::SetStat {
                path: a.clone(),
                follow: false,
                attributes,
            },
        ),
        ("make-directory", R::MakeDirectory { path: a.clone() }),
        ("remove", R::Remove { path: a.clone() }),
        ("remove-tree", R::RemoveTree { path: a.clone() }),
        (
            "rename",
            R::Rename {
                from: a.clone(),
                to: b.clone(),
            },
        ),
        (
            "copy",
            R::Copy {
                from: a.clone(),
                to: b.clone(),
            },
        ),
        ("read-link", R::ReadLink { path: a.clone() }),
        (
            "symlink",
            R::Symlink {
                target: b,
                path: a.clone(),
            },
        ),
        ("export", R::Export { path: a.clone() }),
        ("import", R::Import { path: a }),
    ]
}

fn host() -> Vec<(String, HostMessage)> {
    let open = requests()
        .into_iter()
        .map(|(name, request)| (format!("host.fs.{name}"), FsCall::Open(request)));
    let part = parts()
        .into_iter()
        .map(|(name, part)| (format!("host.fs.part.{name}"), FsCall::Part(part)));
    let finish = ("host.fs.finish".to_owned(), FsCall::Finish);
    open.chain(part)
        .chain([finish])
        .map(|(name, call)| (name, HostMessage::Fs(call)))
        .collect()
}

fn stat(kind: FsKind, created: Option<FsTime>) -> FsStat {
    FsStat {
        kind,
        size: 5 << 30,
        mode: 0o644,
        uid: 0,
        gid: 1000,
        accessed: FsTime::default(),
        modified: TIME,
        created,
    }
}

fn kinds() -> Vec<FsFailureKind> {
    use FsFailureKind as K;
    vec![
        K::NotFound,
        K::PermissionDenied,
        K::AlreadyExists,
        K::NotADirectory,
        K::IsADirectory,
        K::NotEmpty,
        K::NoSpace,
        K::ReadOnly,
        K::NameTooLong,
        K::Loop,
        K::InvalidName,
        K::ChangedUnderneath,
        K::TooLarge,
        K::TooDeep,
        K::Busy,
        K::CrossDevice,
        K::NotSupported,
        K::InvalidArgument,
        K::NotUtf8,
        K::ResourceExhausted,
        K::Cancelled,
        K::BadTree,
        K::Other,
    ]
}

fn guest() -> Vec<(String, GuestMessage)> {
    use FsAnswer as A;
    let listed = |name: &'static [u8], kind| FsListed {
        name: path(name),
        stat: stat(kind, Some(TIME)),
    };
    let entries = vec![
        listed(b"f", FsKind::File),
        listed(b"d", FsKind::Directory),
        listed(b"l", FsKind::Symlink),
        listed(b"\xfe", FsKind::Other),
    ];
    let part = parts()
        .into_iter()
        .map(|(name, part)| (format!("part.{name}"), A::Part(part)));
    let failed = kinds().into_iter().map(|kind| {
        let failure = FsFailure {
            kind,
            message: "why".into(),
            errno: Some(2),
        };
        (format!("failed.{kind:?}"), A::Failed(failure))
    });
    [
        ("opened", A::Opened),
        ("entries", A::Entries(entries)),
        ("stat", A::Stat(stat(FsKind::File, None))),
        ("target", A::Target(path(b"/x"))),
        ("consumed", A::Consumed(65_536)),
        ("working", A::Working),
        ("done", A::Done),
    ]
    .into_iter()
    .map(|(name, answer)| (name.to_owned(), answer))
    .chain(part)
    .chain(failed)
    .map(|(name, answer)| (format!("guest.fs.{name}"), GuestMessage::Fs(answer)))
    .collect()
}

#[test]
fn messages_about_files_are_frozen() {
    frozen::check(FILE, &host(), &guest());
}

#[test]
fn golden_bytes_decode_to_the_messages() {
    frozen::decode(FILE, &host(), &guest());
}
