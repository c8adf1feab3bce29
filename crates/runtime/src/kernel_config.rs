//! What a guest's kernel can do, by its own word.
//!
//! A kernel that is built with `CONFIG_IKCONFIG` has its configuration in it, compressed, between two words in its
//! read-only data (`kernel/configs.c`). So it can be asked before it runs, and the answer is true of this very
//! file. Ours has that; of one that has not, nothing is known. It takes as long as reading some kilobytes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use flate2::read::GzDecoder;

/// What stands before the configuration.
const MARK: &[u8] = b"IKCFG_ST";
/// The section that it is in.
const SECTION: &[u8] = b".rodata";

/// Bytes of the header of an ELF file, and of that of a section.
const HEADER: usize = 64;
/// The most sections; a kernel has some dozens.
const MAX_SECTIONS: usize = 4096;
/// The most bytes of their names.
const MAX_NAMES: u64 = 1 << 16;
/// The most bytes of read-only data that are looked through.
const MAX_DATA: u64 = 64 << 20;
/// The most bytes of a configuration; those of distributions have 300 KiB.
const MAX_CONFIG: u64 = 2 << 20;
/// Bytes that are looked through at a time.
const PIECE: usize = 64 << 10;

/// Whether all these options (`CONFIG_...`) are built into an uncompressed x86-64 kernel, as far as it says. A module is
/// not built in.
pub fn has(kernel: &File, options: &[&str]) -> bool {
    let Some(config) = read(kernel) else {
        return false;
    };
    let mut missing: Vec<&str> = options.to_vec();
    for line in config.lines() {
        if let Some(set) = line.strip_suffix("=y") {
            missing.retain(|option| *option != set);
        }
    }
    missing.is_empty()
}

fn read(kernel: &File) -> Option<String> {
    let data = section(kernel)?;
    let config = Stretch {
        start: find(kernel, &data)?,
        ..data
    };
    let mut text = String::new();
    // What follows the compressed bytes is not looked at.
    GzDecoder::new(Reader {
        file: kernel,
        left: config,
    })
    .take(MAX_CONFIG)
    .read_to_string(&mut text)
    .ok()?;
    Some(text)
}

/// Bytes of a file.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: u64,
    end: u64,
}

/// The kernel's read-only data.
fn section(kernel: &File) -> Option<Stretch> {
    let header: [u8; HEADER] = bytes(kernel, 0)?;
    // ELF, 64-bit, little-endian.
    if !header.starts_with(b"\x7fELF\x02\x01") || number(&header, 0x3a, 2)? != HEADER as u64 {
        return None;
    }
    let table = number(&header, 0x28, 8)?;
    let count = usize::try_from(number(&header, 0x3c, 2)?).ok()?;
    let names = number(&header, 0x3e, 2)?;
    let at = |index: u64| table.checked_add(index.checked_mul(HEADER as u64)?);
    let names: [u8; HEADER] = bytes(kernel, at(names)?)?;
    let (names_at, names_len) = (number(&names, 0x18, 8)?, number(&names, 0x20, 8)?);
    let mut names = vec![0; usize::try_from(names_len.min(MAX_NAMES)).ok()?];
    kernel.read_exact_at(&mut names, names_at).ok()?;
    for index in 0..count.min(MAX_SECTIONS) {
        let header: [u8; HEADER] = bytes(kernel, at(index as u64)?)?;
        let name = usize::try_from(number(&header, 0, 4)?).ok()?;
        let name = names
            .get(name..)
            .and_then(|rest| rest.split(|byte| *byte == 0).next());
        if name == Some(SECTION) {
            let start = number(&header, 0x18, 8)?;
            let len = number(&header, 0x20, 8)?.min(MAX_DATA);
            let end = start.checked_add(len)?;
            return Some(Stretch { start, end });
        }
    }
    None
}

/// Where in it what follows the mark begins.
fn find(kernel: &File, data: &Stretch) -> Option<u64> {
    let mut piece = vec![0; PIECE];
    let mut at = data.start;
    while at < data.end {
        let most = usize::try_from(data.end - at).unwrap_or(PIECE).min(PIECE);
        let got = kernel.read_at(piece.get_mut(..most)?, at).ok()?;
        let here = piece.get(..got)?;
        if let Some(found) = here.windows(MARK.len()).position(|bytes| bytes == MARK) {
            return at.checked_add(u64::try_from(found + MARK.len()).ok()?);
        }
        // The mark may lie across two pieces. Less than that is the end.
        let step = got.checked_sub(MARK.len() - 1).filter(|step| *step > 0)?;
        at = at.checked_add(u64::try_from(step).ok()?)?;
    }
    None
}

/// Bytes of the file at an offset, all of them or none.
fn bytes<const N: usize>(file: &File, at: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

/// The little-endian number of up to eight bytes at an offset.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(len)?)?;
    Some(
        field
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
    )
}

/// Reads a stretch of a file.
struct Reader<'f> {
    file: &'f File,
    left: Stretch,
}

impl Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.left.end.saturating_sub(self.left.start);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let out = out.get_mut(..most).unwrap_or_default();
        let got = self.file.read_at(out, self.left.start)?;
        self.left.start = self.left.start.saturating_add(got as u64);
        Ok(got)
    }
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
