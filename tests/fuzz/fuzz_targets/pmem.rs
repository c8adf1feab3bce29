#![no_main]
//! The device of a mapped disk: any rings, any requests.

use libfuzzer_sys::fuzz_target;
use msb_fuzz::{Host, Script, drive};
use vmm_virtio::pmem::Pmem;
use vmm_virtio::testing::guest_ram_and_disk;

struct Nothing;

impl Host for Nothing {
    fn act(&mut self, _script: &mut Script<'_>) {}

    fn request(&mut self, script: &mut Script<'_>) -> Vec<u8> {
        let kind = match script.u8() {
            0xff => script.u32(),
            near => u32::from(near % 3),
        };
        let mut request = kind.to_le_bytes().to_vec();
        request.truncate(usize::from(script.u8() % 8));
        request
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (memory, _file) = guest_ram_and_disk(4096, 0);
    let window = memory.windows().first().expect("a disk");
    drive(Pmem::new(window), &mut Nothing, &mut Script::new(bytes));
});
