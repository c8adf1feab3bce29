//! What a look at all of a snapshot found.

use std::path::PathBuf;

use msb_image::snapshot::{SnapshotDir, SnapshotError, UpperState};

use super::Snapshot;
use crate::backend::local::snapshots::{offload, refused};
use crate::error::MicrosandboxResult;

/// What [`Snapshot::verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotVerifyReport {
    /// What it is: the digest of its manifest.
    pub digest: String,
    /// Where it is.
    pub path: PathBuf,
    /// What is known of its disk.
    pub upper: UpperVerifyStatus,
}

/// What is known of the contents of a snapshot's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpperVerifyStatus {
    /// Nobody recorded what they were.
    NotRecorded,
    /// They are what they were.
    Verified {
        /// How that was told: `msb-sparse-sha256-v1`.
        algorithm: String,
        /// What they come to, now as then.
        digest: String,
    },
}

pub(super) async fn verify(snapshot: &Snapshot) -> MicrosandboxResult<SnapshotVerifyReport> {
    let (path, digest) = (snapshot.path.clone(), snapshot.digest.clone());
    let verified = offload(move |go_on| {
        let now = SnapshotDir::open(&path)?;
        if now.sealed().digest().to_string() != digest {
            return Err(SnapshotError::Damaged {
                path,
                what: "another snapshot has taken its place".to_owned(),
            });
        }
        now.verify(go_on)
    });
    let shown = snapshot.path.display().to_string();
    let upper = match verified.await?.map_err(|error| refused(&shown, error))? {
        UpperState::NotRecorded => UpperVerifyStatus::NotRecorded,
        UpperState::Verified { algorithm, digest } => UpperVerifyStatus::Verified {
            algorithm,
            digest: digest.to_string(),
        },
    };
    Ok(SnapshotVerifyReport {
        digest: snapshot.digest.clone(),
        path: snapshot.path.clone(),
        upper,
    })
}
