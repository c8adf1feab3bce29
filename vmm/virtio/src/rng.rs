//! virtio-rng: random bytes for the guest (virtio 1.2, section 5.4).
//!
//! One queue. Each chain is a buffer to fill; the device may fill less of it than there is.

use std::sync::LazyLock;

use crate::{
    COMMON_FEATURES, Chain, Device, Fault, GuestRam, Live, Pace, Placement, Queue, Register, Spec,
    StartError, Tag,
};

/// Bytes given for one request. Linux asks for at most a cache line's worth at a time; a guest that
/// offers a buffer of gigabytes gets this much and asks again.
const MAX_REQUEST: u32 = 4096;

const PACE: Pace = Pace {
    batch: 64,
    signal_every: None,
};

static SPEC: LazyLock<Spec> = LazyLock::new(|| Spec {
    kind: virtio_bindings::virtio_ids::VIRTIO_ID_RNG,
    name: "rng",
    features: COMMON_FEATURES,
    queue_sizes: vec![64],
    placement: Placement::Shared,
});

/// The entropy device.
#[derive(Debug, Default)]
pub struct Rng {
    live: Option<Live>,
}

impl Rng {
    /// A device that hands out the kernel's random bytes.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Device for Rng {
    fn spec(&self) -> &Spec {
        &SPEC
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

fn serve(mem: &GuestRam, chain: &Chain) -> Result<u32, Fault> {
    let mut bytes = [0; MAX_REQUEST as usize];
    let want = chain.writable_len().min(MAX_REQUEST);
    let want_len = usize::try_from(want).unwrap_or_default();
    let bytes = bytes.get_mut(..want_len).unwrap_or_default();
    fill(bytes)?;
    chain.write_at(mem, 0, bytes)?;
    Ok(want)
}

fn fill(mut bytes: &mut [u8]) -> Result<(), Fault> {
    while !bytes.is_empty() {
        let flags = rustix::rand::GetRandomFlags::empty();
        let given = rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut *bytes, flags))
            .map_err(|error| Fault::Host(error.into()))?;
        bytes = bytes.split_at_mut(given).1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Buffer, Harness, conformance, guest_ram};

    #[test]
    fn conforms() {
        conformance(&mut Rng::new(), &[0], &mut || {});
    }

    #[test]
    fn fills_buffers_with_different_bytes() {
        let mut harness = Harness::new(Rng::new(), guest_ram(1 << 20));
        harness.start().unwrap();
        let data = harness.data();
        harness.queues[0]
            .offer(&[Buffer::writable(data, 64)])
            .unwrap();
        harness.queues[0]
            .offer(&[
                Buffer::writable(data + 64, 32),
                Buffer::writable(data + 96, 32),
            ])
            .unwrap();
        harness.kick_if_wanted();
        harness.settle(10).unwrap();
        assert!(harness.take_interrupt());
        assert_eq!(harness.queues[0].take_used().unwrap().1, 64);
        assert_eq!(harness.queues[0].take_used().unwrap().1, 64);
        let mut bytes = [0; 128];
        harness.mem.read(data, &mut bytes).unwrap();
        assert_ne!(bytes[..64], bytes[64..]);
        assert_ne!(bytes[..64], [0; 64]);
    }

    #[test]
    fn a_huge_request_is_cut_short() {
        let mut harness = Harness::new(Rng::new(), guest_ram(8 << 20));
        harness.start().unwrap();
        let data = harness.data();
        harness.queues[0]
            .offer(&[Buffer::writable(data, 4 << 20)])
            .unwrap();
        harness.kick(0);
        harness.settle(10).unwrap();
        assert_eq!(harness.queues[0].take_used().unwrap().1, MAX_REQUEST);
    }

    #[test]
    fn more_requests_than_a_batch_are_all_served() {
        let mut harness = Harness::new(Rng::new(), guest_ram(1 << 20));
        harness.start().unwrap();
        let data = harness.data();
        let mut served = 0;
        for _ in 0..4 {
            while harness.queues[0]
                .offer(&[Buffer::writable(data, 16)])
                .is_some()
            {}
            harness.kick_if_wanted();
            harness.settle(20).unwrap();
            while harness.queues[0].take_used().is_some() {
                served += 1;
            }
        }
        assert_eq!(served, 4 * 64);
    }
}
