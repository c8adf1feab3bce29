//! A file's lines from its end, for who wants only the last few.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::MAX_LINE;
use super::forward::BLOCK;

/// Lines before some place in a file, the last one first.
#[derive(Debug)]
pub(super) struct LinesBack<'a> {
    file: &'a File,
    /// What was read and not given out; it ends where the next line to give ends.
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    start: u64,
    /// What comes next backwards is the rest of a line that is not given: the torn last one, or one that
    /// is too long.
    skipping: bool,
}

impl<'a> LinesBack<'a> {
    pub(super) fn before(file: &'a File, offset: u64) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            start: offset,
            skipping: true,
        }
    }

    /// The line before the last one that was given, without its newline, and the offset behind it.
    pub(super) fn next(&mut self) -> io::Result<Option<(Vec<u8>, u64)>> {
        loop {
            // What is known ends with this line's own newline, unless a line is being skipped.
            let own = usize::from(!self.skipping && !self.buffer.is_empty());
            let inside = self.buffer.len() - own;
            let before = self.buffer.get(..inside).unwrap_or_default();
            let newline = before.iter().rposition(|byte| *byte == b'\n');
            let begin = match newline {
                Some(newline) => newline + 1,
                None if self.start > 0 => {
                    if self.skipping || self.buffer.len() > MAX_LINE {
                        self.skipping = true;
                        self.buffer.clear();
                    }
                    self.prepend()?;
                    continue;
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => 0,
            };
            let end = self.start.saturating_add(offset(self.buffer.len()));
            let mut line = self.buffer.split_off(begin);
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            line.pop();
            return Ok(Some((line, end)));
        }
    }

    fn prepend(&mut self) -> io::Result<()> {
        let length = usize::try_from(self.start).map_or(BLOCK, |start| start.min(BLOCK));
        let start = self.start.saturating_sub(offset(length));
        let mut block = vec![0; length];
        self.file.read_exact_at(&mut block, start)?;
        block.append(&mut self.buffer);
        self.buffer = block;
        self.start = start;
        Ok(())
    }
}

/// Where the last complete line before `offset` ends.
pub(super) fn last_boundary(file: &File, before: u64) -> io::Result<u64> {
    let mut lines = LinesBack::before(file, before);
    Ok(lines.next()?.map_or(0, |(_, end)| end))
}

fn offset(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
