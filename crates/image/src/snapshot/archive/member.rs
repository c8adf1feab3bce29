//! The files in a tar that an archive may have: regular ones, of known names, some of them sparse.

use std::io::Read;

use serde::de::DeserializeOwned;
use tar::{EntryType, Header, PaxExtensions};

use super::name::Name;
use super::{broken, sparse, wrong};
use crate::snapshot::error::Result;

/// The largest extended header, in bytes.
const MAX_PAX: u64 = 4096;

/// The files of a tar, one after the other.
pub(super) struct Members<'a, R: Read> {
    entries: tar::Entries<'a, R>,
}

/// One of them.
pub(super) struct Member<'a, R: Read> {
    name: Option<Name>,
    /// What its header says that it has, a map included.
    pub(super) length: u64,
    /// The size of the file that it is, if it is sparse.
    pub(super) sparse: Option<u64>,
    pub(super) data: tar::Entry<'a, R>,
}

impl<'a, R: Read> Members<'a, R> {
    pub(super) fn of(archive: &'a mut tar::Archive<R>) -> Result<Self> {
        // Raw: what an extended header says is ours to bound, and ours to believe.
        let entries = archive.entries().map_err(broken)?.raw(true);
        Ok(Self { entries })
    }

    pub(super) fn next(&mut self) -> Result<Option<Member<'a, R>>> {
        let Some(entry) = self.entries.next() else {
            return Ok(None);
        };
        let mut entry = entry.map_err(broken)?;
        let mut extended = None;
        if entry.header().entry_type() == EntryType::XHeader {
            extended = Some(Extended::read(&mut entry)?);
            entry = match self.entries.next() {
                Some(entry) => entry.map_err(broken)?,
                None => return Err(wrong("it ends in the middle")),
            };
        }
        if entry.header().entry_type() != EntryType::Regular {
            return Err(wrong("there are other things than files in it"));
        }
        let length = entry.header().entry_size().map_err(broken)?;
        let header = Name::parse(&path(entry.header()));
        let name = match &extended {
            None => header,
            Some(extended) => {
                let expected = extended.name.sparse_header();
                match path(entry.header()) == expected.as_bytes() {
                    true => Some(extended.name),
                    false => None,
                }
            }
        };
        Ok(Some(Member {
            name,
            length,
            sparse: extended.map(|extended| extended.size),
            data: entry,
        }))
    }

    pub(super) fn some(&mut self) -> Result<Member<'a, R>> {
        self.next()?.ok_or_else(|| wrong("it ends in the middle"))
    }

    pub(super) fn expect(&mut self, name: Name) -> Result<Member<'a, R>> {
        let member = self.some()?;
        match member.name()? == name {
            true => Ok(member),
            false => Err(wrong(format!("{name} is missing"))),
        }
    }
}

impl<R: Read> Member<'_, R> {
    pub(super) fn name(&self) -> Result<Name> {
        self.name.ok_or_else(|| {
            let name: String = String::from_utf8_lossy(&path(self.data.header()))
                .chars()
                .take(100)
                .collect();
            wrong(format!("{name:?} is in it, which no archive has"))
        })
    }

    /// The size of one that is not sparse.
    pub(super) fn plain(&self) -> Result<u64> {
        match self.sparse {
            None => Ok(self.length),
            Some(_) => Err(wrong("a file in it is sparse that never is")),
        }
    }

    pub(super) fn bytes(mut self, limit: u64) -> Result<Vec<u8>> {
        let size = self.plain()?;
        if size > limit {
            return Err(wrong(format!("{} has {size} bytes", self.name()?)));
        }
        let mut bytes = Vec::new();
        self.data.read_to_end(&mut bytes).map_err(broken)?;
        match bytes.len() as u64 == size {
            true => Ok(bytes),
            false => Err(wrong("it ends in the middle")),
        }
    }

    pub(super) fn document<T: DeserializeOwned>(self, limit: u64) -> Result<T> {
        let name = self.name()?;
        let bytes = self.bytes(limit)?;
        serde_json::from_slice(&bytes).map_err(|error| wrong(format!("{name} is wrong: {error}")))
    }
}

/// What an extended header says: that the next file is sparse.
struct Extended {
    name: Name,
    size: u64,
}

impl Extended {
    fn read(entry: &mut tar::Entry<'_, impl Read>) -> Result<Self> {
        let odd = || wrong("a header in it is none that this library writes");
        if entry.header().entry_size().map_err(broken)? > MAX_PAX {
            return Err(odd());
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(broken)?;
        let (mut name, mut size) = (None, None);
        let mut version = (false, false);
        for record in PaxExtensions::new(&bytes) {
            let record = record.map_err(broken)?;
            let text = record.value().map_err(|_| odd())?;
            match record.key().map_err(|_| odd())? {
                sparse::MAJOR if text == "1" && !version.0 => version.0 = true,
                sparse::MINOR if text == "0" && !version.1 => version.1 = true,
                sparse::NAME if name.is_none() => {
                    name = Some(Name::parse(text.as_bytes()).ok_or_else(odd)?);
                }
                sparse::SIZE if size.is_none() => {
                    size = Some(text.parse().map_err(|_| odd())?);
                }
                _ => return Err(odd()),
            }
        }
        match (version, name, size) {
            ((true, true), Some(name), Some(size)) => Ok(Self { name, size }),
            _ => Err(odd()),
        }
    }
}

fn path(header: &Header) -> Vec<u8> {
    header.path_bytes().into_owned()
}
