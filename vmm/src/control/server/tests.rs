use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendFlags, SocketType, recvmsg, socketpair,
};

use msb_vmapi::Isolation;

use super::*;
use crate::event_loop::{EventLoop, SlotId};

struct Fixture {
    events: EventLoop,
    slot: SlotId,
    server: Server,
    peer: OwnedFd,
}

impl Fixture {
    fn new() -> Self {
        let flags = SocketFlags::CLOEXEC;
        let (ours, peer) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let mut events = EventLoop::new().unwrap();
        let slot = events.slot().unwrap();
        let mut server = Server::new(None, Some(ours.into()));
        server.start(&mut events.register(slot)).unwrap();
        Self {
            events,
            slot,
            server,
            peer,
        }
    }

    fn ask(&mut self, datagram: &str) -> Vec<Asked> {
        rustix::net::send(&self.peer, datagram.as_bytes(), SendFlags::empty()).unwrap();
        self.turn()
    }

    /// Serves what there is to serve now.
    fn turn(&mut self) -> Vec<Asked> {
        let mut reg = self.events.register(self.slot);
        reg.arm(Tag(u32::MAX - 1), Duration::ZERO).unwrap();
        let mut tokens = Vec::new();
        self.events.wait(&mut tokens).unwrap();
        let mut asked = Vec::new();
        for token in tokens {
            let mut reg = self.events.register(self.slot);
            asked.extend(self.server.ready(token.tag(), &mut reg));
        }
        asked
    }

    fn hear(&self) -> (FromVmm, usize) {
        let mut bytes = vec![0; 65536];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(
            &self.peer,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::DONTWAIT,
        )
        .unwrap();
        let descriptors = ancillary.drain().count();
        let message = serde_json::from_slice(&bytes[..got.bytes]).unwrap();
        (message, descriptors)
    }
}

#[test]
fn requests_are_answered_by_their_id() {
    let mut fixture = Fixture::new();
    fixture.server.set_state(VmState::Running);
    assert_eq!(fixture.ask(r#"{"id":3,"request":"state"}"#), []);
    let reply = Reply::State(VmState::Running);
    assert_eq!(fixture.hear().0, FromVmm::Reply { id: 3, reply });
    assert_eq!(
        fixture.ask(r#"{"id":4,"request":"power_button"}"#),
        [Asked::PowerButton]
    );
    fixture.hear();
    assert_eq!(fixture.ask(r#"{"id":5,"request":"kill"}"#), [Asked::Kill]);
    fixture.hear();
    for (datagram, kind) in [
        (
            r#"{"id":6,"request":{"configure":{"kernel":"k"}}}"#,
            ErrorKind::State,
        ),
        ("what?", ErrorKind::Malformed),
    ] {
        assert_eq!(fixture.ask(datagram), []);
        match fixture.hear().0 {
            FromVmm::Reply {
                reply: Reply::Error(error),
                ..
            } => assert_eq!(error.kind, kind),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_takes_time_is_answered_when_it_is_done() {
    let mut fixture = Fixture::new();
    let pause = fixture.ask(r#"{"id":3,"request":"pause"}"#);
    let resume = fixture.ask(r#"{"id":4,"request":"resume"}"#);
    let counters = fixture.ask(r#"{"id":5,"request":"counters"}"#);
    let (&[Asked::Pause(first)], &[Asked::Resume(second)], &[Asked::Counters(third)]) =
        (&pause[..], &resume[..], &counters[..])
    else {
        panic!("{pause:?} {resume:?} {counters:?}");
    };
    let mut reg = fixture.events.register(fixture.slot);
    let told = Reply::Counters(msb_vmapi::Counters::default());
    fixture.server.reply(third, told.clone(), &mut reg);
    fixture.server.reply(first, Reply::Done, &mut reg);
    fixture.server.refuse(second, "not now", &mut reg);
    assert_eq!(fixture.hear().0, FromVmm::Reply { id: 5, reply: told });
    let reply = Reply::Done;
    assert_eq!(fixture.hear().0, FromVmm::Reply { id: 3, reply });
    match fixture.hear().0 {
        FromVmm::Reply {
            id: 4,
            reply: Reply::Error(error),
        } => assert_eq!(error.kind, ErrorKind::State),
        other => panic!("{other:?}"),
    }
    // One that hung up is answered to nobody.
    let (other, _) = rustix::pipe::pipe().unwrap();
    drop(std::mem::replace(&mut fixture.peer, other));
    fixture.turn();
    let mut reg = fixture.events.register(fixture.slot);
    fixture.server.reply(first, Reply::Done, &mut reg);
}

#[test]
fn a_lost_supervisor_is_noticed() {
    let mut fixture = Fixture::new();
    assert!(!fixture.server.is_orphaned());
    let (other, _) = rustix::pipe::pipe().unwrap();
    drop(std::mem::replace(&mut fixture.peer, other));
    fixture.turn();
    assert!(fixture.server.is_orphaned());
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_its_queue_bounded() {
    let mut fixture = Fixture::new();
    let event = Event::Booted {
        process_started_ns: 1,
        booted_ns: 2,
        isolation: Isolation::default(),
    };
    for _ in 0..100_000 {
        let mut reg = fixture.events.register(fixture.slot);
        fixture.server.broadcast(&event, &mut reg);
        let longest = fixture.server.clients.iter().map(|c| c.queue.len()).max();
        assert!(longest.unwrap_or(0) <= MAX_QUEUE);
    }
    assert!(fixture.server.is_orphaned());
}

#[test]
fn what_waited_arrives_in_order_once_the_client_reads() {
    let mut fixture = Fixture::new();
    let mut sent = 0;
    while fixture.server.clients[0].queue.len() < 8 {
        let event = Event::Booted {
            process_started_ns: sent,
            booted_ns: 0,
            isolation: Isolation::default(),
        };
        let mut reg = fixture.events.register(fixture.slot);
        fixture.server.broadcast(&event, &mut reg);
        sent += 1;
    }
    for expected in 0..sent {
        match fixture.hear().0 {
            FromVmm::Event(Event::Booted {
                process_started_ns, ..
            }) => assert_eq!(process_started_ns, expected),
            other => panic!("{other:?}"),
        }
        let waits = |fixture: &Fixture| !fixture.server.clients[0].queue.is_empty();
        if waits(&fixture) {
            fixture.turn();
        }
    }
}

#[test]
fn a_connection_of_the_guest_rides_beside_its_event() {
    let mut fixture = Fixture::new();
    let (socket, _other) = rustix::pipe::pipe().unwrap();
    let mut reg = fixture.events.register(fixture.slot);
    fixture.server.hand_over(1024, socket, &mut reg);
    let (message, descriptors) = fixture.hear();
    assert_eq!(
        message,
        FromVmm::Event(Event::GuestConnected { port: 1024 })
    );
    assert_eq!(descriptors, 1);
}
