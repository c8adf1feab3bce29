//! The other side of a device: a driver's rings in guest memory, and an event loop for one device.
//!
//! Nothing here is a mock. [`DriverQueue`] writes real descriptors into real guest memory and follows
//! the notification rules as a driver does; [`TestLoop`] waits on the descriptors that the device
//! registered. [`Harness`] joins a device to both. [`conformance`] is a hostile driver that every
//! device has to survive.
//!
//! For tests and fuzz targets; it panics where a test should fail.

mod conformance;
mod driver;
mod event_loop;
mod harness;

pub use conformance::conformance;
pub use driver::{Buffer, DriverQueue};
pub use event_loop::TestLoop;
pub use harness::{DISK, DISK_BYTES, Harness, guest_ram, guest_ram_and_disk};
