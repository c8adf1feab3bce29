//! The plan of a disk: where everything goes, before a byte is written.
//!
//! Inodes are numbered breadth first, so that those of one directory are neighbours; then each gets its
//! place. Directories that do not fit behind their inodes, and links as long as a block, have blocks of
//! their own behind all inodes; so the whole of the metadata is
//!
//! ```text
//! 0     1024        1152
//! │ zeros │ superblock │ inodes, with what stands behind them ... │ shared attributes │ blocks │
//! ```
//!
//! with the last three beginning at blocks. The root comes first, since its number has 16 bits. The data
//! blobs follow, and what a file needs is an address in them.
//!
//! A plan holds about a hundred bytes for each inode and for each distinct attribute, and borrows the tree;
//! while it is made or written, one directory's entries are in memory as well. Contents never are.

use super::attached::Shared;
use super::content::{self, Mapping};
use super::directory::{self, Entry, Length};
use super::disk::{Disk, layout};
use super::format::{EXTENDED, SLOT, SUPER_AT, SUPER_BYTES, encode_device};
use super::place::Places;
use super::xattr::Kept;
use super::{FileType, Options, WriteError};
use crate::limits::BLOCK;
use crate::node::{Attributes, Kind, MAX_TARGET};
use crate::tree::{FileContent, Inode, InodeId, Tree};

/// A disk, planned. [`Plan::write`] writes it.
#[derive(Debug)]
pub struct Plan<'a> {
    pub(super) tree: &'a Tree,
    pub(super) options: Options,
    /// The inodes, in the order of their numbers, from 0, the root.
    pub(super) inodes: Vec<Planned>,
    /// The numbers of all inodes of the tree.
    numbers: Vec<u32>,
    pub(super) shared: Shared<'a>,
    /// Where the shared attributes begin, and the blocks behind them.
    pub(super) shared_at: u64,
    pub(super) blocks_at: u64,
    /// Of each layer, the block of the disk at which its data begins, and how much there is.
    pub(super) data: Vec<Data>,
    /// There are files in chunks.
    pub(super) chunked: bool,
    disk: Disk,
}

/// A data blob on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data {
    pub(super) block: u64,
    pub(super) bytes: u64,
}

/// An inode that has its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) id: InodeId,
    /// Its directory's number, which directories need.
    parent: u32,
    pub(super) links: u32,
    /// Its place in bytes.
    pub(super) at: u64,
    pub(super) body: Body,
}

/// What an inode has besides its attributes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    /// Nothing, or a device's number.
    None { device: u32 },
    /// A directory or a link. What does not stand behind the inode begins at this one of the blocks that
    /// the metadata ends with.
    Meta {
        length: Length,
        block: u64,
        inline: bool,
    },
    /// A file from this block of its data blob on.
    Plain { block: u64 },
    /// A file in chunks.
    Chunks { bits: u32, count: u64 },
}

impl Planned {
    pub(super) fn nid(&self) -> u64 {
        self.at / SLOT
    }
}

impl<'a> Plan<'a> {
    /// Plans the disk of a tree whose files' bytes are in data blobs of these sizes, those of the lowest
    /// layer first. They are multiples of [`BLOCK`].
    ///
    /// # Errors
    ///
    /// The tree does not fit on a disk, or into the limit of `options`; or it makes no sense, which happens
    /// when what it was made of was read from a file that is damaged.
    pub fn new(tree: &'a Tree, data: &[u64], options: &Options) -> Result<Self, WriteError> {
        let (inodes, numbers) = number(tree)?;
        let attributes = inodes.iter().map(|one| &tree.inode(one.id).node.attributes);
        let all = || attributes.clone().flat_map(|one: &Attributes| &one.xattrs);
        let left_out = all().filter(|xattr| Kept::new(xattr).is_none()).count() as u64;
        let shared = Shared::choose(all());
        let mut plan = Self {
            tree,
            options: options.clone(),
            inodes,
            numbers,
            shared,
            shared_at: 0,
            blocks_at: 0,
            data: data
                .iter()
                .map(|bytes| Data {
                    block: 0,
                    bytes: *bytes,
                })
                .collect(),
            chunked: false,
            disk: Disk::default(),
        };
        let (end, blocks) = plan.place()?;

        let too_large = || WriteError::MetadataTooLarge {
            limit: options.max_metadata,
        };
        let to_block = |at: u64| at.checked_next_multiple_of(BLOCK).ok_or_else(too_large);
        plan.shared_at = to_block(end)?;
        plan.blocks_at = to_block(plan.shared_at + plan.shared.bytes())?;
        let metadata = blocks
            .checked_mul(BLOCK)
            .and_then(|bytes| bytes.checked_add(plan.blocks_at));
        let metadata = metadata
            .filter(|bytes| *bytes <= options.max_metadata)
            .ok_or_else(too_large)?;
        plan.disk = layout(metadata, data)?;
        plan.disk.inodes = plan.inodes.len() as u64;
        plan.disk.xattrs_left_out = left_out;
        let mut block = metadata / BLOCK;
        for data in &mut plan.data {
            data.block = block;
            block += data.bytes / BLOCK;
        }
        Ok(plan)
    }

    /// What will be on the disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Gives each inode its place. Returns where inodes end, and how many blocks there are behind them.
    fn place(&mut self) -> Result<(u64, u64), WriteError> {
        let limit = self.options.max_metadata;
        let too_large = WriteError::MetadataTooLarge { limit };
        let mut places = Places::new(SUPER_AT + SUPER_BYTES as u64);
        let mut blocks = 0;
        for number in 0..self.inodes.len() {
            let inode = self.tree.inode(self.inodes[number].id);
            check(&inode.node.attributes)?;
            let xattrs = self.shared.attach(&inode.node.attributes.xattrs)?.bytes();
            let head = (EXTENDED + xattrs) as u64;
            let mut body = self.body(inode)?;
            let (bytes, whole) = match &mut body {
                Body::None { .. } | Body::Plain { .. } => (head, false),
                Body::Chunks { count, .. } => {
                    self.chunked = true;
                    let table = count
                        .checked_mul(4)
                        .and_then(|table| table.checked_add(head));
                    (table.unwrap_or(u64::MAX), false)
                }
                Body::Meta {
                    length,
                    block,
                    inline,
                } => {
                    *inline = head + length.tail <= BLOCK;
                    *block = blocks;
                    blocks += length.blocks + u64::from(!*inline);
                    let behind = if *inline { length.tail } else { 0 };
                    (head + behind, *inline)
                }
            };
            let at = places.take(bytes, whole);
            let Some(at) = at.filter(|_| places.end() <= limit) else {
                return Err(too_large);
            };
            self.inodes[number].at = at;
            self.inodes[number].body = body;
        }
        Ok((places.end(), blocks))
    }

    fn body(&self, inode: &Inode) -> Result<Body, WriteError> {
        let meta = |length| Body::Meta {
            length,
            block: 0,
            inline: false,
        };
        Ok(match &inode.node.kind {
            Kind::File(file) => match content::map(&file.content, self.data_of(file)?.bytes)? {
                Mapping::Empty => Body::None { device: 0 },
                Mapping::Plain(block) => Body::Plain { block },
                Mapping::Chunks { bits, count } => Body::Chunks { bits, count },
            },
            // The length of a directory is that of its names, whatever numbers it will have.
            Kind::Directory => meta(Length::of(&directory::entries(self.children(inode), 0, 0))),
            Kind::Symlink(target) if !is_target(target) => {
                return Err(WriteError::Damaged(
                    "a symbolic link says what none can say",
                ));
            }
            Kind::Symlink(target) => meta(Length {
                blocks: 0,
                tail: target.len() as u64,
            }),
            Kind::CharDevice(device) | Kind::BlockDevice(device) => Body::None {
                device: encode_device(*device).ok_or(WriteError::Damaged(
                    "a device has numbers that none can have",
                ))?,
            },
            Kind::Fifo | Kind::Socket => Body::None { device: 0 },
        })
    }

    /// The data blob that has a file's bytes.
    pub(super) fn data_of(&self, file: &FileContent) -> Result<Data, WriteError> {
        let data = self.data.get(file.layer);
        data.copied()
            .ok_or(WriteError::Damaged("a file's layer is not there"))
    }

    /// The entries of a directory, in order.
    pub(super) fn entries(&self, planned: &Planned) -> Vec<Entry<'a>> {
        let parent = self.inodes[planned.parent as usize].nid();
        let inode = self.tree.inode(planned.id);
        directory::entries(self.children(inode), planned.nid(), parent)
    }

    fn children(&self, inode: &'a Inode) -> impl Iterator<Item = Entry<'a>> {
        inode.children.iter().map(|(name, id)| Entry {
            name,
            nid: self.inodes[self.numbers[id.index()] as usize].nid(),
            kind: file_type(self.tree.inode(*id)),
        })
    }
}

fn check(attributes: &Attributes) -> Result<(), WriteError> {
    match attributes.mode <= 0o7777 && attributes.mtime_nsec < 1_000_000_000 {
        true => Ok(()),
        false => Err(WriteError::Damaged(
            "a file has a mode or a time that none can have",
        )),
    }
}

fn is_target(target: &[u8]) -> bool {
    (1..=MAX_TARGET).contains(&target.len()) && !target.contains(&0)
}

/// What kind an inode has.
pub(super) fn file_type(inode: &Inode) -> FileType {
    match inode.node.kind {
        Kind::File(_) => FileType::File,
        Kind::Directory => FileType::Directory,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::CharDevice(_) => FileType::CharDevice,
        Kind::BlockDevice(_) => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
    }
}

/// Numbers the inodes. Returns them in order, and the numbers by their ids in the tree.
fn number(tree: &Tree) -> Result<(Vec<Planned>, Vec<u32>), WriteError> {
    const NONE: u32 = u32::MAX;
    let planned = |id, parent| Planned {
        id,
        parent,
        links: tree.links(id),
        at: 0,
        body: Body::None { device: 0 },
    };
    let mut numbers = vec![NONE; tree.slots()];
    let mut inodes = vec![planned(tree.root(), 0)];
    numbers[tree.root().index()] = 0;
    let mut next = 0;
    while let Some(directory) = inodes.get(next).map(|one| one.id) {
        let inode = tree.inode(directory);
        let number = u32::try_from(next).map_err(|_| WriteError::Damaged("it has 2^32 files"))?;
        let mut links = 2;
        for id in inode.children.values() {
            links += u32::from(tree.inode(*id).is_directory());
            if numbers[id.index()] == NONE {
                numbers[id.index()] = u32::try_from(inodes.len()).unwrap_or(NONE);
                inodes.push(planned(*id, number));
            }
        }
        if inode.is_directory() {
            inodes[next].links = links;
        }
        next += 1;
    }
    Ok((inodes, numbers))
}
