//! What the targets share: a fuzz input as a program for a hostile driver.
//!
//! Raw bytes in guest memory would almost never form a ring that a device looks at. So an input is a
//! list of *operations* (write a descriptor, offer a chain, move the available index, kick, let the
//! host do something, reset), each with operands from the bytes that follow. Every input is a valid
//! program, and small changes to an input are small changes to what happens.

mod drive;
mod script;

pub use drive::{Host, drive};
pub use script::Script;
