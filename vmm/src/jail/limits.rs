//! Limits of resources: what a VMM cannot have more of, whatever becomes of it.
//!
//! | what | how much |
//! | --- | --- |
//! | addresses | the guest's memory, its mapped disks, and room for the VMM itself |
//! | a file | the largest disk that can be written to; no limit if output goes to a file |
//! | descriptors | all that devices, connections and clients may have open, and the disks' files |
//! | core | none |
//! | processes | the machine's threads, for a user that has no others |
//!
//! The last is counted for the user, not for the process, so it means something only for a user of its own. It
//! leaves room: KVM itself makes a thread in the process when a guest is entered for the first time.

use msb_vmapi::Layer;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::report::Report;

/// Addresses that the VMM itself may use: program, libraries, heap, connections' buffers.
const OWN_ADDRESSES: u64 = 512 << 20;
/// And for each thread: its stack, its signal stack, a vCPU's page.
const THREAD_ADDRESSES: u64 = 1 << 20;
/// Open files: as many connections and clients as there may be, all that comes beside a datagram, and a few
/// for each device and processor. Disks may be put together from more than that, and are counted.
const DESCRIPTORS: u64 = 3072;
/// What may be added to a file that standard error goes to.
const MESSAGES: u64 = 16 << 20;

/// Threads beside those of the machine: the main one, KVM's, and as many as there may be of later kernels'.
const OTHER_THREADS: u64 = 8;

/// What a machine needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of address space for the guest's memory and for its mapped disks.
    pub memory: u64,
    /// Threads: processors and disks.
    pub threads: u64,
    /// Files that disks are in, at most.
    pub disk_files: u64,
    /// Bytes of the largest file that is written to; `None`: no limit.
    pub largest_file: Option<u64>,
}

/// Sets them. `alone`: the process is the only one of its user.
pub(super) fn set(needs: &Needs, alone: bool, report: &mut Report) {
    let threads = needs.threads.saturating_mul(THREAD_ADDRESSES);
    let addresses = needs
        .memory
        .saturating_add(OWN_ADDRESSES)
        .saturating_add(threads);
    let messages = regular_size(rustix::stdio::stderr()).map(|size| size.saturating_add(MESSAGES));
    let file = needs
        .largest_file
        .map(|largest| largest.max(messages.unwrap_or(0)));
    let all_threads = needs.threads.saturating_add(OTHER_THREADS);
    let descriptors = DESCRIPTORS.saturating_add(needs.disk_files);
    let done = lower(Resource::As, Some(addresses))
        .and_then(|()| lower(Resource::Fsize, file))
        .and_then(|()| lower(Resource::Nofile, Some(descriptors)))
        .and_then(|()| lower(Resource::Core, Some(0)))
        .and_then(|()| lower(Resource::Nproc, alone.then_some(all_threads)));
    report.tried(Layer::Limits, done);
}

/// Bytes of what a descriptor leads to, if it is a regular file.
pub(crate) fn regular_size(fd: impl std::os::fd::AsFd) -> Option<u64> {
    let stat = rustix::fs::fstat(fd).ok()?;
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    regular.then(|| u64::try_from(stat.st_size).unwrap_or(0))
}

/// Sets a limit for good, or keeps what is less.
fn lower(resource: Resource, to: Option<u64>) -> Result<(), Errno> {
    let Some(to) = to else {
        return Ok(());
    };
    let to = getrlimit(resource)
        .maximum
        .map_or(to, |maximum| maximum.min(to));
    let limit = Rlimit {
        current: Some(to),
        maximum: Some(to),
    };
    setrlimit(resource, limit)
}
