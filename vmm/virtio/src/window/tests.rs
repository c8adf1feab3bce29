//! Windows onto real files, read as the guest does, as devices do, and through the kernel.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use proptest::prelude::*;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::*;
use crate::block::Extent;
use crate::{GuestRam, iov};

const START: u64 = 1 << 32;
const PAGE: usize = 4096;

/// A file of so many pages; page `n` is full of the byte `first + n`.
fn file(first: u8, pages: u8) -> File {
    let file = tempfile::tempfile().unwrap();
    for page in 0..pages {
        let at = u64::from(page) * WINDOW_PAGE;
        file.write_all_at(&[first + page; PAGE], at).unwrap();
    }
    file
}

fn extent(file: &Arc<File>, page: u64, pages: u64) -> Extent {
    Extent {
        file: Arc::clone(file),
        offset: page * WINDOW_PAGE,
        len: pages * WINDOW_PAGE,
    }
}

fn window(extents: Vec<Extent>) -> Window {
    Window::map(START, Backing::extents(extents).unwrap()).unwrap()
}

/// What a system call finds there.
fn through_the_kernel(window: &Window, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut to = tempfile::tempfile().unwrap();
    let mut vector = Iovecs::new();
    assert!(vector.push_mapped(&window.piece(offset, len).unwrap()));
    let written = iov::write_at(to.as_fd(), &vector, 0)?;
    assert_eq!(written, len);
    let mut bytes = Vec::new();
    to.rewind().unwrap();
    to.read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

fn by_copy(window: &Window, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0xee; len];
    window.read(offset, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn parts_lie_end_to_end_and_zeros_behind_them() {
    let (one, two) = (Arc::new(file(1, 3)), Arc::new(file(50, 2)));
    let window = window(vec![
        extent(&one, 1, 2),
        extent(&two, 1, 1),
        extent(&one, 0, 1),
    ]);
    assert_eq!((window.start(), window.len()), (START, WINDOW_ALIGN));
    assert!(window.host().is_multiple_of(WINDOW_ALIGN));
    let mut expected = Vec::new();
    for byte in [2, 3, 51, 1, 0] {
        expected.extend([byte; PAGE]);
    }
    for read in [through_the_kernel, by_copy] {
        assert_eq!(read(&window, 0, 5 * PAGE).unwrap(), expected);
        let across = read(&window, 4090, 12).unwrap();
        assert_eq!(across, [[2; 6], [3; 6]].concat());
        assert_eq!(read(&window, WINDOW_ALIGN - 9, 9).unwrap(), [0; 9]);
    }
}

#[test]
fn what_the_host_writes_to_a_file_is_seen() {
    let one = Arc::new(file(1, 1));
    let window = window(vec![extent(&one, 0, 1)]);
    one.write_all_at(b"new", 100).unwrap();
    assert_eq!(through_the_kernel(&window, 100, 4).unwrap(), b"new\x01");
    assert_eq!(by_copy(&window, 100, 4).unwrap(), b"new\x01");
}

#[test]
fn nothing_can_be_written_through_it() {
    let one = Arc::new(file(1, 1));
    let window = window(vec![extent(&one, 0, 1)]);
    let mut vector = Iovecs::new();
    assert!(vector.push_mapped(&window.piece(0, PAGE).unwrap()));
    let error = iov::read_at(file(9, 1).as_fd(), &vector, 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    assert_eq!(by_copy(&window, 0, 3).unwrap(), [1; 3]);

    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    let ram = GuestRam::with_windows(memory, vec![window]);
    assert!(ram.write(START, &[7]).is_err());
    assert!(ram.scatter(START, 8, &mut Iovecs::new()).is_err());
    assert!(!ram.contains(START, 8) && ram.is_readable(START, 8));
    assert!(!ram.is_readable(START - 1, 2) && !ram.is_readable(START + WINDOW_ALIGN - 1, 2));
    assert!(!ram.is_readable(START, 0) && !ram.is_readable(u64::MAX, 1));
    let mut byte = [0];
    ram.read(START + WINDOW_PAGE - 1, &mut byte).unwrap();
    assert_eq!(byte, [1]);
}

#[test]
fn a_file_that_was_cut_short_is_an_error_and_no_signal() {
    let (short, good) = (Arc::new(file(1, 2)), Arc::new(file(8, 1)));
    let window = window(vec![extent(&short, 0, 2), extent(&good, 0, 1)]);
    short.set_len(WINDOW_PAGE).unwrap();
    assert_eq!(through_the_kernel(&window, 0, 2).unwrap(), [1; 2]);
    let error = through_the_kernel(&window, WINDOW_PAGE, 8).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    let error = by_copy(&window, WINDOW_PAGE, 8).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(
        through_the_kernel(&window, 2 * WINDOW_PAGE, 3).unwrap(),
        [8; 3]
    );
    assert_eq!(by_copy(&window, 2 * WINDOW_PAGE, 3).unwrap(), [8; 3]);
}

#[test]
fn it_is_gone_when_it_is_dropped() {
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mapped-and-gone");
    std::fs::write(&path, [1; PAGE]).unwrap();
    let one = Arc::new(File::open(&path).unwrap());
    let window = window(vec![extent(&one, 0, 1)]);
    let line = maps();
    let line = line.lines().find(|line| line.contains("mapped-and-gone"));
    assert!(line.unwrap().contains(" r--p "), "{line:?}");
    drop(window);
    assert!(!maps().contains("mapped-and-gone"));
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let one = Arc::new(file(1, 2));
    let part = |offset, len| Extent {
        file: Arc::clone(&one),
        offset,
        len,
    };
    for (start, parts) in [
        (START + WINDOW_PAGE, vec![part(0, 4096)]),
        (u64::MAX - WINDOW_ALIGN + 1, vec![part(0, 4096)]),
        (START, vec![part(512, 4096)]),
        (START, vec![part(0, 512)]),
        (START, vec![part(0, 512), part(0, 4096), part(512, 3584)]),
        (START, vec![part(0, 1 << 62), part(0, 1 << 61)]),
    ] {
        let backing = Backing::extents(parts.clone()).unwrap();
        assert!(Window::map(start, backing).is_err(), "{parts:?}");
    }
    assert_eq!(Window::len_for(1), Some(WINDOW_ALIGN));
    assert_eq!(Window::len_for(WINDOW_ALIGN), Some(WINDOW_ALIGN));
    assert_eq!(Window::len_for(u64::MAX), None);
    assert_eq!(Window::len_for(i64::MAX.unsigned_abs()), None);
}

#[test]
fn what_has_no_mappings_says_so() {
    let null = Arc::new(File::open("/proc/self/status").unwrap());
    let backing = Backing::extents(vec![extent(&null, 0, 1)]).unwrap();
    assert!(Window::map(START, backing).is_err());
}

proptest! {
    #[test]
    fn both_ways_to_read_agree_with_the_files(
        parts in prop::collection::vec((0..3usize, 0..6u64, 1..3u64), 1..12),
        from in 0..40_000u64,
        len in 1..20_000usize,
    ) {
        let files: Vec<_> = (0..3u8).map(|n| Arc::new(file(n * 20 + 1, 8))).collect();
        let mut expected = Vec::new();
        let mut extents = Vec::new();
        for (which, page, pages) in parts {
            let first = u8::try_from(which * 20 + 1).unwrap();
            for page in page..page + pages {
                expected.extend([first + u8::try_from(page).unwrap(); PAGE]);
            }
            extents.push(extent(&files[which], page, pages));
        }
        let window = window(extents);
        expected.resize(usize::try_from(window.len()).unwrap(), 0);
        let at = usize::try_from(from).unwrap();
        let expected = &expected[at..at + len];
        prop_assert_eq!(&through_the_kernel(&window, from, len).unwrap()[..], expected);
        prop_assert_eq!(&by_copy(&window, from, len).unwrap()[..], expected);
    }
}
