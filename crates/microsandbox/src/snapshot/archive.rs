//! What goes into an archive of a snapshot.

use msb_runtime::snapshots::Export;

/// What [`Snapshot::export`](super::Snapshot::export) writes beside the snapshot itself, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportOpts {
    /// The snapshots too that it comes from, as far as they are here.
    pub with_parents: bool,
    /// The image too that it builds on, so that it can be booted where no registry is.
    pub with_image: bool,
    /// A plain tar, not compressed.
    pub plain_tar: bool,
}

impl From<ExportOpts> for Export {
    fn from(opts: ExportOpts) -> Self {
        Self {
            with_parents: opts.with_parents,
            with_image: opts.with_image,
            plain_tar: opts.plain_tar,
        }
    }
}
