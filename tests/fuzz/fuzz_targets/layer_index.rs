#![no_main]
//! The reader of layers' indexes: any bytes as the index, and any bytes with a digest that fits.

use libfuzzer_sys::fuzz_target;
use msb_image::Digest;
use msb_image::layer::Layer;
use msb_image::limits::Limits;
use msb_image::tree::Tree;

fn read(bytes: &[u8]) {
    let limits = Limits::default();
    let Ok(layer) = Layer::from_bytes(bytes, &limits) else { return };
    layer.check(&limits).expect("what is read is a layer");
    let again = layer.to_bytes().expect("memory");
    assert_eq!(Layer::from_bytes(&again, &limits).expect("it was just written"), layer);
    if let Ok(tree) = Tree::merge([&layer, &layer], &limits) {
        assert_eq!(tree.walk().count() as u64, tree.names());
    }
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // The digest would have to be found by chance; whoever writes the file makes it.
    let body = &bytes[..bytes.len().saturating_sub(32)];
    read(&[body, Digest::of(body).as_bytes()].concat());
});
