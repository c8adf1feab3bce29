//! The bytes of the messages about settings, frozen as those of `golden.rs` are.
//!
//! `MSB_BLESS=1 cargo test -p msb-protocol --test golden_settings` appends lines for new messages.

#![allow(clippy::unwrap_used)]

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

fn frame<M: serde::Serialize>(message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes).unwrap();
    bytes
}

#[test]
fn settings_are_frozen() {
    let host = host()
        .into_iter()
        .map(|(name, message)| (name, frame(&message)));
    let guest = guest()
        .into_iter()
        .map(|(name, message)| (name, frame(&message)));
    let ours: Vec<_> = host.chain(guest).collect();
    let mut golden = std::fs::read_to_string(FILE).unwrap_or_default();
    if std::env::var_os("MSB_BLESS").is_some() {
        for (name, bytes) in &ours {
            let known = |line: &str| line.split(' ').next() == Some(name);
            if !golden.lines().any(known) {
                golden.push_str(&format!("{name} {}\n", hex::encode(bytes)));
            }
        }
        std::fs::write(FILE, &golden).unwrap();
    }
    let lines: Vec<_> = ours
        .iter()
        .map(|(name, bytes)| format!("{name} {}", hex::encode(bytes)))
        .collect();
    assert_eq!(golden.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn their_golden_bytes_decode_to_them() {
    fn decoded<M: serde::de::DeserializeOwned>(bytes: &[u8]) -> M {
        let mut decoder = Decoder::new();
        decoder.feed(bytes);
        decoder.next_message().unwrap().unwrap()
    }
    for (name, message) in host() {
        assert_eq!(decoded::<HostMessage>(&frame(&message)), message, "{name}");
    }
    for (name, message) in guest() {
        assert_eq!(decoded::<GuestMessage>(&frame(&message)), message, "{name}");
    }
}
