#![no_main]
//! Both ends of a connection: any bytes from a peer, cut anywhere, greeting or not.
//!
//! The first byte says how the rest is cut into reads. What arrives must not depend on that, nothing
//! arrives before a greeting or after an error, and a viewer of whatever the guest says keeps its order.

use libfuzzer_sys::fuzz_target;
use msb_protocol::{
    Arrival, Endpoint, GuestSide, HostSide, LENGTH_BYTES, MAX_FRAME, Side, ViewEvent, Viewer,
};

fn arrivals<S: Side>(cut: usize, stream: &[u8]) -> Vec<S::Theirs> {
    let mut endpoint = Endpoint::<S>::default();
    let mut messages = Vec::new();
    let mut failed = false;
    for read in stream.chunks(cut) {
        endpoint.feed(read);
        loop {
            match endpoint.next_arrival() {
                Ok(Some(Arrival::Greeted(session))) => {
                    assert!(messages.is_empty() && !failed);
                    assert_eq!(endpoint.session(), Some(session));
                }
                Ok(Some(Arrival::Message(message))) => {
                    assert!(endpoint.session().is_some() && !failed);
                    messages.push(message);
                }
                Ok(None) => break,
                Err(_) => {
                    failed = true;
                    break;
                }
            }
        }
        assert!(endpoint.pending() <= LENGTH_BYTES + MAX_FRAME + read.len());
    }
    messages
}

fn view(mut viewer: Viewer, stream: &[u8]) {
    let (mut runs, mut over) = (false, false);
    for message in arrivals::<HostSide>(usize::MAX, stream) {
        let offset = viewer.offset();
        match viewer.take(message) {
            Ok(_) if over => panic!("something came after the end"),
            Ok(ViewEvent::Running(_)) => assert!(!std::mem::replace(&mut runs, true)),
            Ok(ViewEvent::Stdout(_) | ViewEvent::Stderr(_) | ViewEvent::Dropped(_)) => {
                assert!(runs && viewer.offset() >= offset);
            }
            Ok(_) | Err(_) => {}
        }
        over = viewer.is_over();
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let cut = usize::from(*cut).max(1);
    assert_eq!(arrivals::<HostSide>(cut, stream), arrivals::<HostSide>(usize::MAX, stream));
    assert_eq!(arrivals::<GuestSide>(cut, stream), arrivals::<GuestSide>(usize::MAX, stream));
    view(Viewer::starting(), stream);
    view(Viewer::attaching(), stream);
});
