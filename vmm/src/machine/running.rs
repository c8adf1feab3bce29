//! The main loop: from the first entry into the guest to the end of everything.

use std::io;
use std::sync::Arc;

use msb_vmapi::{ErrorKind, Event, Outcome, Reply, VmError, VmState};

use super::Machine;
use crate::control::Asked;
use crate::event_loop::Token;
use crate::kvm::kick;
use crate::message::Message;
use crate::report;
use crate::vcpu::{Outside, VcpuThreads};

pub(super) fn run(mut machine: Machine) -> Outcome {
    let mut threads = VcpuThreads::default();
    let outcome = match start(&mut machine, &mut threads).and_then(|()| serve(&mut machine)) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Error(VmError {
            kind: ErrorKind::Host,
            message: format!("the main loop failed: {}", report::chain(&error)),
        }),
    };
    end(machine, threads, &outcome);
    outcome
}

fn start(machine: &mut Machine, threads: &mut VcpuThreads) -> io::Result<()> {
    kick::install()?;
    let outside = Outside {
        mmio: Arc::new(std::mem::take(&mut machine.mmio)),
        ports: Arc::new(std::mem::take(&mut machine.ports)),
        ending: machine.ending.clone(),
        main: machine.mailbox.clone(),
    };
    // The first goes first: it boots while the others are being started to wait for it.
    for vcpu in machine.vcpus.drain(..) {
        threads.start(vcpu, outside.clone())?;
    }
    machine.control.set_state(VmState::Running);
    if let Some(id) = machine.configure_id {
        let mut reg = machine.events.register(machine.control_slot);
        machine
            .control
            .reply_to_supervisor(id, Reply::Done, &mut reg);
    }
    Ok(())
}

fn serve(machine: &mut Machine) -> io::Result<Outcome> {
    let mut tokens = Vec::new();
    loop {
        machine.events.wait(&mut tokens)?;
        for token in tokens.drain(..) {
            if !machine.events.is_current(token) {
                continue;
            }
            if let Some(outcome) = turn(machine, token)? {
                return Ok(outcome);
            }
        }
        if machine.control.is_orphaned() {
            machine.ending.end(Outcome::Killed);
        }
    }
}

fn turn(machine: &mut Machine, token: Token) -> io::Result<Option<Outcome>> {
    let (slot, tag) = (token.slot(), token.tag());
    if slot == machine.mailbox_slot {
        for message in machine.mailbox.take() {
            if let Some(outcome) = receive(machine, message) {
                return Ok(Some(outcome));
            }
        }
    } else if slot == machine.control_slot {
        let mut reg = machine.events.register(slot);
        for asked in machine.control.ready(tag, &mut reg) {
            match asked {
                // It fails only when the counter is full, and then the guest has been told.
                Asked::PowerButton => drop(machine.power_button.write(1)),
                Asked::Kill => machine.ending.end(Outcome::Killed),
            }
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

fn receive(machine: &mut Machine, message: Message) -> Option<Outcome> {
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
            };
            let mut reg = machine.events.register(machine.control_slot);
            machine.control.broadcast(&event, &mut reg);
        }
        Message::Connection { port, socket } => {
            let mut reg = machine.events.register(machine.control_slot);
            machine.control.hand_over(port, socket, &mut reg);
        }
        Message::End(outcome) => return Some(outcome),
    }
    None
}

fn end(mut machine: Machine, mut threads: VcpuThreads, outcome: &Outcome) {
    machine.ending.end(outcome.clone());
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
