//! Messages about files: what is said is what is heard, whatever it is, and fits its bounds.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use msb_protocol::*;
use proptest::prelude::*;

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn time() -> impl Strategy<Value = FsTime> {
    (any::<i64>(), any::<u32>()).prop_map(|(seconds, nanos)| FsTime { seconds, nanos })
}

fn node() -> impl Strategy<Value = FsNode> {
    prop_oneof![
        Just(FsNode::Directory),
        Just(FsNode::File),
        bytes(300).prop_map(FsNode::Symlink),
    ]
}

fn part() -> impl Strategy<Value = FsPart> {
    prop_oneof![
        (bytes(300), node(), any::<u32>(), time(), time()).prop_map(
            |(name, node, mode, accessed, modified)| FsPart::Entry(FsTreeEntry {
                name,
                node,
                mode,
                accessed,
                modified,
            })
        ),
        bytes(3000).prop_map(FsPart::Data),
        any::<u64>().prop_map(FsPart::Hole),
        Just(FsPart::Leave),
    ]
}

fn attributes() -> impl Strategy<Value = FsAttributes> {
    (
        any::<[Option<u32>; 3]>(),
        any::<Option<u64>>(),
        prop::option::of(time()),
        prop::option::of(time()),
    )
        .prop_map(
            |([mode, uid, gid], size, accessed, modified)| FsAttributes {
                mode,
                uid,
                gid,
                size,
                accessed,
                modified,
            },
        )
}

fn request() -> impl Strategy<Value = FsRequest> {
    use FsRequest as R;
    let path = || bytes(200);
    prop_oneof![
        path().prop_map(|path| R::Read { path }),
        (path(), any::<u32>()).prop_map(|(path, mode)| R::Write { path, mode }),
        path().prop_map(|path| R::List { path }),
        (path(), any::<bool>()).prop_map(|(path, follow)| R::Stat { path, follow }),
        (path(), any::<bool>(), attributes()).prop_map(|(path, follow, attributes)| {
            R::SetStat {
                path,
                follow,
                attributes,
            }
        }),
        (path(), path()).prop_map(|(from, to)| R::Copy { from, to }),
        (path(), path()).prop_map(|(target, path)| R::Symlink { target, path }),
        path().prop_map(|path| R::Import { path }),
    ]
}

fn call() -> impl Strategy<Value = HostMessage> {
    prop_oneof![
        request().prop_map(FsCall::Open),
        part().prop_map(FsCall::Part),
        Just(FsCall::Finish),
    ]
    .prop_map(HostMessage::Fs)
}

fn stat() -> impl Strategy<Value = FsStat> {
    let kind = prop_oneof![
        Just(FsKind::File),
        Just(FsKind::Directory),
        Just(FsKind::Symlink),
        Just(FsKind::Other)
    ];
    (
        kind,
        any::<u64>(),
        any::<[u32; 3]>(),
        time(),
        time(),
        prop::option::of(time()),
    )
        .prop_map(
            |(kind, size, [mode, uid, gid], accessed, modified, created)| FsStat {
                kind,
                size,
                mode,
                uid,
                gid,
                accessed,
                modified,
                created,
            },
        )
}

fn listed() -> impl Strategy<Value = FsListed> {
    (bytes(300), stat()).prop_map(|(name, stat)| FsListed { name, stat })
}

fn answer() -> impl Strategy<Value = GuestMessage> {
    prop_oneof![
        Just(FsAnswer::Opened),
        part().prop_map(FsAnswer::Part),
        prop::collection::vec(listed(), 0..20).prop_map(FsAnswer::Entries),
        stat().prop_map(FsAnswer::Stat),
        bytes(300).prop_map(FsAnswer::Target),
        any::<u32>().prop_map(FsAnswer::Consumed),
        Just(FsAnswer::Working),
        (".{0,40}", any::<Option<i32>>()).prop_map(|(message, errno)| {
            FsAnswer::Failed(FsFailure {
                kind: FsFailureKind::ChangedUnderneath,
                message,
                errno,
            })
        }),
        Just(FsAnswer::Done),
    ]
    .prop_map(GuestMessage::Fs)
}

fn back<M: serde::Serialize + serde::de::DeserializeOwned>(message: &M) -> Option<M> {
    let mut stream = Vec::new();
    encode(message, &mut stream).unwrap();
    let mut decoder = Decoder::new();
    decoder.feed(&stream);
    decoder.next_message().unwrap()
}

proptest! {
    #[test]
    fn what_is_asked_comes_back(message in call()) {
        prop_assert_eq!(back(&message), Some(message));
    }

    #[test]
    fn what_is_answered_comes_back(message in answer()) {
        prop_assert_eq!(back(&message), Some(message));
    }

    #[test]
    fn a_listed_entry_costs_at_least_its_bytes(entry in listed()) {
        let cost = entry.cost();
        let mut one = Vec::new();
        encode(&FsAnswer::Entries(vec![entry.clone()]), &mut one).unwrap();
        let mut two = Vec::new();
        encode(&FsAnswer::Entries(vec![entry.clone(), entry]), &mut two).unwrap();
        prop_assert!(two.len() - one.len() <= cost);
    }

    #[test]
    fn a_part_costs_at_least_its_bytes(part in part()) {
        let mut frame = Vec::new();
        encode(&HostMessage::Fs(FsCall::Part(part.clone())), &mut frame).unwrap();
        prop_assert!(frame.len() <= part.cost() as usize);
    }
}

#[test]
fn the_largest_of_each_fits_a_frame() {
    let mut out = Vec::new();
    let path = Bytes::from(vec![b'x'; MAX_PATH]);
    let request = FsRequest::Rename {
        from: path.clone(),
        to: path.clone(),
    };
    encode(&HostMessage::Fs(FsCall::Open(request)), &mut out).unwrap();
    let data = FsPart::Data(Bytes::from(vec![0; MAX_CHUNK]));
    assert!(data.cost() <= INITIAL_FS_WINDOW);
    encode(&HostMessage::Fs(FsCall::Part(data)), &mut out).unwrap();
    let link = FsPart::Entry(FsTreeEntry {
        name: Bytes::from(vec![b'x'; MAX_NAME]),
        node: FsNode::Symlink(path),
        mode: u32::MAX,
        accessed: FsTime {
            seconds: i64::MIN,
            nanos: u32::MAX,
        },
        modified: FsTime {
            seconds: i64::MIN,
            nanos: u32::MAX,
        },
    });
    assert!(link.cost() <= INITIAL_FS_WINDOW);
    encode(&HostMessage::Fs(FsCall::Part(link)), &mut out).unwrap();
}

#[test]
fn a_count_of_entries_cannot_make_us_allocate() {
    // The frame of a batch, with its count replaced by 2^63.
    let mut honest = Vec::new();
    encode(&GuestMessage::Fs(FsAnswer::Entries(vec![])), &mut honest).unwrap();
    let mut body = honest[LENGTH_BYTES..honest.len() - 1].to_vec();
    body.push(253);
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
