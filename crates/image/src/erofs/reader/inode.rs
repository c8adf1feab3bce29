//! Inodes.

use super::super::FileType;
use super::super::format::{
    CHUNK_BITS, CHUNK_INDEXES, COMPACT, EXTENDED, LAYOUT_CHUNKS, LAYOUT_INLINE, LAYOUT_PLAIN,
    RawInode, SLOT, XATTR_ENTRY, XATTR_HEADER, decode_device,
};
use super::{ReadAt, ReadError, Reader, damaged};
use crate::node::{Attributes, Device, Kind, MAX_TARGET, Node};

/// An inode, without its extended attributes and its data.
#[derive(Clone, Copy, Debug)]
pub struct Inode {
    /// Its number.
    pub nid: u64,
    /// What it is.
    pub kind: FileType,
    /// Permission bits, set-user-id, set-group-id and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// And nanoseconds.
    pub mtime_nsec: u32,
    /// How many names it has; of a directory, how many directories name it.
    pub links: u32,
    /// Bytes of a file, a directory's entries, or a link.
    pub size: u64,
    /// Of a device.
    pub device: Device,
    pub(super) layout: Layout,
    /// Where its extended attributes begin, and how many bytes they are.
    pub(super) xattrs: (u64, usize),
}

/// Where an inode's data is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    /// From this block on.
    Plain { block: u32 },
    /// The same, but for the last block, which begins at `at`.
    Inline { block: u32, at: u64 },
    /// In chunks of `1 << bits` bytes, with their table at `table`.
    Chunks {
        bits: u32,
        table: u64,
        indexes: bool,
    },
}

impl Inode {
    pub(super) fn read<S: ReadAt>(reader: &Reader<S>, nid: u64) -> Result<Self, ReadError> {
        const FAR: &str = "an inode is past the end of the disk";
        let begin = u64::from(reader.raw.meta_block) * reader.block();
        let at = nid.checked_mul(SLOT).and_then(|at| at.checked_add(begin));
        let at = at.ok_or(damaged(FAR, nid))?;
        let mut bytes = [0; EXTENDED];
        let (compact, rest) = bytes.split_at_mut(COMPACT);
        reader.read_at(compact, at, nid)?;
        let extended = RawInode::is_extended(u16::from(compact[0]));
        if extended {
            reader.read_at(rest, at + SLOT, nid)?;
        }
        let raw = RawInode::decode(&bytes);
        let kind = FileType::from_mode(raw.mode);
        let kind = kind.ok_or(damaged("an inode is of no kind", nid))?;
        let words = usize::from(raw.xattr_words);
        let xattr_bytes = match words.checked_sub(1) {
            Some(words) => XATTR_HEADER + words * XATTR_ENTRY,
            None => 0,
        };
        let form = if extended { EXTENDED } else { COMPACT };
        let xattrs_at = at + form as u64;
        let behind = xattrs_at
            .checked_add(xattr_bytes as u64)
            .ok_or(damaged(FAR, nid))?;
        if i64::try_from(raw.size).is_err() {
            return Err(damaged("a file is larger than files can be", nid));
        }
        let device = match kind {
            FileType::CharDevice | FileType::BlockDevice => decode_device(raw.place),
            _ => Device { major: 0, minor: 0 },
        };
        let (mtime, mtime_nsec) = match extended {
            true => (raw.mtime, raw.mtime_nsec),
            false => (reader.raw.build_time, reader.raw.build_nsec),
        };
        if mtime_nsec >= 1_000_000_000 {
            return Err(damaged("an inode has a time that is none", nid));
        }
        Ok(Self {
            nid,
            kind,
            mode: raw.mode & 0o7777,
            uid: raw.uid,
            gid: raw.gid,
            mtime: mtime.cast_signed(),
            mtime_nsec,
            links: raw.links,
            size: raw.size,
            device,
            layout: layout(reader, &raw, behind, nid)?,
            xattrs: (xattrs_at, xattr_bytes),
        })
    }
}

/// `behind` is where inode and attributes end.
fn layout<S: ReadAt>(
    reader: &Reader<S>,
    raw: &RawInode,
    behind: u64,
    nid: u64,
) -> Result<Layout, ReadError> {
    let number = raw.layout();
    match u8::try_from(number) {
        Ok(LAYOUT_PLAIN) => Ok(Layout::Plain { block: raw.place }),
        Ok(LAYOUT_INLINE) => {
            let block = reader.block();
            // What is behind the inode must end with its block, and be there.
            let tail = match raw.size % block {
                0 if raw.size > 0 => block,
                tail => tail,
            };
            if behind % block + tail > block {
                return Err(damaged("data behind an inode goes past its block", nid));
            }
            Ok(Layout::Inline {
                block: raw.place,
                at: behind,
            })
        }
        Ok(LAYOUT_CHUNKS) => {
            // The upper half is reserved.
            let format = u16::try_from(raw.place & 0xffff).unwrap_or(0);
            if format & !(CHUNK_BITS | CHUNK_INDEXES) != 0 {
                let what = format!("chunks of format {format:#x}");
                return Err(ReadError::Unsupported(what));
            }
            let indexes = format & CHUNK_INDEXES != 0;
            let entry: u64 = if indexes { 8 } else { 4 };
            Ok(Layout::Chunks {
                bits: u32::from(reader.raw.block_bits) + u32::from(format & CHUNK_BITS),
                table: behind.next_multiple_of(entry),
                indexes,
            })
        }
        _ => {
            let what = match number {
                1 | 3 => "compressed files".to_owned(),
                other => format!("inodes of layout {other}"),
            };
            Err(ReadError::Unsupported(what))
        }
    }
}

impl<S: ReadAt> Reader<S> {
    /// What a symbolic link says.
    ///
    /// # Errors
    ///
    /// It is none, is damaged, or is empty or longer than links can be.
    pub fn link(&self, inode: &Inode) -> Result<Vec<u8>, ReadError> {
        if inode.kind != FileType::Symlink {
            return Err(ReadError::Kind {
                expected: "symbolic link",
            });
        }
        let size = usize::try_from(inode.size).ok();
        let size = size.filter(|size| (1..=MAX_TARGET).contains(size));
        let size = size.ok_or(damaged("a symbolic link is empty or too long", inode.nid))?;
        let mut target = vec![0; size];
        self.read(inode, 0, &mut target)?;
        match target.contains(&0) {
            true => Err(damaged("a symbolic link has a zero in it", inode.nid)),
            false => Ok(target),
        }
    }

    /// All of an inode but its data, which of a file is the size.
    ///
    /// # Errors
    ///
    /// It is damaged.
    pub fn node(&self, inode: &Inode) -> Result<Node<u64>, ReadError> {
        Ok(Node {
            attributes: Attributes {
                mode: inode.mode,
                uid: inode.uid,
                gid: inode.gid,
                mtime: inode.mtime,
                mtime_nsec: inode.mtime_nsec,
                xattrs: self.xattrs(inode)?,
            },
            kind: match inode.kind {
                FileType::File => Kind::File(inode.size),
                FileType::Directory => Kind::Directory,
                FileType::Symlink => Kind::Symlink(self.link(inode)?),
                FileType::CharDevice => Kind::CharDevice(inode.device),
                FileType::BlockDevice => Kind::BlockDevice(inode.device),
                FileType::Fifo => Kind::Fifo,
                FileType::Socket => Kind::Socket,
            },
        })
    }
}
