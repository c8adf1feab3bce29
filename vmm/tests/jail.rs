//! Machines of a few instructions in the jail, looked at from outside. Any KVM will do, an interpreting one
//! too.
//!
//! The jail is for a whole process, and for good: each machine runs in a process that the test splits off.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test"
)]

#[allow(dead_code, unreachable_pub)]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use msb_vmapi::{
    ConsoleTarget, DiskConfig, Event, FromVmm, Isolation, Layer, Outcome, Reply, Request, Source,
    Strength, VmConfig, VmState, VsockConfig,
};
use msb_vmm::blueprint::{Blueprint, Host};
use msb_vmm::control::Connection;
use msb_vmm::jail::seccomp::Denial;
use msb_vmm::jail::{self, Inmate, Needs};
use msb_vmm::kvm::System;
use msb_vmm::machine::{Machine, Surroundings, exit_code};
use msb_vmm::porter::Porter;
use support::{Place, SLEEP, Supervisor, out, system};

/// A process that the test split off; killed when it is dropped.
struct Child(libc::pid_t);

impl Child {
    /// Runs `what` in it; what it returns is the exit code.
    fn new(what: impl FnOnce() -> u8) -> Self {
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

    fn wait(self) -> ExitStatus {
        let mut status = 0;
        // SAFETY: it is this process's own child; `status` is written to only.
        assert_eq!(unsafe { libc::waitpid(self.0, &raw mut status, 0) }, self.0);
        std::mem::forget(self);
        ExitStatus::from_raw(status)
    }

    fn proc(&self, what: &str) -> std::path::PathBuf {
        Path::new("/proc").join(self.0.to_string()).join(what)
    }

    /// The lines of `status` of each of its threads, but those that KVM makes.
    fn threads(&self) -> Vec<BTreeMap<String, String>> {
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
fn jailed(config: VmConfig, supervisor: Option<OwnedFd>) -> u8 {
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
struct Inside {
    child: Child,
    supervisor: Supervisor,
    isolation: Isolation,
    place: Place,
    next_id: u64,
}

impl Inside {
    fn new(code: &[u8], edit: impl FnOnce(&Place, &mut VmConfig)) -> Option<Self> {
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
    fn ask(&mut self, request: Request) -> Reply {
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

    fn has(&self, layer: Layer) -> bool {
        self.isolation.strength(layer) != Strength::Missing
    }
}

fn with_everything(place: &Place, config: &mut VmConfig) {
    fs::write(place.path().join("disk"), [0; 8192]).unwrap();
    config.cpus = 3;
    config.disk = vec![DiskConfig {
        path: Source::Path(place.path().join("disk")),
        read_only: false,
        id: None,
    }];
    config.vsock = Some(VsockConfig {
        socket: place.path().join("vsock").into(),
        cid: 3,
    });
    config.serial = ConsoleTarget::File(Source::Path(place.path().join("serial")));
}

#[test]
fn a_guest_ends_as_it_does_outside() {
    for (code, expected) in [
        (out(0x600, 0x34), 0),
        (out(0x602, 1), 10),
        (out(0x64, 0xfe), 10),
    ] {
        if system().is_none() {
            return;
        }
        let place = Place::new(&code);
        let mut config = place.config();
        with_everything(&place, &mut config);
        config.control = Some(place.path().join("control"));
        let ended = Child::new(|| jailed(config, None)).wait();
        assert_eq!(ended.code(), Some(expected), "{ended}");
        // It has no path any more; its porter has.
        for made in ["vsock", "control"] {
            assert!(!place.path().join(made).exists(), "{made} is left");
        }
    }
}

#[test]
fn seen_from_outside_there_is_nothing() {
    let Some(inside) = Inside::new(SLEEP, with_everything) else {
        return;
    };
    let threads = inside.child.threads();
    // Three vCPUs, a disk, the loop.
    assert_eq!(threads.len(), 5);
    for status in &threads {
        let name = &status["Name"];
        assert_eq!(status["NoNewPrivs"], "1", "{name}");
        assert_eq!(status["Seccomp"], "2", "{name}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{name} {set}");
        }
        if inside.isolation.strength(Layer::Capabilities) == Strength::Full {
            assert_eq!(status["CapBnd"], "0000000000000000", "{name}");
        }
        if inside.has(Layer::OwnUser) {
            let ids: Vec<u32> = status["Uid"]
                .split_whitespace()
                .chain(status["Gid"].split_whitespace())
                .map(|id| id.parse().unwrap())
                .collect();
            assert!(ids.iter().all(|id| *id == ids[0] && *id != 0), "{ids:?}");
            assert_eq!(status["Groups"], "", "{name}");
        }
    }
    for (layer, name) in [
        (Layer::UserNamespace, "ns/user"),
        (Layer::EmptyRoot, "ns/mnt"),
        (Layer::NetworkNamespace, "ns/net"),
        (Layer::IpcNamespace, "ns/ipc"),
        (Layer::UtsNamespace, "ns/uts"),
    ] {
        let ours = fs::read_link(Path::new("/proc/self").join(name)).unwrap();
        // Of a process that cannot be traced root alone may see this.
        if let Ok(theirs) = fs::read_link(inside.child.proc(name)) {
            assert_eq!(theirs != ours, inside.has(layer), "{layer:?}");
        }
    }
    if let (true, Ok(entries)) = (
        inside.has(Layer::EmptyRoot),
        fs::read_dir(inside.child.proc("root")),
    ) {
        assert_eq!(entries.count(), 0);
        let mounts = fs::read_to_string(inside.child.proc("mounts")).unwrap();
        assert_eq!(mounts.lines().count(), 1, "{mounts}");
        assert!(
            mounts.starts_with("none / tmpfs ro,nosuid,nodev,noexec"),
            "{mounts}"
        );
    }
    if inside.has(Layer::Environment)
        && let Ok(environment) = fs::read(inside.child.proc("environ"))
    {
        assert!(environment.iter().all(|byte| *byte == 0));
    }
    let limits = fs::read_to_string(inside.child.proc("limits")).unwrap();
    for (limit, value) in [
        ("Max core file size", "0"),
        // The serial port's output is a file, so that there is no telling how long it will get.
        ("Max file size", "unlimited"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
        let mut values = line[limit.len()..].split_whitespace();
        assert_eq!(
            (values.next(), values.next()),
            (Some(value), Some(value)),
            "{line}"
        );
    }
}

#[test]
fn it_has_its_own_descriptors_and_no_others() {
    // What whoever starts a VMM leaves open by mistake.
    let (leaked, _other) = UnixStream::pair().unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let Some(inside) = Inside::new(SLEEP, with_everything) else {
        return;
    };
    let Ok(entries) = fs::read_dir(inside.child.proc("fd")) else {
        return;
    };
    let links: Vec<String> = entries
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap())
        .map(|link| link.to_str().unwrap().to_owned())
        // Standard input, output and error are the test's.
        .filter(|link| {
            !["/dev/null", "pipe:"]
                .iter()
                .any(|std| link.starts_with(std))
        })
        .collect();
    let count = |what: &str| links.iter().filter(|link| link.contains(what)).count();
    assert_eq!(
        (count("/dev/kvm"), count("kvm-vm"), count("kvm-vcpu")),
        (0, 1, 3)
    );
    assert_eq!((count("disk"), count("serial"), count("kernel")), (1, 1, 0));
    // The supervisor's, twice, and the listener of vsock.
    assert_eq!(count("socket:"), 3, "{links:#?}");
    let known = ["kvm-v", "disk", "serial", "socket:", "eventfd", "eventpoll"];
    let unknown: Vec<_> = links
        .iter()
        .filter(|link| !known.iter().any(|known| link.contains(known)))
        .filter(|link| Path::new(link).metadata().is_ok_and(|it| it.is_file()))
        .filter(|link| !link.contains("/dev/pts"))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn a_life_under_the_filters() {
    let Some(mut inside) = Inside::new(SLEEP, with_everything) else {
        return;
    };
    for _ in 0..3 {
        assert_eq!(inside.ask(Request::State), Reply::State(VmState::Running));
        assert_eq!(inside.ask(Request::Pause), Reply::Done);
        assert_eq!(inside.ask(Request::State), Reply::State(VmState::Paused));
        assert!(matches!(inside.ask(Request::Counters), Reply::Counters(_)));
        assert_eq!(inside.ask(Request::Resume), Reply::Done);
    }
    assert_eq!(inside.ask(Request::PowerButton), Reply::Done);
    // Programs that connect, and go, or ask for a port of a guest that does not answer.
    for line in ["", "nonsense\n", "CONNECT 1\n"] {
        let path = inside.place.path().join("vsock");
        if let Ok(mut program) = UnixStream::connect(path) {
            std::io::Write::write_all(&mut program, line.as_bytes()).unwrap();
        }
    }
    assert_eq!(inside.ask(Request::State), Reply::State(VmState::Running));
    assert_eq!(inside.ask(Request::Kill), Reply::Done);
    let ended = FromVmm::Event(Event::Ended(Outcome::Killed));
    assert_eq!(inside.supervisor.hear(), Some(ended));
    assert_eq!(inside.child.wait().code(), Some(12));
}

#[test]
fn each_layer_is_reported_once_and_the_needed_ones_are_there() {
    let Some(inside) = Inside::new(SLEEP, |_, _| {}) else {
        return;
    };
    println!("{:#?}", inside.isolation);
    for layer in [
        Layer::NoNewPrivileges,
        Layer::Seccomp,
        Layer::NotDumpable,
        Layer::Limits,
    ] {
        assert_eq!(
            inside.isolation.strength(layer),
            Strength::Full,
            "{layer:?}"
        );
    }
    let mut seen = std::collections::HashSet::new();
    assert!(
        inside
            .isolation
            .layers
            .iter()
            .all(|it| seen.insert(it.layer))
    );
    assert_eq!(
        seen.contains(&Layer::OwnUser),
        rustix::process::geteuid().is_root()
    );
}

#[test]
fn an_ordinary_user_gets_the_same_jail() {
    // No machine: not everyone may open /dev/kvm.
    const SOMEBODY: u32 = 12345;
    let (read, write) = rustix::pipe::pipe().unwrap();
    let child = Child::new(|| {
        rustix::stdio::dup2_stdout(&write).unwrap();
        if rustix::process::geteuid().is_root() {
            let (uid, gid) = (
                rustix::process::Uid::from_raw(SOMEBODY),
                rustix::process::Gid::from_raw(SOMEBODY),
            );
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        }
        let inmate = Inmate {
            needs: Needs {
                memory: 1 << 20,
                threads: 1,
                largest_file: None,
            },
            supervisor: None,
            terminal: false,
            denial: Denial::Violation,
        };
        let jail = jail::begin(None).confine(&inmate).unwrap();
        let report = serde_json::to_vec(jail.isolation()).unwrap();
        jail.seal().unwrap();
        rustix::io::write(rustix::stdio::stdout(), &report).unwrap();
        0
    });
    drop(write);
    let mut report = String::new();
    std::io::Read::read_to_string(&mut fs::File::from(read), &mut report).unwrap();
    let ended = child.wait();
    assert_eq!(ended.code(), Some(0), "{ended}");
    let isolation: Isolation = serde_json::from_str(&report).unwrap();
    println!("{isolation:#?}");
    assert!(isolation.layers.iter().all(|it| it.layer != Layer::OwnUser));
    // Where users may make namespaces, all others come with it.
    if isolation.strength(Layer::UserNamespace) == Strength::Full {
        for layer in [
            Layer::EmptyRoot,
            Layer::NetworkNamespace,
            Layer::IpcNamespace,
            Layer::UtsNamespace,
            Layer::Capabilities,
        ] {
            assert_eq!(isolation.strength(layer), Strength::Full, "{layer:?}");
        }
    }
}
