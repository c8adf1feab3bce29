//! The end of all sessions, without a machine around them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use msb_protocol::*;
use support::*;

#[test]
fn sessions_are_asked_and_then_ended_and_no_more_are_taken() {
    let mut polite = Client::exec(shell(
        "trap 'echo bye; exit 9' TERM; echo ready; sleep 1000 & wait",
    ));
    let mut stubborn = Client::exec(shell(
        "trap '' TERM; echo ready; while :; do sleep 0.05; done",
    ));
    let mut plain = Client::exec(request("sleep", &["1000"]));
    let mut terminal = Client::exec(on_terminal(request("sh", &["-i"])));
    polite.until("ready");
    stubborn.until("ready");
    plain.started();
    terminal.started();
    let mut turn = Turn::wait();
    let mut monitor = turn.monitor();
    let mut heard = Client::exec(shell("trap 'exit 4' TERM; echo ready; sleep 1000 & wait"));
    heard.until("ready");
    let mut idle = Client::new();

    let ended = shut_down(Duration::from_secs(1));
    let seen = polite.finish();
    assert!(seen.text().contains("bye"), "{seen:?}");
    assert_eq!(seen.exit, Some(Exit::Code(9)));
    assert_eq!(plain.finish().exit, Some(Exit::Signal(15)));

    // While the stubborn one is waited for:
    idle.send(&HostMessage::Exec(request("true", &[])));
    let refusal = idle.finish().refused.unwrap();
    assert_eq!(refusal.kind, RefusalKind::ShuttingDown);
    let mut ping = Client::new();
    ping.send(&HostMessage::Ping);
    assert_eq!(ping.receive(), GuestMessage::Pong);

    assert_eq!(stubborn.finish().exit, Some(Exit::Signal(9)));
    let exit = terminal.finish().exit;
    assert!(exit.is_some() && exit != Some(Exit::Signal(9)), "{exit:?}");
    assert_eq!(heard.finish().exit, Some(Exit::Code(4)));
    drop((polite, heard, stubborn, plain, terminal, ping, idle));

    // The monitor hears all of the one session that began after it, and then the end.
    let mut told = Vec::new();
    while let Some(message) = monitor.client.next() {
        told.push(message);
    }
    assert!(
        matches!(
            told.as_slice(),
            [
                GuestMessage::SessionStarted { .. },
                GuestMessage::SessionOutput { .. },
                GuestMessage::SessionEnded {
                    exit: Exit::Code(4),
                    ..
                },
            ]
        ),
        "{told:?}"
    );
    drop(monitor);
    ended.recv_timeout(Duration::from_secs(60)).unwrap();
}
