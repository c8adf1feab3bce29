#![no_main]
//! A disk of 64 KiB: any rings, any requests, and a file that changes its size underneath.

use std::fs::File;

use libfuzzer_sys::fuzz_target;
use msb_fuzz::{Host, Script, drive};
use rustix::fs::MemfdFlags;
use vmm_virtio::block::{Block, BlockOptions};

struct Disk(File);

impl Host for Disk {
    fn act(&mut self, script: &mut Script<'_>) {
        let size = u64::from(script.u16()) * 4;
        self.0.set_len(size).expect("a memfd has any size");
    }

    fn request(&mut self, script: &mut Script<'_>) -> Vec<u8> {
        let kind = u32::from(script.u8() % 16);
        let sector = match script.u8() {
            0xff => script.u64(),
            near => u64::from(near),
        };
        let mut request = kind.to_le_bytes().to_vec();
        request.extend([0; 4]);
        request.extend(sector.to_le_bytes());
        match script.u8() % 8 {
            0 => request.extend(vec![script.u8(); usize::from(script.u8()) * 512]),
            1 => {
                request.extend(u64::from(script.u8()).to_le_bytes());
                request.extend(script.length().to_le_bytes());
                request.extend(u32::from(script.u8() % 4).to_le_bytes());
            }
            2 => request.extend(script.bytes(255)),
            3 => request.truncate(usize::from(script.u8() % 17)),
            _ => {}
        }
        request
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script::new(bytes);
    let file = rustix::fs::memfd_create("disk", MemfdFlags::CLOEXEC).expect("memfd");
    let file = File::from(file);
    file.set_len(64 << 10).expect("a memfd has any size");
    let options = BlockOptions {
        read_only: script.u8() % 4 == 0,
        id: "fuzz".into(),
    };
    let device = Block::new(file.try_clone().expect("clone"), options).expect("a good file");
    drive(device, &mut Disk(file), &mut script);
});
