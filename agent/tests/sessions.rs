//! Sessions that outlive their viewers: detached, attached again, listed, forgotten.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use msb_protocol::*;
use support::sessions::*;
use support::*;

#[test]
fn a_detached_command_goes_on_and_its_next_viewer_where_the_first_left() {
    let mut first = start(
        piped(shell("echo one; read x; echo \"$x\"; read x; exit 4")),
        false,
    );
    let (session, pid) = started(&mut first);
    assert_eq!(first.until("one\n"), "one\n");
    detach(&mut first, 4);
    drop(first);
    let entry = listed(session).unwrap();
    assert_eq!((entry.pid, entry.exit, entry.attached), (pid, None, false));
    assert!(entry.command.starts_with("sh -c echo one"), "{entry:?}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    assert!(now.unwrap().as_millis() - u128::from(entry.started_ms) < 3_600_000);

    let (mut second, attached) = attach(session);
    assert_eq!((attached.pid, attached.offset), (pid, 4));
    assert_eq!(attached.window, Some(INITIAL_STDIN_WINDOW));
    assert!(listed(session).unwrap().attached);
    second.input(b"two\n");
    assert_eq!(second.until("two\n"), "two\n");
    detach(&mut second, 8);

    let (mut third, attached) = attach(session);
    assert_eq!(attached.offset, 8);
    third.send(&HostMessage::StdinEof);
    let told = hear(&mut third);
    assert_eq!(
        (told.bytes.as_slice(), told.exit),
        (&b""[..], Some(Exit::Code(4)))
    );
    // It was told of its end, and that was all there was to keep.
    until(session, |entry| entry.is_none());
    assert_eq!(
        refusal(SessionCall::Attach { session }),
        RefusalKind::NoSession
    );
}

#[test]
fn what_the_viewer_did_not_take_in_comes_again() {
    let mut first = start(piped(shell("echo 0123456789; read x")), true);
    let (session, _) = started(&mut first);
    first.until("9\n");
    detach(&mut first, 3);
    let (mut second, attached) = attach(session);
    assert_eq!(attached.offset, 3);
    assert_eq!(second.until("\n"), "3456789\n");
    // A viewer that goes without a word has what it said it has.
    say(&mut second, SessionCall::Received { offset: 6 });
    drop(second);
    let (mut third, attached) = attach(session);
    assert_eq!(attached.offset, 6);
    assert_eq!(third.until("\n"), "6789\n");
    // One that says more than it can know is not believed.
    say(&mut third, SessionCall::Received { offset: u64::MAX });
    third.send(&HostMessage::StdinEof);
    assert_eq!(hear(&mut third).exit, Some(Exit::Code(1)));
}

#[test]
fn a_viewer_that_just_goes_leaves_what_was_to_outlive_it_and_ends_the_rest() {
    let mut kept = start(request("sleep", &["1000"]), true);
    let mut tied = start(request("sleep", &["1000"]), false);
    let (session, pid) = started(&mut kept);
    let (other, tied_pid) = started(&mut tied);
    drop((kept, tied));
    until_gone(tied_pid);
    until(other, |entry| entry.is_none());
    let entry = listed(session).unwrap();
    assert_eq!((entry.exit, entry.attached), (None, false));
    assert!(!gone(pid));
    // It is ended by whoever attaches and says so.
    let (mut client, _) = attach(session);
    say(&mut client, SessionCall::End);
    until_gone(pid);
    until(session, |entry| entry.is_none());
}

#[test]
fn nonsense_from_a_viewer_does_not_end_what_is_to_outlive_it() {
    use std::io::Write;
    let mut client = start(request("sleep", &["1000"]), true);
    let (session, pid) = started(&mut client);
    client.stream().write_all(&[1, 0, 0, 0, 255]).unwrap();
    while client.next().is_some() {}
    assert!(!gone(pid));
    let (mut client, _) = attach(session);
    client.signal(9);
    assert_eq!(hear(&mut client).exit, Some(Exit::Signal(9)));
}

#[test]
fn there_is_one_viewer_at_a_time() {
    let mut first = start(request("sleep", &["1000"]), true);
    let (session, _) = started(&mut first);
    assert_eq!(
        refusal(SessionCall::Attach { session }),
        RefusalKind::Attached
    );
    assert_eq!(
        refusal(SessionCall::Attach { session: u64::MAX }),
        RefusalKind::NoSession
    );
    // The first was not disturbed.
    first.signal(15);
    assert_eq!(hear(&mut first).exit, Some(Exit::Signal(15)));
}

#[test]
fn with_nobody_there_a_command_writes_on_and_the_newest_is_kept() {
    // Some 6 MiB, each line with its own number.
    let script = "i=0; while [ $i -lt 60 ]; do seq -f '%0.0f-line-of-a-log' $((i*5000)) $((i*5000+4999)); i=$((i+1)); done; echo end";
    let mut first = start(shell(script), true);
    let (session, _) = started(&mut first);
    detach(&mut first, 0);
    over(session);
    let (mut second, attached) = attach(session);
    assert_eq!((attached.offset, attached.window), (0, None));
    let told = hear(&mut second);
    assert_eq!(told.exit, Some(Exit::Code(0)));
    let expected: String = (0..300_000)
        .map(|n| format!("{n}-line-of-a-log\n"))
        .chain(["end\n".to_owned()])
        .collect();
    let kept = told.bytes.len();
    assert!((900_000..=1024 * 1024).contains(&kept), "{kept}");
    assert_eq!(told.dropped, (expected.len() - kept) as u64);
    assert!(expected.as_bytes().ends_with(&told.bytes));
}

#[test]
fn with_a_viewer_that_does_not_read_the_command_stands_still() {
    let script = "i=0; while [ $i -lt 400 ]; do head -c 20480 /dev/zero; i=$((i+1)); done; echo done > \"$0\"";
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let path = mark.to_str().unwrap();
    let mut slow = start(request("sh", &["-c", script, path]), true);
    let (session, _) = started(&mut slow);
    for _ in 0..50 {
        assert_eq!(run(shell("echo on")).stdout, b"on\n");
    }
    assert!(!mark.exists(), "nobody has read what it wrote");
    // Without the viewer it goes on, and what it wrote is counted.
    drop(slow);
    over(session);
    assert!(mark.exists());
    let (mut next, _) = attach(session);
    let told = hear(&mut next);
    assert_eq!(told.bytes.len() as u64 + told.dropped, 400 * 20480);
}

#[test]
fn a_finished_session_is_kept_until_somebody_came_for_it() {
    let mut first = start(shell("echo done; exit 3"), true);
    let (session, _) = started(&mut first);
    drop(first);
    let entry = over(session);
    assert_eq!(entry.exit, Some(Exit::Code(3)));
    let (mut second, _) = attach(session);
    let told = hear(&mut second);
    assert_eq!(
        (told.bytes.as_slice(), told.exit),
        (&b"done\n"[..], Some(Exit::Code(3)))
    );
    until(session, |entry| entry.is_none());
}

#[test]
fn a_viewer_that_was_told_the_end_and_went_without_a_word_may_not_have_heard() {
    let mut first = start(shell("exit 3"), true);
    let (session, _) = started(&mut first);
    assert_eq!(first.receive(), GuestMessage::Exited(Exit::Code(3)));
    drop(first);
    let (mut second, _) = attach(session);
    assert_eq!(hear(&mut second).exit, Some(Exit::Code(3)));
    // A command that is tied to its viewer can still be detached then.
    let mut tied = start(shell("echo word; exit 5"), false);
    let (session, _) = started(&mut tied);
    tied.until("word\n");
    assert_eq!(tied.receive(), GuestMessage::Exited(Exit::Code(5)));
    detach(&mut tied, 0);
    let (mut second, _) = attach(session);
    let told = hear(&mut second);
    assert_eq!(
        (told.bytes.as_slice(), told.exit),
        (&b"word\n"[..], Some(Exit::Code(5)))
    );
}

#[test]
fn who_waits_for_a_viewer_that_then_ends_the_session_finds_none() {
    let mut first = start(shell("exit 3"), true);
    let (session, _) = started(&mut first);
    assert_eq!(first.receive(), GuestMessage::Exited(Exit::Code(3)));
    let mut second = open(SessionCall::Attach { session });
    // One that comes later is answered, so the second is waiting.
    assert!(listed(session).unwrap().attached);
    say(&mut first, SessionCall::End);
    match second.receive() {
        GuestMessage::Refused(refusal) => assert_eq!(refusal.kind, RefusalKind::NoSession),
        other => panic!("it is still there: {other:?}"),
    }
}

#[test]
fn a_limit_is_kept_with_nobody_there() {
    let mut client = open(SessionCall::Start(SessionStart {
        exec: request("sleep", &["1000"]),
        detachable: true,
        limit_ms: Some(500),
    }));
    let (session, _) = started(&mut client);
    drop(client);
    assert_eq!(over(session).exit, Some(Exit::Signal(9)));
    // One that lies beyond all time is none.
    let mut client = open(SessionCall::Start(SessionStart {
        exec: shell("echo fine"),
        detachable: false,
        limit_ms: Some(u64::MAX),
    }));
    started(&mut client);
    assert_eq!(hear(&mut client).exit, Some(Exit::Code(0)));
}

#[test]
fn standard_input_goes_on_with_the_next_viewer() {
    let mut first = start(piped(request("cat", &[])), true);
    let (session, _) = started(&mut first);
    first.input(b"one ");
    first.until("one ");
    detach(&mut first, 4);
    let (mut second, _) = attach(session);
    second.input(b"two");
    second.send(&HostMessage::StdinEof);
    let told = hear(&mut second);
    assert_eq!(
        (told.bytes.as_slice(), told.exit),
        (&b"two"[..], Some(Exit::Code(0)))
    );

    // One whose input has ended takes none of the next.
    let mut first = start(piped(shell("cat; sleep 1000")), true);
    let (session, _) = started(&mut first);
    first.send(&HostMessage::StdinEof);
    first.input(b"");
    drop(first);
    let (mut second, attached) = attach(session);
    assert_eq!(attached.window, None);
    say(&mut second, SessionCall::End);
}

#[test]
fn a_terminal_is_left_and_taken_up_again() {
    let script = "trap 'stty size' WINCH; echo ready; while :; do read x && echo \"got $x\"; done";
    let mut first = start(on_terminal(shell(script)), true);
    let (session, _) = started(&mut first);
    let seen = first.until("ready\r\n");
    detach(&mut first, seen.len() as u64);
    let (mut second, attached) = attach(session);
    assert!(attached.terminal);
    second.send(&HostMessage::Resize(TerminalSize {
        rows: 40,
        columns: 100,
    }));
    second.until("40 100");
    second.input(b"hello\n");
    second.until("got hello");
    say(&mut second, SessionCall::End);
}

#[test]
fn the_monitor_hears_of_sessions_that_nobody_views() {
    let mut turn = Turn::wait();
    let mut monitor = turn.monitor();
    let mut client = start(piped(shell("read x; echo unseen; exit 6")), true);
    let (session, _) = started(&mut client);
    client.send(&HostMessage::StdinEof);
    detach(&mut client, 0);
    let mut output = Vec::new();
    let exit = loop {
        match monitor.client.receive() {
            GuestMessage::SessionOutput {
                session: of, data, ..
            } if of == session => output.extend(data),
            GuestMessage::SessionEnded { session: of, exit } if of == session => break exit,
            _ => {}
        }
    };
    assert_eq!((output.as_slice(), exit), (&b"unseen\n"[..], Exit::Code(6)));
    let (mut client, _) = attach(session);
    assert_eq!(hear(&mut client).bytes, b"unseen\n");
}

#[test]
fn the_agent_says_how_it_came_up() {
    let mut client = open(SessionCall::About);
    match client.receive() {
        GuestMessage::Session(SessionAnswer::About(ready)) => {
            assert_eq!(ready.version, env!("CARGO_PKG_VERSION"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.next(), None);
}

#[test]
fn session_messages_out_of_place_are_refused() {
    for call in [
        SessionCall::Received { offset: 1 },
        SessionCall::Detach { offset: 1 },
        SessionCall::End,
    ] {
        assert_eq!(refusal(call), RefusalKind::Unexpected);
    }
    // A second opening in one conversation ends what the first began.
    let mut client = start(request("sleep", &["1000"]), false);
    let (_, pid) = started(&mut client);
    say(&mut client, SessionCall::List);
    while client.next().is_some() {}
    until_gone(pid);
}

#[test]
fn many_viewers_come_and_go_and_nothing_is_lost() {
    // Each viewer takes some, says so, and goes without another word.
    let script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done";
    let mut client = start(shell(script), true);
    let (session, _) = started(&mut client);
    let (mut all, mut offset) = (Vec::new(), 0u64);
    let exit = 'all: loop {
        for _ in 0..7 {
            match client.next() {
                Some(GuestMessage::Stdout(bytes)) => {
                    offset += bytes.len() as u64;
                    all.extend(bytes);
                    say(&mut client, SessionCall::Received { offset });
                }
                Some(GuestMessage::Exited(exit)) => {
                    say(&mut client, SessionCall::End);
                    break 'all exit;
                }
                other => panic!("{other:?}"),
            }
        }
        let (next, attached) = loop {
            // The old one goes when the new one has come too early.
            client.stream().shutdown(std::net::Shutdown::Both).unwrap();
            let mut next = open(SessionCall::Attach { session });
            match next.receive() {
                GuestMessage::Session(SessionAnswer::Attached(attached)) => break (next, attached),
                GuestMessage::Refused(_) => {}
                other => panic!("{other:?}"),
            }
        };
        // What was said to have arrived does not come again.
        let back = usize::try_from(offset - attached.offset).unwrap();
        all.truncate(all.len() - back);
        offset = attached.offset;
        client = next;
    };
    assert_eq!(exit, Exit::Code(0));
    let expected: String = (0..20000).map(|n| format!("{n}\n")).collect();
    assert!(all == expected.as_bytes(), "{} bytes", all.len());
}
