//! The few things the agent has to say: to the kernel's log, which is on the console.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, open};

/// The kernel takes no longer record (`LOG_LINE_MAX`).
const RECORD_MAX: usize = 900;

static KMSG: OnceLock<OwnedFd> = OnceLock::new();

/// From now on messages go to `/dev/kmsg`, if it is there; until then to standard error.
pub fn to_kernel() {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    if let Ok(fd) = open("/dev/kmsg", flags, Mode::empty()) {
        // Set before, it is the same.
        let _ = KMSG.set(fd);
    }
}

/// Something failed that matters. For the kernel it is critical, because a console that is
/// kept quiet for a quick start (`loglevel=3`) still shows that, and often it is the only
/// place where a failed boot can be seen.
pub fn error(message: &str) {
    write(2, message);
}

/// Something that helps to understand.
pub fn info(message: &str) {
    write(6, message);
}

/// `level` is syslog's.
fn write(level: u8, message: &str) {
    let cut = message.floor_char_boundary(RECORD_MAX);
    // Nobody is left to tell of a log that cannot be written.
    let _ = match KMSG.get() {
        Some(kmsg) => {
            // Without its end the kernel would hold the line back for more of it.
            let record = format!("<{level}>msb-agent: {}\n", &message[..cut]);
            rustix::io::write(kmsg, record.as_bytes()).is_ok()
        }
        None => writeln!(std::io::stderr(), "msb-agent: {}", &message[..cut]).is_ok(),
    };
}
