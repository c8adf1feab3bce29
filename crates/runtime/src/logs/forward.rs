//! A file's lines, in order, in bounded memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::MAX_LINE;

/// How much is read at once.
pub(super) const BLOCK: usize = 64 * 1024;

/// Lines from some place in a file on. It can be asked again after the file has grown.
#[derive(Debug)]
pub(super) struct Lines {
    /// Bytes from the first one that was not given out as a line.
    buffer: Vec<u8>,
    /// So many of them have no newline among them.
    searched: usize,
    /// Where in the file the buffer begins.
    start: u64,
    /// The buffer begins inside a line that is too long; its end is waited for.
    skipping: bool,
}

impl Lines {
    pub(super) fn from(offset: u64) -> Self {
        Self {
            buffer: Vec::new(),
            searched: 0,
            start: offset,
            skipping: false,
        }
    }

    /// Up to where the file has been read.
    pub(super) fn read_to(&self) -> u64 {
        self.start.saturating_add(offset(self.buffer.len()))
    }

    /// The last place between two lines.
    pub(super) fn boundary(&self) -> u64 {
        self.start
    }

    /// Reads one block, up to the offset `end`, and hands on each line that is complete, without its
    /// newline and with the offset behind it. Gives how many bytes were read: none at the end.
    pub(super) fn read(
        &mut self,
        file: &File,
        end: u64,
        mut line: impl FnMut(&[u8], u64),
    ) -> io::Result<usize> {
        let known = self.buffer.len();
        let room = end.saturating_sub(self.read_to());
        let room = usize::try_from(room).map_or(BLOCK, |room| room.min(BLOCK));
        self.buffer.resize(known + room, 0);
        let target = self.buffer.get_mut(known..).unwrap_or_default();
        let read = loop {
            match file.read_at(target, self.start.saturating_add(offset(known))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(known + *read.as_ref().unwrap_or(&0));
        let read = read?;
        let mut begin = 0;
        let mut searched = self.searched;
        while let Some(found) = newline(&self.buffer, searched) {
            let after = self.start.saturating_add(offset(found + 1));
            if !std::mem::take(&mut self.skipping) {
                line(self.buffer.get(begin..found).unwrap_or_default(), after);
            }
            begin = found + 1;
            searched = begin;
        }
        self.buffer.drain(..begin);
        self.start = self.start.saturating_add(offset(begin));
        if self.buffer.len() > MAX_LINE || self.skipping {
            self.skipping = true;
            self.start = self.read_to();
            self.buffer.clear();
        }
        self.searched = self.buffer.len();
        if read == 0 {
            // It may be long until there is more.
            self.buffer.shrink_to_fit();
        }
        Ok(read)
    }
}

fn newline(buffer: &[u8], from: usize) -> Option<usize> {
    let rest = buffer.get(from..)?;
    Some(from + rest.iter().position(|byte| *byte == b'\n')?)
}

fn offset(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
