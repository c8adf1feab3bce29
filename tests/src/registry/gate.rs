//! A way to a registry that can be closed in the middle of an answer.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// How much passes at a time.
const CHUNK: usize = 4 << 10;

type WhenClosed = Box<dyn FnOnce() + Send>;

/// Passes on what clients and a registry say to each other, for a while.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    state: Mutex<State>,
    ended: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("to", &self.to).finish()
    }
}

#[derive(Default)]
struct State {
    /// Bytes of answers that still pass; `None`: all.
    left: Option<u64>,
    only_breaks: bool,
    when_closed: Option<WhenClosed>,
    open: Vec<TcpStream>,
}

impl Gate {
    /// An open way to what listens on a port here.
    pub fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let shared = Arc::new(Shared {
            to: (Ipv4Addr::LOCALHOST, port).into(),
            state: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let gate = Self {
            address: listener.local_addr()?,
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || shared.serve(&listener));
        Ok(gate)
    }

    /// Where the way begins.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Lets so many bytes of answers pass from now on, and then none, in the middle of whatever that is:
    /// connections break, and new ones are closed at once. Then does what is to be done.
    pub fn close_after(&self, bytes: u64, then: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.lock();
        state.left = Some(bytes);
        state.only_breaks = false;
        state.when_closed = Some(Box::new(then));
    }

    /// Lets so many bytes of answers pass from now on, and then breaks all connections that there are. New ones
    /// pass.
    pub fn break_after(&self, bytes: u64) {
        let mut state = self.shared.lock();
        state.left = Some(bytes);
        state.only_breaks = true;
    }

    /// Lets everything pass again.
    pub fn open(&self) {
        let mut state = self.shared.lock();
        (state.left, state.when_closed) = (None, None);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.close(&mut self.shared.lock());
        // Wakes who waits for the next connection.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.ended.load(Ordering::Acquire) {
                return;
            }
            if let Ok(client) = client {
                // One that cannot be passed on is closed.
                let _ = self.pass_on(client);
            }
        }
    }

    fn pass_on(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let mut state = self.lock();
        if state.left == Some(0) {
            return Ok(());
        }
        let server = TcpStream::connect(self.to)?;
        state
            .open
            .extend([client.try_clone()?, server.try_clone()?]);
        drop(state);
        let (asks, asked) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut &asks, &mut &asked);
            let _ = asked.shutdown(Shutdown::Write);
        });
        let shared = Arc::clone(self);
        thread::spawn(move || {
            let _ = shared.answer(&server, &client);
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
        Ok(())
    }

    fn answer(&self, mut server: &TcpStream, mut client: &TcpStream) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            let read = server.read(&mut chunk)?;
            let passes = self.let_pass(read);
            client.write_all(chunk.get(..passes).unwrap_or_default())?;
            if passes < read {
                self.end();
            }
            if passes == 0 || passes < read {
                return Ok(());
            }
        }
    }

    /// How many of these bytes pass.
    fn let_pass(&self, bytes: usize) -> usize {
        let mut state = self.lock();
        let Some(left) = &mut state.left else {
            return bytes;
        };
        let passes = bytes.min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= passes as u64;
        passes
    }

    /// No more passes.
    fn end(&self) {
        let mut state = self.lock();
        if state.only_breaks {
            (state.left, state.only_breaks) = (None, false);
        }
        self.close(&mut state);
        let then = state.when_closed.take();
        drop(state);
        if let Some(then) = then {
            then();
        }
    }

    fn close(&self, state: &mut State) {
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
