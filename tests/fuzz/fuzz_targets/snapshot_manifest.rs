#![no_main]
//! The reader of a snapshot's manifest: what it takes has one spelling, and so one identity.

use libfuzzer_sys::fuzz_target;
use msb_image::Digest;
use msb_image::snapshot::Sealed;

fuzz_target!(|bytes: &[u8]| {
    let Ok(sealed) = Sealed::parse(bytes) else { return };
    assert_eq!(sealed.bytes(), bytes);
    assert_eq!(sealed.digest(), Digest::of(bytes));
    let again = sealed.manifest().clone().seal().expect("it was one");
    assert_eq!(again, sealed);
    assert!(sealed.image().is_some());
});
