#![no_main]
//! The entropy device: any rings, any buffers.

use libfuzzer_sys::fuzz_target;
use msb_fuzz::{Host, Script, drive};
use vmm_virtio::rng::Rng;

struct Nothing;

impl Host for Nothing {
    fn act(&mut self, _script: &mut Script<'_>) {}

    fn request(&mut self, script: &mut Script<'_>) -> Vec<u8> {
        script.bytes(16).to_vec()
    }
}

fuzz_target!(|bytes: &[u8]| {
    drive(Rng::new(), &mut Nothing, &mut Script::new(bytes));
});
