//! Disks, written and read back: by our reader, and by the tools of others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod big;
mod fsck;
mod golden;
mod hostile;
mod kernel;
mod mkfs;
mod model;
mod round;
