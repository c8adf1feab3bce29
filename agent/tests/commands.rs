//! Commands over a socket: what they are given, what they say, how they end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::os::unix::fs::PermissionsExt;

use msb_protocol::*;
use support::*;

#[test]
fn output_and_exit_code_come_back() {
    let seen = run(shell("echo out; echo err >&2; exit 7"));
    assert_eq!(seen.stdout, b"out\n");
    assert_eq!(seen.stderr, b"err\n");
    assert_eq!(seen.exit, Some(Exit::Code(7)));
    assert!(seen.session.is_some_and(|session| session > 0));
}

#[test]
fn a_signal_is_not_a_code() {
    let seen = run(shell("kill -TERM $$"));
    assert_eq!(seen.exit, Some(Exit::Signal(15)));
    let seen = run(shell("exit 143"));
    assert_eq!(seen.exit, Some(Exit::Code(143)));
}

#[test]
fn a_command_leads_a_session_of_its_own() {
    let seen = run(request("cat", &["/proc/self/stat"]));
    let fields: Vec<_> = seen.text().split(' ').collect();
    let pid = seen.pid.unwrap().to_string();
    assert_eq!((fields[0], fields[4], fields[5]), (&*pid, &*pid, &*pid));
}

#[test]
fn a_command_starts_with_default_signals() {
    let signals = |status: &str, name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap()
    };
    let seen = run(request("cat", &["/proc/self/status"]));
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    let broken_pipe = 1 << (libc::SIGPIPE - 1);
    assert_ne!(signals(&ours, "SigIgn") & broken_pipe, 0);
    // Whatever else this process was started with is not the agent's to change.
    assert_eq!(
        signals(seen.text(), "SigIgn"),
        signals(&ours, "SigIgn") & !broken_pipe
    );
    assert_eq!(signals(seen.text(), "SigBlk"), 0);
}

#[test]
fn a_command_gets_no_descriptor_but_its_streams() {
    let seen = run(request("ls", &["/proc/self/fd"]));
    // The fourth is the directory that ls reads.
    assert_eq!(seen.text(), "0\n1\n2\n3\n");
}

#[test]
fn null_is_dev_null() {
    let seen = run(request("cat", &[]));
    assert_eq!(seen.exit, Some(Exit::Code(0)));
    let seen = run(request("readlink", &["/proc/self/fd/0"]));
    assert_eq!(seen.text(), "/dev/null\n");
}

#[test]
fn environment_is_layered() {
    let mut exec = request("env", &[]);
    exec.env = vec![("MINE".into(), "a b=c".into())];
    let seen = run(exec.clone());
    let has = |line: &str| seen.text().lines().any(|found| found == line);
    assert!(has("MINE=a b=c") && has("FROM_BOOT=boot") && has("HOME=/root"));
    assert!(seen.text().contains("PATH=/usr/local/sbin:"));
    assert!(!seen.text().contains("TERM="));

    exec.env = vec![
        ("FROM_BOOT".into(), "first".into()),
        ("FROM_BOOT".into(), "last".into()),
    ];
    let seen = run(exec);
    assert!(seen.text().lines().any(|line| line == "FROM_BOOT=last"));
    assert_eq!(seen.text().matches("FROM_BOOT=").count(), 1);
}

#[test]
fn the_commands_own_path_is_searched() {
    let directory = tempfile::tempdir().unwrap();
    let tool = directory.path().join("tool");
    std::fs::write(&tool, "#!/bin/sh\necho found\n").unwrap();
    std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o755)).unwrap();
    let mut exec = request("tool", &[]);
    assert_eq!(failure(exec.clone()).kind, ExecFailureKind::NotFound);
    let path = format!("/nowhere:/etc/passwd:{}", directory.path().display());
    exec.env = vec![("PATH".into(), path)];
    assert_eq!(run(exec).stdout, b"found\n");
}

#[test]
fn the_working_directory_is_set() {
    let mut exec = request("pwd", &[]);
    assert_eq!(run(exec.clone()).stdout, b"/\n");
    exec.cwd = Some("/usr/bin".into());
    assert_eq!(run(exec.clone()).stdout, b"/usr/bin\n");
    exec.cwd = Some("/nowhere".into());
    let missing = failure(exec.clone());
    assert_eq!(
        (missing.kind, missing.errno),
        (ExecFailureKind::BadCwd, Some(2))
    );
    assert!(missing.message.contains("/nowhere"), "{missing:?}");
    exec.cwd = Some("/etc/passwd".into());
    assert_eq!(failure(exec).kind, ExecFailureKind::BadCwd);
}

#[test]
fn what_cannot_be_started_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &str, mode: u32| {
        let path = directory.path().join(name);
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let kind = |program: &str| {
        let failure = failure(request(program, &[]));
        (failure.kind, failure.errno)
    };
    use ExecFailureKind::*;
    assert_eq!(kind("/no/such/program"), (NotFound, Some(2)));
    assert_eq!(kind("no-such-program"), (NotFound, Some(2)));
    assert_eq!(kind("/etc/passwd/x"), (NotFound, Some(2)));
    assert_eq!(kind("/etc"), (PermissionDenied, Some(13)));
    let plain = file("plain", "#!/bin/sh\n", 0o644);
    assert_eq!(kind(&plain), (PermissionDenied, Some(13)));
    let text = file("text", "no program\n", 0o755);
    assert_eq!(kind(&text), (NotExecutable, Some(8)));
    let orphan = file("orphan", "#!/no/such/interpreter\n", 0o755);
    assert_eq!(kind(&orphan), (NotFound, Some(2)));
    let orphan = failure(request(&orphan, &[]));
    assert!(orphan.message.contains("interpreter"), "{orphan:?}");
    assert_eq!(kind("").0, BadArguments);
    assert_eq!(kind("a\0b").0, BadArguments);
}

#[test]
fn bad_arguments_are_told_apart() {
    let kind = |change: fn(&mut ExecRequest)| {
        let mut exec = request("true", &[]);
        change(&mut exec);
        failure(exec).kind
    };
    use ExecFailureKind::*;
    assert_eq!(kind(|exec| exec.args = vec!["a\0".into()]), BadArguments);
    assert_eq!(
        kind(|exec| exec.env = vec![("A=B".into(), "c".into())]),
        BadArguments
    );
    assert_eq!(
        kind(|exec| exec.env = vec![("".into(), "c".into())]),
        BadArguments
    );
    assert_eq!(
        kind(|exec| exec.env = vec![("A".into(), "\0".into())]),
        BadArguments
    );
    assert_eq!(kind(|exec| exec.cwd = Some("/\0".into())), BadArguments);
    assert_eq!(
        kind(|exec| exec.user = Some("no such user".into())),
        BadUser
    );
    assert_eq!(
        kind(|exec| exec.user = Some("0:no such group".into())),
        BadUser
    );
    // MAX_ARG_STRLEN is 32 pages.
    assert_eq!(
        kind(|exec| exec.args = vec!["x".repeat(131_072)]),
        BadArguments
    );
    let limit = |soft, hard| ResourceLimit {
        resource: Resource::Nofile,
        soft,
        hard,
    };
    let mut exec = request("true", &[]);
    exec.limits = vec![limit(2, 1)];
    assert_eq!(failure(exec.clone()).kind, BadArguments);
    exec.limits = vec![limit(u64::MAX, u64::MAX)];
    assert_eq!(failure(exec).kind, BadArguments);
}

#[test]
fn a_program_that_is_being_written_cannot_be_executed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("busy");
    std::fs::copy("/bin/true", &path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let writer = std::fs::OpenOptions::new().append(true).open(&path);
    let busy = failure(request(path.to_str().unwrap(), &[]));
    assert_eq!(
        (busy.kind, busy.errno),
        (ExecFailureKind::Other, Some(libc::ETXTBSY))
    );
    drop(writer);
    assert_eq!(
        run(request(path.to_str().unwrap(), &[])).exit,
        Some(Exit::Code(0))
    );
}

#[test]
fn a_user_who_may_have_no_more_processes_is_told_so() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let mut only = request("sleep", &["1000"]);
    only.user = Some("54321".to_owned());
    let mut only = Client::exec(only);
    only.started();
    let mut exec = request("true", &[]);
    exec.user = Some("54321".to_owned());
    exec.limits = vec![ResourceLimit {
        resource: Resource::Nproc,
        soft: 0,
        hard: 0,
    }];
    let none = failure(exec);
    assert_eq!(
        (none.kind, none.errno),
        (ExecFailureKind::ResourceExhausted, Some(libc::EAGAIN))
    );
}

#[test]
fn limits_are_set() {
    let mut exec = shell("ulimit -Sn; ulimit -Hn; ulimit -c");
    exec.limits = vec![
        ResourceLimit {
            resource: Resource::Nofile,
            soft: 100,
            hard: 200,
        },
        ResourceLimit {
            resource: Resource::Core,
            soft: 0,
            hard: u64::MAX,
        },
    ];
    assert_eq!(run(exec).stdout, b"100\n200\n0\n");
}

#[test]
fn another_user_may_be_taken_on() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let as_user = |user: &str, script: &str| {
        let mut exec = shell(script);
        exec.user = Some(user.to_owned());
        let seen = run(exec);
        assert_eq!(seen.failed, None, "{user}");
        seen.text().trim().to_owned()
    };
    assert_eq!(
        as_user("nobody", "id -u; id -g; id -G; echo $HOME"),
        "65534\n65534\n65534\n/nonexistent"
    );
    assert_eq!(as_user("1234", "id -u; id -g; echo $HOME"), "1234\n0\n/");
    assert_eq!(
        as_user("1234:4321", "id -u; id -g; id -G"),
        "1234\n4321\n4321"
    );
    assert_eq!(as_user("nobody:daemon", "id -g; id -G"), "1\n1");
    // The streams are the user's own.
    assert_eq!(as_user("nobody", "echo again > /dev/stdout"), "again");
    // What root may enter need not be open to others.
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();
    let mut exec = request("true", &[]);
    exec.user = Some("nobody".to_owned());
    exec.cwd = Some(directory.path().to_str().unwrap().to_owned());
    let closed = failure(exec);
    assert_eq!(
        (closed.kind, closed.errno),
        (ExecFailureKind::BadCwd, Some(13))
    );
}

#[test]
fn a_thousand_commands_leave_nothing_behind() {
    for round in 0..1000 {
        let seen = run(request("true", &[]));
        assert_eq!(seen.exit, Some(Exit::Code(0)), "round {round}");
    }
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(
        descriptors() < 500,
        "{} descriptors are open",
        descriptors()
    );
}

#[test]
fn many_at_once() {
    let clients: Vec<_> = (0..64)
        .map(|number| Client::exec(shell(&format!("echo {number}; exit {number}"))))
        .collect();
    for (number, mut client) in clients.into_iter().enumerate() {
        let seen = client.finish();
        assert_eq!(seen.text(), format!("{number}\n"));
        assert_eq!(seen.exit, Some(Exit::Code(i32::try_from(number).unwrap())));
    }
}
