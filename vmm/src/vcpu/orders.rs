//! What a vCPU thread is to do, told by the main loop, and the thread's wait while it is to do nothing.
//!
//! An order is left first and the thread kicked out of the guest then; the thread forgets the kick
//! first and looks at its orders then. So it either sees the order or is kicked again.
//!
//! A paused thread sleeps until its order changes: it uses no CPU and nothing wakes it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Which pause it is: a thread says it back when it is out of the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PauseNumber(u64);

impl PauseNumber {
    /// The number of the pause after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

#[derive(Clone, Copy, Debug)]
enum Order {
    /// Nothing has been said yet.
    Wait,
    Run,
    Pause(PauseNumber),
}

#[derive(Debug)]
struct Shared {
    order: Mutex<Order>,
    changed: Condvar,
}

/// The orders of one vCPU thread; the clone for the thread shares them.
#[derive(Clone, Debug)]
pub(super) struct Orders(Arc<Shared>);

impl Orders {
    /// To wait for the first order.
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            order: Mutex::new(Order::Wait),
            changed: Condvar::new(),
        }))
    }

    /// To stay out of the guest. Kick the thread after this.
    pub(super) fn pause(&self, number: PauseNumber) {
        self.give(Order::Pause(number));
    }

    /// To run, or to see that the machine is over.
    pub(super) fn run(&self) {
        self.give(Order::Run);
    }

    fn give(&self, order: Order) {
        *self.lock() = order;
        self.0.changed.notify_one();
    }

    /// Returns when the first order has come.
    pub(super) fn wait_to_begin(&self) {
        let mut order = self.lock();
        while matches!(*order, Order::Wait) {
            order = self.wait(order);
        }
    }

    /// Returns when the thread may run; says whether it had to wait for that. Each pause is
    /// acknowledged once, one that took the place of another while the thread slept too.
    pub(super) fn obey(&self, acknowledge: impl Fn(PauseNumber)) -> bool {
        let mut order = self.lock();
        let mut acknowledged = None;
        while let Order::Pause(number) = *order {
            if acknowledged != Some(number) {
                acknowledged = Some(number);
                // Not under the lock: it is somebody else's code.
                drop(order);
                acknowledge(number);
                order = self.lock();
                continue;
            }
            order = self.wait(order);
        }
        acknowledged.is_some()
    }

    fn wait<'a>(&self, order: MutexGuard<'a, Order>) -> MutexGuard<'a, Order> {
        let changed = self.0.changed.wait(order);
        changed.unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        // An order is replaced whole.
        self.0.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;

    #[test]
    fn who_is_paused_does_nothing_until_let_go() {
        const THREADS: usize = 4;
        let (acknowledge, acknowledged) = channel();
        let over = AtomicBool::new(false);
        let work = AtomicU64::new(0);
        let orders: Vec<Orders> = (0..THREADS).map(|_| Orders::new()).collect();
        thread::scope(|scope| {
            for orders in &orders {
                let acknowledge = acknowledge.clone();
                let (over, work) = (&over, &work);
                scope.spawn(move || {
                    while !over.load(Ordering::SeqCst) {
                        work.fetch_add(1, Ordering::SeqCst);
                        orders.obey(|number| acknowledge.send(number).unwrap());
                    }
                });
            }
            let mut number = PauseNumber::default();
            for _ in 0..500 {
                number = number.next();
                for orders in &orders {
                    orders.pause(number);
                }
                for _ in 0..THREADS {
                    assert_eq!(acknowledged.recv().unwrap(), number);
                }
                let before = work.load(Ordering::SeqCst);
                thread::yield_now();
                assert_eq!(work.load(Ordering::SeqCst), before);
                for orders in &orders {
                    orders.run();
                }
            }
            over.store(true, Ordering::SeqCst);
        });
        assert!(acknowledged.try_recv().is_err());
    }

    #[test]
    fn a_pause_in_place_of_another_is_acknowledged_too() {
        let orders = Orders::new();
        let (acknowledge, acknowledged) = channel();
        let [first, second] = [PauseNumber(1), PauseNumber(2)];
        assert!(!orders.obey(|_| panic!("there is no pause")));
        orders.pause(first);
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| orders.obey(|number| acknowledge.send(number).unwrap()));
            assert_eq!(acknowledged.recv().unwrap(), first);
            orders.pause(second);
            assert_eq!(acknowledged.recv().unwrap(), second);
            orders.run();
            assert!(sleeper.join().unwrap());
        });
        assert!(acknowledged.try_recv().is_err());
    }
}
