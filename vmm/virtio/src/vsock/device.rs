//! The vsock device: three queues, one listener, and the order in which they are served.
//!
//! Everything that happens (a kick, a socket that is ready, a timer) leads to the same *pump*: take a
//! slice of the guest's packets, give the guest a slice of ours, interrupt it if it wants that, and
//! again until neither has more or the budget is used up. Slices keep both directions moving; the
//! budget gives other devices of the loop their turn.
//!
//! When the guest has no receive buffer left, nothing is sent and no socket is watched for reading
//! that has something (`connection` sees to that), until the guest offers buffers again.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use super::muxer::Muxer;
use crate::{
    COMMON_FEATURES, ConfigSpace, Device, Fault, Interest, Live, Placement, Queue, Register, Spec,
    StartError, Tag,
};

/// The host's context id.
pub const HOST_CID: u64 = 2;

/// Descriptors of the receive queue, the transmit queue and the event queue.
const QUEUE_SIZES: [u16; 3] = [256, 256, 16];
/// Connections are streams (virtio 1.2, section 5.10.3).
const F_STREAM: u64 = 1;
/// Packets of one direction before the other one is served, and the guest told.
const SLICE: usize = 32;
/// Packets of both directions before other devices of the loop have their turn.
const BUDGET: usize = 512;
/// Sockets accepted at a time.
const ACCEPTS: usize = 32;
/// Before the listener is asked again after the host could not accept (no descriptors, no memory).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

const RX: Tag = Tag::queue(0);
const TX: Tag = Tag::queue(1);
const EVENT: Tag = Tag::queue(2);
const LISTENER: Tag = Tag(0x1_0000);
const LISTEN_AGAIN: Tag = Tag(0x1_0001);

/// Where connections that the guest makes to the host lead.
pub trait Connector: Send {
    /// A socket to whoever serves `port` on the host. The device's loop waits for this call, so it
    /// must not. An error is a refusal: the guest's program sees "connection reset".
    fn connect(&mut self, port: u32) -> io::Result<UnixStream>;
}

/// The vsock device.
pub struct Vsock {
    spec: Spec,
    config: Arc<ConfigSpace>,
    listener: Option<UnixListener>,
    /// The loop watches the listener.
    listening: bool,
    /// The host could not accept just now; a timer runs.
    accept_later: bool,
    connector: Box<dyn Connector>,
    muxer: Muxer,
    live: Option<Live>,
    /// The guest has offered no receive buffers beyond those that were filled.
    rx_dry: bool,
    /// The guest may have offered packets that were not taken.
    tx_pending: bool,
}

impl std::fmt::Debug for Vsock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vsock")
            .field("listener", &self.listener)
            .field("muxer", &self.muxer)
            .finish_non_exhaustive()
    }
}

impl Vsock {
    /// A device for the guest with this context id (3 or above).
    ///
    /// Programs on the host connect through `listener`, if there is one; it is made non-blocking.
    /// The guest's own connections go where `connector` says.
    pub fn new(
        guest_cid: u64,
        listener: Option<UnixListener>,
        connector: Box<dyn Connector>,
    ) -> Self {
        Self {
            spec: Spec {
                kind: virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK,
                name: "vsock",
                features: COMMON_FEATURES | F_STREAM,
                queue_sizes: QUEUE_SIZES.to_vec(),
                placement: Placement::Shared,
            },
            config: ConfigSpace::new(&guest_cid.to_le_bytes()),
            listener,
            listening: false,
            accept_later: false,
            connector,
            muxer: Muxer::new(guest_cid),
            live: None,
            rx_dry: false,
            tx_pending: false,
        }
    }

    /// How long a handshake, an answer or an end may take.
    #[cfg(test)]
    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.muxer.set_patience(patience);
    }

    /// Watches the listener exactly while a socket from it would have a place.
    fn watch_listener(&mut self, reg: &mut dyn Register) -> io::Result<()> {
        let Some(listener) = &self.listener else {
            return Ok(());
        };
        let wanted = self.muxer.has_room() && !self.accept_later;
        if wanted != self.listening {
            if wanted {
                reg.add(listener.as_fd(), Interest::READABLE, LISTENER)?;
            } else {
                reg.remove(listener.as_fd())?;
            }
            self.listening = wanted;
        }
        Ok(())
    }

    /// Takes programs that have connected.
    fn accept(&mut self, reg: &mut dyn Register) -> io::Result<()> {
        let Some(listener) = &self.listener else {
            return Ok(());
        };
        for _ in 0..ACCEPTS {
            if !self.muxer.has_room() {
                break;
            }
            match listener.accept() {
                Ok((stream, _)) => self.muxer.greet(stream, reg),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        // Whoever waits stays readable, so the loop would call at once and in vain.
                        tracing::warn!(%error, "cannot accept a vsock connection");
                        self.accept_later = true;
                        return reg.arm(LISTEN_AGAIN, ACCEPT_AGAIN);
                    }
                },
            }
        }
        Ok(())
    }

    /// Moves packets both ways.
    fn pump(&mut self, live: &mut Live, reg: &mut dyn Register) -> Result<(), Fault> {
        let mut left = BUDGET;
        while left > 0 {
            let moved = self.take_slice(live, reg)? + self.give_slice(live, reg)?;
            for queue in &mut live.queues {
                queue.signal(&live.mem, &live.irq)?;
            }
            if moved == 0 {
                self.muxer.park(reg);
                return Ok(());
            }
            left = left.saturating_sub(moved);
        }
        // There may be more: after the others.
        match live.queues.first() {
            Some(rx) => rx.kick_again(),
            None => Ok(()),
        }
    }

    /// Takes some of the guest's packets. Returns how many.
    fn take_slice(&mut self, live: &mut Live, reg: &mut dyn Register) -> Result<usize, Fault> {
        let Live { mem, queues, .. } = live;
        let Some(tx) = queues.get_mut(1) else {
            return Ok(0);
        };
        let mut taken = 0;
        // Bounded by tries, not by packets: another vCPU could make the ring look full and empty in
        // turn for as long as it likes.
        for _ in 0..SLICE {
            if !self.tx_pending || !self.muxer.takes_packets() {
                break;
            }
            match tx.pop(mem)? {
                Some(chain) => {
                    self.muxer
                        .receive(mem, &chain, self.connector.as_mut(), reg)?;
                    tx.complete(mem, chain, 0)?;
                    taken += 1;
                }
                None => self.tx_pending = tx.enable_kicks(mem)?,
            }
        }
        Ok(taken)
    }

    /// Fills some of the guest's receive buffers. Returns how many.
    fn give_slice(&mut self, live: &mut Live, reg: &mut dyn Register) -> Result<usize, Fault> {
        let Live { mem, queues, .. } = live;
        let Some(rx) = queues.first_mut() else {
            return Ok(0);
        };
        let mut given = 0;
        for _ in 0..SLICE {
            if self.rx_dry || !self.muxer.has_packets() {
                break;
            }
            let Some(chain) = rx.pop(mem)? else {
                self.rx_dry = !rx.enable_kicks(mem)?;
                continue;
            };
            match self.muxer.transmit(mem, &chain, reg)? {
                Some(written) => {
                    rx.complete(mem, chain, written)?;
                    given += 1;
                }
                None => rx.undo_pop(chain),
            }
        }
        Ok(given)
    }

    fn on_tag(&mut self, tag: Tag, live: &mut Live, reg: &mut dyn Register) -> Result<(), Fault> {
        match tag {
            RX | TX | EVENT => {
                let queue = live.queues.iter().find(|q| Tag::queue(q.index()) == tag);
                if let Some(queue) = queue {
                    queue.clear_kick();
                }
                self.rx_dry &= tag != RX;
                self.tx_pending |= tag == TX;
            }
            LISTENER => self.accept(reg).map_err(Fault::Host)?,
            LISTEN_AGAIN => self.accept_later = false,
            other => self.muxer.on_tag(other, reg),
        }
        self.pump(live, reg)?;
        self.watch_listener(reg).map_err(Fault::Host)
    }
}

impl Device for Vsock {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn config(&self) -> Arc<ConfigSpace> {
        Arc::clone(&self.config)
    }

    fn start(&mut self, live: Live, reg: &mut dyn Register) -> Result<(), StartError> {
        self.rx_dry = false;
        self.tx_pending = true;
        let live = self.live.insert(live);
        live.register_kicks(&self.spec, reg)?;
        if let Some(listener) = &self.listener {
            listener.set_nonblocking(true)?;
        }
        Ok(self.watch_listener(reg)?)
    }

    fn ready(&mut self, tag: Tag, reg: &mut dyn Register) -> Result<(), Fault> {
        let Some(mut live) = self.live.take() else {
            return Ok(());
        };
        let result = self.on_tag(tag, &mut live, reg);
        self.live = Some(live);
        result
    }

    fn stop(&mut self) -> Vec<Queue> {
        // A reset guest has forgotten all connections.
        self.muxer.clear();
        self.listening = false;
        self.accept_later = false;
        self.live.take().map(|live| live.queues).unwrap_or_default()
    }
}
