//! What is left of the PC: ports to end the machine by, and a serial port for who wants one.

mod power;
mod serial;

pub use power::{KeyboardController, PowerPorts};
pub use serial::{Serial, SerialError};
