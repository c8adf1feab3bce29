//! Requests whose buffers lie in a mapped disk.

use super::*;
use crate::testing::{DISK, DISK_BYTES, guest_ram_and_disk};

/// A driver of a writable disk, with a mapped one full of the byte `fill` in its memory, and that one's file.
fn driver(fill: u8) -> (Harness<Block>, File, File) {
    let (memory, mapped) = guest_ram_and_disk(8 << 20, fill);
    let file = image();
    let device = Block::new(file.try_clone().unwrap(), options(false)).unwrap();
    let mut harness = Harness::new(device, memory);
    harness.start().unwrap();
    (harness, file, mapped)
}

/// A request with this buffer; its status, if it was answered.
fn request(harness: &mut Harness<Block>, kind: u32, buffer: Buffer) -> Result<u8, Fault> {
    let base = harness.data();
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&5u64.to_le_bytes());
    harness.mem.write(base, &header).unwrap();
    let status = base + 64;
    harness.mem.write(status, &[0xee]).unwrap();
    let buffers = [
        Buffer::readable(base, 16),
        buffer,
        Buffer::writable(status, 1),
    ];
    harness.queues[0].offer(&buffers).unwrap();
    harness.kick_if_wanted();
    harness.settle(20)?;
    harness.queues[0].take_used().expect("an answer");
    let mut answer = [0];
    harness.mem.read(status, &mut answer).unwrap();
    Ok(answer[0])
}

/// As a program does that writes a mapped file to another one with O_DIRECT.
#[test]
fn it_is_written_to_another_disk_with_no_copy_in_between() {
    let (mut harness, file, _mapped) = driver(0x77);
    // Two pages of the file, and zeros from behind it.
    let len = u32::try_from(DISK_BYTES).unwrap() + 512;
    let buffer = Buffer::readable(DISK, len);
    assert_eq!(request(&mut harness, VIRTIO_BLK_T_OUT, buffer).unwrap(), OK);
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 5 * 512).unwrap();
    let (of_the_file, behind) = bytes.split_at(8192);
    assert!(of_the_file.iter().all(|byte| *byte == 0x77));
    assert!(behind.iter().all(|byte| *byte == 0));
}

#[test]
fn nothing_is_read_into_it() {
    let (mut harness, _file, mapped) = driver(0x77);
    let buffer = Buffer::writable(DISK, 512);
    let fault = request(&mut harness, VIRTIO_BLK_T_IN, buffer).unwrap_err();
    assert!(matches!(fault, Fault::DescriptorRange { addr: DISK, .. }));
    let mut bytes = [0; 512];
    mapped.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [0x77; 512]);
}

#[test]
fn what_its_file_has_lost_is_an_error_of_the_one_request() {
    let (mut harness, _file, mapped) = driver(0x77);
    mapped.set_len(4096).unwrap();
    let lost = Buffer::readable(DISK + 4096, 512);
    assert_eq!(
        request(&mut harness, VIRTIO_BLK_T_OUT, lost).unwrap(),
        IO_ERROR
    );
    let there = Buffer::readable(DISK, 512);
    assert_eq!(request(&mut harness, VIRTIO_BLK_T_OUT, there).unwrap(), OK);
}

/// No driver has a header there; but a guest may.
#[test]
fn a_header_in_it_is_read_like_any_other() {
    let (mut harness, _file, mapped) = driver(0);
    mapped
        .write_all_at(&VIRTIO_BLK_T_IN.to_le_bytes(), 100)
        .unwrap();
    mapped.write_all_at(&7u64.to_le_bytes(), 108).unwrap();
    let data = harness.data();
    let buffers = [
        Buffer::readable(DISK + 100, 16),
        Buffer::writable(data, 513),
    ];
    harness.queues[0].offer(&buffers).unwrap();
    harness.kick_if_wanted();
    harness.settle(20).unwrap();
    assert_eq!(harness.queues[0].take_used().unwrap().1, 513);
    let mut bytes = [0xee; 513];
    harness.mem.read(data, &mut bytes).unwrap();
    assert_eq!(bytes[..512], [7; 512]);
    assert_eq!(bytes[512], OK);
}
