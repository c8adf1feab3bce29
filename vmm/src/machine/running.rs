//! The main loop: from the first entry into the guest to the end of everything.

use std::io;
use std::sync::Arc;

use msb_vmapi::{ErrorKind, Event, Outcome, Reply, VmError, VmState};

use super::Machine;
use super::counters::counters;
use super::pausing::{Pausing, Step, Verb};
use crate::control::{Asked, Asker};
use crate::event_loop::Token;
use crate::jail::Jail;
use crate::kvm::kick;
use crate::message::Message;
use crate::report;
use crate::vcpu::{Outside, VcpuThreads};

/// A machine and the threads that are its vCPUs now.
struct Running {
    // Dropped first.
    threads: VcpuThreads,
    pausing: Pausing<Asker>,
    machine: Machine,
}

pub(super) fn run(machine: Machine) -> Outcome {
    let mut running = Running {
        threads: VcpuThreads::default(),
        pausing: Pausing::new(machine.vcpus.len()),
        machine,
    };
    let outcome = match start(&mut running).and_then(|()| serve(&mut running)) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Error(VmError {
            kind: ErrorKind::Host,
            message: format!("the main loop failed: {}", report::chain(&error)),
        }),
    };
    end(running, &outcome);
    outcome
}

fn start(running: &mut Running) -> io::Result<()> {
    kick::install()?;
    let machine = &mut running.machine;
    let outside = Outside {
        mmio: Arc::new(std::mem::take(&mut machine.mmio)),
        ports: Arc::new(std::mem::take(&mut machine.ports)),
        ending: machine.ending.clone(),
        main: machine.mailbox.clone(),
    };
    for vcpu in machine.vcpus.drain(..) {
        let cell = machine.jail.as_mut().map(Jail::vcpu);
        running.threads.start(vcpu, outside.clone(), cell)?;
    }
    if let Some(jail) = machine.jail.take() {
        jail.seal().map_err(io::Error::other)?;
    }
    running.threads.resume();
    machine.control.set_state(VmState::Running);
    if let Some(id) = machine.configure_id {
        let mut reg = machine.events.register(machine.control_slot);
        machine
            .control
            .reply_to_supervisor(id, Reply::Done, &mut reg);
    }
    Ok(())
}

fn serve(running: &mut Running) -> io::Result<Outcome> {
    let mut tokens = Vec::new();
    loop {
        running.machine.events.wait(&mut tokens)?;
        for token in tokens.drain(..) {
            if !running.machine.events.is_current(token) {
                continue;
            }
            if let Some(outcome) = turn(running, token)? {
                return Ok(outcome);
            }
        }
        if running.machine.control.is_orphaned() {
            running.machine.ending.end(Outcome::Killed);
        }
    }
}

fn turn(running: &mut Running, token: Token) -> io::Result<Option<Outcome>> {
    let (slot, tag) = (token.slot(), token.tag());
    let machine = &mut running.machine;
    if slot == machine.mailbox_slot {
        for message in machine.mailbox.take() {
            if let Some(outcome) = receive(running, message) {
                return Ok(Some(outcome));
            }
        }
    } else if slot == machine.control_slot {
        let mut reg = machine.events.register(slot);
        for asked in machine.control.ready(tag, &mut reg) {
            serve_client(running, asked);
        }
    } else if machine.termination.as_ref().is_some_and(|t| t.1 == slot) {
        machine.ending.end(Outcome::Killed);
        machine.events.forget(slot);
    } else if let Some((keyboard, _)) = machine.keyboard.as_mut().filter(|k| k.1 == slot) {
        match keyboard.ready(tag, &mut machine.events.register(slot)) {
            Ok(false) => {}
            Ok(true) => machine.ending.end(Outcome::Killed),
            Err(error) => {
                tracing::warn!("standard input is not read any more: {error}");
                machine.events.forget(slot);
            }
        }
    } else {
        machine.host.event(&mut machine.events, slot, tag);
    }
    Ok(None)
}

fn serve_client(running: &mut Running, asked: Asked) {
    let machine = &mut running.machine;
    match asked {
        // The interrupt controller keeps the press while the machine is paused. Writing fails only
        // when the counter is full, and then the guest has been told.
        Asked::PowerButton => drop(machine.power_button.write(1)),
        Asked::Kill => machine.ending.end(Outcome::Killed),
        Asked::Pause(asker) => {
            let steps = running.pausing.ask(Verb::Pause, asker);
            take(running, steps);
        }
        Asked::Resume(asker) => {
            let steps = running.pausing.ask(Verb::Resume, asker);
            take(running, steps);
        }
        Asked::Counters(asker) => {
            let counters = counters(&machine.disks, &mut running.threads);
            let mut reg = machine.events.register(machine.control_slot);
            let reply = Reply::Counters(counters);
            machine.control.reply(asker, reply, &mut reg);
        }
    }
}

/// Takes the steps of a pause or a resume.
fn take(running: &mut Running, steps: Vec<Step<Asker>>) {
    let control = &mut running.machine.control;
    let mut reg = running
        .machine
        .events
        .register(running.machine.control_slot);
    for step in steps {
        match step {
            Step::TakeOut(number) => running.threads.pause(number),
            Step::LetIn => running.threads.resume(),
            Step::Paused => {
                control.set_state(VmState::Paused);
                control.broadcast(&Event::Paused, &mut reg);
            }
            Step::Resumed => {
                control.set_state(VmState::Running);
                control.broadcast(&Event::Resumed, &mut reg);
            }
            Step::Done(asker) => control.reply(asker, Reply::Done, &mut reg),
            Step::Refused(asker) => {
                let why = "too many requests wait for the machine to pause; wait for their answers";
                control.refuse(asker, why, &mut reg);
            }
            Step::Over(asker) => control.refuse(asker, "the machine is over", &mut reg),
        }
    }
}

fn receive(running: &mut Running, message: Message) -> Option<Outcome> {
    let machine = &mut running.machine;
    match message {
        Message::Device(id, command) => {
            machine.host.command(&mut machine.events, id, command);
        }
        Message::Booted(booted_ns) => {
            let process_started_ns = machine.process_started_ns;
            tracing::info!(
                since_start_us = booted_ns.saturating_sub(process_started_ns) / 1000,
                "the first vCPU enters the guest"
            );
            let event = Event::Booted {
                process_started_ns,
                booted_ns,
                isolation: machine.isolation.clone(),
            };
            let mut reg = machine.events.register(machine.control_slot);
            machine.control.broadcast(&event, &mut reg);
        }
        Message::Connection { port, socket } => {
            let mut reg = machine.events.register(machine.control_slot);
            machine.control.hand_over(port, socket, &mut reg);
        }
        Message::DiskFailed { disk, error } => {
            let disk = u32::try_from(disk).unwrap_or(u32::MAX);
            let mut reg = machine.events.register(machine.control_slot);
            let event = Event::DiskFailed { disk, error };
            machine.control.broadcast(&event, &mut reg);
        }
        Message::OutOfGuest(number) => {
            let steps = running.pausing.acknowledge(number);
            take(running, steps);
        }
        #[cfg(feature = "attacker")]
        Message::Attack(order) => crate::attacker::run(order),
        Message::End(outcome) => return Some(outcome),
    }
    None
}

fn end(mut running: Running, outcome: &Outcome) {
    running.machine.ending.end(outcome.clone());
    let steps = running.pausing.end();
    take(&mut running, steps);
    let Running {
        mut threads,
        mut machine,
        ..
    } = running;
    // A vCPU that waits for a device's reset waits no more; then it leaves the guest for good.
    machine.mailbox.close();
    for worker in &machine.workers {
        worker.ask_to_end();
    }
    threads.stop();
    // Devices finish what is in flight, and disks are released, before anybody hears of the end.
    machine.host.stop(&mut machine.events);
    machine.workers.clear();
    machine.control.set_state(VmState::Stopped);
    let mut reg = machine.events.register(machine.control_slot);
    machine
        .control
        .broadcast(&Event::Ended(outcome.clone()), &mut reg);
    drop(machine.raw_mode.take());
    machine.socket_files.clear();
}
