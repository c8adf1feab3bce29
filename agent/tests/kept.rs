//! What the agent keeps of sessions that nobody views, and what it waits for. One test, for it counts
//! all sessions of its process and ends by draining them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use msb_protocol::*;
use support::sessions::*;
use support::*;

/// As many as the agent keeps.
const KEPT: usize = 256;

#[test]
fn so_many_are_kept_and_a_session_that_nobody_views_is_work() {
    let finished = |_| {
        let mut client = start(request("true", &[]), true);
        let (session, _) = started(&mut client);
        drop(client);
        over(session);
        session
    };
    let oldest = finished(0);
    let newer: Vec<_> = (0..KEPT).map(finished).collect();
    let kept: Vec<_> = list().iter().map(|entry| entry.session).collect();
    assert_eq!(kept, newer, "the oldest has made room");
    assert_eq!(
        refusal(SessionCall::Attach { session: oldest }),
        RefusalKind::NoSession
    );
    for session in newer.into_iter().skip(1) {
        let (mut client, _) = attach(session);
        assert_eq!(hear(&mut client).exit, Some(Exit::Code(0)));
    }
    let mut exec = request("cat", &[]);
    exec.stdin = Stdin::Pipe;
    let mut first = start(exec, false);
    let (session, _) = started(&mut first);
    detach(&mut first, 0);
    let ended = drain(Duration::ZERO);
    assert_eq!(
        run(request("true", &[])).refused.unwrap().kind,
        RefusalKind::Draining
    );
    assert!(ended.try_recv().is_err(), "a detached session runs");
    // It can be attached while the guest drains. What is finished and kept holds up nothing.
    let (mut second, _) = attach(session);
    second.send(&HostMessage::StdinEof);
    assert_eq!(hear(&mut second).exit, Some(Exit::Code(0)));
    ended.recv_timeout(Duration::from_secs(60)).unwrap();
}
