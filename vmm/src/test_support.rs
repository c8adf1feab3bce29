//! Guests small enough to be written by hand, for tests.

/// A kernel of a few instructions: an ELF file with one segment and a PVH note.
#[derive(Clone, Debug)]
pub(crate) struct TinyKernel {
    code: Vec<u8>,
    address: u32,
    note: bool,
    memory_len: u64,
}

impl TinyKernel {
    /// Where the code goes, and is entered.
    pub(crate) const ADDRESS: u32 = 0x10_0000;

    /// A kernel of this 32-bit machine code.
    pub(crate) fn new(code: &[u8]) -> Self {
        Self {
            code: code.to_vec(),
            address: Self::ADDRESS,
            note: true,
            memory_len: 0,
        }
    }

    /// Leaves the PVH note out.
    #[must_use]
    pub(crate) fn without_note(mut self) -> Self {
        self.note = false;
        self
    }

    /// Loads the code elsewhere.
    #[must_use]
    pub(crate) fn at(mut self, address: u32) -> Self {
        self.address = address;
        self
    }

    /// Asks for more memory than the code needs.
    #[must_use]
    pub(crate) fn needing(mut self, memory_len: u64) -> Self {
        self.memory_len = memory_len;
        self
    }

    /// The file.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut note = Vec::new();
        if self.note {
            for word in [4u32, 4, 18] {
                note.extend(word.to_le_bytes());
            }
            note.extend(b"Xen\0");
            note.extend(self.address.to_le_bytes());
        }
        let note_offset = 64 + 2 * 56;
        let note_len = note.len() as u64;
        let code_len = self.code.len() as u64;
        let mut file = vec![0; 64];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16] = 2;
        file[18] = 62;
        file[32] = 64;
        file[54] = 56;
        file[56] = 2;
        let mut header = |kind: u32, offset: u64, address: u64, len: u64, memory: u64| {
            file.extend(kind.to_le_bytes());
            file.extend(7u32.to_le_bytes());
            for word in [offset, address, address, len, memory, 0] {
                file.extend(word.to_le_bytes());
            }
        };
        header(4, note_offset, 0, note_len, note_len);
        header(
            1,
            note_offset + note_len,
            u64::from(self.address),
            code_len,
            code_len.max(self.memory_len),
        );
        file.extend(note);
        file.extend(&self.code);
        file
    }
}
