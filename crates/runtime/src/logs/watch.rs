//! Waking followers when a log changes: one inotify instance for the whole process.
//!
//! Instances are scarce (128 for each user by default) and watches are not, so all followers share one
//! instance and one thread that reads it. A thread and not a task, because the instance outlives any
//! one tokio runtime. Both are made with the first follower and go with the last: removing the last watch
//! makes the kernel say so, which wakes the thread.
//!
//! A directory that does not exist is waited for at its nearest ancestor that does.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::Notify;

use super::{EXEC_LOG, LogError};

/// A directory that comes and goes meanwhile is looked for so many times at once.
const TRIES: u32 = 16;

static WATCHER: Mutex<Watcher> = Mutex::new(Watcher {
    instance: None,
    next: 0,
});

#[derive(Debug)]
struct Watcher {
    instance: Option<Instance>,
    /// The next subscription's number.
    next: u64,
}

#[derive(Debug)]
struct Instance {
    fd: Arc<OwnedFd>,
    /// Who wants to know of what, by watch descriptor.
    watches: HashMap<i32, HashMap<u64, Follower>>,
}

#[derive(Debug)]
struct Follower {
    /// Names of files that matter begin with this.
    prefix: Vec<u8>,
    alarm: Arc<Alarm>,
}

#[derive(Debug, Default)]
struct Alarm {
    changed: Notify,
    /// The watched directory is gone from its path.
    stale: AtomicBool,
}

/// Wakes its holder when the log in one directory may have changed.
#[derive(Debug)]
pub(super) struct Subscription {
    number: u64,
    watch: i32,
    alarm: Arc<Alarm>,
    /// The directory itself is watched, not an ancestor.
    exact: bool,
}

impl Subscription {
    /// Watches `dir`, or what there is of its path.
    pub(super) fn new(dir: &Path) -> Result<Self, LogError> {
        let failed = |path: PathBuf| |source: io::Error| LogError::Watch { path, source };
        let dir = std::path::absolute(dir).map_err(failed(dir.to_owned()))?;
        let mut tries = 0;
        loop {
            tries += 1;
            let (watched, missing) = add_deepest(&dir).map_err(failed(dir.clone()))?;
            // Watched first and looked at after: what comes in between is not missed.
            let appeared = missing.is_some_and(|missing| missing.is_dir());
            if !appeared || tries == TRIES {
                return Ok(watched);
            }
        }
    }

    /// Waits for a change. One that came since the last call is not forgotten.
    pub(super) async fn changed(&self) {
        self.alarm.changed.notified().await;
    }

    /// Whether this must be made anew to go on hearing of changes.
    pub(super) fn is_stale(&self) -> bool {
        !self.exact || self.alarm.stale.load(Ordering::Acquire)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut watcher = lock();
        let Some(instance) = &mut watcher.instance else {
            return;
        };
        let Some(followers) = instance.watches.get_mut(&self.watch) else {
            return;
        };
        // Numbers are never used again, so a watch of a later instance is not mistaken for this one.
        if followers.remove(&self.number).is_some() && followers.is_empty() {
            instance.watches.remove(&self.watch);
            // It fails if the directory has gone; then the thread has been woken already.
            let _ = inotify::remove_watch(&*instance.fd, self.watch);
        }
    }
}

/// Watches the deepest directory on the way to `dir`, and gives the first one that is missing.
fn add_deepest(dir: &Path) -> io::Result<(Subscription, Option<PathBuf>)> {
    let itself = WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR
        // Others may watch the same directory for other things.
        | WatchFlags::MASK_ADD;
    let changes = itself | WatchFlags::MODIFY | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
    let mut missing: Option<&Path> = None;
    for path in dir.ancestors() {
        let (prefix, flags) = match missing.and_then(Path::file_name) {
            None => (EXEC_LOG.as_bytes(), changes),
            Some(name) => (name.as_encoded_bytes(), itself),
        };
        match add(path, flags, prefix, missing.is_none()) {
            Err(error) if absent(&error) => missing = Some(path),
            Err(error) => return Err(error),
            Ok(watched) => return Ok((watched, missing.map(Path::to_owned))),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn add(path: &Path, flags: WatchFlags, prefix: &[u8], exact: bool) -> io::Result<Subscription> {
    let mut watcher = lock();
    let number = watcher.next;
    watcher.next += 1;
    let instance = match &mut watcher.instance {
        Some(instance) => instance,
        none => none.insert(start()?),
    };
    let watch = inotify::add_watch(&*instance.fd, path, flags)?;
    let alarm = Arc::new(Alarm::default());
    let follower = Follower {
        prefix: prefix.to_owned(),
        alarm: alarm.clone(),
    };
    let followers = instance.watches.entry(watch).or_default();
    followers.insert(number, follower);
    Ok(Subscription {
        number,
        watch,
        alarm,
        exact,
    })
}

fn start() -> io::Result<Instance> {
    let fd = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
    let read = fd.clone();
    thread::Builder::new()
        .name("log-watch".to_owned())
        .stack_size(128 * 1024)
        .spawn(move || listen(read))?;
    let watches = HashMap::new();
    Ok(Instance { fd, watches })
}

/// The thread: reads events until nobody wants any.
fn listen(fd: Arc<OwnedFd>) {
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut reader = inotify::Reader::new(&*fd, &mut buffer);
    loop {
        let event = match reader.next() {
            Err(Errno::INTR) => continue,
            other => other,
        };
        let mut watcher = lock();
        let Some(instance) = &mut watcher.instance else {
            return;
        };
        match event {
            Ok(event) => instance.tell(&event),
            // It never fails for a reason that passes. Whoever follows starts anew.
            Err(_) => instance.end(),
        }
        if instance.watches.is_empty() {
            watcher.instance = None;
            // Before anybody can make the next one: there is never more than one.
            drop(fd);
            return;
        }
    }
}

impl Instance {
    /// Wakes whom an event concerns.
    fn tell(&mut self, event: &inotify::Event<'_>) {
        let (flags, gone) = (
            event.events(),
            ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF,
        );
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            // Nobody knows whom it concerned.
            let all = self.watches.values().flat_map(HashMap::values);
            all.for_each(|follower| follower.alarm.changed.notify_one());
            return;
        }
        let Some(followers) = self.watches.get(&event.wd()) else {
            return;
        };
        let stale = flags.intersects(gone | ReadFlags::IGNORED | ReadFlags::UNMOUNT);
        let name = event.file_name().map_or(&[][..], |name| name.to_bytes());
        for follower in followers.values() {
            if stale {
                follower.alarm.stale.store(true, Ordering::Release);
            }
            if stale || name.starts_with(&follower.prefix) {
                follower.alarm.changed.notify_one();
            }
        }
        if flags.contains(ReadFlags::IGNORED) {
            self.watches.remove(&event.wd());
        }
    }

    fn end(&mut self) {
        for (_, followers) in self.watches.drain() {
            for follower in followers.into_values() {
                follower.alarm.stale.store(true, Ordering::Release);
                follower.alarm.changed.notify_one();
            }
        }
    }
}

fn lock() -> MutexGuard<'static, Watcher> {
    // Nothing that is done under the lock can leave it half done.
    WATCHER.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
/// How many directories are watched.
pub(super) fn watched() -> usize {
    lock()
        .instance
        .as_ref()
        .map_or(0, |instance| instance.watches.len())
}
