//! Processes in the jail: the program's way, in a process that a test splits off.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use msb_vmapi::{
    ConsoleTarget, DiskConfig, DiskContent, DiskExtent, Event, FromVmm, Isolation, Layer, Reply,
    Request, Source, Strength, VmConfig, VsockConfig,
};
use msb_vmm::blueprint::{Blueprint, Host};
use msb_vmm::control::Connection;
use msb_vmm::jail::seccomp::Denial;
use msb_vmm::jail::{self, Inmate};
use msb_vmm::kvm::System;
use msb_vmm::machine::{Machine, Surroundings, exit_code};
use msb_vmm::porter::Porter;

use super::support::{Place, Supervisor, system};

/// A process that the test split off; killed when it is dropped.
pub(crate) struct Child(libc::pid_t);

impl Child {
    /// Runs `what` in it; what it returns is the exit code.
    pub(crate) fn new(what: impl FnOnce() -> u8) -> Self {
        // SAFETY: the child runs on with what this thread has, and ends by `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let code = what();
            // SAFETY: it ends the process.
            unsafe { libc::_exit(code.into()) };
        }
        assert!(pid > 0);
        Self(pid)
    }

    pub(crate) fn wait(self) -> ExitStatus {
        let mut status = 0;
        // SAFETY: it is this process's own child; `status` is written to only.
        assert_eq!(unsafe { libc::waitpid(self.0, &raw mut status, 0) }, self.0);
        std::mem::forget(self);
        ExitStatus::from_raw(status)
    }

    pub(crate) fn proc(&self, what: &str) -> std::path::PathBuf {
        Path::new("/proc").join(self.0.to_string()).join(what)
    }

    /// The lines of `status` of each of its threads, but those that KVM makes.
    pub(crate) fn threads(&self) -> Vec<BTreeMap<String, String>> {
        let tasks = fs::read_dir(self.proc("task")).unwrap();
        tasks
            .map(|task| {
                let text = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
                let pairs = text.lines().filter_map(|line| line.split_once(':'));
                pairs
                    .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
                    .collect()
            })
            .filter(|status: &BTreeMap<_, _>| !status["Name"].starts_with("kvm-"))
            .collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: it is this process's own child, which was not waited for.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: as above; nothing is written to.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
    }
}

/// What the program does, but for a KVM of any kind.
pub(crate) fn jailed(config: VmConfig, supervisor: Option<OwnedFd>) -> u8 {
    let begun = jail::begin(supervisor.as_ref().map(AsRawFd::as_raw_fd));
    let system = System::open_any().unwrap();
    let host = Host::with_vcpus(system.max_vcpus());
    let mut blueprint = Blueprint::new(config, Vec::new(), &host).unwrap();
    let keys = blueprint.take_keys();
    let porter = (supervisor.is_none() && keys.are_needed()).then(|| Porter::start(keys).unwrap());
    let inmate = Inmate {
        needs: blueprint.needs(),
        supervisor: supervisor.as_ref().map(AsFd::as_fd),
        terminal: false,
        denial: Denial::Violation,
    };
    let jail = begun.confine(&inmate).unwrap();
    let connection = supervisor.as_ref().map(|fd| fd.try_clone().unwrap());
    let surroundings = Surroundings {
        supervisor: connection.map(|connection| (Connection::from(connection), 1)),
        jail: Some(jail),
        porter,
        ..Surroundings::default()
    };
    let machine = Machine::new(&system, blueprint, surroundings).unwrap();
    drop(system);
    exit_code(&machine.run()).code()
}

/// A supervised machine in a jail that has booted.
pub(crate) struct Inside {
    pub(crate) child: Child,
    pub(crate) supervisor: Supervisor,
    pub(crate) isolation: Isolation,
    pub(crate) place: Place,
    next_id: u64,
}

impl Inside {
    pub(crate) fn new(code: &[u8], edit: impl FnOnce(&Place, &mut VmConfig)) -> Option<Self> {
        system()?;
        let place = Place::new(code);
        let mut config = place.config();
        edit(&place, &mut config);
        let (supervisor, theirs) = Supervisor::pair();
        let child = Child::new(|| jailed(config, Some(theirs)));
        let mut inside = Self {
            child,
            supervisor,
            isolation: Isolation::default(),
            place,
            next_id: 2,
        };
        let mut ready = false;
        while !ready || inside.isolation.is_none() {
            match inside.supervisor.hear().expect("it ended") {
                FromVmm::Reply { id: 1, reply } => {
                    assert_eq!(reply, Reply::Done);
                    ready = true;
                }
                FromVmm::Event(Event::Booted { isolation, .. }) => inside.isolation = isolation,
                other => panic!("{other:?}"),
            }
        }
        Some(inside)
    }

    /// Asks, and returns the answer; what happens meanwhile is not heard.
    pub(crate) fn ask(&mut self, request: Request) -> Reply {
        let asked = self.next_id;
        self.next_id += 1;
        self.supervisor.ask(asked, request);
        loop {
            match self.supervisor.hear().expect("it ended") {
                FromVmm::Reply { id, reply } if id == asked => return reply,
                FromVmm::Event(Event::Ended(outcome)) => panic!("{outcome:?}"),
                _ => {}
            }
        }
    }

    pub(crate) fn has(&self, layer: Layer) -> bool {
        self.isolation.strength(layer) != Strength::Missing
    }
}

pub(crate) fn with_everything(place: &Place, config: &mut VmConfig) {
    fs::write(place.path().join("disk"), [0; 8192]).unwrap();
    fs::write(place.path().join("part-0"), [1; 1024]).unwrap();
    fs::write(place.path().join("part-1"), [2; 1024]).unwrap();
    config.cpus = 3;
    config.disk = vec![
        DiskConfig::whole(place.path().join("disk"), false),
        DiskConfig {
            content: DiskContent::Extents(vec![
                extent(place, "part-0", 512, 512),
                extent(place, "part-1", 0, 1024),
            ]),
            read_only: true,
            id: None,
        },
    ];
    config.vsock = Some(VsockConfig {
        socket: place.path().join("vsock").into(),
        cid: 3,
    });
    config.serial = ConsoleTarget::File(Source::Path(place.path().join("serial")));
}

fn extent(place: &Place, name: &str, offset: u64, length: u64) -> DiskExtent {
    DiskExtent {
        path: place.path().join(name).into(),
        offset,
        length,
    }
}
