//! Archives, written entry by entry: by the rules, or not.

use tar::{EntryType, Header};

use super::super::{Action, Layer};
use crate::node::Kind;

/// An archive in the making.
pub(super) struct Archive {
    pub(super) bytes: Vec<u8>,
    /// What is changed in the next header.
    change: Box<dyn FnOnce(&mut Header)>,
}

impl Default for Archive {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            change: Box::new(|_| {}),
        }
    }
}

impl Archive {
    /// Changes the next entry's header before its checksum is made.
    pub(super) fn with(&mut self, change: impl FnOnce(&mut Header) + 'static) {
        self.change = Box::new(change);
    }

    /// An entry with a size that is that of its data.
    pub(super) fn entry(&mut self, path: &str, kind: EntryType, data: &[u8]) {
        let size = data.len() as u64;
        let change = std::mem::replace(&mut self.change, Box::new(|_| {}));
        self.with(move |header| {
            header.set_size(size);
            change(header);
        });
        self.raw(path, kind, data);
    }

    /// An entry, whatever its header says of its size.
    pub(super) fn raw(&mut self, path: &str, kind: EntryType, data: &[u8]) {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_mode(0o644);
        header.set_entry_type(kind);
        header.set_size(0);
        let change = std::mem::replace(&mut self.change, Box::new(|_| {}));
        change(&mut header);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.data(data);
    }

    /// Bytes, filled up to a block.
    pub(super) fn data(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    pub(super) fn link(&mut self, path: &str, kind: EntryType, target: &str) {
        let target = target.to_owned();
        self.with(move |header| header.set_link_name_literal(target).unwrap());
        self.entry(path, kind, b"");
    }

    pub(super) fn device(&mut self, path: &str, kind: EntryType, major: u32, minor: u32) {
        self.with(move |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        });
        self.entry(path, kind, b"");
    }

    /// An entry that describes the next one.
    pub(super) fn special(&mut self, kind: EntryType, data: Vec<u8>) {
        // What is to be changed is in the entry's own header.
        let change = std::mem::replace(&mut self.change, Box::new(|_| {}));
        self.entry("special", kind, &data);
        self.change = change;
    }

    pub(super) fn records(&mut self, records: &[(&str, &[u8])]) {
        let mut builder = tar::Builder::new(Vec::new());
        builder
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        let bytes = builder.into_inner().unwrap();
        self.bytes.extend_from_slice(&bytes[..bytes.len() - 1024]);
    }

    /// The archive, with the two blocks that end it.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

/// A line for each change.
pub(super) fn kinds(layer: &Layer) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = |action: &Action| match action {
        Action::Link { target } => format!("= {}", text(target)),
        Action::Whiteout => "gone".into(),
        Action::Opaque => "opaque".into(),
        Action::Put(node) => match &node.kind {
            Kind::File(content) => format!("{} bytes", content.size),
            Kind::Directory => "directory".into(),
            Kind::Symlink(target) => format!("-> {}", text(target)),
            Kind::CharDevice(device) => format!("char {}:{}", device.major, device.minor),
            Kind::BlockDevice(device) => format!("block {}:{}", device.major, device.minor),
            Kind::Fifo => "fifo".into(),
            Kind::Socket => "socket".into(),
        },
    };
    let changes = layer.changes.iter();
    changes
        .map(|change| format!("{} {}", text(&change.path), line(&change.action)))
        .collect()
}
