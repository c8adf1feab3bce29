//! virtio-pmem: tells the guest where a mapped disk is (virtio 1.2, section 5.19).
//!
//! The disk itself needs no device: it is memory that the guest reads ([`Window`]). The configuration
//! says where it begins and how long it is, and the one queue takes requests to make durable what was written.
//! Nothing can be written, so all of it is durable always, and each such request is done at once.
//!
//! There is no way in the device to say that the disk is read-only. A guest that writes to it all the same finds
//! that nothing has changed.

use std::sync::{Arc, LazyLock};

use crate::{
    COMMON_FEATURES, Chain, ConfigSpace, Device, Fault, GuestRam, Live, Pace, Placement, Queue,
    Register, Spec, StartError, Tag, Window,
};

/// Descriptors in the queue. Linux has one request under way at a time.
const QUEUE_SIZE: u16 = 64;
const PACE: Pace = Pace {
    batch: 64,
    signal_every: None,
};

/// The one request there is.
const FLUSH: u32 = 0;
/// It was done.
const OK: u32 = 0;
/// It was not: there is no such request.
const EIO: u32 = 1;

static SPEC: LazyLock<Spec> = LazyLock::new(|| Spec {
    kind: virtio_bindings::virtio_ids::VIRTIO_ID_PMEM,
    name: "pmem",
    features: COMMON_FEATURES,
    queue_sizes: vec![QUEUE_SIZE],
    placement: Placement::Shared,
});

/// The device of one mapped disk.
#[derive(Debug)]
pub struct Pmem {
    config: Arc<ConfigSpace>,
    live: Option<Live>,
}

impl Pmem {
    /// The device that tells of this window.
    pub fn new(window: &Window) -> Self {
        Self::at(window.start(), window.len())
    }

    fn at(start: u64, len: u64) -> Self {
        // `struct virtio_pmem_config`: two numbers of 64 bits.
        let [start, len] = [start, len].map(u64::to_le_bytes);
        Self {
            config: ConfigSpace::new(&[start, len].concat()),
            live: None,
        }
    }
}

impl Device for Pmem {
    fn spec(&self) -> &Spec {
        &SPEC
    }

    fn config(&self) -> Arc<ConfigSpace> {
        Arc::clone(&self.config)
    }

    fn start(&mut self, live: Live, reg: &mut dyn Register) -> Result<(), StartError> {
        let live = self.live.insert(live);
        live.register_kicks(&SPEC, reg)
    }

    fn ready(&mut self, tag: Tag, _reg: &mut dyn Register) -> Result<(), Fault> {
        let Some(live) = self.live.as_mut().filter(|_| tag == Tag::queue(0)) else {
            return Ok(());
        };
        live.serve_first(PACE, serve)
    }

    fn stop(&mut self) -> Vec<Queue> {
        self.live.take().map(|live| live.queues).unwrap_or_default()
    }
}

/// Serves one request: a number that says which, and room for one that says what came of it. Returns the bytes
/// written.
fn serve(mem: &GuestRam, chain: &Chain) -> Result<u32, Fault> {
    let malformed = |problem| Fault::Malformed {
        device: "pmem",
        problem,
    };
    let mut request = [0; 4];
    if chain.readable_len() < 4 {
        return Err(malformed("a request without a whole type"));
    }
    if chain.writable_len() < 4 {
        return Err(malformed("a request without room for the answer"));
    }
    chain.read_at(mem, 0, &mut request)?;
    let answer = match u32::from_le_bytes(request) {
        FLUSH => OK,
        _ => EIO,
    };
    chain.write_at(mem, 0, &answer.to_le_bytes())?;
    Ok(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Buffer, Harness, conformance, guest_ram};

    const START: u64 = 5 << 30;
    const LEN: u64 = 6 << 20;

    #[test]
    fn conforms() {
        conformance(&mut Pmem::at(START, LEN), &[0], &mut || {});
    }

    #[test]
    fn the_configuration_says_where_the_disk_is() {
        let config = Pmem::at(START, LEN).config();
        let mut bytes = [0xff; 20];
        config.read(0, &mut bytes);
        assert_eq!(bytes[..8], START.to_le_bytes());
        assert_eq!(bytes[8..16], LEN.to_le_bytes());
        assert_eq!(bytes[16..], [0; 4]);
    }

    fn ask(request: &[u8], room: u32) -> Result<(u32, [u8; 8]), Fault> {
        let mut harness = Harness::new(Pmem::at(START, LEN), guest_ram(1 << 20));
        harness.start().unwrap();
        let data = harness.data();
        harness.mem.write(data, request).unwrap();
        harness.mem.write(data + 64, &[0xaa; 8]).unwrap();
        let len = u32::try_from(request.len()).unwrap();
        let buffers = [
            Buffer::readable(data, len),
            Buffer::writable(data + 64, room),
        ];
        let given = buffers.into_iter().filter(|buffer| buffer.len > 0);
        let given: Vec<_> = given.collect();
        harness.queues[0].offer(&given).unwrap();
        harness.kick_if_wanted();
        harness.settle(10)?;
        assert!(harness.take_interrupt());
        let (_, written) = harness.queues[0].take_used().unwrap();
        let mut answer = [0; 8];
        harness.mem.read(data + 64, &mut answer).unwrap();
        Ok((written, answer))
    }

    #[test]
    fn a_flush_is_done_and_anything_else_is_not() {
        let done = [0, 0, 0, 0, 0xaa, 0xaa, 0xaa, 0xaa];
        assert_eq!(ask(&[0; 4], 4).unwrap(), (4, done));
        assert_eq!(ask(&[0; 16], 8).unwrap(), (4, done));
        let mut failed = done;
        failed[0] = 1;
        for kind in [1, 2, 0x0100_0000, u32::MAX] {
            let (written, answer) = ask(&kind.to_le_bytes(), 4).unwrap();
            assert_eq!((written, answer), (4, failed), "{kind}");
        }
    }

    #[test]
    fn a_request_without_its_parts_is_a_fault() {
        for (request, room) in [(&[0; 3][..], 4), (&[0; 4], 3), (&[], 8), (&[0; 8], 0)] {
            let fault = ask(request, room).unwrap_err();
            assert!(matches!(fault, Fault::Malformed { .. }), "{fault}");
        }
    }

    #[test]
    fn more_requests_than_a_batch_are_all_served() {
        let mut harness = Harness::new(Pmem::at(START, LEN), guest_ram(1 << 20));
        harness.start().unwrap();
        let data = harness.data();
        let mut served = 0;
        for _ in 0..4 {
            let request = [Buffer::readable(data, 4), Buffer::writable(data + 64, 4)];
            while harness.queues[0].offer(&request).is_some() {}
            harness.kick_if_wanted();
            harness.settle(20).unwrap();
            while harness.queues[0].take_used().is_some() {
                served += 1;
            }
        }
        assert_eq!(served, 4 * 32);
    }
}
