//! The tar format, as layers have it: a stream of 512-byte blocks, out of which come entries and their bytes.
//!
//! An entry is a header block, and then its data in whole blocks. What a header has no room for comes in entries
//! before it, of types of their own: records of text (`x`, the format of POSIX), or a long name (`L`, `K`, of GNU).
//! There are four ways to say that a file has holes ([`sparse`]).
//!
//! The crate `tar` knows the header's layout. The rest is here, since archives come from strangers: that crate
//! reads the entries before a header into memory however long they are, splits their records at line ends, which
//! attributes' values may contain, knows one of the four ways to have holes, and gives holes as zeros, of which
//! there may be exabytes. Where readers of tar differ, this one does as those do that other engines
//! unpack layers with: data after entries that can have none is not skipped, a record replaces a field unless it
//! is empty, and global records are ignored.

mod header;
mod pax;
mod sparse;

pub(crate) use sparse::Extent;
use tar::{EntryType, Header};

use self::header::{Fields, is_zero, number};
use self::pax::Records;
use super::LayerError;
use super::stream::Stream;

/// The size of a block.
const BLOCK: u64 = 512;
/// The most bytes of an entry that describes another one.
const MAX_SPECIAL: u64 = 1 << 20;

/// An archive that is being read.
pub(crate) struct Archive<'a> {
    stream: Stream<'a>,
    /// Bytes of the current entry that were not read yet, and of the padding behind them.
    data: u64,
    padding: u64,
    /// How many entries there were; those that only describe others are not counted.
    entries: u64,
}

/// One entry.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name, as the archive has it.
    pub(crate) path: Vec<u8>,
    /// What a link links to, as the archive has it.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(super) mode: u16,
    pub(super) uid: i64,
    pub(super) gid: i64,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, u32),
    /// Major and minor number.
    pub(super) device: (i64, i64),
    /// In the order of their names.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The size of the file.
    pub(crate) size: u64,
    /// Where its data belongs, if it has holes. All the data there is belongs somewhere.
    pub(crate) extents: Option<Vec<Extent>>,
}

/// What the entries before an entry say of it.
#[derive(Default)]
struct Before {
    records: Option<Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<'a> Archive<'a> {
    pub(super) fn new(stream: Stream<'a>) -> Self {
        Self {
            stream,
            data: 0,
            padding: 0,
            entries: 0,
        }
    }

    /// The next entry; what was not read of the one before is skipped. Fails when there are more than `most`.
    pub(crate) fn next(&mut self, most: u64) -> Result<Option<Entry>, LayerError> {
        let mut before = Before::default();
        loop {
            self.stream.skip(self.data)?;
            self.stream.skip(self.padding)?;
            (self.data, self.padding) = (0, 0);
            let Some(block) = self.header()? else {
                // What described an entry that never came is left out, as everywhere.
                return Ok(None);
            };
            let header = Header::from_byte_slice(&block);
            match header.entry_type() {
                EntryType::XHeader => {
                    let bytes = self.special(header)?;
                    before.records = Some(Records::parse(&bytes)?);
                }
                EntryType::GNULongName => before.name = Some(until_zero(self.special(header)?)),
                EntryType::GNULongLink => before.link = Some(until_zero(self.special(header)?)),
                EntryType::XGlobalHeader => {
                    self.special(header)?;
                }
                _ if self.entries == most => {
                    return Err(LayerError::TooLarge {
                        what: "entries",
                        limit: most,
                    });
                }
                _ => {
                    self.entries += 1;
                    return self.entry(header, before).map(Some);
                }
            }
        }
    }

    /// Some of the current entry's data, `most` bytes of it at most; empty at its end.
    pub(crate) fn data(&mut self, most: u64) -> Result<&[u8], LayerError> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let bytes = self.stream.some(self.data.min(most))?;
        if bytes.is_empty() {
            return Err(LayerError::Truncated);
        }
        self.data -= bytes.len() as u64;
        Ok(bytes)
    }

    /// The stream, which may go on after the archive.
    pub(super) fn into_stream(self) -> Stream<'a> {
        self.stream
    }

    /// The next header, unless the archive ends: with two blocks of zeros, or just so.
    fn header(&mut self) -> Result<Option<[u8; 512]>, LayerError> {
        let Some(block) = self.stream.block()? else {
            return Ok(None);
        };
        if !is_zero(&block) {
            header::check_sum(&block)?;
            return Ok(Some(block));
        }
        match self.stream.block()? {
            Some(second) if !is_zero(&second) => {
                Err(LayerError::Damaged("something follows its end"))
            }
            _ => Ok(None),
        }
    }

    /// All of the data of an entry that describes another one.
    fn special(&mut self, header: &Header) -> Result<Vec<u8>, LayerError> {
        let size = size(number(&header.as_old().size))?;
        if size > MAX_SPECIAL {
            return Err(LayerError::Damaged("a description is too long"));
        }
        self.has_data(size);
        let mut bytes = Vec::new();
        loop {
            let more = self.data(size)?;
            if more.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(more);
        }
    }

    fn has_data(&mut self, size: u64) {
        self.data = size;
        self.padding = size.wrapping_neg() % BLOCK;
    }

    fn entry(&mut self, header: &Header, before: Before) -> Result<Entry, LayerError> {
        let fields = Fields::parse(header)?;
        let mut records = before.records.unwrap_or_default();
        let path = before.name.or(records.path.take()).unwrap_or(fields.path);
        let link = before.link.or(records.link.take()).unwrap_or(fields.link);
        let mut entry = Entry {
            kind: match fields.kind {
                // Before there was a type for directories.
                EntryType::Regular if fields.old && path.ends_with(b"/") => EntryType::Directory,
                EntryType::Continuous => EntryType::Regular,
                kind => kind,
            },
            path,
            link,
            mode: fields.mode,
            uid: records.uid.unwrap_or(fields.uid),
            gid: records.gid.unwrap_or(fields.gid),
            mtime: records.mtime.unwrap_or((fields.mtime, 0)),
            device: fields.device,
            xattrs: std::mem::take(&mut records.xattrs).into_iter().collect(),
            size: 0,
            extents: None,
        };
        let stored = match entry.kind {
            EntryType::Regular | EntryType::GNUSparse => {
                size(Some(records.size.unwrap_or(fields.size)))?
            }
            EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo => 0,
            // What it is nobody knows, so neither does anybody whether it has data.
            _ => return Ok(entry),
        };
        self.has_data(stored);
        entry.size = stored;
        if entry.kind == EntryType::GNUSparse {
            self.old_sparse(header, &mut entry)?;
        } else if entry.kind == EntryType::Regular {
            self.new_sparse(records, &mut entry)?;
        }
        if let Some(extents) = &entry.extents {
            sparse::check(extents, entry.size, self.data)?;
        }
        Ok(entry)
    }
}

/// A size, which is not below zero.
fn size(number: Option<i64>) -> Result<u64, LayerError> {
    number
        .and_then(|size| u64::try_from(size).ok())
        .ok_or(LayerError::Damaged("a size is no number"))
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}
