//! The ways a guest ends its machine in order: ACPI's sleep and reset registers, and the keyboard
//! controller's reset line, which kernels use when told `reboot=k`.

use std::io;

use msb_vmapi::Outcome;
use vm_superio::{I8042Device, Trigger};

use crate::arch::x86_64::acpi;
use crate::bus::BusDevice;
use crate::ending::Ending;

/// Offsets from the first power port.
const SLEEP_CONTROL: u64 = 0;
const SLEEP_STATUS: u64 = 1;
const RESET: u64 = 2;

/// Sleep control register: enter the sleep state (ACPI 6.5, section 4.8.3.7).
const SLEEP_ENABLE: u8 = 1 << 5;
/// Where in it the kind of sleep is.
const SLEEP_TYPE_SHIFT: u8 = 2;
const SLEEP_TYPE_MASK: u8 = 7;

/// The ACPI registers for sleep and reset.
#[derive(Debug)]
pub struct PowerPorts {
    ending: Ending,
}

impl PowerPorts {
    /// Registers that end that machine.
    pub fn new(ending: Ending) -> Self {
        Self { ending }
    }
}

impl BusDevice for PowerPorts {
    fn read(&self, offset: u64, out: &mut [u8]) {
        if let (SLEEP_CONTROL | SLEEP_STATUS | RESET, [out]) = (offset, out) {
            *out = 0;
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        match (offset, bytes) {
            // There is one kind of sleep; another would be one that nothing wakes from.
            (SLEEP_CONTROL, [value]) if is_power_off(*value) => {
                self.ending.end(Outcome::PowerOff);
            }
            (RESET, [acpi::RESET_VALUE]) => self.ending.end(Outcome::Reset),
            _ => {}
        }
    }
}

fn is_power_off(value: u8) -> bool {
    let sleep = value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK;
    value & SLEEP_ENABLE != 0 && sleep == acpi::SLEEP_TYPE_OFF
}

/// A keyboard controller of which only the reset line is connected.
#[derive(Debug)]
pub struct KeyboardController {
    ending: Ending,
}

impl KeyboardController {
    /// A reset line that ends that machine.
    pub fn new(ending: Ending) -> Self {
        Self { ending }
    }
}

struct ResetLine<'a>(&'a Ending);

impl Trigger for ResetLine<'_> {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.end(Outcome::Reset);
        Ok(())
    }
}

impl BusDevice for KeyboardController {
    fn read(&self, offset: u64, out: &mut [u8]) {
        if let (Ok(offset), [out]) = (u8::try_from(offset), out) {
            *out = I8042Device::new(ResetLine(&self.ending)).read(offset);
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        if let (Ok(offset), [value]) = (u8::try_from(offset), bytes) {
            // The line does not fail.
            let _ = I8042Device::new(ResetLine(&self.ending)).write(offset, *value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_loop::Mailbox;
    use crate::message::Message;

    fn ending() -> (Ending, Mailbox<Message>) {
        let mailbox = Mailbox::new(4).unwrap();
        (Ending::new(mailbox.clone()), mailbox)
    }

    fn outcome(mailbox: &Mailbox<Message>) -> Option<Outcome> {
        match mailbox.take().pop_front() {
            Some(Message::End(outcome)) => Some(outcome),
            _ => None,
        }
    }

    #[test]
    fn sleep_five_is_off() {
        let (ending, mailbox) = ending();
        let ports = PowerPorts::new(ending.clone());
        for value in [0, acpi::SLEEP_TYPE_OFF << 2, SLEEP_ENABLE | 1 << 2] {
            ports.write(SLEEP_CONTROL, &[value]);
            assert!(!ending.is_over(), "{value:#x}");
        }
        ports.write(
            SLEEP_CONTROL,
            &[SLEEP_ENABLE | acpi::SLEEP_TYPE_OFF << 2, 0],
        );
        assert!(!ending.is_over());
        ports.write(SLEEP_CONTROL, &[SLEEP_ENABLE | acpi::SLEEP_TYPE_OFF << 2]);
        assert_eq!(outcome(&mailbox), Some(Outcome::PowerOff));
    }

    #[test]
    fn the_first_reason_counts() {
        let (ending, mailbox) = ending();
        PowerPorts::new(ending.clone()).write(RESET, &[acpi::RESET_VALUE]);
        KeyboardController::new(ending.clone()).write(4, &[0xfe]);
        ending.end(Outcome::Killed);
        assert_eq!(mailbox.take().len(), 1);
    }

    #[test]
    fn the_keyboard_controller_resets_and_is_never_busy() {
        let (ending, mailbox) = ending();
        let controller = KeyboardController::new(ending);
        let mut status = [0xff];
        controller.read(4, &mut status);
        assert_eq!(status, [0]);
        controller.write(4, &[0xd1]);
        controller.write(0, &[0xfe]);
        assert_eq!(outcome(&mailbox), None);
        controller.write(4, &[0xfe]);
        assert_eq!(outcome(&mailbox), Some(Outcome::Reset));
    }
}
