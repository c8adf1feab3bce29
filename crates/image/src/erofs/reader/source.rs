//! What a disk is read from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes at offsets, readable by several at once.
pub trait ReadAt {
    /// Fills all of `buf` from `offset` on.
    ///
    /// # Errors
    ///
    /// What is there ends before, or cannot be read.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// How many bytes there are.
    ///
    /// # Errors
    ///
    /// That cannot be found out.
    fn size(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..));
        let from = from.and_then(|from| from.get(..buf.len()));
        buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }
}

/// Several sources as one, each behind the other: the parts of a disk.
#[derive(Debug)]
pub struct Joined<S> {
    /// Where each begins, and it.
    parts: Vec<(u64, S)>,
    size: u64,
}

impl<S: ReadAt> Joined<S> {
    /// Each from its first byte to the last that it has now.
    ///
    /// # Errors
    ///
    /// The size of one cannot be found out, or the sum has more than 64 bits.
    pub fn new(parts: impl IntoIterator<Item = S>) -> io::Result<Self> {
        let mut joined = Self {
            parts: Vec::new(),
            size: 0,
        };
        for part in parts {
            let end = joined.size.checked_add(part.size()?);
            joined.parts.push((joined.size, part));
            joined.size = end.ok_or(io::ErrorKind::FileTooLarge)?;
        }
        Ok(joined)
    }
}

impl<S: ReadAt> ReadAt for Joined<S> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let (mut buf, mut offset) = (buf, offset);
        let mut index = self.parts.partition_point(|(begin, _)| *begin <= offset);
        while !buf.is_empty() {
            // The last that begins at or before `offset`; those without a byte begin there too.
            let part = index.checked_sub(1).and_then(|last| self.parts.get(last));
            let (begin, part) = part.ok_or(io::ErrorKind::UnexpectedEof)?;
            let end = self.parts.get(index).map_or(self.size, |(next, _)| *next);
            let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
            if left == 0 && index >= self.parts.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (head, rest) = buf.split_at_mut(left.min(buf.len()));
            part.read_exact_at(head, offset - begin)?;
            offset += head.len() as u64;
            buf = rest;
            index += 1;
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_parts_read_as_one() {
        let parts: [&[u8]; 5] = [b"abc", b"", b"de", b"", b"f"];
        let joined = Joined::new(parts).unwrap();
        assert_eq!(joined.size().unwrap(), 6);
        for from in 0..=6 {
            for to in from..=6 {
                let mut buf = vec![0; to - from];
                joined.read_exact_at(&mut buf, from as u64).unwrap();
                assert_eq!(buf, b"abcdef"[from..to]);
            }
            assert!(
                joined
                    .read_exact_at(&mut vec![0; 7 - from], from as u64)
                    .is_err()
            );
        }
        assert!(joined.read_exact_at(&mut [0], u64::MAX).is_err());
        let none = Joined::new(Vec::<&[u8]>::new()).unwrap();
        assert!(none.read_exact_at(&mut [0], 0).is_err());
    }
}
