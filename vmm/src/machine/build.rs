//! From a blueprint to a machine: memory, devices, kernel, processors.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use msb_vmapi::Isolation;
use rustix::event::{EventfdFlags, eventfd};
use rustix::pipe::{PipeFlags, pipe_with};
use vmm_virtio::block::Block;
use vmm_virtio::console::Console;
use vmm_virtio::pmem::Pmem;
use vmm_virtio::rng::Rng;
use vmm_virtio::vsock::{Connector, Vsock};
use vmm_virtio::{Device, GuestRam, Interest, Irq, Placement, Register, Tag};

use super::connect::{ByPath, ByPorter, Nobody, ToSupervisor};
use super::trouble::DiskTrouble;
use super::{Machine, MachineError, Surroundings};
use crate::arch::x86_64::layout::{self, Slot};
use crate::arch::x86_64::{acpi, boot, cpuid};
use crate::blueprint::{Blueprint, ConsolePart, Initrd, Kernel, VsockPart};
use crate::bus::Bus;
use crate::clock;
use crate::control::Server;
use crate::device_host::{DeviceHost, DeviceId, RemoteDevice};
use crate::ending::Ending;
use crate::event_loop::{EventLoop, Mailbox, SlotId};
use crate::jail::Jail;
use crate::kvm::{self, System, Vcpu, Vm};
use crate::legacy::{KeyboardController, PowerPorts, Serial};
use crate::memory::{self, MappedDisk, RamLayout};
use crate::message::{MAX_MESSAGES, Message};
use crate::porter::Porter;
use crate::terminal::{self, Escape, Keyboard, RawMode, Sink};
use crate::transport::MmioTransport;
use crate::worker::Worker;

/// Slots of devices that have the same place in every machine.
const CONSOLE_SLOT: usize = 0;
const RNG_SLOT: usize = 1;
const VSOCK_SLOT: usize = 2;
const FIRST_DISK_SLOT: usize = 3;

/// Queue notifications are 32-bit writes here (virtio 1.2, section 4.2.2).
const QUEUE_NOTIFY: u64 = virtio_bindings::virtio_mmio::VIRTIO_MMIO_QUEUE_NOTIFY as u64;

pub(super) fn build(
    system: &System,
    blueprint: Blueprint,
    surroundings: Surroundings,
) -> Result<Machine, MachineError> {
    let stage = |reached| clock::stage(surroundings.process_started_ns, reached);
    stage("blueprint accepted");
    let (supervisor, configure_id) = match surroundings.supervisor {
        Some((connection, id)) => (Some(connection), Some(id)),
        None => (None, None),
    };
    let mut build = Build::new(system, &blueprint.ram, blueprint.mapped)?;
    build.jail = surroundings.jail;
    stage("machine and memory made");
    build.console(blueprint.console)?;
    build.device(RNG_SLOT, Box::new(Rng::new()))?;
    if let Some(vsock) = blueprint.vsock {
        let connector = connector(
            &vsock,
            supervisor.is_some(),
            surroundings.porter.as_ref(),
            &build,
        );
        build.vsock(vsock, connector)?;
    }
    let disks: Vec<_> = blueprint.disks.iter().map(Block::counters).collect();
    for (number, mut disk) in blueprint.disks.into_iter().enumerate() {
        disk.tell_host_errors(Box::new(DiskTrouble::new(build.mailbox.clone(), number)));
        build.device(FIRST_DISK_SLOT + number, Box::new(disk))?;
    }
    let windows = build.vm.ram().windows();
    let mapped: Vec<_> = windows.iter().map(Pmem::new).collect();
    for (number, device) in mapped.into_iter().enumerate() {
        build.device(FIRST_DISK_SLOT + disks.len() + number, Box::new(device))?;
    }
    let description = acpi::Description {
        cpus: blueprint.cpus,
        serial: blueprint.serial.is_some(),
        slots: build.slots.clone(),
    };
    if let Some(serial) = blueprint.serial {
        build.serial(serial)?;
    }
    build.power_ports()?;
    #[cfg(feature = "attacker")]
    build.attacker()?;
    let power_button = build.vm.irq_line(layout::POWER_BUTTON_GSI)?;

    stage("devices made");
    let entry = blueprint.kernel.image.entry();
    let module = blueprint.initrd.as_ref().map(|initrd| initrd.module);
    let ram = build.vm.ram();
    load(ram, blueprint.kernel, blueprint.initrd)?;
    stage("kernel and initramfs loaded");
    boot::write_start_info(ram, &blueprint.ram, &blueprint.command_line, module)?;
    write_acpi(ram, &description)?;
    stage("boot data written");
    let vcpus = processors(system, &build.vm, blueprint.cpus, entry)?;

    stage("processors made");
    let termination = surroundings
        .termination
        .map(|event| Ok::<_, MachineError>((build.watch(&event, Interest::READABLE)?, event)))
        .transpose()?
        .map(|(slot, event)| (event, slot));
    let mut control = Server::new(blueprint.control, supervisor);
    let control_slot = build.slot()?;
    control
        .start(&mut build.events.register(control_slot))
        .map_err(MachineError::host("watch the control socket"))?;
    Ok(Machine {
        workers: build.workers,
        vcpus,
        vm: build.vm,
        events: build.events,
        mailbox: build.mailbox,
        mailbox_slot: build.mailbox_slot,
        ending: build.ending,
        host: build.host,
        disks,
        mmio: build.mmio,
        ports: build.ports,
        control,
        control_slot,
        keyboard: build.keyboard,
        termination,
        power_button,
        configure_id,
        process_started_ns: surroundings.process_started_ns,
        raw_mode: build.raw_mode,
        socket_files: blueprint.socket_files,
        isolation: (build.jail.as_ref())
            .map_or_else(Isolation::default, |jail| jail.isolation().clone()),
        jail: build.jail,
        porter: surroundings.porter,
    })
}

/// Where the guest's connections to the host lead.
fn connector(
    part: &VsockPart,
    supervised: bool,
    porter: Option<&Porter>,
    build: &Build,
) -> Box<dyn Connector> {
    match (&part.path, porter) {
        _ if supervised => Box::new(ToSupervisor::new(build.mailbox.clone())),
        (Some(_), Some(porter)) => Box::new(ByPorter::new(porter.clone())),
        (Some(path), None) => Box::new(ByPath::new(path)),
        (None, _) => Box::new(Nobody),
    }
}

/// A machine in the making.
struct Build {
    vm: Vm,
    events: EventLoop,
    mailbox: Mailbox<Message>,
    mailbox_slot: SlotId,
    ending: Ending,
    host: DeviceHost,
    mmio: Bus,
    ports: Bus,
    workers: Vec<Worker>,
    /// Virtio slots in use.
    slots: Vec<Slot>,
    keyboard: Option<(Keyboard, SlotId)>,
    raw_mode: Option<RawMode>,
    jail: Option<Jail>,
}

impl Build {
    fn new(
        system: &System,
        ram: &RamLayout,
        mapped: Vec<MappedDisk>,
    ) -> Result<Self, MachineError> {
        let vm = Vm::new(system, memory::map(ram, mapped)?)?;
        let mailbox = Mailbox::new(MAX_MESSAGES).map_err(MachineError::host("make an eventfd"))?;
        let mut events = EventLoop::new().map_err(MachineError::host("make an event loop"))?;
        let mailbox_slot = events
            .slot()
            .map_err(MachineError::host("make an event loop"))?;
        events
            .register(mailbox_slot)
            .add(mailbox.as_fd(), Interest::READABLE, Tag(0))
            .map_err(MachineError::host("watch an eventfd"))?;
        Ok(Self {
            host: DeviceHost::new(vm.ram().clone()),
            ending: Ending::new(mailbox.clone()),
            vm,
            events,
            mailbox,
            mailbox_slot,
            mmio: Bus::default(),
            ports: Bus::default(),
            workers: Vec::new(),
            slots: Vec::new(),
            keyboard: None,
            raw_mode: None,
            jail: None,
        })
    }

    fn slot(&mut self) -> Result<SlotId, MachineError> {
        self.events
            .slot()
            .map_err(MachineError::host("add to the event loop"))
    }

    fn watch(&mut self, fd: &impl AsFd, interest: Interest) -> Result<SlotId, MachineError> {
        let slot = self.slot()?;
        self.events
            .register(slot)
            .add(fd.as_fd(), interest, Tag(0))
            .map_err(MachineError::host("watch a descriptor"))?;
        Ok(slot)
    }

    /// Puts a device in a slot: its interrupt, its doorbells, its registers, and the loop it is on.
    fn device(&mut self, number: usize, device: Box<dyn Device>) -> Result<(), MachineError> {
        let slot = Slot::new(number).ok_or_else(|| {
            MachineError::host("find a slot for a device")(std::io::ErrorKind::NotFound.into())
        })?;
        let irq = Irq::new(self.vm.irq_line(slot.gsi)?);
        let mut kicks = Vec::new();
        for (queue, _) in (0..).zip(&device.spec().queue_sizes) {
            let kick = kvm::eventfd()?;
            self.vm
                .ring_on_write(&kick, slot.address + QUEUE_NOTIFY, queue)?;
            kicks.push(kick);
        }
        let id = DeviceId(number);
        let ram = self.vm.ram().clone();
        let transport = |device: &dyn Device, mailbox: &Mailbox<Message>| {
            let control = Box::new(RemoteDevice::new(mailbox.clone(), id));
            MmioTransport::new(device, control, ram.clone(), irq.clone(), kicks)
        };
        let transport = match device.spec().placement {
            Placement::Shared => {
                let transport = transport(device.as_ref(), &self.mailbox);
                let place = self.slot()?;
                self.host.adopt(id, device, place, irq.clone());
                transport
            }
            Placement::Own => {
                let name = format!("{}{}", device.spec().name, self.workers.len());
                let mailbox =
                    Mailbox::new(MAX_MESSAGES).map_err(MachineError::host("make an eventfd"))?;
                let transport = transport(device.as_ref(), &mailbox);
                let cell = self.jail.as_mut().map(Jail::block);
                let (ram, irq) = (ram.clone(), irq.clone());
                let worker = Worker::start(name, id, device, ram, irq, mailbox, cell)
                    .map_err(MachineError::host("start a device's thread"))?;
                self.workers.push(worker);
                transport
            }
        };
        self.mmio
            .insert(slot.address, layout::VIRTIO_MMIO_SIZE, Arc::new(transport))?;
        self.slots.push(slot);
        Ok(())
    }

    fn console(&mut self, part: ConsolePart) -> Result<(), MachineError> {
        let console = match part {
            ConsolePart::Output(output) => Console::new(None, output),
            ConsolePart::Stdio => {
                let host = || MachineError::host("use standard input and output");
                let output = terminal::output().map_err(host())?;
                let mut input = terminal::input().map_err(host())?;
                if terminal::is_terminal() {
                    // Keys pass by the escape key's guard on their way to the device.
                    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
                        .map_err(|errno| host()(errno.into()))?;
                    let from = std::mem::replace(&mut input, theirs);
                    self.keyboard(from, Sink::Pipe(ours))?;
                }
                Console::new(Some(input), output)
            }
        };
        self.device(CONSOLE_SLOT, Box::new(console))
    }

    fn keyboard(&mut self, from: OwnedFd, sink: Sink) -> Result<(), MachineError> {
        let escape = terminal::is_terminal().then(Escape::default);
        if escape.is_some() {
            let raw = RawMode::enter().map_err(MachineError::host("set up the terminal"))?;
            self.raw_mode = Some(raw);
        }
        let mut keyboard = Keyboard::new(from, escape, sink);
        let slot = self.slot()?;
        keyboard
            .start(&mut self.events.register(slot))
            .map_err(MachineError::host("watch standard input"))?;
        self.keyboard = Some((keyboard, slot));
        Ok(())
    }

    fn vsock(
        &mut self,
        part: VsockPart,
        connector: Box<dyn Connector>,
    ) -> Result<(), MachineError> {
        let vsock = Vsock::new(u64::from(part.cid), Some(part.listener), connector);
        self.device(VSOCK_SLOT, Box::new(vsock))
    }

    fn serial(&mut self, part: ConsolePart) -> Result<(), MachineError> {
        let line = self.vm.irq_line(layout::SERIAL_GSI)?;
        let drained = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|errno| MachineError::host("make an eventfd")(errno.into()))?;
        let host = || MachineError::host("use standard input and output");
        let (output, input) = match part {
            ConsolePart::Output(output) => (output, None),
            ConsolePart::Stdio => (
                terminal::output().map_err(host())?,
                Some(terminal::input().map_err(host())?),
            ),
        };
        let serial = Arc::new(Serial::new(line, output, drained));
        if let Some(input) = input {
            self.keyboard(input, Sink::Serial(Arc::clone(&serial)))?;
        }
        self.ports
            .insert(layout::SERIAL_PORT, layout::SERIAL_PORTS, serial)?;
        Ok(())
    }

    #[cfg(feature = "attacker")]
    fn attacker(&mut self) -> Result<(), MachineError> {
        use crate::attacker::{PORT, PORTS, Port};
        let block = self.workers.first().map(Worker::mailbox);
        if let Some(port) = Port::new(self.mailbox.clone(), block) {
            self.ports.insert(PORT, PORTS, Arc::new(port))?;
        }
        Ok(())
    }

    fn power_ports(&mut self) -> Result<(), MachineError> {
        let power = Arc::new(PowerPorts::new(self.ending.clone()));
        self.ports
            .insert(layout::POWER_PORT, layout::POWER_PORTS, power)?;
        let controller = Arc::new(KeyboardController::new(self.ending.clone()));
        self.ports
            .insert(layout::I8042_PORT, layout::I8042_PORTS, controller)?;
        Ok(())
    }
}

fn load(ram: &GuestRam, mut kernel: Kernel, initrd: Option<Initrd>) -> Result<(), MachineError> {
    boot::load_kernel(ram, &mut kernel.file, &kernel.image)?;
    if let Some(mut initrd) = initrd {
        boot::load_initrd(ram, &mut initrd.file, initrd.module)?;
    }
    Ok(())
}

fn write_acpi(ram: &GuestRam, description: &acpi::Description) -> Result<(), MachineError> {
    let at = layout::ACPI_TABLES;
    let tables = acpi::tables(description, at, layout::ACPI_TABLES_SIZE).ok_or_else(|| {
        MachineError::host("fit the ACPI tables")(std::io::ErrorKind::StorageFull.into())
    })?;
    ram.write(at, &tables).map_err(MachineError::Acpi)
}

fn processors(system: &System, vm: &Vm, cpus: u8, entry: u32) -> Result<Vec<Vcpu>, MachineError> {
    let shape = cpuid::Shape {
        cpus,
        tsc_deadline: system.has_tsc_deadline(),
    };
    let machine =
        cpuid::for_machine(&system.supported_cpuid()?, shape).map_err(|_| MachineError::Cpuid)?;
    let vcpus = (0..cpus)
        .map(|id| Vcpu::new(vm, id, &machine))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(first) = vcpus.first() {
        first.enter_at(entry)?;
    }
    Ok(vcpus)
}
