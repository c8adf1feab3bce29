//! Machines of a few instructions, run to their end. Any KVM will do, an interpreting one too.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[allow(dead_code, unreachable_pub)]
mod support;

use std::thread;

use msb_vmapi::{
    CrashCause, DiskConfig, Event, FromVmm, Outcome, Reply, Request, VmConfig, VmState, VsockConfig,
};
use msb_vmm::machine::Surroundings;
use msb_vmm::probe;
use support::{Place, SLEEP, Supervisor, machine, out, store, system};

fn outcome(code: &[u8], edit: impl FnOnce(&mut VmConfig)) -> Option<Outcome> {
    let system = system()?;
    let place = Place::new(code);
    let mut config = place.config();
    edit(&mut config);
    Some(machine(&system, config, Surroundings::default()).run())
}

#[test]
fn the_ways_a_guest_ends() {
    let triple_fault: Vec<u8> = [
        // push 0; push 0; lidt [esp]; int3
        &[0x6a, 0x00, 0x6a, 0x00, 0x0f, 0x01, 0x1c, 0x24, 0xcc][..],
        SLEEP,
    ]
    .concat();
    for (code, expected) in [
        (out(0x600, 0x34), Outcome::PowerOff),
        (out(0x602, 1), Outcome::Reset),
        (out(0x64, 0xfe), Outcome::Reset),
        (triple_fault, Outcome::Crash(CrashCause::TripleFault)),
    ] {
        // Enough stack for the pushes: esp is 0 at entry, and wraps to memory that is not there.
        let with_stack = [&[0xbc, 0x00, 0x00, 0x20, 0x00][..], &code].concat();
        match outcome(&with_stack, |_| {}) {
            // An interpreter may give up before the third fault.
            Some(Outcome::Crash(_))
                if !probe::processor_has_virtualization()
                    && matches!(expected, Outcome::Crash(_)) => {}
            Some(outcome) => assert_eq!(outcome, expected),
            None => {}
        }
    }
}

#[test]
fn several_processors_that_wait_are_stopped() {
    let code = out(0x600, 0x34);
    if let Some(outcome) = outcome(&code, |config| config.cpus = 8) {
        assert_eq!(outcome, Outcome::PowerOff);
    }
}

#[test]
fn writes_to_nobody_and_odd_pokes_at_devices_do_no_harm() {
    let mut code = Vec::new();
    for (address, value) in [
        (0xc000_0000, 1),
        (0xfff0_0000, 1),
        // Slot 0: straight to DRIVER_OK, a queue that is not there, a status that clears bits.
        (0xd000_0070, 0xffff_ffff),
        (0xd000_0030, 77),
        (0xd000_0044, 1),
        (0xd000_0050, 77),
        (0xd000_0070, 1),
        (0xd000_0070, 0),
        (0xd000_0ffc, 5),
    ] {
        code.extend(store(address, value));
    }
    code.extend(out(0x600, 0x34));
    if let Some(outcome) = outcome(&code, |_| {}) {
        assert_eq!(outcome, Outcome::PowerOff);
    }
}

#[test]
fn a_supervised_machine_tells_its_life() {
    let Some(system) = system() else { return };
    let place = Place::new(SLEEP);
    let (supervisor, connection) = Supervisor::new();
    let surroundings = Surroundings {
        process_started_ns: 1,
        supervisor: Some((connection, 7)),
        ..Surroundings::default()
    };
    let machine = machine(&system, place.config(), surroundings);
    let run = thread::spawn(|| machine.run());
    let mut heard = [supervisor.hear().unwrap(), supervisor.hear().unwrap()];
    heard.sort_by_key(|message| matches!(message, FromVmm::Event(_)));
    let done = FromVmm::Reply {
        id: 7,
        reply: Reply::Done,
    };
    assert_eq!(heard[0], done);
    match heard[1] {
        FromVmm::Event(Event::Booted {
            process_started_ns,
            booted_ns,
            ref isolation,
        }) => assert!(process_started_ns == 1 && booted_ns > 1 && isolation.is_none()),
        ref other => panic!("{other:?}"),
    }
    supervisor.ask(8, Request::State);
    let state = Reply::State(VmState::Running);
    assert_eq!(
        supervisor.hear(),
        Some(FromVmm::Reply {
            id: 8,
            reply: state
        })
    );
    supervisor.ask(9, Request::PowerButton);
    supervisor.hear();
    supervisor.ask(10, Request::Kill);
    let done = Reply::Done;
    assert_eq!(
        supervisor.hear(),
        Some(FromVmm::Reply {
            id: 10,
            reply: done
        })
    );
    let ended = FromVmm::Event(Event::Ended(Outcome::Killed));
    assert_eq!(supervisor.hear(), Some(ended));
    assert_eq!(supervisor.hear(), None);
    assert_eq!(run.join().unwrap(), Outcome::Killed);
}

#[test]
fn a_machine_ends_with_its_supervisor_even_while_it_spins() {
    let Some(system) = system() else { return };
    // jmp $
    let place = Place::new(&[0xeb, 0xfe]);
    let (supervisor, connection) = Supervisor::new();
    let surroundings = Surroundings {
        supervisor: Some((connection, 1)),
        ..Surroundings::default()
    };
    let mut config = place.config();
    config.cpus = 2;
    let machine = machine(&system, config, surroundings);
    let run = thread::spawn(|| machine.run());
    supervisor.hear();
    drop(supervisor);
    assert_eq!(run.join().unwrap(), Outcome::Killed);
}

#[test]
fn the_end_leaves_no_socket_and_no_lock() {
    let Some(system) = system() else { return };
    let place = Place::new(&out(0x600, 0x34));
    std::fs::write(place.path().join("disk"), [0; 4096]).unwrap();
    let mut config = place.config();
    config.disk = vec![DiskConfig::whole(place.path().join("disk"), false)];
    config.vsock = Some(VsockConfig {
        socket: place.path().join("vsock").into(),
        cid: 3,
    });
    config.control = Some(place.path().join("control"));
    for _ in 0..3 {
        let machine = machine(&system, config.clone(), Surroundings::default());
        assert!(place.path().join("vsock").exists());
        assert_eq!(machine.run(), Outcome::PowerOff);
        assert!(!place.path().join("vsock").exists());
        assert!(!place.path().join("control").exists());
    }
    let unused = machine(&system, config, Surroundings::default());
    drop(unused);
    assert!(!place.path().join("vsock").exists());
}

#[test]
fn a_termination_event_ends_the_machine() {
    let Some(system) = system() else { return };
    let place = Place::new(SLEEP);
    let (event, signal) = rustix::pipe::pipe().unwrap();
    let surroundings = Surroundings {
        termination: Some(event),
        ..Surroundings::default()
    };
    let machine = machine(&system, place.config(), surroundings);
    let run = thread::spawn(|| machine.run());
    rustix::io::write(&signal, b"x").unwrap();
    assert_eq!(run.join().unwrap(), Outcome::Killed);
}
