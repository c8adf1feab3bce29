#![no_main]
//! What is said about files, by a host and by a guest: any bytes as a stream of either.
//!
//! What decodes encodes to the same again and costs at least its bytes, and the parts among it are
//! given to a writer of trees, as the other side would. Whatever they are, nothing but its target may
//! come of it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use msb_files::TreeWriter;
use msb_protocol::{Decoder, FsAnswer, FsCall, FsPart, GuestMessage, HostMessage, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Parts that are tried on the disk for each input: it is to be quick.
const PARTS: usize = 64;

/// What a file of it may have: a hole is free, but its file's end is not always.
const HOLE: u64 = 1 << 40;

fn messages<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(stream: &[u8]) -> Vec<M> {
    let mut decoder = Decoder::new();
    decoder.feed(stream);
    let mut messages = Vec::new();
    while let Ok(Some(message)) = decoder.next_message::<M>() {
        let mut frame = Vec::new();
        encode(&message, &mut frame).expect("what was decoded fits a frame");
        let mut again = Decoder::new();
        again.feed(&frame);
        assert_eq!(again.next_message::<M>().expect("our own frame").as_ref(), Some(&message));
        messages.push(message);
    }
    messages
}

/// A directory of this process, on a file system in memory where there is one.
fn room() -> &'static Path {
    static ROOM: OnceLock<PathBuf> = OnceLock::new();
    ROOM.get_or_init(|| {
        let base = match Path::new("/dev/shm").is_dir() {
            true => PathBuf::from("/dev/shm"),
            false => std::env::temp_dir(),
        };
        let room = base.join(format!("msb-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(room.join("in")).expect("a directory for the fuzzer");
        room
    })
}

fn write(parts: Vec<FsPart>) {
    let (room, target) = (room(), room().join("in/target"));
    let mut writer = TreeWriter::new(&target).expect("the directory is there");
    let mut fed = parts.into_iter().take(PARTS);
    let taken = fed.try_for_each(|part| match part {
        FsPart::Hole(length) => writer.part(FsPart::Hole(length.min(HOLE))),
        part => writer.part(part),
    });
    let made = match taken {
        Ok(()) => writer.finish().is_ok(),
        Err(_) => {
            drop(writer);
            false
        }
    };
    let names = |path: &Path| std::fs::read_dir(path).expect("it is there").count();
    assert_eq!(names(room), 1);
    assert_eq!(names(&room.join("in")), usize::from(made));
    if target.is_dir() {
        msb_files::remove_tree(&target, &mut || Ok(())).expect("what was made can be removed");
    } else if made {
        std::fs::remove_file(&target).expect("what was made can be removed");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let host = messages::<HostMessage>(bytes).into_iter();
    let asked = host.filter_map(|message| match message {
        HostMessage::Fs(FsCall::Part(part)) => Some(part),
        _ => None,
    });
    let guest = messages::<GuestMessage>(bytes).into_iter();
    let answered = guest.filter_map(|message| match message {
        GuestMessage::Fs(FsAnswer::Part(part)) => Some(part),
        _ => None,
    });
    for parts in [asked.collect::<Vec<_>>(), answered.collect()] {
        for part in &parts {
            let mut frame = Vec::new();
            encode(&HostMessage::Fs(FsCall::Part(part.clone())), &mut frame).expect("it came in one");
            assert!(frame.len() <= part.cost() as usize);
        }
        if !parts.is_empty() {
            write(parts);
        }
    }
});
