use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_virtio::testing::guest_ram;
use vmm_virtio::{Fault, Placement, Register, Spec, StartError};

use super::*;

#[derive(Debug, Default)]
struct Log {
    calls: Vec<String>,
    /// What the next calls of `ready` come to.
    results: VecDeque<Result<(), Fault>>,
    refuse_start: bool,
}

/// A device that does as it is told by the test.
struct Puppet {
    spec: Spec,
    log: Arc<Mutex<Log>>,
}

impl Device for Puppet {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn start(&mut self, _live: Live, reg: &mut dyn Register) -> Result<(), StartError> {
        let mut log = self.log.lock().unwrap();
        log.calls.push("start".into());
        if log.refuse_start {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory).into());
        }
        reg.arm(Tag(70_000), std::time::Duration::ZERO)?;
        Ok(())
    }

    fn ready(&mut self, tag: Tag, _reg: &mut dyn Register) -> Result<(), Fault> {
        let mut log = self.log.lock().unwrap();
        log.calls.push(format!("ready {}", tag.0));
        log.results.pop_front().unwrap_or(Ok(()))
    }

    fn stop(&mut self) -> Vec<Queue> {
        self.log.lock().unwrap().calls.push("stop".into());
        Vec::new()
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        let call = format!("config {offset} {bytes:?}");
        self.log.lock().unwrap().calls.push(call);
    }
}

struct Fixture {
    events: EventLoop,
    host: DeviceHost,
    log: Arc<Mutex<Log>>,
    irq: Irq,
    slot: SlotId,
}

const ID: DeviceId = DeviceId(3);

impl Fixture {
    fn new() -> Self {
        let mut events = EventLoop::new().unwrap();
        let slot = events.slot().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let irq = Irq::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let spec = Spec {
            kind: 1,
            name: "puppet",
            features: 0,
            queue_sizes: vec![],
            placement: Placement::Shared,
        };
        let puppet = Puppet {
            spec,
            log: Arc::clone(&log),
        };
        let mut host = DeviceHost::new(guest_ram(1 << 20));
        host.adopt(ID, Box::new(puppet), slot, irq.clone());
        Self {
            events,
            host,
            log,
            irq,
            slot,
        }
    }

    fn start(&mut self) {
        let command = Command::Start {
            features: 0,
            queues: Vec::new(),
        };
        self.host.command(&mut self.events, ID, command);
    }

    fn reset(&mut self) {
        let (done, wait) = sync_channel(1);
        self.host
            .command(&mut self.events, ID, Command::Reset { done });
        wait.try_recv().unwrap();
    }

    fn event(&mut self) {
        self.host.event(&mut self.events, self.slot, Tag(9));
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap().calls)
    }

    fn fail_next(&self) {
        let fault = Fault::QueueNotReady { queue: 0 };
        self.log.lock().unwrap().results.push_back(Err(fault));
    }
}

#[test]
fn a_fault_stops_the_device_until_its_driver_resets_it() {
    let mut fixture = Fixture::new();
    fixture.start();
    fixture.fail_next();
    fixture.event();
    assert_eq!(fixture.calls(), ["start", "ready 9", "stop"]);
    assert!(fixture.irq.is_needs_reset());
    fixture.irq.reset();
    fixture.reset();
    fixture.start();
    fixture.event();
    assert_eq!(fixture.calls(), ["stop", "start", "ready 9"]);
    assert!(!fixture.irq.is_needs_reset());
}

#[test]
fn a_device_that_does_not_start_asks_for_a_reset() {
    let mut fixture = Fixture::new();
    fixture.log.lock().unwrap().refuse_start = true;
    fixture.start();
    assert_eq!(fixture.calls(), ["start", "stop"]);
    assert!(fixture.irq.is_needs_reset());
}

#[test]
fn a_reset_makes_collected_events_stale() {
    let mut fixture = Fixture::new();
    fixture.start();
    let mut tokens = Vec::new();
    fixture.events.wait(&mut tokens).unwrap();
    assert!(tokens.iter().all(|t| fixture.events.is_current(*t)));
    fixture.reset();
    assert!(!tokens.is_empty());
    assert!(!tokens.iter().any(|t| fixture.events.is_current(*t)));
}

#[test]
fn many_faults_are_only_that() {
    let mut fixture = Fixture::new();
    for _ in 0..1000 {
        fixture.start();
        fixture.fail_next();
        fixture.event();
        fixture.reset();
    }
    fixture.irq.reset();
    fixture.calls();
    fixture.start();
    fixture.event();
    assert_eq!(fixture.calls(), ["start", "ready 9"]);
    assert!(!fixture.irq.is_needs_reset());
}

#[test]
fn configuration_writes_arrive_whole() {
    let mut fixture = Fixture::new();
    let mailbox = Mailbox::new(1).unwrap();
    let remote = RemoteDevice::new(mailbox.clone(), ID);
    remote.config_write(4, &[1, 2]);
    remote.config_write(8, &[3]);
    let taken = mailbox.take();
    assert_eq!(taken.len(), 1, "more than there is room for are dropped");
    for message in taken {
        if let Message::Device(id, command) = message {
            fixture.host.command(&mut fixture.events, id, command);
        }
    }
    assert_eq!(fixture.calls(), ["config 4 [1, 2]"]);
}

#[test]
fn nobody_waits_for_a_loop_that_has_ended() {
    let mailbox = Mailbox::new(4).unwrap();
    let remote = RemoteDevice::new(mailbox.clone(), ID);
    mailbox.close();
    remote.reset();
    assert!(!remote.start(0, Vec::new()));
}
