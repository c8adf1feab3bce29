//! A guest that is to end when its work is done.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use msb_protocol::*;
use support::*;

fn piped(program: &str) -> ExecRequest {
    let mut exec = request(program, &[]);
    exec.stdin = Stdin::Pipe;
    exec
}

fn refused() {
    let refusal = run(request("true", &[])).refused.unwrap();
    assert_eq!(refusal.kind, RefusalKind::Draining);
}

#[test]
fn what_runs_finishes_what_comes_is_refused_and_then_the_guest_ends() {
    let mut first = Client::exec(piped("cat"));
    let mut second = Client::exec(piped("cat"));
    first.started();
    second.started();
    let mut idle = Client::new();

    let to_end = drain(Duration::ZERO);
    // The agent heard of it before these, so they are too late.
    refused();
    idle.send(&HostMessage::Exec(request("true", &[])));
    let refusal = idle.finish().refused.unwrap();
    assert_eq!(refusal.kind, RefusalKind::Draining);
    let mut ping = Client::new();
    ping.send(&HostMessage::Ping);
    assert_eq!(ping.receive(), GuestMessage::Pong);

    first.input(b"still here");
    first.send(&HostMessage::StdinEof);
    let seen = first.finish();
    assert_eq!(
        (seen.stdout.as_slice(), seen.exit),
        (&b"still here"[..], Some(Exit::Code(0)))
    );
    refused();
    assert!(to_end.try_recv().is_err(), "one session is left");

    second.input(b"the last");
    second.send(&HostMessage::StdinEof);
    assert_eq!(second.finish().stdout, b"the last");
    to_end.recv_timeout(Duration::from_secs(60)).unwrap();
    refused();
    drain(Duration::ZERO)
        .recv_timeout(Duration::from_secs(60))
        .unwrap();
}
