//! Streams: large ones, slow ones, ones that nobody reads, terminals.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bytes::Bytes;
use msb_protocol::*;
use sha2::{Digest, Sha256};
use support::*;

fn piped(mut exec: ExecRequest) -> ExecRequest {
    exec.stdin = Stdin::Pipe;
    exec
}

/// Sends `total` bytes within the window while it reads what comes back.
fn pour(client: &mut Client, total: usize) -> (Sha256, Seen) {
    let mut sent = Sha256::new();
    let mut seen = Seen::default();
    let mut window = usize::try_from(INITIAL_STDIN_WINDOW).unwrap();
    let mut left = total;
    let mut seed = 1u32;
    loop {
        while window > 0 && left > 0 {
            let size = window.min(left).min(MAX_CHUNK);
            let chunk: Vec<u8> = (0..size)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    seed.to_le_bytes()[3]
                })
                .collect();
            sent.update(&chunk);
            client.send(&HostMessage::Stdin(Bytes::from(chunk)));
            window -= size;
            left -= size;
            if left == 0 {
                client.send(&HostMessage::StdinEof);
            }
        }
        match client.next() {
            Some(GuestMessage::StdinConsumed(count)) => window += usize::try_from(count).unwrap(),
            Some(GuestMessage::Stdout(bytes)) => seen.stdout.extend(bytes),
            Some(GuestMessage::Started { .. }) => {}
            Some(GuestMessage::Exited(exit)) => seen.exit = Some(exit),
            None => return (sent, seen),
            Some(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn eight_mebibytes_go_through_cat_unchanged() {
    let mut client = Client::exec(piped(request("cat", &[])));
    let (sent, seen) = pour(&mut client, 8 << 20);
    assert_eq!(seen.stdout.len(), 8 << 20);
    assert_eq!(Sha256::digest(&seen.stdout), sent.finalize());
    assert_eq!(seen.exit, Some(Exit::Code(0)));
}

#[test]
fn a_child_that_never_reads_can_still_be_signalled() {
    let mut client = Client::exec(piped(request("sleep", &["1000"])));
    client.started();
    for _ in 0..4 {
        client.input(&[0; MAX_CHUNK]);
    }
    // Others go on meanwhile.
    assert_eq!(run(shell("echo on")).stdout, b"on\n");
    client.signal(libc::SIGTERM);
    assert_eq!(client.finish().exit, Some(Exit::Signal(15)));
}

#[test]
fn more_than_the_window_is_refused() {
    let mut client = Client::exec(piped(request("sleep", &["1000"])));
    for _ in 0..4 {
        client.input(&[0; MAX_CHUNK]);
    }
    // A pipe took some, but the command did: nothing of that was told yet or it was, and
    // twice a window is too much in either case.
    for _ in 0..5 {
        client.input(&[0; MAX_CHUNK]);
    }
    let seen = client.finish();
    let refusal = seen.refused.expect("a refusal");
    assert_eq!(refusal.kind, RefusalKind::Unexpected);
    assert!(refusal.message.contains("window"), "{refusal:?}");
}

#[test]
fn a_child_that_closes_its_input_is_told_of_and_the_rest_dropped() {
    let mut client = Client::exec(piped(shell("exec <&-; echo closed; sleep 1000")));
    client.until("closed");
    client.input(b"nobody reads this");
    assert_eq!(client.receive(), GuestMessage::StdinClosed);
    // No window counts any more.
    for _ in 0..20 {
        client.input(&[0; MAX_CHUNK]);
    }
    client.send(&HostMessage::StdinEof);
    client.signal(libc::SIGKILL);
    assert_eq!(client.finish().exit, Some(Exit::Signal(9)));
}

#[test]
fn end_of_input_is_seen() {
    let mut client = Client::exec(piped(request("wc", &["-c"])));
    client.input(b"twelve bytes");
    client.send(&HostMessage::StdinEof);
    assert_eq!(client.finish().text().trim(), "12");
}

#[test]
fn a_background_process_does_not_hold_back_the_end() {
    let mut client = Client::exec(shell("sleep 1000 & echo $!"));
    let seen = client.finish();
    assert_eq!(seen.exit, Some(Exit::Code(0)));
    let pid: i32 = seen.text().trim().parse().unwrap();
    // It lives on, and became ours.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = format!("PPid:\t{}\n", std::process::id());
    assert!(status.contains(&parent), "{status}");
    assert_eq!(
        run(shell(&format!("kill -9 {pid}"))).exit,
        Some(Exit::Code(0))
    );
    // And is reaped.
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        assert_eq!(run(request("true", &[])).exit, Some(Exit::Code(0)));
    }
}

#[test]
fn a_background_process_that_writes_without_end_does_not_either() {
    let seen = run(shell("yes & sleep 0.1; echo $! >&2"));
    assert_eq!(seen.exit, Some(Exit::Code(0)));
    // Our closing its pipe ended it: nothing is left to kill.
    assert!(!seen.stderr.is_empty());
}

#[test]
fn closing_the_connection_ends_the_whole_group() {
    let mut client = Client::exec(shell("sleep 1000 & echo $!; wait"));
    let inner = client.until("\n");
    let path = format!("/proc/{}", inner.trim());
    assert!(std::path::Path::new(&path).exists());
    drop(client);
    while std::path::Path::new(&path).exists() {
        assert_eq!(run(request("true", &[])).exit, Some(Exit::Code(0)));
    }
}

#[test]
fn signals_reach_the_whole_group() {
    let mut client = Client::exec(shell(
        "trap 'echo outer; exit 3' USR1; sh -c 'trap \"echo inner; exit 0\" USR1; echo ready; while :; do sleep 0.05; done'; wait",
    ));
    client.until("ready");
    client.signal(libc::SIGUSR1);
    let seen = client.finish();
    assert!(
        seen.text().contains("inner") && seen.text().contains("outer"),
        "{seen:?}"
    );
    assert_eq!(seen.exit, Some(Exit::Code(3)));
}

#[test]
fn senseless_signals_do_nothing() {
    let mut client = Client::exec(piped(request("cat", &[])));
    client.started();
    for signal in [0, -1, 65, i32::MIN, i32::MAX] {
        client.signal(signal);
    }
    client.send(&HostMessage::StdinEof);
    assert_eq!(client.finish().exit, Some(Exit::Code(0)));
}

#[test]
fn a_reader_that_stops_stops_its_command_and_nobody_else() {
    let mut slow = Client::exec(shell(
        "i=0; while [ $i -lt 200 ]; do head -c 20480 /dev/zero; i=$((i+1)); echo $i >&2; done",
    ));
    slow.started();
    // Not read for now; others are served.
    for _ in 0..20 {
        assert_eq!(run(shell("echo on")).stdout, b"on\n");
    }
    let seen = slow.finish();
    assert_eq!(seen.stdout.len(), 200 * 20480);
    assert!(seen.stderr.ends_with(b"200\n"));
    assert_eq!(seen.exit, Some(Exit::Code(0)));
}

#[test]
fn everything_written_before_the_end_arrives() {
    // As much as a pipe holds, written and left by the child.
    for _ in 0..50 {
        let seen = run(shell("head -c 65536 /dev/zero"));
        assert_eq!(seen.stdout.len(), 65536);
    }
}

#[test]
fn a_terminal_is_one() {
    let mut exec = on_terminal(shell(
        "tty; stty size; echo $TERM; echo to stderr >&2; ps -o tty= $$",
    ));
    exec.env = vec![];
    let seen = run(exec);
    let text = seen.text();
    assert!(text.starts_with("/dev/pts/"), "{text}");
    assert!(text.contains("24 80\r\nxterm\r\nto stderr\r\n"), "{text}");
    assert!(seen.stderr.is_empty());
    assert_eq!(seen.exit, Some(Exit::Code(0)));
}

#[test]
fn a_terminal_takes_input_and_sizes_and_interrupts() {
    let mut client = Client::exec(on_terminal(shell(
        "trap 'stty size' WINCH; trap 'echo interrupted; exit 5' INT; echo ready; \
         read line; echo \"got $line\"; while :; do sleep 0.05; done",
    )));
    client.until("ready");
    client.input(b"hello\n");
    client.until("got hello");
    client.send(&HostMessage::Resize(TerminalSize {
        rows: 50,
        columns: 132,
    }));
    client.until("50 132");
    // Control-C.
    client.input(&[3]);
    let seen = client.finish();
    assert!(seen.text().contains("interrupted"), "{seen:?}");
    assert_eq!(seen.exit, Some(Exit::Code(5)));
}

#[test]
fn a_terminals_last_words_are_heard() {
    for round in 0..50 {
        let seen = run(on_terminal(shell("echo last words")));
        assert_eq!(seen.stdout, b"last words\r\n", "round {round}");
    }
}
