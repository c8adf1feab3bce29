//! A thread goes to jail as a supervisor does, and does what supervisors do. Landlock and filters are a thread's own.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};

use chrono::Utc;
use msb_types::{SandboxConfig, SandboxStatus};

use super::*;
use crate::end::{EndReason, EndRecord, EndSource};
use crate::logs::{ExecLog, Limits};
use crate::registry::{Owned, Registry};
use crate::rundir::RunDir;
use crate::sandbox_dir::RunFile;

fn run() -> RunFile {
    RunFile {
        id: 1,
        pid: std::process::id(),
        started_at: Utc::now(),
        ended: None,
        isolation: Default::default(),
    }
}

fn owned(home: &Path, name: &str, ephemeral: bool) -> Owned {
    let mut config = SandboxConfig {
        name: name.to_owned(),
        ..SandboxConfig::default()
    };
    config.lifecycle.ephemeral = ephemeral;
    let lock = RunDir::of(home, name).lock().unwrap();
    let owned = Registry::open(home).unwrap().own(lock, name.to_owned());
    owned.create(&config, &run()).unwrap();
    owned
}

fn needs(home: &Path, owned: &Owned) -> Needs {
    Needs {
        home: home.to_path_buf(),
        sandbox: owned.dir().path().to_path_buf(),
        run: owned.lock.dir().path().to_path_buf(),
    }
}

/// In a thread, since what it gives up it gives up for good.
fn in_jail(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(test).join().unwrap());
}

#[test]
fn a_life_is_led_to_its_end_in_jail_and_others_are_out_of_reach() {
    for ephemeral in [false, true] {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let other = owned(home, "other", false);
        let secret = other.dir().path().join("config.json");
        in_jail(|| {
            let owned = owned(home, "web", ephemeral);
            let (needs, dir) = (needs(home, &owned), owned.dir().clone());
            let run_dir = owned.lock.dir().path().to_path_buf();
            fs::write(run_dir.join("control.sock"), "").unwrap();
            let held = needs.clone();
            owned
                .in_catalogs_thread(move || drop(paths(&held)))
                .unwrap();
            if !paths(&needs).unwrap() {
                println!("this kernel has no landlock; nothing is shown");
                return;
            }
            for filter in calls::filters().unwrap() {
                seccompiler::apply_filter(&filter).unwrap();
            }

            drop(ExecLog::open(&dir.logs(), Limits::default()).unwrap());
            let mut file = run();
            owned.describe(&file).unwrap();
            owned.note(&file, SandboxStatus::Running).unwrap();
            fs::read_to_string(format!("/proc/{}/stat", std::process::id())).unwrap();

            let denied = |path: &Path| fs::read(path).unwrap_err().kind();
            assert_eq!(denied(&secret), ErrorKind::PermissionDenied);
            assert_eq!(
                denied(Path::new("/etc/passwd")),
                ErrorKind::PermissionDenied
            );
            let planted = fs::write(secret.with_file_name("run.json"), "");
            assert_eq!(planted.unwrap_err().kind(), ErrorKind::PermissionDenied);

            let end = EndRecord {
                reason: EndReason::Stopped,
                exit_code: Some(0),
                signal: None,
                observed_at: Utc::now(),
                source: EndSource::Supervisor,
            };
            owned.end(&mut file, &end).unwrap();
            owned.lock.remove().unwrap();
            assert!(!run_dir.exists());
            assert_eq!(dir.exists().unwrap(), !ephemeral);
        });
        assert_eq!(
            fs::read_dir(home.join("sandboxes")).unwrap().count(),
            2 - usize::from(ephemeral)
        );
    }
}

#[test]
fn what_is_refused_fails_and_threads_are_still_made() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    in_jail(|| {
        for filter in calls::filters().unwrap() {
            seccompiler::apply_filter(&filter).unwrap();
        }
        let denied = ErrorKind::PermissionDenied;
        let program = std::process::Command::new("/bin/true").status();
        assert_eq!(program.unwrap_err().kind(), denied);
        assert_eq!(UnixStream::connect(&socket).unwrap_err().kind(), denied);
        let bound = UnixListener::bind(dir.path().join("another"));
        assert_eq!(bound.unwrap_err().kind(), denied);
        let internet = std::net::UdpSocket::bind("127.0.0.1:0");
        assert_eq!(internet.unwrap_err().kind(), denied);
        std::thread::spawn(|| ()).join().unwrap();
        UnixStream::pair().unwrap();
    });
}
