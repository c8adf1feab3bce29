//! The bytes of generation 1's messages about sessions, frozen.
//!
//! As `golden.rs` is for the rest: each line of `golden/generation-1-session.txt` is a message's
//! name and its frame in hex, and none ever changes. `MSB_BLESS=1 cargo test -p msb-protocol
//! --test golden_session` appends lines for new messages.

#![allow(clippy::unwrap_used)]

mod frozen;

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

#[test]
fn messages_about_sessions_are_frozen() {
    frozen::check(FILE, &host(), &guest());
}

#[test]
fn golden_bytes_decode_to_the_messages() {
    frozen::decode(FILE, &host(), &guest());
}
