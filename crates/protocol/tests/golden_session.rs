//! The bytes of generation 1's messages about sessions, frozen.
//!
//! As `golden.rs` is for the rest: each line of `golden/generation-1-session.txt` is a message's
//! name and its frame in hex, and none ever changes. `MSB_BLESS=1 cargo test -p msb-protocol
//! --test golden_session` appends lines for new messages.

#![allow(clippy::unwrap_used)]

use msb_protocol::*;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/generation-1-session.txt"
);

fn host() -> Vec<(&'static str, HostMessage)> {
    use SessionCall as C;
    let exec = ExecRequest {
        program: "sh".into(),
        args: vec!["-c".into(), "true".into()],
        env: vec![("LANG".into(), "C".into())],
        cwd: None,
        user: None,
        stdin: Stdin::Pipe,
        terminal: None,
        limits: vec![],
    };
    let start = |detachable, limit_ms| {
        C::Start(SessionStart {
            exec: exec.clone(),
            detachable,
            limit_ms,
        })
    };
    vec![
        ("start", start(false, None)),
        ("start.detachable", start(true, Some(61_000))),
        ("attach", C::Attach { session: 7 }),
        ("list", C::List),
        ("about", C::About),
        ("received", C::Received { offset: 70_000 }),
        ("detach", C::Detach { offset: 1 << 33 }),
        ("end", C::End),
    ]
    .into_iter()
    .map(|(name, call)| (name, HostMessage::Session(call)))
    .collect()
}

fn guest() -> Vec<(&'static str, GuestMessage)> {
    use SessionAnswer as A;
    let attached = |window, terminal| {
        A::Attached(SessionAttached {
            session: 7,
            pid: 300,
            offset: 70_000,
            window,
            terminal,
        })
    };
    let entry = |session, attached, exit| SessionEntry {
        session,
        pid: 300,
        command: "sh -c true".into(),
        started_ms: 1_700_000_000_000,
        terminal: false,
        attached,
        exit,
    };
    let listed = vec![
        entry(7, true, None),
        entry(8, false, Some(Exit::Code(3))),
        entry(9, false, Some(Exit::Signal(9))),
    ];
    let refused = |kind| {
        GuestMessage::Refused(Refusal {
            kind,
            message: "no".into(),
        })
    };
    let about = A::About(Ready {
        version: "0.6.2".into(),
        init_ns: 450_000_000,
        ready_ns: 500_000_000,
    });
    [
        ("answer.attached", attached(Some(262_144), false)),
        ("answer.attached.terminal", attached(None, true)),
        ("answer.dropped", A::Dropped { bytes: 1 << 33 }),
        ("answer.detached", A::Detached),
        ("answer.listed", A::Listed(listed)),
        ("answer.list-end", A::ListEnd),
        ("answer.about", about),
    ]
    .into_iter()
    .map(|(name, answer)| (name, GuestMessage::Session(answer)))
    .chain([
        ("refused.no-session", refused(RefusalKind::NoSession)),
        ("refused.attached", refused(RefusalKind::Attached)),
    ])
    .collect()
}

fn frame<M: serde::Serialize>(message: &M) -> String {
    let mut bytes = Vec::new();
    encode(message, &mut bytes).unwrap();
    hex::encode(bytes)
}

#[test]
fn messages_about_sessions_are_frozen() {
    let ours: Vec<(&str, String)> = host()
        .iter()
        .map(|(name, message)| (*name, frame(message)))
        .chain(
            guest()
                .iter()
                .map(|(name, message)| (*name, frame(message))),
        )
        .collect();
    let mut golden = std::fs::read_to_string(FILE).unwrap_or_default();
    if std::env::var_os("MSB_BLESS").is_some() {
        for (name, hex) in &ours {
            let known = |line: &str| line.split(' ').next() == Some(name);
            if !golden.lines().any(known) {
                golden.push_str(&format!("{name} {hex}\n"));
            }
        }
        std::fs::write(FILE, &golden).unwrap();
    }
    for (name, hex) in &ours {
        let line = golden
            .lines()
            .find(|line| line.split(' ').next() == Some(name))
            .unwrap_or_else(|| panic!("{name} has no golden bytes"));
        assert_eq!(line, format!("{name} {hex}"), "the bytes of {name} changed");
    }
    assert_eq!(golden.lines().count(), ours.len());
}

#[test]
fn golden_bytes_decode_to_the_messages() {
    let golden = std::fs::read_to_string(FILE).unwrap();
    let decoder = |name: &str| {
        let line = golden
            .lines()
            .find(|line| line.split(' ').next() == Some(name))
            .unwrap();
        let mut decoder = Decoder::new();
        decoder.feed(&hex::decode(line.split(' ').nth(1).unwrap()).unwrap());
        decoder
    };
    for (name, message) in host() {
        assert_eq!(decoder(name).next_message().unwrap(), Some(message));
    }
    for (name, message) in guest() {
        assert_eq!(decoder(name).next_message().unwrap(), Some(message));
    }
}
