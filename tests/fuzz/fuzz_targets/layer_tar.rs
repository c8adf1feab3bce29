#![no_main]
//! The way from a layer's archive to a tree: any bytes as the archive.
//!
//! Headers have a sum over themselves, which nothing that is changed at random keeps. So the sums are
//! mended, unless the last byte is odd. Whatever is unpacked is a layer that its own index holds.

use std::io::{self, Write};
use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use msb_image::layer::{Layer, unpack};
use msb_image::limits::{BLOCK, Limits};
use msb_image::tree::Tree;

/// Counts what is written.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives each block that looks like a header the sum that it should have.
fn mend(bytes: &mut [u8]) {
    for block in bytes.as_chunks_mut::<512>().0 {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    if bytes.last().is_none_or(|last| last % 2 == 0) {
        mend(&mut bytes);
    }
    let limits = Limits { layer_bytes: 4 << 20, layer_entries: 200, ..Limits::default() };
    let mut data = Count(0);
    let mut go_on = |_| ControlFlow::Continue(());
    let unpacked = unpack(&*bytes, &mut data, &limits, &mut go_on);
    // No more than the files, each to its last block.
    assert!(data.0 <= limits.layer_bytes + limits.layer_entries * BLOCK);
    let Ok(unpacked) = unpacked else { return };
    let layer = unpacked.layer;
    assert_eq!(layer.data_bytes, data.0);
    layer.check(&limits).expect("what is unpacked is a layer");
    let index = layer.to_bytes().expect("memory");
    assert_eq!(Layer::from_bytes(&index, &limits).expect("it was just written"), layer);
    if let Ok(tree) = Tree::merge([&layer, &layer], &limits) {
        assert_eq!(tree.walk().count() as u64, tree.names());
        assert_eq!(tree.inodes().count(), tree.slots());
    }
});
