use proptest::prelude::*;

use super::*;
use crate::test_support::TinyKernel;

fn good() -> Vec<u8> {
    TinyKernel::new(&[0xf4]).build()
}

fn parse(bytes: &[u8]) -> Result<KernelImage, KernelError> {
    KernelImage::parse(bytes)
}

#[test]
fn a_tiny_kernel_is_accepted() {
    let image = parse(&good()).unwrap();
    assert_eq!(image.entry(), TinyKernel::ADDRESS);
    assert_eq!(image.segments().len(), 1);
    assert!(image.end() > u64::from(TinyKernel::ADDRESS));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = good();
    for len in 0..bytes.len() {
        let error = parse(&bytes[..len]).unwrap_err();
        let expected = match len {
            0..4 => matches!(error, KernelError::NotElf),
            _ => matches!(error, KernelError::Truncated { .. }),
        };
        assert!(expected, "{len}: {error}");
    }
}

#[test]
fn files_that_are_something_else() {
    let mut bzimage = vec![0; 0x300];
    bzimage[0x202..0x206].copy_from_slice(b"HdrS");
    assert!(matches!(parse(&bzimage), Err(KernelError::BzImage)));
    assert!(matches!(parse(&[7; 4096]), Err(KernelError::NotElf)));
    let mut thirty_two = good();
    thirty_two[4] = 1;
    assert!(matches!(
        parse(&thirty_two),
        Err(KernelError::WrongMachine(_))
    ));
    let mut arm = good();
    arm[18] = 183;
    assert!(matches!(parse(&arm), Err(KernelError::WrongMachine(_))));
    let no_note = TinyKernel::new(&[0xf4]).without_note().build();
    assert!(matches!(parse(&no_note), Err(KernelError::NoPvh)));
    let low = TinyKernel::new(&[0xf4]).at(0x1000).build();
    assert!(matches!(parse(&low), Err(KernelError::Damaged(_))));
    let in_the_hole = TinyKernel::new(&[0xf4]).at(0xd000_0000).build();
    assert!(matches!(parse(&in_the_hole), Err(KernelError::Damaged(_))));
}

proptest! {
    #[test]
    fn no_damage_panics(edits in prop::collection::vec((0usize..400, any::<u8>()), 1..12)) {
        let mut bytes = good();
        for (at, value) in edits {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if let Ok(image) = parse(&bytes) {
            for segment in image.segments() {
                prop_assert!(segment.file_offset + segment.file_len <= bytes.len() as u64);
                prop_assert!(segment.address + segment.memory_len <= layout::HOLE_START);
            }
        }
    }

    #[test]
    fn no_bytes_panic(tail in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut bytes = good();
        bytes.truncate(24);
        bytes.extend(tail);
        let _ = parse(&bytes);
    }
}
