//! The console, over pipes, sockets and files.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::*;
use crate::testing::{Buffer, Harness, conformance, guest_ram};

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe().unwrap()
}

fn start(input: Option<OwnedFd>, output: OwnedFd) -> Harness<Console> {
    let mut harness = Harness::new(Console::new(input, output), guest_ram(4 << 20));
    harness.start().unwrap();
    harness
}

/// The guest writes.
fn print(harness: &mut Harness<Console>, bytes: &[u8]) {
    let data = harness.data();
    harness.mem.write(data, bytes).unwrap();
    let len = u32::try_from(bytes.len()).unwrap();
    harness.queues[TX]
        .offer(&[Buffer::readable(data, len)])
        .unwrap();
    harness.kick_if_wanted();
    harness.settle(20).unwrap();
    assert!(
        harness.queues[TX].take_used().is_some(),
        "the guest never waits"
    );
}

/// The guest offers a buffer to read into.
fn offer(harness: &mut Harness<Console>, len: u32) {
    let at = harness.data() + 0x10_0000;
    harness.queues[RX]
        .offer(&[Buffer::writable(at, len)])
        .unwrap();
    harness.kick_if_wanted();
    harness.settle(20).unwrap();
}

fn take_input(harness: &mut Harness<Console>) -> Option<Vec<u8>> {
    let (_, len) = harness.queues[RX].take_used()?;
    let mut bytes = vec![0; len as usize];
    let at = harness.data() + 0x10_0000;
    harness.mem.read(at, &mut bytes).unwrap();
    Some(bytes)
}

fn read_some(from: impl AsFd) -> Vec<u8> {
    let mut file = File::from(from.as_fd().try_clone_to_owned().unwrap());
    let mut bytes = vec![0; 1 << 20];
    let len = file.read(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

#[test]
fn conforms() {
    let (in_read, in_write) = pipe();
    let (_out_read, out_write) = pipe();
    let mut input = File::from(in_write);
    let mut device = Console::new(Some(in_read), out_write);
    conformance(&mut device, &[0, 1], &mut || {
        input.write_all(b"x").unwrap();
    });
}

#[test]
fn output_of_every_kind_arrives() {
    let (read, write) = pipe();
    let mut harness = start(None, write);
    print(&mut harness, b"to a pipe");
    assert_eq!(read_some(read), b"to a pipe");

    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut harness = start(None, theirs.into());
    print(&mut harness, b"to a socket");
    assert_eq!(read_some(ours), b"to a socket");

    let mut file = tempfile::tempfile().unwrap();
    let mut harness = start(None, file.try_clone().unwrap().into());
    print(&mut harness, b"to a file");
    io::Seek::rewind(&mut file).unwrap();
    assert_eq!(read_some(file), b"to a file");

    let null = File::options().write(true).open("/dev/null").unwrap();
    let mut harness = start(None, null.into());
    print(&mut harness, &[0; 200_000]);
}

#[test]
fn a_slow_reader_gets_the_beginning_and_is_told_of_the_gap() {
    let (read, write) = pipe();
    let flags = rustix::fs::fcntl_getfl(&write).unwrap();
    let kept = write.try_clone().unwrap();
    let mut harness = start(None, write);
    let line = [b'.'; 1024];
    for _ in 0..300 {
        print(&mut harness, &line);
    }
    assert_eq!(
        rustix::fs::fcntl_getfl(&kept).unwrap(),
        flags,
        "the pipe's flags are not ours"
    );
    drop(kept);
    let calls = harness.calls;
    harness.settle(5).unwrap();
    assert_eq!(harness.calls, calls, "a full pipe is no event");
    let mut all = Vec::new();
    while !all.ends_with(b"dropped]\r\n") {
        all.extend(read_some(&read));
        harness.settle(100).unwrap();
    }
    let text = String::from_utf8(all).unwrap();
    let (before, note) = text.split_once("\r\n[").unwrap();
    let dropped: usize = note.split(' ').next().unwrap().parse().unwrap();
    assert!(before.bytes().all(|byte| byte == b'.'));
    assert_eq!(before.len() + dropped, 300 * 1024);
    assert!(before.len() <= (128 << 10) + 4096);
    print(&mut harness, b"on it goes");
    assert_eq!(read_some(&read), b"on it goes");
}

#[test]
fn output_without_a_reader_is_let_go() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut harness = start(None, theirs.into());
    drop(ours);
    for _ in 0..10 {
        print(&mut harness, b"to nobody");
    }
    assert_eq!(harness.events.watched(), 2);
}

#[test]
fn a_full_pipe_whose_reader_goes_away_is_let_go() {
    let (read, write) = pipe();
    let mut harness = start(None, write);
    for _ in 0..100 {
        print(&mut harness, &[1; 1024]);
    }
    assert_eq!(harness.events.watched(), 3);
    drop(read);
    harness.settle(5).unwrap();
    assert_eq!(harness.events.watched(), 2);
}

#[test]
fn input_waits_for_the_guest_s_buffers() {
    let (read, write) = pipe();
    let mut input = File::from(write);
    let (_keep, out) = pipe();
    let mut harness = start(Some(read), out);
    input.write_all(b"typed early").unwrap();
    harness.settle(5).unwrap();
    let calls = harness.calls;
    harness.settle(5).unwrap();
    assert_eq!(harness.calls, calls, "input that nobody takes is no event");
    offer(&mut harness, 5);
    assert_eq!(take_input(&mut harness).unwrap(), b"typed");
    offer(&mut harness, 100);
    assert_eq!(take_input(&mut harness).unwrap(), b" early");
    offer(&mut harness, 100);
    assert_eq!(take_input(&mut harness), None);
    input.write_all(b"later").unwrap();
    harness.settle(5).unwrap();
    assert_eq!(take_input(&mut harness).unwrap(), b"later");
    drop(input);
    offer(&mut harness, 100);
    assert_eq!(take_input(&mut harness), None);
    assert_eq!(harness.events.watched(), 2, "the end was seen");
}

#[test]
fn input_from_a_file_ends() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[b'a'; 6000]).unwrap();
    io::Seek::rewind(&mut file).unwrap();
    let (_keep, out) = pipe();
    let mut harness = start(Some(file.into()), out);
    let mut got = 0;
    for _ in 0..3 {
        offer(&mut harness, 4096);
        got += take_input(&mut harness).map_or(0, |bytes| bytes.len());
    }
    assert_eq!(got, 6000);
    let (_keep, out) = pipe();
    let null = File::open("/dev/null").unwrap();
    let mut harness = start(Some(null.into()), out);
    offer(&mut harness, 4096);
    assert_eq!(take_input(&mut harness), None);
}

#[test]
fn a_receive_buffer_for_reading_is_a_fault() {
    let (read, write) = pipe();
    File::from(write).write_all(b"x").unwrap();
    let (_keep, out) = pipe();
    let mut harness = start(Some(read), out);
    let at = harness.data();
    harness.queues[RX]
        .offer(&[Buffer::readable(at, 16)])
        .unwrap();
    harness.kick_if_wanted();
    assert!(matches!(harness.settle(5), Err(Fault::Malformed { .. })));
}

#[test]
fn a_write_of_megabytes_is_bounded() {
    let null = File::options().write(true).open("/dev/null").unwrap();
    let mut harness = start(None, null.into());
    harness.queues[TX]
        .offer(&[Buffer::readable(0, 4 << 20)])
        .unwrap();
    harness.kick_if_wanted();
    harness.settle(5).unwrap();
    assert!(harness.queues[TX].take_used().is_some());
}

#[test]
fn a_restarted_device_goes_on() {
    let (read, write) = pipe();
    let mut harness = start(None, write);
    print(&mut harness, b"one");
    harness.stop();
    harness.reset_rings();
    harness.start().unwrap();
    print(&mut harness, b"two");
    assert_eq!(read_some(read), b"onetwo");
}
