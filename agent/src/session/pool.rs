//! What all sessions' rings may take together.
//!
//! When it is too much, the fullest ring lets go of its oldest piece: whoever writes most loses
//! first, and a quiet session loses nothing to a loud one. What waits for a viewer who is there is not
//! counted on: its command stands still meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::ring::Ring;

/// The most that all rings hold together, in bytes.
pub(super) const POOL_MAX: usize = 16 * 1024 * 1024;

/// All rings.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    held: Cell<usize>,
    rings: RefCell<HashMap<u64, Rc<RefCell<Ring>>>>,
}

/// One session's ring, in the pool for as long as this lives.
#[derive(Debug)]
pub(super) struct Share {
    pool: Rc<Pool>,
    session: u64,
    ring: Rc<RefCell<Ring>>,
}

impl Share {
    pub(super) fn new(pool: &Rc<Pool>, session: u64, ring: Ring) -> Self {
        let ring = Rc::new(RefCell::new(ring));
        pool.rings.borrow_mut().insert(session, Rc::clone(&ring));
        Self {
            pool: Rc::clone(pool),
            session,
            ring,
        }
    }

    /// Does something with the ring; others may lose something for it.
    pub(super) fn with<T>(&self, what: impl FnOnce(&mut Ring) -> T) -> T {
        let mut ring = self.ring.borrow_mut();
        let before = ring.held();
        let result = what(&mut ring);
        let after = ring.held();
        drop(ring);
        let held = &self.pool.held;
        held.set((held.get() + after).saturating_sub(before));
        if after > before {
            self.pool.trim();
        }
        result
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.rings.borrow_mut().remove(&self.session);
        let held = self.ring.borrow().held();
        self.pool.held.update(|all| all.saturating_sub(held));
    }
}

impl Pool {
    fn trim(&self) {
        while self.held.get() > POOL_MAX {
            let rings = self.rings.borrow();
            let may_drop = rings.values().filter(|ring| ring.borrow().may_drop());
            let Some(ring) = may_drop.max_by_key(|ring| ring.borrow().held()) else {
                return;
            };
            let mut ring = ring.borrow_mut();
            let before = ring.held();
            ring.drop_oldest();
            let freed = before.saturating_sub(ring.held());
            self.held.update(|all| all.saturating_sub(freed));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use msb_protocol::OutputSource;

    use super::*;

    fn share(pool: &Rc<Pool>, session: u64) -> Share {
        let share = Share::new(pool, session, Ring::new(true));
        share.with(Ring::left);
        share
    }

    fn write(share: &Share, length: usize) {
        let bytes = Bytes::from(vec![7; length]);
        share.with(|ring| ring.push(OutputSource::Stdout, bytes));
    }

    #[test]
    fn all_together_hold_no_more_than_the_pool_and_the_quiet_lose_nothing() {
        let pool = Rc::new(Pool::default());
        let quiet = share(&pool, 0);
        write(&quiet, 100);
        let loud: Vec<_> = (1..=40).map(|session| share(&pool, session)).collect();
        for _ in 0..20 {
            for share in &loud {
                write(share, 65_536);
            }
        }
        let sum: usize = pool
            .rings
            .borrow()
            .values()
            .map(|r| r.borrow().held())
            .sum();
        assert_eq!(sum, pool.held.get());
        assert!(sum <= POOL_MAX && sum > POOL_MAX / 2, "{sum}");
        assert_eq!(quiet.with(|ring| ring.held()), 228);
        drop((quiet, loud));
        assert_eq!((pool.held.get(), pool.rings.borrow().len()), (0, 0));
    }
}
