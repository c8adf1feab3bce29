//! A shell on the console, for a machine with no other way in.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::agent::Agent;
use crate::log;
use crate::shutdown::Order;
use crate::stream::Stream;
use crate::sys::process::{Command, REPORT_BYTES, Streams, read_report, spawn};

const SHELL: &str = "/bin/sh";

const ENVIRONMENT: [&str; 3] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "TERM=vt102",
];

/// Runs the shell, in a task; its end is the guest's.
pub(super) fn serve(agent: &Rc<Agent>, order: Rc<Order>) {
    if !Path::new(SHELL).exists() {
        log::error(
            "nothing to do: there is no vsock device to serve commands on and no /bin/sh to \
             run on the console; attach a root disk or a vsock socket to the machine",
        );
        return;
    }
    let agent = Rc::clone(agent);
    tokio::task::spawn_local(async move {
        if let Err(error) = shell(&agent).await {
            log::error(&format!("no shell on the console: {error}"));
        }
        order.give(Duration::ZERO);
    });
}

async fn shell(agent: &Agent) -> io::Result<()> {
    let shell = CString::new(SHELL)?;
    let command = Command {
        candidates: vec![shell.clone()],
        argv: vec![shell],
        env: ENVIRONMENT
            .into_iter()
            .map(CString::new)
            .collect::<Result<_, _>>()?,
        cwd: c"/".to_owned(),
        identity: None,
        limits: Vec::new(),
        restricted: false,
    };
    let console = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/console")?;
    let streams = Streams {
        stdin: console.as_fd(),
        stdout: console.as_fd(),
        stderr: console.as_fd(),
        terminal: rustix::termios::isatty(&console),
    };
    let (pid, report) = spawn(&command, streams)?;
    let process = agent.reaper.adopt(pid);
    let failed = Stream::reader(report)?
        .read(REPORT_BYTES, read_report)
        .await?;
    process.ended().await;
    match failed {
        None => Ok(()),
        Some((_step, errno)) => Err(io::Error::from_raw_os_error(errno)),
    }
}
