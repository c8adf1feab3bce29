#![no_main]
//! Connections in both directions, between a driver that lies and programs that come and go.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use libfuzzer_sys::fuzz_target;
use msb_fuzz::{Host, Script, drive};
use vmm_virtio::vsock::{Connector, Vsock};

const CID: u64 = 3;
/// Programs on the host at the same time.
const MOST: usize = 24;

/// Sockets of programs on the host; the device has the other ends.
#[derive(Clone, Default)]
struct Sockets(Arc<Mutex<Vec<UnixStream>>>);

impl Sockets {
    fn add(&self, stream: UnixStream) {
        let mut all = self.0.lock().expect("one thread");
        if all.len() >= MOST {
            all.remove(0);
        }
        all.push(stream);
    }
}

impl Connector for Sockets {
    fn connect(&mut self, port: u32) -> io::Result<UnixStream> {
        if port % 4 == 3 {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        self.add(theirs);
        Ok(ours)
    }
}

struct Programs {
    sockets: Sockets,
    path: PathBuf,
}

impl Host for Programs {
    fn act(&mut self, script: &mut Script<'_>) {
        let what = script.u8();
        if what % 8 == 0 {
            let Ok(mut program) = UnixStream::connect(&self.path) else {
                return;
            };
            program.set_nonblocking(true).expect("a socket");
            let line = match script.u8() {
                0xff => script.bytes(64).to_vec(),
                port => format!("CONNECT {}\n", port % 4).into_bytes(),
            };
            let _ = program.write(&line);
            self.sockets.add(program);
            return;
        }
        let mut all = self.sockets.0.lock().expect("one thread");
        if all.is_empty() {
            return;
        }
        let n = usize::from(what >> 3) % all.len();
        let Some(program) = all.get_mut(n) else {
            return;
        };
        match what % 8 {
            1 => drop(program.write(script.bytes(255))),
            2 => drop(program.write(&vec![what; usize::from(script.u16())])),
            3 | 4 => drop(program.read(&mut vec![0; usize::from(script.u16())])),
            5 => drop(program.shutdown(Shutdown::Write)),
            6 => drop(program.shutdown(Shutdown::Read)),
            _ => drop(all.remove(n)),
        }
    }

    /// A packet: mostly between the ports that are in use.
    fn request(&mut self, script: &mut Script<'_>) -> Vec<u8> {
        let odd = script.u8();
        let op = u16::from(script.u8() % 9);
        let guest_port = u32::from(script.u8() % 4);
        let host_port = match script.u8() {
            high if high >= 128 => (1 << 30) + u32::from(high % 16),
            low => u32::from(low % 4),
        };
        let payload = match odd % 4 {
            0 => script.bytes(255).to_vec(),
            1 => vec![odd; usize::from(script.u16())],
            _ => Vec::new(),
        };
        let mut header = Vec::new();
        let cid = if odd == 0xff { script.u64() } else { CID };
        let dst = if odd == 0xfe { script.u64() } else { 2 };
        header.extend(cid.to_le_bytes());
        header.extend(dst.to_le_bytes());
        header.extend(guest_port.to_le_bytes());
        header.extend(host_port.to_le_bytes());
        let len = match odd {
            0xfd => script.u32(),
            _ => u32::try_from(payload.len()).unwrap_or(0),
        };
        header.extend(len.to_le_bytes());
        let kind = if odd == 0xfc { script.u16() } else { 1 };
        header.extend(kind.to_le_bytes());
        header.extend(op.to_le_bytes());
        header.extend(u32::from(script.u8() % 4).to_le_bytes());
        header.extend(script.length().to_le_bytes());
        header.extend(script.length().to_le_bytes());
        header.extend(payload);
        header
    }
}

thread_local! {
    /// One listener for all inputs: making one for each would be most of the time.
    static LISTENER: RefCell<Option<(UnixListener, PathBuf)>> = const { RefCell::new(None) };
}

fn listener() -> (UnixListener, PathBuf) {
    LISTENER.with_borrow_mut(|kept| {
        let (listener, path) = kept.get_or_insert_with(|| {
            let name = format!("msb-fuzz-vsock-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = std::fs::remove_file(&path);
            (UnixListener::bind(&path).expect("a socket"), path)
        });
        listener.set_nonblocking(true).expect("a socket");
        // Nobody waits from the input before.
        while listener.accept().is_ok() {}
        (listener.try_clone().expect("a socket"), path.clone())
    })
}

fuzz_target!(|bytes: &[u8]| {
    let (listener, path) = listener();
    let sockets = Sockets::default();
    let device = Vsock::new(CID, Some(listener), Box::new(sockets.clone()));
    let mut programs = Programs { sockets, path };
    drive(device, &mut programs, &mut Script::new(bytes));
});
