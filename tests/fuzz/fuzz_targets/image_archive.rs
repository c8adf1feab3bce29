#![no_main]
//! Archives of images: any bytes as a tar, or as one of the documents in a tar that is right otherwise.
//!
//! Whatever is loaded can be opened and verified, and a collection afterwards leaves nothing.

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use msb_image::Digest;
use msb_image::archive::{LoadOptions, load_reader};
use msb_image::limits::Limits;
use msb_image::store::Store;

const CONFIG: &str =
    r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;

/// In memory where there is such a place.
static STORE: LazyLock<Store> = LazyLock::new(|| {
    let shm = PathBuf::from("/dev/shm");
    let dir = if shm.is_dir() {
        shm
    } else {
        std::env::temp_dir()
    };
    let dir = dir.join(format!("msb-fuzz-{}", std::process::id()));
    Store::open(&dir).expect("a directory for the store")
});

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    let archive = match which % 4 {
        0 => bytes.to_vec(),
        1 => with("index.json", bytes),
        2 => with("manifest.json", bytes),
        _ => with("oci-layout", bytes),
    };
    let options = LoadOptions {
        limits: Limits {
            layer_bytes: 1 << 20,
            layer_entries: 1000,
            tree_entries: 1000,
            index_bytes: 1 << 20,
            tree_bytes: 1 << 20,
            ..Limits::default()
        },
        ..LoadOptions::default()
    };
    let claim = STORE.claim().expect("a claim");
    if let Ok(loaded) = load_reader(&claim, archive.as_slice(), &options) {
        for image in loaded {
            STORE.verify(&image.manifest_digest).expect("it is whole");
            STORE.open_image(&image.manifest_digest).expect("it opens");
        }
    }
    drop(claim);
    STORE.prune(&|| Ok(Vec::new())).expect("all of it goes");
});

/// An archive with an image in either form, and one file replaced.
fn with(name: &str, bytes: &[u8]) -> Vec<u8> {
    let config = Digest::of(CONFIG.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{}}},"layers":[]}}"#,
        CONFIG.len()
    );
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, bytes)
            .expect("it goes to memory");
    };
    add(name, bytes);
    add("c", CONFIG.as_bytes());
    add(&format!("blobs/sha256/{}", config.hex()), CONFIG.as_bytes());
    let digest = Digest::of(manifest.as_bytes());
    add(
        &format!("blobs/sha256/{}", digest.hex()),
        manifest.as_bytes(),
    );
    builder.into_inner().expect("it goes to memory")
}
