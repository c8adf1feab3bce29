//! For tests: a root of one's own, which no other thread sees and which goes with the thread.

#![expect(
    unsafe_code,
    reason = "a namespace changes what paths mean to a thread"
)]

use rustix::fs::{Mode, mkdir};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{chdir, chroot};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Runs `test` in an empty root that has but a `/dev`. Says so and does nothing where that is not
/// permitted: it takes root.
pub(crate) fn in_root(test: impl FnOnce() + Send + 'static) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_owned();
    let thread = std::thread::spawn(move || {
        // SAFETY: this thread's view of the file system was shared with others, who keep theirs; no
        // memory and no descriptor is concerned.
        match unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) } {
            Err(Errno::PERM) => return eprintln!("skipped: not permitted to make a namespace"),
            other => other.unwrap(),
        }
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        mount("tmpfs", &root, "tmpfs", MountFlags::empty(), c"mode=0755").unwrap();
        chroot(&root).unwrap();
        chdir("/").unwrap();
        mkdir("/dev", Mode::from_raw_mode(0o755)).unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
