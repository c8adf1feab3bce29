//! virtio-vsock: stream connections between the guest and the host (virtio 1.2, section 5.10).
//!
//! The device carries packets on two queues; a connection is a pair of ports, one on each side. On
//! the host each connection is one Unix stream socket:
//!
//! - **The host connects**: a program connects to the machine's socket, writes `CONNECT <port>\n`,
//!   and reads `OK <host port>\n` once the guest has accepted; from there on the socket is the
//!   connection. If the guest refuses, or does not answer, the socket is closed. (`handshake`)
//! - **The guest connects** to the host, which is CID 2: the device asks its [`Connector`] for a
//!   socket that leads to whoever serves that port.
//!
//! `connection` is one of these, with the credit that keeps either side from sending more than the
//! other can hold; `muxer` is all of them, and whose turn it is; `device` works the queues; `packet`
//! is the header on the wire.
//!
//! One connection cannot starve another: each has its turn with one packet at a time, a host socket
//! that takes no more makes only its own guest stream wait, and a guest stream that is not read makes
//! only its own host socket wait.

mod connection;
mod device;
mod handshake;
mod muxer;
mod packet;
#[cfg(test)]
mod tests;

pub use device::{Connector, HOST_CID, Vsock};
pub use handshake::{Handshake, Refused};
