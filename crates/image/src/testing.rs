//! Images for tests: small ones, made of text.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::limits::Limits;
use crate::manifest::media;
use crate::store::{BlobTurn, Claim, ImageRecord, StoreError};
use crate::{Digest, Reference};

/// An image as it would come.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<ImageLayer>,
}

#[derive(Clone, Debug)]
pub(crate) struct ImageLayer {
    pub(crate) blob: Vec<u8>,
    pub(crate) diff_id: Digest,
}

pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

pub(crate) fn config(diff_ids: &[Digest], label: &str) -> Vec<u8> {
    json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "Labels": {"label": label}, "StopSignal": "SIGINT"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

/// An image of these tars. Images with other labels are other images.
pub(crate) fn image(tars: &[Vec<u8>], label: &str) -> Image {
    let layers: Vec<_> = tars
        .iter()
        .map(|tar| ImageLayer {
            blob: gzip(tar),
            diff_id: Digest::of(tar),
        })
        .collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
    let config = config(&diff_ids, label);
    let described: Vec<_> = layers
        .iter()
        .map(|layer| descriptor(media::OCI_LAYER_GZIP, &layer.blob))
        .collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, &config), "layers": described,
    });
    Image {
        manifest: manifest.to_string().into_bytes(),
        config,
        layers,
    }
}

impl Image {
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Does what a pull does.
    pub(crate) fn import(
        &self,
        claim: &Claim,
        reference: Option<&Reference>,
    ) -> Result<ImageRecord, StoreError> {
        for layer in &self.layers {
            let digest = Digest::of(&layer.blob);
            put(claim, &layer.blob)?;
            claim.unpack_layer(&digest, &layer.diff_id, &Limits::default(), &mut |_| {
                ControlFlow::Continue(())
            })?;
        }
        claim.commit_image(reference, &self.manifest, &self.config, &Limits::default())
    }
}

/// An archive with an OCI layout of these images.
pub(crate) fn tar_of_images(images: &[(&Image, &Reference)]) -> Vec<u8> {
    let mut files = BTreeMap::new();
    let mut entries = Vec::new();
    for (image, name) in images {
        let layers = image.layers.iter().map(|layer| &layer.blob);
        for bytes in layers.chain([&image.manifest, &image.config]) {
            files.insert(format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes);
        }
        let mut entry = descriptor(media::OCI_MANIFEST, &image.manifest);
        entry["annotations"] = json!({"io.containerd.image.name": name.to_string()});
        entries.push(entry);
    }
    let index = json!({"schemaVersion": 2, "manifests": entries});
    let index = index.to_string().into_bytes();
    files.insert("index.json".to_owned(), &index);
    let files: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    tar(&files)
}

pub(crate) fn put(claim: &Claim, bytes: &[u8]) -> Result<(), StoreError> {
    loop {
        match claim.begin_blob(&Digest::of(bytes), bytes.len() as u64)? {
            BlobTurn::Present(_) => return Ok(()),
            BlobTurn::Mine(mut writer) => {
                let rest = usize::try_from(writer.offset()).unwrap();
                for part in bytes[rest..].chunks(1000) {
                    writer.write(part)?;
                }
                match writer.finish() {
                    // What was left by a download that was killed was not all written.
                    Err(StoreError::WrongDigest { .. }) if rest > 0 => {}
                    finished => return finished.map(drop),
                }
            }
            BlobTurn::Elsewhere(mut elsewhere) => {
                assert!(elsewhere.wait(std::time::Duration::from_secs(60), &mut |_| {})?);
            }
        }
    }
}

pub(crate) fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}
