//! Numbers from bytes; when the bytes run out, zeros.

use vmm_virtio::testing::DISK;

/// A fuzz input that is being read.
#[derive(Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// Starts at the front.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all of it was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte, which stays.
    pub fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> u32 {
        (u32::from(self.u16()) << 16) | u32::from(self.u16())
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> u64 {
        (u64::from(self.u32()) << 32) | u64::from(self.u32())
    }

    /// A piece of up to `most` bytes, as they are.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let len = usize::from(self.u8()).min(most).min(self.0.len());
        let (now, rest) = self.0.split_at(len);
        self.0 = rest;
        now
    }

    /// A guest address: mostly within the first 128 KiB, sometimes in the mapped disk or anywhere.
    pub fn address(&mut self) -> u64 {
        match self.u8() {
            0xff => self.u64(),
            0xfe => (1 << 20) - u64::from(self.u8()),
            0xfc => DISK + u64::from(self.u16()),
            page => (u64::from(page % 32) << 12) + u64::from(self.u8()) * 8,
        }
    }

    /// A length: mostly small, sometimes around a page, sometimes any.
    pub fn length(&mut self) -> u32 {
        match self.u8() {
            0xff => self.u32(),
            0xfe => 4096 - 4 + u32::from(self.u8() % 8),
            0xfd => u32::from(self.u16()),
            small => u32::from(small),
        }
    }
}
