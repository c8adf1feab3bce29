//! The request parser on any numbers.

use proptest::prelude::*;

use super::super::request::*;

fn any_disk() -> impl Strategy<Value = Disk> {
    let sectors = prop_oneof![1u64..10_000, any::<u64>().prop_map(|n| n / 512)];
    (sectors, any::<bool>(), any::<bool>()).prop_map(|(sectors, read_only, discard)| Disk {
        sectors,
        read_only,
        discard,
    })
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        0u32..100_000,
        (0u32..200).prop_map(|n| n * 512),
        any::<u32>()
    ]
}

proptest! {
    #[test]
    fn what_is_accepted_is_on_the_disk(
        disk in any_disk(),
        kind in prop_oneof![0u32..15, any::<u32>()],
        sector in prop_oneof![0u64..10_000, any::<u64>()],
        readable in number(),
        writable in number(),
    ) {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        match parse(&header, readable, writable, &disk) {
            Ok(Request::Read { offset, len }) => {
                prop_assert_eq!(len, writable);
                prop_assert!(len <= MAX_DATA && len > 0);
                prop_assert!(u128::from(offset) + u128::from(len) <= u128::from(disk.sectors) * 512);
            }
            Ok(Request::Write { offset, len }) => {
                prop_assert!(!disk.read_only);
                prop_assert_eq!(len, readable);
                prop_assert!(u128::from(offset) + u128::from(len) <= u128::from(disk.sectors) * 512);
            }
            Ok(Request::Discard { ranges } | Request::WriteZeroes { ranges }) => {
                prop_assert!(!disk.read_only && disk.discard);
                prop_assert!(ranges * RANGE_BYTES == readable && ranges <= MAX_RANGES);
            }
            Ok(Request::GetId) => prop_assert!(writable >= 20),
            Ok(Request::Flush) => prop_assert_eq!(kind, 4),
            Err(status) => prop_assert_ne!(status, Status::Ok),
        }
    }

    #[test]
    fn an_accepted_range_is_on_the_disk(
        disk in any_disk(),
        sector in prop_oneof![0u64..10_000, any::<u64>()],
        count in number(),
        flags in prop_oneof![0u32..3, any::<u32>()],
        zeroes: bool,
    ) {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&sector.to_le_bytes());
        raw[8..12].copy_from_slice(&count.to_le_bytes());
        raw[12..].copy_from_slice(&flags.to_le_bytes());
        if let Ok(range) = Range::parse(&raw, zeroes, &disk) {
            prop_assert!(u128::from(range.offset) + u128::from(range.len) <= u128::from(disk.sectors) * 512);
            prop_assert!(flags <= u32::from(zeroes));
        }
    }
}
