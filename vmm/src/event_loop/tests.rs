use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use proptest::prelude::*;

use super::*;

fn collect(events: &mut EventLoop) -> Vec<Token> {
    let mut tokens = Vec::new();
    events.wait(&mut tokens).unwrap();
    tokens
}

#[test]
fn an_event_finds_its_participant() {
    let mut events = EventLoop::new().unwrap();
    let (first, second) = (events.slot().unwrap(), events.slot().unwrap());
    let (mut a, b) = UnixStream::pair().unwrap();
    let idle = UnixStream::pair().unwrap();
    events
        .register(first)
        .add(idle.0.as_fd(), Interest::READABLE, Tag(7))
        .unwrap();
    events
        .register(second)
        .add(b.as_fd(), Interest::READABLE, Tag(9))
        .unwrap();
    a.write_all(b"x").unwrap();
    let tokens = collect(&mut events);
    assert_eq!(tokens.len(), 1);
    assert_eq!((tokens[0].slot(), tokens[0].tag()), (second, Tag(9)));
    assert!(events.is_current(tokens[0]));
}

#[test]
fn events_from_before_a_reset_are_stale() {
    let mut events = EventLoop::new().unwrap();
    let slot = events.slot().unwrap();
    let (mut a, b) = UnixStream::pair().unwrap();
    let add = |events: &mut EventLoop| {
        events
            .register(slot)
            .add(b.as_fd(), Interest::READABLE, Tag(1))
            .unwrap();
    };
    add(&mut events);
    a.write_all(b"x").unwrap();
    let stale = collect(&mut events)[0];
    events.forget(slot);
    assert!(!events.is_current(stale));
    add(&mut events);
    let fresh = collect(&mut events)[0];
    assert!(events.is_current(fresh) && !events.is_current(stale));
}

#[test]
fn timers_come_once_in_order_and_can_be_replaced() {
    let mut events = EventLoop::new().unwrap();
    let slot = events.slot().unwrap();
    let ms = Duration::from_millis;
    let mut reg = events.register(slot);
    reg.arm(Tag(1), ms(20)).unwrap();
    reg.arm(Tag(2), ms(10)).unwrap();
    reg.arm(Tag(3), ms(5)).unwrap();
    reg.disarm(Tag(3));
    reg.arm(Tag(1), ms(1)).unwrap();
    let mut order = Vec::new();
    while order.len() < 2 {
        order.extend(collect(&mut events).iter().map(|t| t.tag().0));
    }
    assert_eq!(order, [1, 2]);
    assert!(events.deadlines.is_empty());
    assert!(events.slots[0].timers.is_empty());
}

#[test]
fn forgetting_takes_timers_along() {
    let mut events = EventLoop::new().unwrap();
    let slot = events.slot().unwrap();
    events.register(slot).arm(Tag(1), Duration::ZERO).unwrap();
    events.forget(slot);
    assert_eq!(events.timeout(), -1);
}

#[test]
fn modify_and_remove() {
    let mut events = EventLoop::new().unwrap();
    let slot = events.slot().unwrap();
    let (a, mut b) = UnixStream::pair().unwrap();
    b.write_all(b"x").unwrap();
    let mut reg = events.register(slot);
    reg.add(a.as_fd(), Interest::NONE, Tag(1)).unwrap();
    reg.modify(a.as_fd(), Interest::WRITABLE, Tag(2)).unwrap();
    assert_eq!(collect(&mut events)[0].tag(), Tag(2));
    let mut reg = events.register(slot);
    reg.remove(a.as_fd()).unwrap();
    reg.arm(Tag(3), Duration::ZERO).unwrap();
    assert_eq!(collect(&mut events)[0].tag(), Tag(3));
}

proptest! {
    #[test]
    fn tokens_survive_packing(slot: u16, generation: u16, tag: u32) {
        let token = Token { slot, generation, tag };
        prop_assert_eq!(Token::unpack(token.pack()), token);
    }
}
