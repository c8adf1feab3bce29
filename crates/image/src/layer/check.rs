//! Whether a layer is one: all that trees and root disks rely on.
//!
//! What [`unpack`](super::unpack) makes is so by itself. An index was in a store, where other programs of the same
//! user can write, so what is read from one goes through here.

use super::{Action, Change, Layer, MAX_CHANGE, PathProblem, path};
use crate::limits::{BLOCK, Limits};
use crate::node::{Attributes, Content, Kind, MAX_NAME, MAX_TARGET, MAX_VALUE, Node, Xattr};
use crate::shown::shown;

/// What is wrong with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerFlaw {
    /// A path, or the path that a link links to.
    #[error(transparent)]
    Path(#[from] PathProblem),
    /// Mode or time.
    #[error("its mode or time is out of range")]
    Attributes,
    /// Extended attributes.
    #[error("its extended attributes are too large, badly named, or in no order")]
    Xattrs,
    /// A symbolic link's target.
    #[error("what it links to is empty, too long, or contains a zero byte")]
    Symlink,
    /// A device's numbers.
    #[error("its device numbers are out of range")]
    Device,
    /// Stretches of a file that overlap, are not aligned, or lie outside of the file or the data blob.
    #[error("its contents are not where they can be")]
    Content,
    /// More than a layer may have.
    #[error("with it the layer has more than a layer may have")]
    TooLarge,
}

/// Checks the changes of a layer one by one.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    limits: &'a Limits,
    data_bytes: u64,
    file_bytes: u64,
    cost: u64,
}

impl<'a> Checker<'a> {
    /// For a layer with a data blob of this size, if there can be one.
    pub(super) fn new(data_bytes: u64, limits: &'a Limits) -> Option<Self> {
        data_bytes.is_multiple_of(BLOCK).then_some(Self {
            limits,
            data_bytes,
            file_bytes: 0,
            cost: 0,
        })
    }

    /// Whether this may be the next change.
    pub(super) fn check(&mut self, change: &Change) -> Result<(), LayerFlaw> {
        let cost = change.cost();
        self.cost = self.cost.saturating_add(cost);
        if cost > MAX_CHANGE as u64 || self.cost > self.limits.index_bytes {
            return Err(LayerFlaw::TooLarge);
        }
        path::check(&change.path, self.limits)?;
        let is_root = change.path.is_empty();
        match &change.action {
            Action::Put(node) if is_root && !matches!(node.kind, Kind::Directory) => {
                Err(PathProblem::Root.into())
            }
            Action::Link { .. } | Action::Whiteout if is_root => Err(PathProblem::Root.into()),
            Action::Put(node) => self.node(node),
            Action::Link { target } => Ok(path::check(target, self.limits)?),
            Action::Whiteout | Action::Opaque => Ok(()),
        }
    }

    fn node(&mut self, node: &Node<Content>) -> Result<(), LayerFlaw> {
        attributes(&node.attributes)?;
        if !xattrs(&node.attributes.xattrs, self.limits) {
            return Err(LayerFlaw::Xattrs);
        }
        match &node.kind {
            Kind::File(content) => self.content(content),
            Kind::Symlink(target) => {
                let good = (1..=MAX_TARGET).contains(&target.len()) && !target.contains(&0);
                good.then_some(()).ok_or(LayerFlaw::Symlink)
            }
            Kind::CharDevice(device) | Kind::BlockDevice(device) => {
                device.is_valid().then_some(()).ok_or(LayerFlaw::Device)
            }
            Kind::Directory | Kind::Fifo | Kind::Socket => Ok(()),
        }
    }

    fn content(&mut self, content: &Content) -> Result<(), LayerFlaw> {
        self.file_bytes = self.file_bytes.saturating_add(content.size);
        if self.file_bytes > self.limits.layer_bytes {
            return Err(LayerFlaw::TooLarge);
        }
        let placed = places(content, self.data_bytes);
        placed.then_some(()).ok_or(LayerFlaw::Content)
    }
}

fn places(content: &Content, data_bytes: u64) -> bool {
    let mut end = 0;
    let mut pieces = content.pieces.iter().peekable();
    while let Some(piece) = pieces.next() {
        let is_last = pieces.peek().is_none();
        let (Some(file_end), Some(blob_end)) = (
            piece.at.checked_add(piece.len),
            piece.blob.checked_add(piece.len),
        ) else {
            return false;
        };
        let good = piece.len > 0
            && piece.at >= end
            && piece.at.is_multiple_of(BLOCK)
            && piece.blob.is_multiple_of(BLOCK)
            && (is_last || piece.len.is_multiple_of(BLOCK))
            && file_end <= content.size
            // The blob ends with a whole block, so the rest of the last one is in it too.
            && blob_end <= data_bytes;
        if !good {
            return false;
        }
        end = file_end;
    }
    true
}

fn attributes(attributes: &Attributes) -> Result<(), LayerFlaw> {
    match attributes.mode <= 0o7777 && attributes.mtime_nsec < 1_000_000_000 {
        true => Ok(()),
        false => Err(LayerFlaw::Attributes),
    }
}

/// Whether a file can have these extended attributes.
pub(super) fn xattrs(xattrs: &[Xattr], limits: &Limits) -> bool {
    let mut bytes = 0;
    let each = xattrs.iter().all(|Xattr { name, value }| {
        bytes += name.len() + value.len();
        (1..=MAX_NAME).contains(&name.len()) && !name.contains(&0) && value.len() <= MAX_VALUE
    });
    each && bytes <= limits.xattr_bytes && xattrs.is_sorted_by(|one, two| one.name < two.name)
}

impl Layer {
    /// Whether everything in it is as its type says, and within the limits. The error names the change that is not.
    pub fn check(&self, limits: &Limits) -> Result<(), (String, LayerFlaw)> {
        let nowhere = || (shown(b""), LayerFlaw::TooLarge);
        let mut checker = Checker::new(self.data_bytes, limits).ok_or_else(nowhere)?;
        if self.changes.len() as u64 > limits.layer_entries {
            return Err(nowhere());
        }
        self.changes.iter().try_for_each(|change| {
            checker
                .check(change)
                .map_err(|flaw| (shown(&change.path), flaw))
        })
    }
}
