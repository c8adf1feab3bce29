//! The bytes of roots that came after the first ones, frozen as those of `golden.rs` are.
//!
//! `MSB_BLESS=1 cargo test -p msb-protocol --test golden_root` appends lines for new messages.

#![allow(clippy::unwrap_used)]

mod frozen;

use msb_protocol::*;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/generation-1-root.txt"
);

fn host() -> Vec<(&'static str, HostMessage)> {
    let boot = |root| {
        HostMessage::Boot(BootRequest {
            root,
            hostname: Some("box".into()),
            env: vec![],
        })
    };
    let overlay = |fstype: Option<&str>| Root::Overlay {
        lower: "root".into(),
        fstype: fstype.map(str::to_owned),
        upper: "upper".into(),
    };
    let mapped = |fstype: Option<&str>| Root::Mapped {
        lower: "/dev/pmem0".into(),
        fstype: fstype.map(str::to_owned),
        upper: "upper".into(),
    };
    vec![
        ("host.boot.overlay", boot(overlay(Some("erofs")))),
        ("host.boot.overlay.guess", boot(overlay(None))),
        ("host.boot.mapped", boot(mapped(Some("erofs")))),
        ("host.boot.mapped.guess", boot(mapped(None))),
    ]
}

#[test]
fn roots_are_frozen() {
    frozen::check(FILE, &host(), &[]);
}

#[test]
fn their_golden_bytes_decode_to_them() {
    frozen::decode(FILE, &host(), &[]);
}
