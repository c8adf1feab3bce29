//! What is to be seen of a VMM in its jail from outside, and that the guest notices nothing.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use msb_vmapi::{Event, FromVmm, Isolation, Layer, Outcome, Reply, Request, Strength, VmState};
use msb_vmm::jail::seccomp::Denial;
use msb_vmm::jail::{self, Inmate, Needs};

use super::inside::{Child, Inside, jailed, with_everything};
use super::support::{Place, SLEEP, out, system};

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
    // Three vCPUs, two disks, the loop.
    assert_eq!(threads.len(), 6);
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
    // A disk of two files, which it can only read.
    assert_eq!(count("part-"), 2);
    for name in fs::read_dir(inside.child.proc("fd")).unwrap() {
        let name = name.unwrap().file_name();
        let link = fs::read_link(inside.child.proc("fd").join(&name)).unwrap();
        if !link.to_str().unwrap().contains("part-") {
            continue;
        }
        let info = fs::read_to_string(inside.child.proc("fdinfo").join(&name)).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        assert_eq!(flags & libc::O_ACCMODE, libc::O_RDONLY, "{link:?}");
    }
    // The supervisor's, twice, and the listener of vsock.
    assert_eq!(count("socket:"), 3, "{links:#?}");
    let known = [
        "kvm-v",
        "disk",
        "part-",
        "serial",
        "socket:",
        "eventfd",
        "eventpoll",
    ];
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
                disk_files: 0,
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
