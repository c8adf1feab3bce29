//! The orderly end: every process, then the file systems, then the power.

use std::fs::read_to_string;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::sync;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::system::{RebootCommand, reboot};
use tokio::select;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::agent::Agent;
use crate::boot::overlay;
use crate::log;
use crate::reaper::Remaining;
use crate::sys::signal::kill;

/// What processes get when nobody says how long they have.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// How long killed processes may take to be gone: they may be in the middle of I/O.
const REAP: Duration = Duration::from_secs(5);

/// How long the last messages of sessions may take, and then those of the monitor.
const FLUSH: Duration = Duration::from_secs(1);

/// The most mounts that are taken apart one by one.
const MOUNTS_MAX: usize = 4096;

/// Whether the guest is to end, and when patience does.
#[derive(Debug)]
pub struct Order {
    deadline: watch::Sender<Option<Instant>>,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            deadline: watch::Sender::new(None),
        }
    }
}

impl Order {
    /// Ends the guest, leaving its processes `grace` from now. A second order can only
    /// make that shorter.
    pub fn give(&self, grace: Duration) {
        let wanted = Instant::now().checked_add(grace);
        self.deadline.send_if_modified(|deadline| {
            let sooner = match (*deadline, wanted) {
                (None, _) => true,
                (Some(before), Some(now)) => now < before,
                (Some(_), None) => false,
            };
            if sooner {
                *deadline = wanted.or_else(|| Some(Instant::now() + DEFAULT_GRACE));
            }
            sooner
        });
    }

    /// Waits for the first order.
    pub async fn given(&self) {
        let mut deadline = self.deadline.subscribe();
        // Fails only if the sender is gone, which is `self`.
        let _ = deadline.wait_for(Option::is_some).await;
    }

    /// How much patience is left; none if there is no order.
    fn left(&self) -> Duration {
        let deadline = *self.deadline.borrow();
        deadline.map_or(Duration::ZERO, |at| {
            at.saturating_duration_since(Instant::now())
        })
    }

    /// Waits until patience ends, however often that moves.
    async fn due(&self) {
        let mut deadline = self.deadline.subscribe();
        loop {
            let Some(instant) = *deadline.borrow_and_update() else {
                self.given().await;
                continue;
            };
            select! {
                () = sleep_until(instant) => return,
                _ = deadline.changed() => {}
            }
        }
    }
}

/// Lets the sessions that run finish, opens no other, and gives `order` when there is none
/// left. If this is dropped before that, still none is opened.
pub async fn drain(agent: &Agent, order: &Order, grace: Duration) {
    agent.drain();
    agent.idle().await;
    order.give(grace);
}

/// Ends all sessions and, if `everyone`, all other processes too: politely, by the signal that the image names and then
/// by `SIGTERM`, until `order`'s patience ends, then not. No session is opened from here on.
pub async fn end_processes(agent: &Rc<Agent>, order: &Order, everyone: bool) {
    let signal = |signal: i32| {
        if everyone {
            // Sessions are among them. Fails if there is nobody, which is what is wanted.
            let _ = kill(-1, signal);
        } else {
            agent.signal_sessions(signal);
        }
    };
    let ask = |how: i32| {
        signal(how);
        // A stopped process acts on nothing else.
        signal(libc::SIGCONT);
    };
    agent.close();
    let wish = agent.stop_signal();
    ask(wish.unwrap_or(libc::SIGTERM));
    agent.hang_up_terminals();
    // What an image's own server takes for a request to end, others ignore: they are asked in their language when half
    // of the patience is over.
    let again = async {
        if wish.is_some() {
            let half = sleep(order.left() / 2);
            half.await;
            ask(libc::SIGTERM);
        }
        std::future::pending::<()>().await;
    };
    select! {
        () = again => {}
        () = gone(agent, everyone) => {}
        () = order.due() => {
            signal(libc::SIGKILL);
            if timeout(REAP, gone(agent, everyone)).await.is_err() {
                log::error("some processes could not be ended");
            }
        }
    }
    if everyone {
        // Before anybody is waited for who may not read: the host's patience may end any moment.
        sync();
    }
    let _ = timeout(FLUSH, agent.quiet()).await;
    agent.abandon_sessions();
    let _ = timeout(FLUSH, agent.monitor.finish()).await;
}

/// Ends the sessions, and has the init that is PID 1 end everything else and turn the machine off:
/// each of `words` is a signal that may tell it to. Returns when `order`'s patience is at its end
/// and the machine still runs; then nobody but the init and the agent is left.
pub async fn end_with_init(agent: &Rc<Agent>, order: &Order, words: &[i32]) {
    let sessions = Order::default();
    sessions.give(order.left() / 2);
    let hurry = async {
        order.due().await;
        sessions.give(Duration::ZERO);
        std::future::pending::<()>().await;
    };
    select! {
        () = end_processes(agent, &sessions, false) => {}
        () = hurry => {}
    }
    // An init may take the power away in a moment.
    sync();
    for (said, word) in words.iter().enumerate() {
        let left = u32::try_from(words.len().saturating_sub(said)).unwrap_or(u32::MAX);
        let share = order.left() / left.max(1);
        if share.is_zero() {
            break;
        }
        // It is there, or the kernel would not be.
        let _ = kill(1, *word);
        let patience = Instant::now() + share;
        select! {
            () = sleep_until(patience) => {}
            () = order.due() => break,
        }
    }
    log::info("the init has not turned the machine off in time");
    let _ = kill(-1, libc::SIGKILL);
    let _ = timeout(REAP, own_children(agent)).await;
}

/// Waits until the agent has no child.
async fn own_children(agent: &Agent) {
    while agent.reaper.collect() == Remaining::Some {
        agent.reaper.round().await;
    }
}

/// Waits until there is nobody left to wait for.
async fn gone(agent: &Agent, everyone: bool) {
    let processes = async {
        if everyone {
            own_children(agent).await;
        }
    };
    // A session may end a little after its process; one whose viewer does not read its
    // last output may not end at all.
    let sessions = async {
        let patience = Instant::now() + FLUSH;
        if everyone {
            let _ = timeout_at(patience, agent.idle()).await;
        } else {
            agent.idle().await;
        }
    };
    processes.await;
    sessions.await;
}

/// Writes everything back, unmounts what can be, and turns the machine off.
pub fn power_off() -> ! {
    sync();
    unmount_disks();
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        log::error(&format!("the machine cannot be powered off: {error}"));
    }
    // PID 1 may not end. There is nothing left to do but to let the host take the power.
    loop {
        rustix::event::pause();
    }
}

/// Leaves every disk's file system clean. What is only in memory need not be unmounted.
fn unmount_disks() {
    let mounts = read_to_string("/proc/self/mounts").unwrap_or_default();
    let disks: Vec<_> = mounts
        .lines()
        .take(MOUNTS_MAX)
        .filter(|line| line.starts_with("/dev/"))
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    // The innermost, which were mounted last, go first.
    for point in disks.iter().rev().filter(|point| **point != "/") {
        // Busy ones, and those whose names are written with escapes, stay; they were synced.
        let _ = unmount(Path::new(point), UnmountFlags::NOFOLLOW);
    }
    // The root cannot go, but it can be closed; and after it the disk that it was written to.
    if (disks.contains(&"/") || overlay::is_root())
        && let Err(error) =
            mount_remount("/", MountFlags::RDONLY, c"").and_then(|()| overlay::close())
    {
        log::info(&format!("the root was left writable: {error}"));
        sync();
    }
}
