//! An image's configuration: how it wants to be run, and what its layers contain.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::descriptor::null_is_empty;
use super::{ManifestError, Platform, check_length};
use crate::Digest;

/// How an image wants to be run. What it leaves out, or says with nothing in it, is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `amd64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// When it was made, as it says.
    pub created: Option<String>,
    /// Environment: `NAME=value`.
    pub env: Vec<String>,
    /// What runs.
    pub entrypoint: Option<Vec<String>>,
    /// With which arguments; or what runs, without an entrypoint.
    pub cmd: Option<Vec<String>>,
    /// Where.
    pub working_dir: Option<String>,
    /// As whom: `user`, `uid`, `user:group`.
    pub user: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to end: `SIGTERM`, `15`.
    pub stop_signal: Option<String>,
    /// Ports that it listens at: `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Directories whose contents are to outlive it.
    pub volumes: Vec<String>,
    /// The digests of its layers' tars, the lowest first.
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default, deserialize_with = "null_is_empty")]
    architecture: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    os: String,
    created: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    config: WireRun,
    rootfs: WireRootfs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct WireRun {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    labels: Option<BTreeMap<String, Option<String>>>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    volumes: Option<BTreeMap<String, IgnoredAny>>,
}

#[derive(Deserialize)]
struct WireRootfs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Parses a configuration.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] when it is too long, does not parse, or is made of something other than layers.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        check_length(bytes)?;
        let wire: Wire = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if wire.rootfs.kind != "layers" {
            return Err(ManifestError::Rootfs(
                wire.rootfs.kind.chars().take(100).collect(),
            ));
        }
        let run = wire.config;
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let list = |list: Option<Vec<String>>| list.filter(|list| !list.is_empty());
        let keys = |map: Option<BTreeMap<String, IgnoredAny>>| {
            map.unwrap_or_default().into_keys().collect()
        };
        Ok(Self {
            architecture: wire.architecture,
            os: wire.os,
            created: text(wire.created),
            env: run.env.unwrap_or_default(),
            entrypoint: list(run.entrypoint),
            cmd: list(run.cmd),
            working_dir: text(run.working_dir),
            user: text(run.user),
            labels: run
                .labels
                .unwrap_or_default()
                .into_iter()
                .map(|(key, value)| (key, value.unwrap_or_default()))
                .collect(),
            stop_signal: text(run.stop_signal),
            exposed_ports: keys(run.exposed_ports),
            volumes: keys(run.volumes),
            diff_ids: wire.rootfs.diff_ids,
        })
    }

    /// The number of the signal that ends what runs; `None` too if it says one that Linux does not have.
    pub fn stop_signal_number(&self) -> Option<u8> {
        self.stop_signal.as_deref().and_then(super::signal::number)
    }

    /// Checks that the image can run there.
    ///
    /// # Errors
    ///
    /// [`WrongPlatform`](ManifestError::WrongPlatform).
    pub fn check_platform(&self, platform: &Platform) -> Result<(), ManifestError> {
        match platform.allows(&self.os, &self.architecture) {
            true => Ok(()),
            false => Err(ManifestError::WrongPlatform {
                os: self.os.chars().take(40).collect(),
                architecture: self.architecture.chars().take(40).collect(),
                wanted: *platform,
            }),
        }
    }
}
