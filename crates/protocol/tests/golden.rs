//! The bytes of generation 1, frozen.
//!
//! Each line of `golden/generation-1.txt` is a message's name and its frame in hex. A
//! changed line means that a released guest and this host no longer understand each
//! other: append a variant, or make a new generation, but never edit a line.
//! `MSB_BLESS=1 cargo test -p msb-protocol --test golden` appends lines for new messages.

#![allow(clippy::unwrap_used)]

mod frozen;

use bytes::Bytes;
use msb_protocol::*;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/generation-1.txt");

fn host() -> Vec<(&'static str, HostMessage)> {
    use HostMessage as H;
    let root = Root::Disk {
        device: "/dev/vda".into(),
        fstype: Some("ext4".into()),
        read_only: true,
    };
    let env = vec![("LANG".to_owned(), "C".to_owned())];
    vec![
        (
            "host.hello",
            H::Hello(Hello {
                generation: 1,
                minimum: 1,
                features: Features(5),
            }),
        ),
        (
            "host.boot.disk",
            H::Boot(BootRequest {
                root,
                hostname: Some("box".into()),
                env: env.clone(),
            }),
        ),
        (
            "host.boot.initramfs",
            H::Boot(BootRequest {
                root: Root::Initramfs,
                hostname: None,
                env: vec![],
            }),
        ),
        (
            "host.exec",
            H::Exec(ExecRequest {
                program: "sh".into(),
                args: vec!["-c".into(), "true".into()],
                env,
                cwd: Some("/tmp".into()),
                user: Some("1000:1000".into()),
                stdin: Stdin::Pipe,
                terminal: Some(TerminalSize {
                    rows: 24,
                    columns: 80,
                }),
                limits: vec![ResourceLimit {
                    resource: Resource::Nofile,
                    soft: 1024,
                    hard: u64::MAX,
                }],
            }),
        ),
        ("host.stdin", H::Stdin(Bytes::from_static(b"in"))),
        ("host.stdin-eof", H::StdinEof),
        ("host.signal", H::Signal(15)),
        (
            "host.resize",
            H::Resize(TerminalSize {
                rows: 50,
                columns: 300,
            }),
        ),
        ("host.shutdown", H::Shutdown { grace_ms: 10_000 }),
        ("host.ping", H::Ping),
        ("host.drain", H::Drain { grace_ms: 10_000 }),
        ("host.sample", H::Sample),
    ]
}

fn guest() -> Vec<(&'static str, GuestMessage)> {
    use GuestMessage as G;
    vec![
        (
            "guest.hello",
            G::Hello(Hello {
                generation: 1,
                minimum: 1,
                features: Features(0),
            }),
        ),
        (
            "guest.ready",
            G::Ready(Ready {
                version: "0.6.2".into(),
                init_ns: 450_000_000,
                ready_ns: 500_000_000,
            }),
        ),
        (
            "guest.boot-failed",
            G::BootFailed(BootFailure {
                stage: BootStage::Root,
                message: "no disk".into(),
                errno: Some(6),
            }),
        ),
        (
            "guest.started",
            G::Started {
                session: 1,
                pid: 300,
            },
        ),
        ("guest.stdout", G::Stdout(Bytes::from_static(b"out"))),
        ("guest.stderr", G::Stderr(Bytes::from_static(b"err"))),
        ("guest.stdin-consumed", G::StdinConsumed(65_536)),
        ("guest.stdin-closed", G::StdinClosed),
        ("guest.exited.code", G::Exited(Exit::Code(3))),
        ("guest.exited.signal", G::Exited(Exit::Signal(9))),
        (
            "guest.exec-failed",
            G::ExecFailed(ExecFailure {
                kind: ExecFailureKind::NotFound,
                message: "no such file".into(),
                errno: Some(2),
            }),
        ),
        (
            "guest.refused",
            G::Refused(Refusal {
                kind: RefusalKind::ShuttingDown,
                message: "bye".into(),
            }),
        ),
        ("guest.pong", G::Pong),
        (
            "guest.refused.draining",
            G::Refused(Refusal {
                kind: RefusalKind::Draining,
                message: "bye".into(),
            }),
        ),
    ]
}

fn monitor() -> Vec<(&'static str, GuestMessage)> {
    use GuestMessage as G;
    let output = |source, data: &'static [u8]| G::SessionOutput {
        session: 7,
        source,
        data: Bytes::from_static(data),
    };
    vec![
        (
            "guest.session-started",
            G::SessionStarted {
                session: 7,
                pid: 300,
                program: "/bin/sh".into(),
            },
        ),
        (
            "guest.session-ended",
            G::SessionEnded {
                session: 7,
                exit: Exit::Signal(9),
            },
        ),
        (
            "guest.session-output.stdout",
            output(OutputSource::Stdout, b"out"),
        ),
        (
            "guest.session-output.stderr",
            output(OutputSource::Stderr, b"err"),
        ),
        (
            "guest.session-output.terminal",
            output(OutputSource::Terminal, b"tty"),
        ),
        (
            "guest.output-dropped",
            G::OutputDropped {
                session: 7,
                bytes: 1 << 33,
            },
        ),
        (
            "guest.sample",
            G::Sample(GuestSample {
                uptime_ns: 500_000_000,
                memory_total_bytes: 256 << 20,
                memory_available_bytes: 200 << 20,
                root_used_bytes: Some(5 << 30),
                root_free_bytes: Some(3 << 30),
                sessions: 2,
                connections: 3,
            }),
        ),
        (
            "guest.sample.no-root",
            G::Sample(GuestSample {
                uptime_ns: 1,
                memory_total_bytes: 2,
                memory_available_bytes: 3,
                root_used_bytes: None,
                root_free_bytes: None,
                sessions: 0,
                connections: 0,
            }),
        ),
    ]
}

#[test]
fn generation_1_is_frozen() {
    frozen::check(FILE, &host(), &[guest(), monitor()].concat());
}

#[test]
fn golden_bytes_decode_to_the_messages() {
    frozen::decode(FILE, &host(), &[guest(), monitor()].concat());
}
