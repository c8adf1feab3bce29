//! What can be learned of a kernel file before any of it is loaded.
//!
//! The file is an ELF executable: a header, a table of *segments* (so many bytes of the file go to
//! this physical address and are followed by so many zero bytes), and *notes*, one of which gives
//! the 32-bit entry point of the PVH protocol. All of that is read and checked here, so that loading
//! is nothing but copying; a kernel that cannot be booted is refused before memory exists for it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::layout;

/// Segments in a kernel. Linux has about five.
const MAX_SEGMENTS: u16 = 64;
/// Bytes of notes that are searched. Linux has a few hundred.
const MAX_NOTES: u64 = 64 << 10;

const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const TYPE_EXECUTABLE: u16 = 2;
const TYPE_SHARED: u16 = 3;
const MACHINE_X86_64: u16 = 62;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_NOTE: u32 = 4;
/// `XEN_ELFNOTE_PHYS32_ENTRY`: the PVH entry point.
const NOTE_PHYS32_ENTRY: u32 = 18;
/// Where a bzImage has its signature.
const BZIMAGE_MAGIC_OFFSET: u64 = 0x202;

/// Why a file is not a kernel that can be booted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// It cannot be read.
    #[error("cannot read the kernel")]
    Read(#[source] io::Error),
    /// It does not start as an ELF file does.
    #[error("the kernel is not an ELF file; give an uncompressed vmlinux")]
    NotElf,
    /// It is the compressed form that boot loaders want.
    #[error("the kernel is a compressed bzImage; give the uncompressed vmlinux that is inside it")]
    BzImage,
    /// It is an ELF file of another processor or kind.
    #[error("the kernel is not for this machine: {0}; give an x86-64 vmlinux")]
    WrongMachine(&'static str),
    /// It ends before its own headers say.
    #[error("the kernel file is truncated: {what} ends at byte {end}, the file at {len}")]
    Truncated {
        /// What goes beyond the end.
        what: &'static str,
        /// Where it ends.
        end: u64,
        /// Length of the file.
        len: u64,
    },
    /// Its headers contradict themselves.
    #[error("the kernel file is damaged: {0}")]
    Damaged(&'static str),
    /// It has no PVH note.
    #[error("the kernel has no PVH entry point; build it with CONFIG_PVH=y")]
    NoPvh,
}

/// Bytes that can be read at any offset: a file, or a slice in a test.
pub trait Bytes {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills `out` from `offset`.
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;
    /// Whether there is nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl Bytes for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, out, offset)
    }
}

impl Bytes for [u8] {
    fn len(&self) -> io::Result<u64> {
        u64::try_from(<[u8]>::len(self)).map_err(io::Error::other)
    }

    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..)?.get(..out.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}

/// A piece of the file, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First byte in the file.
    pub file_offset: u64,
    /// Bytes in the file.
    pub file_len: u64,
    /// Guest physical address of the first.
    pub address: u64,
    /// Bytes in memory; those beyond `file_len` are zero.
    pub memory_len: u64,
}

/// A kernel that can be booted, as far as its headers tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelImage {
    segments: Vec<Segment>,
    entry: u32,
    end: u64,
}

impl KernelImage {
    /// Reads and checks the headers.
    pub fn parse(file: &(impl Bytes + ?Sized)) -> Result<Self, KernelError> {
        let len = file.len().map_err(KernelError::Read)?;
        let headers = Headers::read(file, len)?;
        let mut segments = Vec::new();
        let mut entry = None;
        for header in &headers.0 {
            match header.kind {
                SEGMENT_LOAD if header.segment.memory_len > 0 => {
                    segments.push(check_segment(header.segment, len)?);
                }
                SEGMENT_NOTE if entry.is_none() => entry = pvh_entry(file, len, header.segment)?,
                _ => {}
            }
        }
        segments.sort_by_key(|segment| segment.address);
        let overlap = |pair: &[Segment]| match pair {
            [a, b] => a.address + a.memory_len > b.address,
            _ => false,
        };
        if segments.windows(2).any(overlap) {
            return Err(KernelError::Damaged("two segments overlap"));
        }
        let end = segments
            .last()
            .map(|segment| segment.address + segment.memory_len)
            .ok_or(KernelError::Damaged("it has no segment to load"))?;
        let entry = entry.ok_or(KernelError::NoPvh)?;
        let within = |segment: &Segment| {
            (segment.address..segment.address + segment.file_len).contains(&u64::from(entry))
        };
        if !segments.iter().any(within) {
            return Err(KernelError::Damaged("its entry point is in no segment"));
        }
        Ok(Self {
            segments,
            entry,
            end,
        })
    }

    /// What to load, by rising address.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The PVH entry point.
    pub fn entry(&self) -> u32 {
        self.entry
    }

    /// First guest address after the kernel.
    pub fn end(&self) -> u64 {
        self.end
    }
}

struct Header {
    kind: u32,
    segment: Segment,
}

struct Headers(Vec<Header>);

impl Headers {
    fn read(file: &(impl Bytes + ?Sized), len: u64) -> Result<Self, KernelError> {
        let mut header = [0; ELF_HEADER];
        let [magic @ .., _, _] = &mut [0u8; 6];
        if file.read_exact_at(magic, 0).is_err() || magic != b"\x7fELF" {
            let mut signature = [0; 4];
            return Err(
                match file.read_exact_at(&mut signature, BZIMAGE_MAGIC_OFFSET) {
                    Ok(()) if &signature == b"HdrS" => KernelError::BzImage,
                    _ => KernelError::NotElf,
                },
            );
        }
        read(file, len, "the ELF header", &mut header, 0)?;
        let wrong = |what| Err(KernelError::WrongMachine(what));
        match u8_at(&header, 4) {
            CLASS_64 => {}
            CLASS_32 => return wrong("it is a 32-bit file"),
            _ => return wrong("its class is unknown"),
        }
        if u8_at(&header, 5) != LITTLE_ENDIAN {
            return wrong("it is big-endian");
        }
        if u16_at(&header, 18) != MACHINE_X86_64 {
            return wrong("it is for another processor");
        }
        if ![TYPE_EXECUTABLE, TYPE_SHARED].contains(&u16_at(&header, 16)) {
            return wrong("it is not an executable");
        }
        let table = u64_at(&header, 32);
        let entries = u16_at(&header, 56);
        if usize::from(u16_at(&header, 54)) != PROGRAM_HEADER {
            return Err(KernelError::Damaged("its program headers have an odd size"));
        }
        if entries == 0 || entries > MAX_SEGMENTS {
            return Err(KernelError::Damaged(
                "it has none, or too many, program headers",
            ));
        }
        let mut headers = vec![0; usize::from(entries) * PROGRAM_HEADER];
        read(file, len, "the program header table", &mut headers, table)?;
        Ok(Self(
            headers
                .chunks_exact(PROGRAM_HEADER)
                .map(|bytes| Header {
                    kind: u32_at(bytes, 0),
                    segment: Segment {
                        file_offset: u64_at(bytes, 8),
                        address: u64_at(bytes, 24),
                        file_len: u64_at(bytes, 32),
                        memory_len: u64_at(bytes, 40),
                    },
                })
                .collect(),
        ))
    }
}

/// Afterwards no sum of the segment's fields overflows.
fn check_segment(segment: Segment, len: u64) -> Result<Segment, KernelError> {
    check_end(
        "a segment",
        segment.file_offset.checked_add(segment.file_len),
        len,
    )?;
    if segment.file_len > segment.memory_len {
        return Err(KernelError::Damaged(
            "a segment is larger in the file than in memory",
        ));
    }
    let end = segment.address.checked_add(segment.memory_len);
    if segment.address < layout::KERNEL_MIN || end.is_none_or(|end| end > layout::HOLE_START) {
        return Err(KernelError::Damaged(
            "a segment does not lie between 1 MiB and 3 GiB",
        ));
    }
    Ok(segment)
}

/// The entry point among the notes of a segment, if it is there.
fn pvh_entry(
    file: &(impl Bytes + ?Sized),
    len: u64,
    notes: Segment,
) -> Result<Option<u32>, KernelError> {
    let size = usize::try_from(notes.file_len.min(MAX_NOTES))
        .map_err(|_| KernelError::Damaged("its notes are too long"))?;
    let mut bytes = vec![0; size];
    read(file, len, "the notes", &mut bytes, notes.file_offset)?;
    let mut rest = bytes.as_slice();
    // Each note: name length, descriptor length, type, then both, each padded to four bytes.
    while let Some((header, after)) = rest.split_at_checked(12) {
        let field = |at| usize::try_from(u32_at(header, at)).unwrap_or(usize::MAX);
        let padded = |n: usize| n.checked_next_multiple_of(4).unwrap_or(usize::MAX);
        let Some((name, after)) = after.split_at_checked(padded(field(0))) else {
            break;
        };
        let Some((descriptor, after)) = after.split_at_checked(padded(field(4))) else {
            break;
        };
        if u32_at(header, 8) == NOTE_PHYS32_ENTRY && name == b"Xen\0" && field(4) >= 4 {
            return Ok(Some(u32_at(descriptor, 0)));
        }
        rest = after;
    }
    Ok(None)
}

fn read(
    file: &(impl Bytes + ?Sized),
    len: u64,
    what: &'static str,
    out: &mut [u8],
    offset: u64,
) -> Result<(), KernelError> {
    let size = u64::try_from(out.len()).unwrap_or(u64::MAX);
    check_end(what, offset.checked_add(size), len)?;
    file.read_exact_at(out, offset).map_err(KernelError::Read)
}

fn check_end(what: &'static str, end: Option<u64>, len: u64) -> Result<(), KernelError> {
    match end {
        Some(end) if end <= len => Ok(()),
        end => Err(KernelError::Truncated {
            what,
            end: end.unwrap_or(u64::MAX),
            len,
        }),
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|tail| tail.first_chunk::<N>())
        .copied()
        .unwrap_or([0; N])
}

fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests;
