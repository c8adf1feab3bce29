//! Handing over, in a process-id namespace of one's own: there the test is PID 1.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use msb_protocol::{ExecRequest, Stdin};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tempfile::TempDir;
use tokio::runtime::{Builder, LocalOptions};

use super::*;
use crate::agent::Agent;
use crate::shutdown::{Order, end_with_init};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells the test that is PID 1 what to do, and where to say what it saw.
const PART: &str = "MSB_TEST_HANDOFF";

/// A test as PID 1. Dropped, it is killed with all that it made.
struct PidOne(Child);

impl Drop for PidOne {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl PidOne {
    /// Starts `part`. `None` where namespaces are not permitted.
    fn start(part: &str, dir: &Path) -> Option<Self> {
        let permitted = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "true"])
            .stderr(Stdio::null())
            .status();
        if !permitted.is_ok_and(|status| status.success()) {
            eprintln!("skipped: not permitted to make a namespace");
            return None;
        }
        let ours = std::env::current_exe().unwrap();
        // Not to our own output: its last writer may be gone a moment after this test.
        let log = File::create(dir.join("log")).unwrap();
        let child = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(ours)
            .args(["boot::handoff::tests::pid_1", "--exact", "--ignored"])
            .args(["--nocapture", "--test-threads=1"])
            .env(PART, format!("{part}:{}", dir.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Some(Self(child.unwrap()))
    }

    /// Waits for the namespace to end by itself.
    fn ended(&mut self) {
        let pid = Pid::from_child(&self.0);
        let end = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let mut ends = [PollFd::new(&end, PollFlags::IN)];
        let patience = PATIENCE.try_into().unwrap();
        assert_eq!(poll(&mut ends, Some(&patience)), Ok(1), "PID 1 did not end");
    }
}

/// A directory with pipes of these names.
fn pipes(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, dir.path().join(name), FileType::Fifo, mode, 0).unwrap();
    }
    dir
}

/// Waits for what somebody writes to a pipe.
fn said(dir: &TempDir, name: &str) -> String {
    let (tell, told) = std::sync::mpsc::channel();
    let path = dir.path().join(name);
    std::thread::spawn(move || tell.send(fs::read_to_string(path)));
    match told.recv_timeout(PATIENCE) {
        Ok(text) => text.unwrap(),
        Err(_) => {
            let log = fs::read_to_string(dir.path().join("log"));
            panic!("{name} is missing: {}", log.unwrap_or_default());
        }
    }
}

fn shell(script: &str) -> InitProgram {
    InitProgram {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("OWN".into(), "init".into())],
    }
}

/// Not a test by itself: what the others start as PID 1.
#[test]
#[ignore = "is started by the other tests, as PID 1"]
fn pid_1() {
    let part = std::env::var(PART).unwrap();
    let (part, dir) = part.split_once(':').unwrap();
    assert_eq!(std::process::id(), 1);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap();
    let (part, dir) = (part.to_owned(), Path::new(dir).to_owned());
    runtime.block_on(async move {
        let say = |name: &str, text: String| fs::write(dir.join(name), text + "\n").unwrap();
        let at = dir.display();
        let init = match &*part {
            "serves" => shell(&format!(
                "trap 'echo asked > {at}/asked; exit 0' TERM; echo $$ $OWN $BOOT > {at}/up; \
                 while :; do sleep 0.02; done"
            )),
            "deaf" => shell(&format!("trap '' TERM; echo up > {at}/up; exec sleep 1000")),
            "none" => InitProgram {
                program: "/etc/passwd".into(),
                args: Vec::new(),
                env: Vec::new(),
            },
            other => panic!("{other}"),
        };
        let defaults = Defaults {
            env: vec![
                ("BOOT".into(), "boot".into()),
                ("OWN".into(), "boot".into()),
            ],
            ..Defaults::default()
        };
        if let Err(error) = run(&init, &defaults).await {
            return say("agent", format!("{:?}: {}", error.stage, error.message));
        }
        assert_ne!(std::process::id(), 1);
        let up = fs::read_to_string(dir.join("up")).unwrap();
        // The loop, its timers, signals and children go on as before.
        let agent = Agent::start(defaults).unwrap();
        let request = ExecRequest {
            program: "sh".into(),
            args: vec!["-c".into(), "exit 7".into()],
            env: Vec::new(),
            cwd: None,
            user: None,
            stdin: Stdin::Null,
            terminal: None,
            limits: Vec::new(),
        };
        let child = exec::start(&request, &Defaults::default()).unwrap();
        let exit = agent.reaper.adopt(child.pid).ended().await;
        say("agent", format!("{up}{exit:?}"));
        let order = Order::default();
        order.give(if part == "deaf" {
            Duration::from_millis(100)
        } else {
            PATIENCE
        });
        end_with_init(&agent, &order, &[libc::SIGTERM]).await;
        say("after", "the machine still runs".to_owned());
    });
}

#[test]
fn the_agent_goes_on_beside_an_init_that_ends_the_machine() {
    let dir = pipes(&["up", "agent", "asked", "after"]);
    let Some(mut pid_1) = PidOne::start("serves", dir.path()) else {
        return;
    };
    assert_eq!(said(&dir, "agent"), "1 init boot\nCode(7)\n");
    assert_eq!(said(&dir, "asked"), "asked\n");
    // Its end is that of all in its namespace.
    pid_1.ended();
}

#[test]
fn an_init_that_does_not_listen_has_its_time_and_no_more() {
    let dir = pipes(&["up", "agent", "after"]);
    let Some(_pid_1) = PidOne::start("deaf", dir.path()) else {
        return;
    };
    assert_eq!(said(&dir, "agent"), "up\nCode(7)\n");
    assert_eq!(said(&dir, "after"), "the machine still runs\n");
}

#[test]
fn an_init_that_cannot_be_executed_is_an_error_of_that_stage() {
    let dir = pipes(&["agent"]);
    let Some(_pid_1) = PidOne::start("none", dir.path()) else {
        return;
    };
    let error = said(&dir, "agent");
    assert!(
        error.starts_with("Init: ") && error.contains("/etc/passwd"),
        "{error}"
    );
}

#[test]
fn an_init_is_looked_for_where_it_usually_is() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let places = [
        place("missing"),
        place("plain"),
        place("link"),
        place("file"),
    ];
    let look = || find(AUTO_INIT, &places.each_ref().map(String::as_str));
    fs::write(&places[1], "not executable").unwrap();
    let error = look().unwrap_err();
    assert_eq!(error.stage, BootStage::Init);
    assert!(error.message.contains("missing"), "{}", error.message);
    fs::write(&places[3], "").unwrap();
    fs::set_permissions(&places[3], PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(look().unwrap(), places[3]);
    symlink(&places[3], &places[2]).unwrap();
    assert_eq!(look().unwrap(), places[2]);
    assert_eq!(find("/sbin/my-init", &[]).unwrap(), "/sbin/my-init");
    assert_eq!(find("init", &[]).unwrap_err().stage, BootStage::Init);
}

#[test]
fn each_init_is_told_in_its_own_words() {
    let of = |name: &str, file: &str, runs| words(name, Path::new(file), runs);
    assert_eq!(of("systemd", "/usr/lib/systemd/systemd", true), [38]);
    assert_eq!(of("init", "", true), [38]);
    let busybox = [libc::SIGUSR2, libc::SIGTERM];
    assert_eq!(of("init", "/bin/busybox", false), busybox);
    assert_eq!(
        of("tini", "/sbin/tini", false),
        [libc::SIGTERM, libc::SIGUSR2]
    );
}
