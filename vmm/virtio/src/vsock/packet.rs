//! The packet header (virtio 1.2, section 5.10.6). Pure bytes; nothing is judged here.

use super::device::HOST_CID;

/// Bytes of a header.
pub(super) const HEADER_BYTES: u32 = 44;
/// The only socket type that is offered.
pub(super) const TYPE_STREAM: u16 = 1;

/// Ask for a connection.
pub(super) const OP_REQUEST: u16 = 1;
/// Grant it.
pub(super) const OP_RESPONSE: u16 = 2;
/// There is no such connection, or no longer.
pub(super) const OP_RST: u16 = 3;
/// One or both directions end.
pub(super) const OP_SHUTDOWN: u16 = 4;
/// Data.
pub(super) const OP_RW: u16 = 5;
/// Nothing but the credit that every header carries.
pub(super) const OP_CREDIT_UPDATE: u16 = 6;
/// Asks for that.
pub(super) const OP_CREDIT_REQUEST: u16 = 7;

/// Shutdown flag: the sender of the packet will receive no more.
pub(super) const SHUTDOWN_RECEIVE: u32 = 1;
/// Shutdown flag: the sender of the packet will send no more.
pub(super) const SHUTDOWN_SEND: u32 = 2;
/// Both of them.
pub(super) const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// The two ports that name a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ports {
    pub(super) guest: u32,
    pub(super) host: u32,
}

/// A header, in either direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    /// Bytes of payload.
    pub(super) len: u32,
    pub(super) socket_type: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    /// Bytes that the sender can hold for this connection.
    pub(super) buf_alloc: u32,
    /// Bytes of this connection that the sender has passed on, modulo 2^32.
    pub(super) fwd_cnt: u32,
}

impl Header {
    /// A packet from the host to the guest, without payload or credit.
    pub(super) fn to_guest(cid: u64, ports: Ports, op: u16) -> Self {
        Self {
            src_cid: HOST_CID,
            dst_cid: cid,
            src_port: ports.host,
            dst_port: ports.guest,
            socket_type: TYPE_STREAM,
            op,
            ..Self::default()
        }
    }

    /// The reset that answers a packet which belongs to no connection: same type, ends swapped.
    pub(super) fn reset_for(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            socket_type: self.socket_type,
            op: OP_RST,
            ..Self::default()
        }
    }

    /// The connection that a packet from the guest belongs to.
    pub(super) fn ports_from_guest(&self) -> Ports {
        Ports {
            guest: self.src_port,
            host: self.dst_port,
        }
    }

    /// Reads a header; every value of every field is one.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES as usize]) -> Self {
        let mut bytes = bytes.as_slice();
        Self {
            src_cid: u64::from_le_bytes(take(&mut bytes)),
            dst_cid: u64::from_le_bytes(take(&mut bytes)),
            src_port: u32::from_le_bytes(take(&mut bytes)),
            dst_port: u32::from_le_bytes(take(&mut bytes)),
            len: u32::from_le_bytes(take(&mut bytes)),
            socket_type: u16::from_le_bytes(take(&mut bytes)),
            op: u16::from_le_bytes(take(&mut bytes)),
            flags: u32::from_le_bytes(take(&mut bytes)),
            buf_alloc: u32::from_le_bytes(take(&mut bytes)),
            fwd_cnt: u32::from_le_bytes(take(&mut bytes)),
        }
    }

    /// The header's bytes.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, &self.src_cid.to_le_bytes());
        put(&mut rest, &self.dst_cid.to_le_bytes());
        put(&mut rest, &self.src_port.to_le_bytes());
        put(&mut rest, &self.dst_port.to_le_bytes());
        put(&mut rest, &self.len.to_le_bytes());
        put(&mut rest, &self.socket_type.to_le_bytes());
        put(&mut rest, &self.op.to_le_bytes());
        put(&mut rest, &self.flags.to_le_bytes());
        put(&mut rest, &self.buf_alloc.to_le_bytes());
        put(&mut rest, &self.fwd_cnt.to_le_bytes());
        bytes
    }
}

/// The next `N` bytes. The fields add up to a header, so they are always there.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let Some((field, rest)) = bytes.split_first_chunk() else {
        return [0; N];
    };
    *bytes = rest;
    *field
}

fn put<const N: usize>(bytes: &mut &mut [u8], field: &[u8; N]) {
    if let Some((place, rest)) = std::mem::take(bytes).split_first_chunk_mut() {
        *place = *field;
        *bytes = rest;
    }
}
