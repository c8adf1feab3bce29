//! An event loop for one device, on poll(2): slow, and simple enough to trust.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{Interest, Register, Tag};

/// What a device registered.
#[derive(Debug, Default)]
pub struct TestLoop {
    watched: Vec<Watched>,
    timers: Vec<(Tag, Instant)>,
    /// Calls that changed what is watched.
    changes: usize,
}

#[derive(Debug)]
struct Watched {
    /// The device's number for it.
    number: RawFd,
    /// The same open file, so that a device which closes before it removes is found out.
    file: OwnedFd,
    interest: Interest,
    tag: Tag,
}

impl TestLoop {
    /// Tags of everything that is ready, after waiting for the first for at most `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Vec<Tag> {
        let now = Instant::now();
        let until = self
            .timers
            .iter()
            .map(|(_, at)| at.saturating_duration_since(now))
            .min()
            .map_or(timeout, |next| next.min(timeout));
        let mut fds: Vec<PollFd<'_>> = self
            .watched
            .iter()
            .map(|watched| PollFd::new(&watched.file, flags(watched.interest)))
            .collect();
        let until = Timespec {
            tv_sec: i64::try_from(until.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: until.subsec_nanos().into(),
        };
        rustix::io::retry_on_intr(|| poll(&mut fds, Some(&until))).expect("poll");
        let mut tags: Vec<Tag> = self
            .watched
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(watched, _)| watched.tag)
            .collect();
        let now = Instant::now();
        self.timers.retain(|(tag, at)| {
            if *at <= now {
                tags.push(*tag);
            }
            *at > now
        });
        tags
    }

    /// Forgets everything, as before a device is stopped.
    pub fn clear(&mut self) {
        self.watched.clear();
        self.timers.clear();
    }

    /// Descriptors that are watched.
    pub fn watched(&self) -> usize {
        self.watched.len()
    }

    /// Timers that run.
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Calls so far that changed what is watched: each costs a system call in a real loop.
    pub fn changes(&self) -> usize {
        self.changes
    }

    /// Makes all timers due.
    pub fn expire_timers(&mut self) -> Vec<Tag> {
        self.timers.drain(..).map(|(tag, _)| tag).collect()
    }

    fn find(&mut self, fd: BorrowedFd<'_>) -> io::Result<&mut Watched> {
        let number = fd.as_raw_fd();
        self.watched
            .iter_mut()
            .find(|watched| watched.number == number)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Register for TestLoop {
    fn add(&mut self, fd: BorrowedFd<'_>, interest: Interest, tag: Tag) -> io::Result<()> {
        assert!(self.find(fd).is_err(), "{fd:?} is watched already");
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
        if kind.is_file() || kind.is_dir() {
            // As epoll does.
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.changes += 1;
        self.watched.push(Watched {
            number: fd.as_raw_fd(),
            file: fd.try_clone_to_owned()?,
            interest,
            tag,
        });
        Ok(())
    }

    fn modify(&mut self, fd: BorrowedFd<'_>, interest: Interest, tag: Tag) -> io::Result<()> {
        self.changes += 1;
        let watched = self.find(fd).expect("modifies what is not watched");
        watched.interest = interest;
        watched.tag = tag;
        Ok(())
    }

    fn remove(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.changes += 1;
        self.find(fd).expect("removes what is not watched");
        let number = fd.as_raw_fd();
        self.watched.retain(|watched| watched.number != number);
        Ok(())
    }

    fn arm(&mut self, tag: Tag, after: Duration) -> io::Result<()> {
        self.disarm(tag);
        self.timers.push((tag, Instant::now() + after));
        Ok(())
    }

    fn disarm(&mut self, tag: Tag) {
        self.timers.retain(|(armed, _)| *armed != tag);
    }
}

fn flags(interest: Interest) -> PollFlags {
    let mut flags = PollFlags::empty();
    if interest.contains(Interest::READABLE) {
        flags |= PollFlags::IN;
    }
    if interest.contains(Interest::WRITABLE) {
        flags |= PollFlags::OUT;
    }
    flags
}
