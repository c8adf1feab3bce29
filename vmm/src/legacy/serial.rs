//! A 16550 serial port, for kernels without a virtio console and for the first lines of a boot.
//!
//! Each byte is an exit from the guest, so it is there only when asked for. The vCPU that writes a
//! byte waits for the reader a little; a reader that does not read loses output, and never holds the
//! guest, or the machine's end, up.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use vm_superio::Trigger;
use vm_superio::serial::SerialEvents;
use vmm_sys_util::eventfd::EventFd;

use crate::bus::BusDevice;

/// How long a byte may wait for the reader before output is dropped until the reader is back.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
const NO_PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// The interrupt line: KVM's end of it is edge-triggered.
#[derive(Debug)]
struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Tells who feeds the input that the guest has read all of it.
#[derive(Debug)]
struct Drained(Arc<OwnedFd>);

impl SerialEvents for Drained {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        // It fails only when the counter is full, and then the feeder is awake.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// Output that never waits for long.
#[derive(Debug)]
struct Output {
    to: OwnedFd,
    stalled: bool,
}

impl Output {
    fn is_ready(&self, patience: &Timespec) -> bool {
        let mut fds = [PollFd::new(&self.to, PollFlags::OUT)];
        // A kick, which interrupts a vCPU thread wherever it is, must not cost a byte.
        let ready = retry_on_intr(|| poll(&mut fds, Some(patience)));
        matches!(ready, Ok(ready) if ready > 0)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let patience = if self.stalled { NO_PATIENCE } else { PATIENCE };
        self.stalled = !self.is_ready(&patience);
        if !self.stalled {
            // What a reader that hung up does not take is lost like the rest.
            let _ = retry_on_intr(|| rustix::io::write(&self.to, bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Input was not taken.
#[derive(Debug, thiserror::Error)]
#[error("the serial port's interrupt failed")]
pub struct SerialError;

/// The serial port.
#[derive(Debug)]
pub struct Serial {
    port: Mutex<vm_superio::Serial<Line, Drained, Output>>,
    drained: Arc<OwnedFd>,
}

impl Serial {
    /// A port that interrupts by `line` and writes to `output`. `drained`, a non-blocking eventfd, is
    /// signalled when the guest has read all input.
    pub fn new(line: EventFd, output: OwnedFd, drained: OwnedFd) -> Self {
        let drained = Arc::new(drained);
        let output = Output {
            to: output,
            stalled: false,
        };
        let port = vm_superio::Serial::with_events(Line(line), Drained(drained.clone()), output);
        Self {
            port: Mutex::new(port),
            drained,
        }
    }

    /// Readable when the guest has read all input.
    pub fn drained_fd(&self) -> BorrowedFd<'_> {
        self.drained.as_fd()
    }

    /// Says that there is room for input.
    pub fn signal_drained(&self) {
        Drained(Arc::clone(&self.drained)).in_buffer_empty();
    }

    /// Waits for the next time.
    pub fn clear_drained(&self) {
        // The only failure is that there was nothing to clear.
        let _ = rustix::io::read(&self.drained, &mut [0; 8]);
    }

    /// Bytes of input that there is room for.
    pub fn room(&self) -> usize {
        self.lock().fifo_capacity()
    }

    /// Gives the guest input; returns how many bytes it took.
    pub fn input(&self, bytes: &[u8]) -> Result<usize, SerialError> {
        self.lock()
            .enqueue_raw_bytes(bytes)
            .map_err(|_| SerialError)
    }

    fn lock(&self) -> MutexGuard<'_, vm_superio::Serial<Line, Drained, Output>> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BusDevice for Serial {
    fn read(&self, offset: u64, out: &mut [u8]) {
        if let (Ok(offset), [out]) = (u8::try_from(offset), out) {
            *out = self.lock().read(offset);
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        if let (Ok(offset), [value]) = (u8::try_from(offset), bytes) {
            // The output does not fail, and an interrupt that does is one that is pending already.
            let _ = self.lock().write(offset, *value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    fn serial() -> (Serial, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let drained = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        (Serial::new(line, ours.into(), drained), theirs)
    }

    #[test]
    fn bytes_pass_both_ways() {
        let (serial, mut reader) = serial();
        for byte in b"hi" {
            serial.write(0, &[*byte]);
        }
        let mut out = [0; 2];
        reader.read_exact(&mut out).unwrap();
        assert_eq!(&out, b"hi");
        assert_eq!(serial.input(b"x").unwrap(), 1);
        let mut byte = [0];
        serial.read(0, &mut byte);
        assert_eq!(&byte, b"x");
        assert!(rustix::io::read(serial.drained_fd(), &mut [0; 8]).is_ok());
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up() {
        let (serial, mut reader) = serial();
        // Far more than any socket buffer holds.
        for _ in 0..1 << 20 {
            serial.write(0, b"x");
        }
        assert!(serial.lock().writer().stalled);
        let mut some = vec![0; 1 << 16];
        reader.set_nonblocking(true).unwrap();
        while reader.read(&mut some).is_ok() {}
        serial.write(0, b"y");
        assert!(!serial.lock().writer().stalled);
    }

    #[test]
    fn odd_widths_do_nothing() {
        let (serial, _reader) = serial();
        serial.write(0, b"ab");
        let mut out = [0xff; 2];
        serial.read(0, &mut out);
        assert_eq!(out, [0xff; 2]);
    }
}
