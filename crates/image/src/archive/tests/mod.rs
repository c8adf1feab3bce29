//! Archives as others write them, as we do, and as nobody should.

mod docker;
mod hostile;
mod layouts;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::manifest::media;
use crate::store::{Store, StoreError};
use crate::testing::{Image, config, descriptor, gzip, image, reference, tar};

/// A store, and a directory for archives.
struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("images")).unwrap();
        Self { dir, store }
    }

    fn load(&self, archive: &[u8]) -> Result<Vec<Loaded>, ArchiveError> {
        let claim = self.store.claim().unwrap();
        load_reader(&claim, archive, &LoadOptions::default())
    }

    fn load_as(&self, archive: &[u8], name: &str) -> Result<Vec<Loaded>, ArchiveError> {
        let options = LoadOptions {
            reference: Some(reference(name)),
            ..LoadOptions::default()
        };
        load_reader(&self.store.claim().unwrap(), archive, &options)
    }

    fn save(&self, names: &[&str], format: Format) -> Vec<u8> {
        let claim = self.store.claim().unwrap();
        let names: Vec<_> = names.iter().map(|name| reference(name)).collect();
        save(&claim, &names, format, Vec::new(), Path::new("out.tar")).unwrap()
    }

    /// That nothing was loaded, and nothing is left but what a collection removes.
    fn is_empty(&self) -> bool {
        let nobody = || Ok(Vec::new());
        self.store.references().unwrap().is_empty() && {
            self.store.collect(&nobody).unwrap();
            let mut dirs = vec![self.store.path().to_path_buf()];
            let mut files = Vec::new();
            while let Some(dir) = dirs.pop() {
                for entry in fs::read_dir(&dir).unwrap() {
                    let path = entry.unwrap().path();
                    match path.is_dir() {
                        true => dirs.push(path),
                        false => files.push(path),
                    }
                }
            }
            files == [self.store.path().join("lock")]
        }
    }
}

fn names(loaded: &[Loaded]) -> Vec<String> {
    let names = loaded.iter().flat_map(|image| &image.references);
    names.map(ToString::to_string).collect()
}

/// The files of a tar.
fn untar(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert_eq!(files.insert(name, content), None);
    }
    files
}

fn retar(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let files: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    tar(&files)
}

fn app() -> Image {
    let base = tar(&[("etc/os-release", b"NAME=base"), ("bin/tool", &[7; 9000])]);
    image(&[base, tar(&[("app/main", b"print(1)")])], "app")
}

fn put_blob(files: &mut BTreeMap<String, Vec<u8>>, bytes: &[u8]) {
    files.insert(name::blob(&Digest::of(bytes)), bytes.to_vec());
}

/// The blobs of an image, and what an index says of it.
fn add_image(files: &mut BTreeMap<String, Vec<u8>>, image: &Image) -> Value {
    put_blob(files, &image.manifest);
    put_blob(files, &image.config);
    for layer in &image.layers {
        put_blob(files, &layer.blob);
    }
    descriptor(media::OCI_MANIFEST, &image.manifest)
}

fn index(entries: &[Value]) -> Vec<u8> {
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries});
    index.to_string().into_bytes()
}

fn named(mut entry: Value, annotation: &str, name: &str) -> Value {
    entry["annotations"] = json!({annotation: name});
    entry
}

fn for_platform(mut entry: Value, os: &str, architecture: &str) -> Value {
    entry["platform"] = json!({"os": os, "architecture": architecture});
    entry
}

/// A layout with one image of this name.
fn layout_of(image: &Image, name: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let entry = add_image(&mut files, image);
    files.insert(
        "index.json".into(),
        index(&[named(entry, oci::IMAGE_NAME, name)]),
    );
    let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
    files.insert("oci-layout".into(), version.to_vec());
    files
}
