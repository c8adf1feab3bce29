//! What the supervisor hears of sessions, and that they do not wait for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};

use msb_protocol::*;
use support::*;

/// What was told of one session.
#[derive(Debug, Default)]
struct Story {
    pid: u32,
    program: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    terminal: Vec<u8>,
    dropped: u64,
    exit: Option<Exit>,
}

impl Story {
    fn bytes(&self) -> usize {
        self.stdout.len() + self.stderr.len() + self.terminal.len()
    }
}

/// Listens until `count` sessions have ended, and holds everything to its order.
fn listen(monitor: &mut Monitor<'_>, count: usize) -> BTreeMap<u64, Story> {
    let mut stories = BTreeMap::<u64, Story>::new();
    let mut ended = 0;
    while ended < count {
        let message = monitor.client.receive();
        if let GuestMessage::SessionStarted {
            session,
            pid,
            program,
        } = message
        {
            let story = Story {
                pid,
                program,
                ..Story::default()
            };
            assert!(stories.insert(session, story).is_none(), "started twice");
            continue;
        }
        let session = match &message {
            GuestMessage::SessionOutput { session, .. }
            | GuestMessage::OutputDropped { session, .. }
            | GuestMessage::SessionEnded { session, .. } => *session,
            other => panic!("{other:?}"),
        };
        let story = stories.get_mut(&session).expect("it started before");
        assert_eq!(story.exit, None, "{message:?} after the end");
        match message {
            GuestMessage::SessionOutput { source, data, .. } => match source {
                OutputSource::Stdout => story.stdout.extend(data),
                OutputSource::Stderr => story.stderr.extend(data),
                OutputSource::Terminal => story.terminal.extend(data),
                other => panic!("{other:?}"),
            },
            GuestMessage::OutputDropped { bytes, .. } => story.dropped += bytes,
            GuestMessage::SessionEnded { exit, .. } => {
                story.exit = Some(exit);
                ended += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    stories
}

/// What the monitor says of the one session that it is to hear of.
fn only(stories: BTreeMap<u64, Story>) -> Story {
    assert_eq!(stories.len(), 1, "{stories:?}");
    stories.into_values().next().unwrap()
}

#[test]
fn every_byte_of_many_sessions_is_heard_in_order() {
    let mut turn = Turn::wait();
    let mut monitor = turn.monitor();
    // Less than what waits at most, so that a slow reader here loses nothing either.
    let script = |seed: usize| {
        format!(
            "i=0; while [ $i -lt 150 ]; do \
               echo {seed} line $i; echo {seed} error $i >&2; \
               [ $((i % 30)) = 0 ] && head -c 4000 /dev/urandom; i=$((i+1)); \
             done; exit {seed}"
        )
    };
    let clients: Vec<_> = (0..8)
        .map(|seed| {
            let exec = shell(&script(seed));
            let exec = if seed % 4 == 3 {
                on_terminal(exec)
            } else {
                exec
            };
            std::thread::spawn(move || run(exec))
        })
        .collect();
    let stories = listen(&mut monitor, 8);
    assert_eq!(stories.len(), 8);
    for (seed, client) in clients.into_iter().enumerate() {
        let seen = client.join().unwrap();
        let story = &stories[&seen.session.unwrap()];
        assert_eq!(seen.exit, Some(Exit::Code(i32::try_from(seed).unwrap())));
        assert_eq!((story.exit, Some(story.pid)), (seen.exit, seen.pid));
        assert_eq!((&*story.program, story.dropped), ("sh", 0));
        assert_eq!(story.stderr, seen.stderr);
        let (told, not) = if seed % 4 == 3 {
            (&story.terminal, &story.stdout)
        } else {
            (&story.stdout, &story.terminal)
        };
        assert!(*told == seen.stdout && not.is_empty(), "session {seed}");
    }
}

#[test]
fn a_monitor_that_does_not_read_holds_nothing_up_and_learns_what_it_missed() {
    const EACH: usize = 24 << 20;
    let mut turn = Turn::wait();
    let mut monitor = turn.monitor();
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let exec = request("head", &["-c", &EACH.to_string(), "/dev/zero"]);
            std::thread::spawn(move || run(exec))
        })
        .collect();
    for client in clients {
        let seen = client.join().unwrap();
        assert_eq!((seen.stdout.len(), seen.exit), (EACH, Some(Exit::Code(0))));
    }
    for _ in 0..50 {
        assert_eq!(run(shell("echo on")).stdout, b"on\n");
    }

    let stories = listen(&mut monitor, 52);
    let told: usize = stories.values().map(Story::bytes).sum();
    // The queue, what the socket holds, and the message in between.
    assert!((1..(2 << 20)).contains(&told), "{told} bytes were kept");
    for story in stories.values() {
        let whole = if story.program == "head" { EACH } else { 3 };
        let dropped = usize::try_from(story.dropped).unwrap();
        assert_eq!(story.bytes() + dropped, whole);
    }

    // From here on it hears everything again.
    let seen = run(shell("echo again"));
    let story = only(listen(&mut monitor, 1));
    assert_eq!((story.stdout, story.dropped), (seen.stdout, 0));
}

#[test]
fn what_began_with_no_monitor_is_not_told_to_a_later_one() {
    let mut turn = Turn::wait();
    run(shell("echo before"));
    let mut exec = shell("cat; echo after");
    exec.stdin = Stdin::Pipe;
    let mut early = Client::exec(exec);
    early.started();

    let mut monitor = turn.monitor();
    early.send(&HostMessage::StdinEof);
    assert_eq!(early.finish().stdout, b"after\n");
    run(shell("echo heard"));
    let story = only(listen(&mut monitor, 1));
    assert_eq!(story.stdout, b"heard\n");
}

#[test]
fn only_commands_that_ran_are_told_of_and_each_has_its_end() {
    let mut turn = Turn::wait();
    let mut monitor = turn.monitor();
    failure(request("/no/such/program", &[]));
    let mut left = Client::exec(shell("echo words; sleep 1000"));
    left.until("words");
    drop(left);
    let story = only(listen(&mut monitor, 1));
    assert_eq!(story.stdout, b"words\n");
    assert_eq!(story.exit, Some(Exit::Signal(9)), "nobody was there to see");
}

#[test]
fn a_sample_tells_how_the_guest_is() {
    let mut turn = Turn::wait();
    let mut monitor = turn.monitor();
    let mut runs = Client::exec(request("sleep", &["1000"]));
    runs.started();
    monitor.client.send(&HostMessage::Sample);
    monitor.client.send(&HostMessage::Sample);
    let mut samples = Vec::new();
    while samples.len() < 2 {
        match monitor.client.receive() {
            GuestMessage::Sample(sample) => samples.push(sample),
            GuestMessage::SessionStarted { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let sample = samples[0];
    assert!(sample.uptime_ns > 0 && sample.uptime_ns <= samples[1].uptime_ns);
    assert!(sample.memory_available_bytes > 0);
    assert!(sample.memory_total_bytes > sample.memory_available_bytes);
    assert_eq!(
        sample.root_used_bytes.is_some(),
        sample.root_free_bytes.is_some()
    );
    assert!(sample.sessions >= 1 && sample.connections >= 1);
}

#[test]
fn a_monitor_that_talks_nonsense_ends_its_own_conversation() {
    let mut turn = Turn::wait();
    for nonsense in [
        HostMessage::Exec(request("true", &[])),
        HostMessage::Hello(Hello::ours()),
        HostMessage::Shutdown { grace_ms: 0 },
        HostMessage::Drain { grace_ms: 0 },
        HostMessage::StdinEof,
    ] {
        let mut monitor = turn.monitor();
        monitor.client.send(&nonsense);
        assert_eq!(last_words(&mut monitor), Some(RefusalKind::Unexpected));
    }
    let mut exec = request("cat", &[]);
    exec.stdin = Stdin::Pipe;
    let mut through = Client::exec(exec);
    through.started();
    for bytes in [&[255; 8][..], &[1, 0, 0, 0, 200], &[2, 0, 0, 0, 10, 0]] {
        let mut monitor = turn.monitor();
        monitor.client.stream().write_all(bytes).unwrap();
        assert_eq!(last_words(&mut monitor), Some(RefusalKind::Unexpected));
    }
    // One that does not read either.
    let mut monitor = turn.monitor();
    run(request("head", &["-c", "4000000", "/dev/zero"]));
    monitor.client.stream().write_all(&[255; 8]).unwrap();
    drop(monitor);

    through.input(b"on");
    through.send(&HostMessage::StdinEof);
    let seen = through.finish();
    assert_eq!(
        (&*seen.stdout, seen.exit),
        (&b"on"[..], Some(Exit::Code(0)))
    );
}

/// Reads to the end of the conversation.
fn last_words(monitor: &mut Monitor<'_>) -> Option<RefusalKind> {
    let mut last = None;
    while let Some(message) = monitor.client.next() {
        last = Some(message);
    }
    match last {
        Some(GuestMessage::Refused(refusal)) => Some(refusal.kind),
        _ => None,
    }
}

#[test]
fn there_is_one_monitor_at_a_time() {
    let mut turn = Turn::wait();
    let mut monitor = turn.monitor();
    let mut second = another_monitor();
    let mut nothing = Vec::new();
    second.read_to_end(&mut nothing).unwrap();
    assert!(nothing.is_empty());
    run(shell("echo heard"));
    assert_eq!(only(listen(&mut monitor, 1)).stdout, b"heard\n");
}
