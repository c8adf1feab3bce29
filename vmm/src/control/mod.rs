//! The control socket: requests in, replies and events out.

mod configure;
mod server;
mod socket;

pub use configure::{ConfigureError, Configured, wait as wait_for_configure};
pub use server::{Asked, Asker, Server};
pub use socket::{Connection, ReceiveError};
