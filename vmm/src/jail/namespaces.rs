//! Namespaces: an own view of users, files, network, IPC and host name, with nothing in it.
//!
//! An ordinary user may make them inside of a user namespace, so that comes first, where the kernel allows
//! it. Root makes the others first, becomes somebody else, and then goes on into a user namespace as well.
//! No user is mapped into it: there is no id in it that anything could become.
//!
//! There is no namespace of process ids. It would take a process of its own between the VMM and whoever
//! started it, which then could neither be waited for nor killed by the number that it is known by. What it
//! would hide is out of reach: there is no /proc, no filter allows a signal to another process, nor does
//! landlock since Linux 6.12, and a process outside cannot be traced from inside of a user namespace or a
//! landlock domain.
#![allow(unsafe_code)]

use std::fmt;

use msb_vmapi::Layer;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::process::{chdir, pivot_root};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::report::Report;

/// A directory that is there: the node of KVM was opened in it.
const PLACE: &str = "/dev";

/// A user namespace of its own. The calling thread has all capabilities in it. Fails in a process with
/// several threads.
pub(super) fn user(report: &mut Report) {
    report.tried(Layer::UserNamespace, unshare(UnshareFlags::NEWUSER));
}

/// The other namespaces, and an empty root.
pub(super) fn others(report: &mut Report) {
    match unshare(UnshareFlags::NEWNS) {
        Ok(()) => report.tried(Layer::EmptyRoot, empty_root()),
        Err(errno) => report.tried(Layer::EmptyRoot, Err(errno)),
    };
    for (layer, flag) in [
        (Layer::NetworkNamespace, UnshareFlags::NEWNET),
        (Layer::IpcNamespace, UnshareFlags::NEWIPC),
        (Layer::UtsNamespace, UnshareFlags::NEWUTS),
    ] {
        report.tried(layer, unshare(flag));
    }
}

fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: none of the flags here makes the table of descriptors another one; what they change is how
    // paths, users and sockets to come are looked up.
    unsafe { unshare_unsafe(flags) }
}

/// Which step failed.
struct Step(&'static str, Errno);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0, self.1)
    }
}

/// Makes an empty directory the root of this mount namespace, and takes all other mounts off it.
fn empty_root() -> Result<(), Step> {
    let step = |what| move |errno| Step(what, errno);
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(step("mounts stay shared"))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // One inode, which the directory itself takes.
    let options = c"size=4k,nr_inodes=1,mode=0555";
    mount("none", PLACE, "tmpfs", flags, options).map_err(step("no directory can be mounted"))?;
    chdir(PLACE).map_err(step("the directory cannot be entered"))?;
    // The old root is put on top of the new one, and taken away.
    pivot_root(".", ".").map_err(step("the root cannot be changed"))?;
    unmount(".", UnmountFlags::DETACH).map_err(step("the old root stays mounted"))?;
    chdir("/").map_err(step("the new root cannot be entered"))
}
