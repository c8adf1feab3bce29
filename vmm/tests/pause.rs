//! Machines of a few instructions, paused and resumed. Any KVM will do, an interpreting one too.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[allow(dead_code, unreachable_pub)]
mod support;

use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use msb_vmapi::{
    ConsoleTarget, Counters, DiskConfig, Event, FromVmm, Outcome, Reply, Request, Source, VmConfig,
    VmState,
};
use msb_vmm::machine::Surroundings;
use support::{Place, SLEEP, Supervisor, machine, out, store, system};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// `jmp $`
const SPIN: &[u8] = &[0xeb, 0xfe];

/// Registers of the random number generator, on the main loop, and of the first disk, on its own.
const DEVICES: [u32; 2] = [0xd000_1000, 0xd000_3000];

/// The code again and again, with a byte to the serial port each time.
fn forever(mut code: Vec<u8>) -> Vec<u8> {
    // mov dx, 0x3f8; mov al, 'x'; out dx, al
    code.extend([0x66, 0xba, 0xf8, 0x03, 0xb0, b'x', 0xee]);
    let back = i32::try_from(code.len() + 5).unwrap();
    code.push(0xe9);
    code.extend((-back).to_le_bytes());
    code
}

/// Starts each device and resets it: the vCPU waits for the device's loop.
fn resets() -> Vec<u8> {
    let mut code = Vec::new();
    for device in DEVICES {
        for (register, value) in [
            (0x70, 3),
            // VIRTIO_F_VERSION_1
            (0x24, 1),
            (0x20, 1),
            (0x70, 11),
            (0x70, 15),
            (0x70, 0),
        ] {
            code.extend(store(device + register, value));
        }
    }
    code
}

struct Run {
    place: Place,
    supervisor: Supervisor,
    thread: JoinHandle<Outcome>,
    next_id: u64,
    /// Events that came before a reply.
    events: Vec<Event>,
}

impl Run {
    fn new(code: &[u8], edit: impl FnOnce(&mut VmConfig)) -> Option<Self> {
        let system = system()?;
        let place = Place::new(code);
        std::fs::write(place.path().join("disk"), [0; 4096]).unwrap();
        let mut config = place.config();
        config.disk = vec![DiskConfig::whole(place.path().join("disk"), false)];
        config.serial = ConsoleTarget::File(Source::Path(place.path().join("serial")));
        edit(&mut config);
        let (supervisor, connection) = Supervisor::new();
        let surroundings = Surroundings {
            supervisor: Some((connection, 0)),
            ..Surroundings::default()
        };
        let machine = machine(&system, config, surroundings);
        let mut run = Self {
            place,
            supervisor,
            thread: thread::spawn(|| machine.run()),
            next_id: 1,
            events: Vec::new(),
        };
        assert_eq!(run.reply(0), Reply::Done);
        Some(run)
    }

    fn serial(&self) -> PathBuf {
        self.place.path().join("serial")
    }

    /// Bytes that the guest has written.
    fn written(&self) -> u64 {
        std::fs::metadata(self.serial()).unwrap().len()
    }

    /// Waits until the guest has written more.
    fn wait_for_more_than(&self, before: u64) {
        let end = Instant::now() + PATIENCE;
        while self.written() <= before {
            assert!(Instant::now() < end, "the guest does not go on");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn send(&mut self, request: Request) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.supervisor.ask(id, request);
        id
    }

    /// The reply of that id; events that come before are kept.
    fn reply(&mut self, expected: u64) -> Reply {
        loop {
            match self.supervisor.hear().unwrap() {
                FromVmm::Reply { id, reply } => {
                    assert_eq!(id, expected);
                    return reply;
                }
                FromVmm::Event(Event::Booted { .. }) => {}
                FromVmm::Event(event) => self.events.push(event),
                other => panic!("{other:?}"),
            }
        }
    }

    fn ask(&mut self, request: Request) -> Reply {
        let id = self.send(request);
        self.reply(id)
    }

    fn counters(&mut self) -> Counters {
        match self.ask(Request::Counters) {
            Reply::Counters(counters) => counters,
            other => panic!("{other:?}"),
        }
    }

    fn end(self) -> Outcome {
        self.thread.join().unwrap()
    }
}

#[test]
fn paused_it_does_nothing_and_resumed_it_goes_on() {
    let Some(mut run) = Run::new(&forever(Vec::new()), |_| {}) else {
        return;
    };
    for _ in 0..20 {
        run.wait_for_more_than(run.written());
        assert_eq!(run.ask(Request::Pause), Reply::Done);
        assert_eq!(std::mem::take(&mut run.events), [Event::Paused]);
        assert_eq!(run.ask(Request::State), Reply::State(VmState::Paused));
        let before = run.written();
        // Again: it is paused, and nothing happens.
        assert_eq!(run.ask(Request::Pause), Reply::Done);
        thread::sleep(Duration::from_millis(20));
        assert_eq!(run.written(), before);

        assert_eq!(run.ask(Request::Resume), Reply::Done);
        assert_eq!(std::mem::take(&mut run.events), [Event::Resumed]);
        assert_eq!(run.ask(Request::State), Reply::State(VmState::Running));
        assert_eq!(run.ask(Request::Resume), Reply::Done);
        assert_eq!(run.events, []);
        run.wait_for_more_than(before);
    }
    assert_eq!(run.ask(Request::Kill), Reply::Done);
    assert_eq!(run.end(), Outcome::Killed);
}

#[test]
fn a_vcpu_that_waits_for_a_device_is_served_while_it_is_paused() {
    let Some(mut run) = Run::new(&forever(resets()), |_| {}) else {
        return;
    };
    for _ in 0..300 {
        assert_eq!(run.ask(Request::Pause), Reply::Done);
        let before = run.written();
        assert_eq!(run.ask(Request::Resume), Reply::Done);
        run.wait_for_more_than(before);
    }
    assert_eq!(run.ask(Request::Kill), Reply::Done);
    assert_eq!(run.end(), Outcome::Killed);
}

#[test]
fn many_at_once_are_done_in_order() {
    // The other seven wait to be started, and can be paused all the same.
    let Some(mut run) = Run::new(&forever(resets()), |config| config.cpus = 8) else {
        return;
    };
    for _ in 0..20 {
        let sent: Vec<u64> = [
            Request::Pause,
            Request::Resume,
            Request::Pause,
            Request::Pause,
            Request::Resume,
        ]
        .into_iter()
        .map(|request| run.send(request))
        .collect();
        for id in sent {
            assert_eq!(run.reply(id), Reply::Done);
        }
        let expected = [Event::Paused, Event::Resumed, Event::Paused, Event::Resumed];
        assert_eq!(std::mem::take(&mut run.events), expected);
        run.wait_for_more_than(run.written());
    }
    assert_eq!(run.ask(Request::Kill), Reply::Done);
    assert_eq!(run.end(), Outcome::Killed);
}

#[test]
fn the_cpu_time_stands_still_and_goes_on() {
    let Some(mut run) = Run::new(SPIN, |config| config.cpus = 2) else {
        return;
    };
    let end = Instant::now() + PATIENCE;
    let first = run.counters();
    assert_eq!(first.disks.len(), 1);
    while run.counters().vcpu_time_ns <= first.vcpu_time_ns {
        assert!(Instant::now() < end, "no CPU time is used");
    }
    assert_eq!(run.ask(Request::Pause), Reply::Done);
    // A thread that has said so falls asleep next.
    let mut paused = run.counters();
    loop {
        thread::sleep(Duration::from_millis(100));
        let now = run.counters();
        if now == paused {
            break;
        }
        assert!(Instant::now() < end, "a paused vCPU uses CPU time");
        paused = now;
    }
    assert_eq!(run.ask(Request::Resume), Reply::Done);
    while run.counters() == paused {
        assert!(Instant::now() < end, "no CPU time is used any more");
    }
    assert_eq!(run.ask(Request::Kill), Reply::Done);
    assert_eq!(run.end(), Outcome::Killed);
}

#[test]
fn every_end_works_while_paused_and_while_it_is_being_paused() {
    for wait in [true, false] {
        for code in [SPIN, SLEEP, &forever(resets())] {
            let Some(mut run) = Run::new(code, |config| config.cpus = 4) else {
                return;
            };
            let id = run.send(Request::Pause);
            if wait {
                assert_eq!(run.reply(id), Reply::Done);
            }
            run.send(Request::Kill);
            assert_eq!(run.end(), Outcome::Killed);

            let mut run = Run::new(code, |config| config.cpus = 4).unwrap();
            let id = run.send(Request::Pause);
            if wait {
                assert_eq!(run.reply(id), Reply::Done);
            }
            // The supervisor is gone.
            let Run {
                supervisor, thread, ..
            } = run;
            drop(supervisor);
            assert_eq!(thread.join().unwrap(), Outcome::Killed);
        }
    }
}

#[test]
fn a_guest_that_ends_itself_meanwhile() {
    for _ in 0..50 {
        let Some(mut run) = Run::new(&out(0x600, 0x34), |_| {}) else {
            return;
        };
        run.send(Request::Pause);
        run.send(Request::Resume);
        assert_eq!(run.thread.join().unwrap(), Outcome::PowerOff);
    }
}
