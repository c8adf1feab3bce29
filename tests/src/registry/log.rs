//! What a registry was asked, from its log: one line for each answer, in the form that web servers have
//! used for decades.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Something that the registry was asked for, and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`, and so on.
    pub method: String,
    /// What for: `/v2/name/blobs/sha256:...`
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the answer.
    pub bytes: u64,
}

impl Request {
    /// The digest of the blob that was downloaded, whole or in part.
    pub fn downloaded_blob(&self) -> Option<&str> {
        let (_, digest) = self.path.split_once("/blobs/")?;
        let given = matches!(self.status, 200 | 206);
        (self.method == "GET" && given).then_some(digest)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut quoted = line.split('"');
        let mut request = quoted.nth(1)?.split(' ');
        let mut answer = quoted.next()?.split_whitespace();
        Some(Self {
            method: request.next()?.to_owned(),
            path: request.next()?.to_owned(),
            status: answer.next()?.parse().ok()?,
            bytes: answer.next()?.parse().ok()?,
        })
    }
}

/// How often each of these blobs was downloaded, whole or in part.
pub fn downloads<'a>(requests: &[Request], blobs: &'a [String]) -> BTreeMap<&'a str, usize> {
    let downloaded: Vec<_> = requests
        .iter()
        .filter_map(Request::downloaded_blob)
        .collect();
    let count = |blob: &str| downloaded.iter().filter(|other| **other == blob).count();
    blobs
        .iter()
        .map(|blob| (blob.as_str(), count(blob)))
        .collect()
}

pub(super) fn read(path: &Path) -> Result<Vec<Request>> {
    let log = fs::read_to_string(path)?;
    let requests = log.lines().map(|line| {
        Request::parse(line).with_context(|| format!("the registry's log has {line:?}"))
    });
    requests.collect()
}
