//! A planned disk's metadata, written from its first byte to its last.
//!
//! It goes to any [`Write`], and not into memory: a large image has tens of MiB of it, which a caller
//! hashes while they pass on their way to a file. Only the first block waits for its checksum.

use std::io::Write;

use super::WriteError;
use super::content;
use super::directory;
use super::format::{
    COMPAT_CHECKSUM, COMPAT_MTIME, INCOMPAT_CHUNKED, LAYOUT_CHUNKS, LAYOUT_INLINE, LAYOUT_PLAIN,
    MAGIC, NOWHERE, RawInode, SUPER_AT, Super,
};
use super::plan::{Body, Plan, Planned, file_type};
use super::sink::Sink;
use crate::limits::BLOCK;
use crate::node::Kind;

impl Plan<'_> {
    /// Writes the metadata: [`Disk::metadata_bytes`](super::Disk::metadata_bytes) bytes, always the same
    /// for the same tree, data blobs and options. `out` gets pieces of 64 KiB and is flushed.
    ///
    /// # Errors
    ///
    /// `out` takes no more.
    pub fn write(&self, out: impl Write) -> Result<(), WriteError> {
        let mut out = Sink::new(out);
        out.pad_to(SUPER_AT)?;
        out.buffer.extend_from_slice(&self.superblock().encode());
        let mut order: Vec<u32> = (0..).take(self.inodes.len()).collect();
        order.sort_unstable_by_key(|number| self.inodes[*number as usize].at);
        for number in order {
            let planned = &self.inodes[number as usize];
            out.pad_to(planned.at)?;
            self.inode(number, planned, &mut out)?;
        }
        out.pad_to(self.shared_at)?;
        for kept in self.shared.all() {
            kept.encode(&mut out.buffer);
            out.pass_on()?;
        }
        out.pad_to(self.blocks_at)?;
        for planned in &self.inodes {
            self.blocks(planned, &mut out)?;
        }
        out.finish()
    }

    fn superblock(&self) -> Super {
        let shared = match self.shared.bytes() {
            0 => 0,
            _ => self.shared_at / BLOCK,
        };
        Super {
            magic: MAGIC,
            checksum: 0,
            compat: COMPAT_CHECKSUM | COMPAT_MTIME,
            block_bits: u8::try_from(BLOCK.trailing_zeros()).unwrap_or(0),
            // The root is the first inode, so it is in the first or the second block.
            root_nid: self.inodes.first().map_or(0, |root| low16(root.nid())),
            inodes: self.inodes.len() as u64,
            build_time: self.options.build_time,
            build_nsec: 0,
            blocks: self.disk().blocks,
            meta_block: 0,
            xattr_block: low32(shared),
            uuid: uuid(self.options.id.as_bytes()),
            incompat: if self.chunked { INCOMPAT_CHUNKED } else { 0 },
            dir_block_bits: 0,
        }
    }

    fn inode<W: Write>(
        &self,
        number: u32,
        planned: &Planned,
        out: &mut Sink<W>,
    ) -> Result<(), WriteError> {
        let inode = self.tree.inode(planned.id);
        let attributes = &inode.node.attributes;
        let xattrs = self.shared.attach(&attributes.xattrs)?;
        let file = match &inode.node.kind {
            Kind::File(file) => Some((file, self.data_of(file)?)),
            _ => None,
        };
        let first_block = file.map_or(0, |(_, data)| data.block);
        let (layout, place, size) = match planned.body {
            Body::None { device } => (LAYOUT_PLAIN, device, 0),
            Body::Plain { block } => (LAYOUT_PLAIN, low32(first_block + block), file_size(file)),
            Body::Chunks { bits, .. } => (LAYOUT_CHUNKS, bits, file_size(file)),
            Body::Meta {
                length,
                block,
                inline,
            } => {
                let block = low32(self.blocks_at / BLOCK + block);
                match (inline, length.blocks) {
                    (true, 0) => (LAYOUT_INLINE, NOWHERE, length.bytes()),
                    (true, _) => (LAYOUT_INLINE, block, length.bytes()),
                    (false, _) => (LAYOUT_PLAIN, block, length.bytes()),
                }
            }
        };
        let raw = RawInode {
            format: u16::from(layout) << 1 | 1,
            xattr_words: xattrs.words(),
            mode: file_type(inode).mode() | attributes.mode,
            size,
            place,
            ino: number + 1,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: attributes.mtime.cast_unsigned(),
            mtime_nsec: attributes.mtime_nsec,
            links: planned.links,
        };
        out.buffer.extend_from_slice(&raw.encode());
        xattrs.encode(&mut out.buffer);
        match planned.body {
            Body::Meta { inline: true, .. } => match &inode.node.kind {
                Kind::Symlink(target) => out.buffer.extend_from_slice(target),
                _ => {
                    let entries = self.entries(planned);
                    if let Some(tail) = directory::blocks(&entries).last() {
                        directory::encode(tail, &mut out.buffer);
                    }
                }
            },
            Body::Chunks { bits, count } => {
                let Some((file, data)) = file else {
                    return Ok(());
                };
                for chunk in content::chunks(&file.content, data.bytes, bits, count)? {
                    let address = chunk.map_or(NOWHERE, |block| low32(data.block + block));
                    out.buffer.extend_from_slice(&address.to_le_bytes());
                    out.pass_on()?;
                }
            }
            Body::None { .. } | Body::Plain { .. } | Body::Meta { .. } => {}
        }
        Ok(out.pass_on()?)
    }

    /// The blocks of a directory or a link that do not stand behind its inode.
    fn blocks<W: Write>(&self, planned: &Planned, out: &mut Sink<W>) -> Result<(), WriteError> {
        let Body::Meta {
            length,
            block,
            inline,
        } = planned.body
        else {
            return Ok(());
        };
        let count = length.blocks + u64::from(!inline);
        if count == 0 {
            return Ok(());
        }
        let begin = self.blocks_at + block * BLOCK;
        if let Kind::Symlink(target) = &self.tree.inode(planned.id).node.kind {
            out.buffer.extend_from_slice(target);
            return out.pad_to(begin + BLOCK);
        }
        let entries = self.entries(planned);
        for (block, end) in directory::blocks(&entries).zip(1..=count) {
            directory::encode(block, &mut out.buffer);
            out.pad_to(begin + end * BLOCK)?;
        }
        Ok(())
    }
}

fn file_size(file: Option<(&crate::tree::FileContent, super::plan::Data)>) -> u64 {
    file.map_or(0, |(file, _)| file.content.size)
}

/// An identifier made of the beginning of a digest, marked as one of no standard form (RFC 9562, version 8).
fn uuid(digest: &[u8; 32]) -> [u8; 16] {
    let mut uuid = digest.first_chunk().copied().unwrap_or([0; 16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// A block's number. That of any block of the disk has 32 bits: the plan saw to it.
fn low32(block: u64) -> u32 {
    u32::try_from(block).unwrap_or(NOWHERE)
}

fn low16(nid: u64) -> u16 {
    u16::try_from(nid).unwrap_or(0)
}
