//! Indexes: which image is for whom.

use std::collections::BTreeSet;

use super::{Descriptor, Kind, ManifestError, Platform};

/// How many indexes may lead to one another: a layout's own, a repository's, and one for each platform.
pub const MAX_DEPTH: usize = 4;

/// A choice of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Manifests, further indexes, and whatever else.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// The entries that may be for this platform, the best first: those that say so, or if none does, those that
    /// say nothing. Entries of other kinds than manifests are left out. Of those that say nothing, the configuration tells
    /// ([`check_platform`](super::ImageConfig::check_platform)).
    ///
    /// # Errors
    ///
    /// [`NoPlatform`](ManifestError::NoPlatform), with what there is, when there are none.
    pub fn candidates(&self, platform: &Platform) -> Result<Vec<&Descriptor>, ManifestError> {
        let documents = || {
            let known = |entry: &&Descriptor| Kind::of(&entry.media_type).is_some();
            self.manifests.iter().filter(known)
        };
        let mut fitting: Vec<_> = documents()
            .filter_map(|entry| Some((platform.fit(entry.platform.as_ref()?)?, entry)))
            .collect();
        fitting.sort_by_key(|(fit, _)| *fit);
        let mut candidates: Vec<_> = fitting.into_iter().map(|(_, entry)| entry).collect();
        if candidates.is_empty() {
            let silent = |entry: &&Descriptor| entry.platform.is_none();
            candidates = documents().filter(silent).collect();
        }
        match candidates.is_empty() {
            true => Err(ManifestError::NoPlatform {
                wanted: *platform,
                there: self.platforms(),
            }),
            false => Ok(candidates),
        }
    }

    /// The platforms that it has something for, in few words.
    fn platforms(&self) -> String {
        /// As many as a message has room for.
        const NAMED: usize = 12;
        let named: BTreeSet<String> = self
            .manifests
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            // What is for nobody are attestations.
            .filter(|platform| platform.os != "unknown")
            .map(|platform| {
                let variant = platform.variant.iter().flat_map(|variant| ["/", variant]);
                [platform.os.as_str(), "/", &platform.architecture]
                    .into_iter()
                    .chain(variant)
                    .flat_map(str::chars)
                    .filter(|letter| letter.is_ascii_graphic())
                    .take(40)
                    .collect()
            })
            .take(NAMED)
            .collect();
        match named.is_empty() {
            true => "nothing".to_owned(),
            false => Vec::from_iter(named).join(", "),
        }
    }
}
