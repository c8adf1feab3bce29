#![no_main]
//! Documents of images: manifests, indexes, configurations, and references to them.
//!
//! What is read is read the same way again, and what came out keeps its promises.

use libfuzzer_sys::fuzz_target;
use msb_image::Reference;
use msb_image::limits::MAX_LAYERS;
use msb_image::manifest::{Compression, Document, ImageConfig, Kind, Platform, media};

fuzz_target!(|bytes: &[u8]| {
    for called in [None, Some(media::OCI_INDEX), Some(media::DOCKER_V2S2)] {
        let Ok(document) = Document::parse(bytes, called) else {
            continue;
        };
        assert_eq!(Document::parse(bytes, None).expect("again"), document);
        match document {
            Document::Image(image) => {
                assert_ne!(called, Some(media::OCI_INDEX));
                assert!(image.layers.len() <= MAX_LAYERS);
                for layer in &image.layers {
                    assert!(Compression::of(&layer.media_type).is_some());
                }
            }
            Document::Index(index) => {
                assert_ne!(called, Some(media::DOCKER_V2S2));
                for candidate in index.candidates(&Platform::host()).into_iter().flatten() {
                    assert!(Kind::of(&candidate.media_type).is_some());
                }
            }
        }
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let _ = config.check_platform(&Platform::host());
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(reference) = text.parse::<Reference>()
    {
        let whole = reference.to_string();
        assert_eq!(whole.parse::<Reference>().expect("it is whole"), reference);
    }
});
