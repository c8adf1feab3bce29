//! The bytes of the messages about settings, frozen as those of `golden.rs` are.
//!
//! `MSB_BLESS=1 cargo test -p msb-protocol --test golden_settings` appends lines for new messages.

#![allow(clippy::unwrap_used)]

mod frozen;

use bytes::Bytes;
use msb_protocol::*;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/generation-1-settings.txt"
);

fn host() -> Vec<(&'static str, HostMessage)> {
    use Setting as S;
    let settings = vec![
        (
            "host.setting.tmpfs",
            S::Tmpfs(Tmpfs {
                path: "/cache".into(),
                size_bytes: Some(64 << 20),
                read_only: false,
                noexec: true,
                nosuid: true,
                nodev: false,
            }),
        ),
        (
            "host.setting.script",
            S::Script {
                name: "setup".into(),
                data: Bytes::from_static(b"#!/bin/sh\n"),
            },
        ),
        ("host.setting.restricted", S::Restricted),
        (
            "host.setting.init",
            S::Init(InitProgram {
                program: AUTO_INIT.into(),
                args: vec!["--log-target=console".into()],
                env: vec![("LANG".into(), "C".into())],
            }),
        ),
        (
            "host.setting.clock",
            S::Clock {
                id: 1,
                unix_ns: 1_700_000_000_000_000_000,
            },
        ),
        ("host.setting.working-dir", S::WorkingDir("/app".into())),
        ("host.setting.stop-signal", S::StopSignal(3)),
    ];
    settings
        .into_iter()
        .map(|(name, setting)| (name, HostMessage::Setting(setting)))
        .collect()
}

fn guest() -> Vec<(&'static str, GuestMessage)> {
    let failure = BootFailure {
        stage: BootStage::Init,
        message: "no init".into(),
        errno: Some(2),
    };
    vec![
        ("guest.clock-asked", GuestMessage::ClockAsked { id: 1 }),
        ("guest.boot-failed.init", GuestMessage::BootFailed(failure)),
    ]
}

#[test]
fn settings_are_frozen() {
    frozen::check(FILE, &host(), &guest());
    let golden = std::fs::read_to_string(FILE).unwrap();
    let lines = frozen::lines(&host(), &guest());
    let lines: Vec<_> = lines.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(golden.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn their_golden_bytes_decode_to_them() {
    frozen::decode(FILE, &host(), &guest());
}
