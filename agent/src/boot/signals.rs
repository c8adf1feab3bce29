//! Signals that ask PID 1 to end the machine.

use std::rc::Rc;

use tokio::signal::unix::{SignalKind, signal};

use crate::shutdown::{DEFAULT_GRACE, Order};
use crate::sys::signal::POWER_BUTTON;

/// The power button; what `poweroff` of busybox sends; Ctrl-Alt-Del; and SIGTERM, which
/// means the same to PID 1 as to anyone.
const ASKING: [i32; 4] = [POWER_BUTTON, libc::SIGUSR2, libc::SIGINT, libc::SIGTERM];

/// Gives `order` when one of them comes.
pub(super) fn obey(order: &Rc<Order>) -> std::io::Result<()> {
    for number in ASKING {
        let mut stream = signal(SignalKind::from_raw(number))?;
        let order = Rc::clone(order);
        tokio::task::spawn_local(async move {
            while stream.recv().await.is_some() {
                order.give(DEFAULT_GRACE);
            }
        });
    }
    Ok(())
}
