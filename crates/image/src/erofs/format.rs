//! The structures of an EROFS as they lie on disk, all little-endian (`fs/erofs/erofs_fs.h` of the kernel).
//!
//! Nothing here decides anything: fields to bytes, and bytes to fields. Whether a field makes sense is
//! for the [reader](super::Reader) to say.

use crate::node::Device;

/// `EROFS_SUPER_MAGIC_V1`.
pub(super) const MAGIC: u32 = 0xE0F5_E1E2;
/// Where the superblock is, whatever the size of blocks.
pub(super) const SUPER_AT: u64 = 1024;
/// Its size, without extensions.
pub(super) const SUPER_BYTES: usize = 128;

/// The superblock's block has a checksum.
pub(super) const COMPAT_CHECKSUM: u32 = 1;
/// The times of extended inodes are those of modification.
pub(super) const COMPAT_MTIME: u32 = 2;
/// Where compressed data is padded; without compressed files it says nothing.
pub(super) const INCOMPAT_ZERO_PADDING: u32 = 1;
/// There are files in chunks.
pub(super) const INCOMPAT_CHUNKED: u32 = 4;

/// Inodes begin at multiples of this; an inode's number, its *nid*, is its place divided by it.
pub(super) const SLOT: u64 = 32;
/// Size of the short form of inodes.
pub(super) const COMPACT: usize = 32;
/// Size of the form with 64-bit sizes, times, and wide owners and link counts.
pub(super) const EXTENDED: usize = 64;

/// All data in blocks that follow one another.
pub(super) const LAYOUT_PLAIN: u8 = 0;
/// The same, but what is in the last block stands behind the inode.
pub(super) const LAYOUT_INLINE: u8 = 2;
/// Equal chunks, each with an address of its own.
pub(super) const LAYOUT_CHUNKS: u8 = 4;

/// Of a file in chunks, the binary logarithm of blocks in a chunk.
pub(super) const CHUNK_BITS: u16 = 0x1f;
/// A chunk's address is 8 bytes and names a device; otherwise it is 4.
pub(super) const CHUNK_INDEXES: u16 = 0x20;
/// The address of what is not there: a chunk of zeros, and the blocks of a file that has none.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Size of a directory entry, without its name.
pub(super) const DIRENT: usize = 12;

/// Size of what precedes an inode's extended attributes.
pub(super) const XATTR_HEADER: usize = 12;
/// Size of an extended attribute without name and value. They begin at multiples of it.
pub(super) const XATTR_ENTRY: usize = 4;

/// `S_IFMT`.
const TYPE_MASK: u16 = 0o170_000;

/// What an inode is. The numbers are those of directory entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    File = 1,
    /// A directory.
    Directory = 2,
    /// A character device.
    CharDevice = 3,
    /// A block device.
    BlockDevice = 4,
    /// A named pipe.
    Fifo = 5,
    /// A Unix socket.
    Socket = 6,
    /// A symbolic link.
    Symlink = 7,
}

impl FileType {
    const ALL: [(Self, u16); 7] = [
        (Self::File, 0o100_000),
        (Self::Directory, 0o040_000),
        (Self::CharDevice, 0o020_000),
        (Self::BlockDevice, 0o060_000),
        (Self::Fifo, 0o010_000),
        (Self::Socket, 0o140_000),
        (Self::Symlink, 0o120_000),
    ];

    pub(super) fn from_mode(mode: u16) -> Option<Self> {
        let all = Self::ALL.iter();
        let mut found = all.filter(|(_, bits)| mode & TYPE_MASK == *bits);
        found.next().map(|(kind, _)| *kind)
    }

    /// Its bits of `st_mode`.
    pub(super) fn mode(self) -> u16 {
        let mut found = Self::ALL.iter().filter(|(kind, _)| *kind == self);
        found.next().map_or(0, |(_, bits)| *bits)
    }
}

/// The superblock, as far as uncompressed images have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Super {
    pub(super) magic: u32,
    pub(super) checksum: u32,
    pub(super) compat: u32,
    pub(super) block_bits: u8,
    pub(super) root_nid: u16,
    pub(super) inodes: u64,
    pub(super) build_time: u64,
    pub(super) build_nsec: u32,
    pub(super) blocks: u32,
    pub(super) meta_block: u32,
    pub(super) xattr_block: u32,
    pub(super) uuid: [u8; 16],
    pub(super) incompat: u32,
    pub(super) dir_block_bits: u8,
}

impl Super {
    pub(super) fn encode(&self) -> [u8; SUPER_BYTES] {
        let mut out = [0; SUPER_BYTES];
        put(&mut out, 0, self.magic.to_le_bytes());
        put(&mut out, 4, self.checksum.to_le_bytes());
        put(&mut out, 8, self.compat.to_le_bytes());
        put(&mut out, 12, [self.block_bits]);
        put(&mut out, 14, self.root_nid.to_le_bytes());
        put(&mut out, 16, self.inodes.to_le_bytes());
        put(&mut out, 24, self.build_time.to_le_bytes());
        put(&mut out, 32, self.build_nsec.to_le_bytes());
        put(&mut out, 36, self.blocks.to_le_bytes());
        put(&mut out, 40, self.meta_block.to_le_bytes());
        put(&mut out, 44, self.xattr_block.to_le_bytes());
        put(&mut out, 48, self.uuid);
        put(&mut out, 80, self.incompat.to_le_bytes());
        put(&mut out, 90, [self.dir_block_bits]);
        out
    }

    pub(super) fn decode(bytes: &[u8; SUPER_BYTES]) -> Self {
        let [block_bits] = get(bytes, 12);
        let [dir_block_bits] = get(bytes, 90);
        Self {
            magic: u32::from_le_bytes(get(bytes, 0)),
            checksum: u32::from_le_bytes(get(bytes, 4)),
            compat: u32::from_le_bytes(get(bytes, 8)),
            block_bits,
            root_nid: u16::from_le_bytes(get(bytes, 14)),
            inodes: u64::from_le_bytes(get(bytes, 16)),
            build_time: u64::from_le_bytes(get(bytes, 24)),
            build_nsec: u32::from_le_bytes(get(bytes, 32)),
            blocks: u32::from_le_bytes(get(bytes, 36)),
            meta_block: u32::from_le_bytes(get(bytes, 40)),
            xattr_block: u32::from_le_bytes(get(bytes, 44)),
            uuid: get(bytes, 48),
            incompat: u32::from_le_bytes(get(bytes, 80)),
            dir_block_bits,
        }
    }
}

/// An inode, of either form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RawInode {
    /// Bit 0: the extended form; bits 1 to 3: the layout.
    pub(super) format: u16,
    /// None: no extended attributes; otherwise one more than the words after their header.
    pub(super) xattr_words: u16,
    pub(super) mode: u16,
    pub(super) size: u64,
    /// A block address, a device number, or the format of chunks.
    pub(super) place: u32,
    /// For programs that have room for 32 bits; the kernel itself uses the nid.
    pub(super) ino: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Not in the compact form.
    pub(super) mtime: u64,
    pub(super) mtime_nsec: u32,
    pub(super) links: u32,
}

impl RawInode {
    pub(super) fn is_extended(format: u16) -> bool {
        format & 1 == 1
    }

    pub(super) fn layout(&self) -> u16 {
        self.format >> 1
    }

    /// The extended form.
    pub(super) fn encode(&self) -> [u8; EXTENDED] {
        let mut out = [0; EXTENDED];
        put(&mut out, 0, self.format.to_le_bytes());
        put(&mut out, 2, self.xattr_words.to_le_bytes());
        put(&mut out, 4, self.mode.to_le_bytes());
        put(&mut out, 8, self.size.to_le_bytes());
        put(&mut out, 16, self.place.to_le_bytes());
        put(&mut out, 20, self.ino.to_le_bytes());
        put(&mut out, 24, self.uid.to_le_bytes());
        put(&mut out, 28, self.gid.to_le_bytes());
        put(&mut out, 32, self.mtime.to_le_bytes());
        put(&mut out, 40, self.mtime_nsec.to_le_bytes());
        put(&mut out, 44, self.links.to_le_bytes());
        out
    }

    /// Either form; of the compact one the first half of `bytes` counts.
    pub(super) fn decode(bytes: &[u8; EXTENDED]) -> Self {
        let short = |at| u16::from_le_bytes(get(bytes, at));
        let word = |at| u32::from_le_bytes(get(bytes, at));
        let both = Self {
            format: short(0),
            xattr_words: short(2),
            mode: short(4),
            place: word(16),
            ino: word(20),
            ..Self::default()
        };
        if Self::is_extended(both.format) {
            return Self {
                size: u64::from_le_bytes(get(bytes, 8)),
                uid: word(24),
                gid: word(28),
                mtime: u64::from_le_bytes(get(bytes, 32)),
                mtime_nsec: word(40),
                links: word(44),
                ..both
            };
        }
        Self {
            links: short(6).into(),
            size: word(8).into(),
            uid: short(24).into(),
            gid: short(26).into(),
            ..both
        }
    }
}

/// A directory entry without its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dirent {
    pub(super) nid: u64,
    /// Where in its block the name begins. It ends where the next one begins.
    pub(super) name_at: u16,
    /// A [`FileType`]'s number.
    pub(super) kind: u8,
}

impl Dirent {
    pub(super) fn encode(self) -> [u8; DIRENT] {
        let mut out = [0; DIRENT];
        put(&mut out, 0, self.nid.to_le_bytes());
        put(&mut out, 8, self.name_at.to_le_bytes());
        put(&mut out, 10, [self.kind]);
        out
    }

    /// The entry that begins at `at` of a directory's block.
    pub(super) fn decode(block: &[u8], at: usize) -> Option<Self> {
        let bytes = block.get(at..)?.first_chunk::<DIRENT>()?;
        let [kind] = get(bytes, 10);
        Some(Self {
            nid: u64::from_le_bytes(get(bytes, 0)),
            name_at: u16::from_le_bytes(get(bytes, 8)),
            kind,
        })
    }
}

/// A device's numbers as one (`new_encode_dev`). None where they do not fit.
pub(super) fn encode_device(device: Device) -> Option<u32> {
    let Device { major, minor } = device;
    let raw = || (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
    device.is_valid().then(raw)
}

/// The other way (`new_decode_dev`).
pub(super) fn decode_device(raw: u32) -> Device {
    Device {
        major: (raw >> 8) & 0xfff,
        minor: (raw & 0xff) | ((raw >> 12) & 0xfff00),
    }
}

/// The checksum of a superblock: CRC-32C of what its block has from it on, its own field taken as zero and
/// without the inversion at the end that others have.
pub(super) fn checksum(from_super: &[u8]) -> u32 {
    let head = from_super.get(..4).unwrap_or_default();
    let rest = from_super.get(8..).unwrap_or_default();
    let sum = crc32c::crc32c_append(crc32c::crc32c(head), &[0; 4]);
    !crc32c::crc32c_append(sum, rest)
}

fn put<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = out.get_mut(at..at + N) {
        place.copy_from_slice(&bytes);
    }
}

/// `N` bytes at `at`; callers stay within what they have.
fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.first_chunk().copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_reads_as_it_is_written() {
        let full = Super {
            magic: MAGIC,
            checksum: 1,
            compat: 2,
            block_bits: 12,
            root_nid: 36,
            inodes: 1 << 40,
            build_time: 1 << 41,
            build_nsec: 3,
            blocks: 4,
            meta_block: 5,
            xattr_block: 6,
            uuid: [7; 16],
            incompat: 8,
            dir_block_bits: 9,
        };
        assert_eq!(Super::decode(&full.encode()), full);
    }

    #[test]
    fn an_inode_reads_as_it_is_written() {
        let full = RawInode {
            format: 1,
            xattr_words: 2,
            mode: 3,
            size: 1 << 40,
            place: 5,
            ino: 6,
            uid: 1 << 20,
            gid: 1 << 21,
            mtime: u64::MAX,
            mtime_nsec: 8,
            links: 1 << 22,
        };
        assert_eq!(RawInode::decode(&full.encode()), full);
    }

    #[test]
    fn devices_keep_their_numbers() {
        for (major, minor, raw) in [(0, 0, 0), (1, 3, 0x103), (0xfff, 0xfffff, u32::MAX)] {
            assert_eq!(encode_device(Device { major, minor }), Some(raw));
            assert_eq!(decode_device(raw), Device { major, minor });
        }
        for (major, minor) in [(1 << 12, 0), (0, 1 << 20)] {
            assert_eq!(encode_device(Device { major, minor }), None);
        }
    }

    #[test]
    fn types_and_modes_go_together() {
        for (kind, bits) in FileType::ALL {
            assert_eq!(FileType::from_mode(bits | 0o7777), Some(kind));
            assert_eq!(kind.mode(), bits);
        }
        assert_eq!(FileType::from_mode(0o644), None);
    }
}
