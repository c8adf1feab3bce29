//! Who a VMM is that root started: nobody that anything belongs to.
//!
//! Root without capabilities still owns root's files and may signal root's processes. So such a VMM takes a
//! user and group id that belong to it alone: a range that no system hands out, and in it the number of the
//! process, which no other living process has. Where a container maps no such ids, it becomes `nobody`, which
//! others may be too.

use msb_vmapi::Layer;
use rustix::io::Errno;
use rustix::process::{Gid, Pid, Uid};
use rustix::thread::{
    CapabilitySet, capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::report::Report;

/// First of the ids. Those from here to 2^31 are used by nobody (systemd's list of ranges says so).
const FIRST: u32 = 0x7000_0000;
/// Process ids are less.
const RANGE: u32 = 1 << 22;
/// Who owns nothing, by convention.
const NOBODY: u32 = 65534;

/// Whether this process may change how its namespaces are mounted without a user namespace of its own.
pub(super) fn is_privileged() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Becomes somebody else, if it is root. Capabilities are gone then.
pub(super) fn give_up_root(report: &mut Report) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let pid = Pid::as_raw(Some(rustix::process::getpid())).unsigned_abs();
    let own = FIRST + pid % RANGE;
    if become_user(own).is_ok() {
        return report.full(Layer::OwnUser);
    }
    match become_user(NOBODY) {
        Ok(()) => report.partial(
            Layer::OwnUser,
            "it is nobody, since no other id is mapped here",
        ),
        Err(errno) => report.missing(Layer::OwnUser, errno),
    }
}

/// For the one thread that there is.
fn become_user(id: u32) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}
