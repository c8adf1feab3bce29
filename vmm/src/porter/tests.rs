use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn socket_file(path: &std::path::Path) -> (UnixListener, SocketFile) {
    let listener = UnixListener::bind(path).unwrap();
    (listener, SocketFile::at(path))
}

#[test]
fn it_connects_to_ports_and_removes_what_was_made() {
    let dir = TempDir::new().unwrap();
    let vsock = dir.path().join("v");
    let (_listener, made) = socket_file(&vsock);
    let service = UnixListener::bind(dir.path().join("v_1024")).unwrap();
    let keys = Keys {
        vsock: Some(vsock.clone()),
        sockets: vec![made],
        terminal: false,
    };
    assert!(keys.are_needed());
    let porter = Porter::start(keys).unwrap();
    let second = porter.clone();

    let mut guest = porter.connect(1024).unwrap();
    let (mut host, _) = service.accept().unwrap();
    guest.write_all(b"hello").unwrap();
    drop(guest);
    let mut heard = String::new();
    host.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello");

    let nobody = second.connect(1025).unwrap_err();
    assert_eq!(nobody.kind(), io::ErrorKind::NotFound);
    drop(service);
    let gone = second.connect(1024).unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::ConnectionRefused);

    drop(porter);
    assert!(vsock.exists());
    drop(second);
    assert!(!vsock.exists());
    // What others made is not its to remove.
    assert!(dir.path().join("v_1024").exists());
}

#[test]
fn a_machine_that_is_gone_leaves_no_sockets() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("v");
    let (listener, made) = socket_file(&path);
    let keys = Keys {
        sockets: vec![made],
        ..Keys::default()
    };
    let porter = Porter::start(keys).unwrap();
    let socket = porter.0.socket.try_clone().unwrap();
    // As if the process had been killed: the connection closes, and nothing was said.
    std::mem::forget(porter.clone());
    rustix::net::shutdown(&socket, rustix::net::Shutdown::Both).unwrap();
    drop(listener);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while path.exists() {
        assert!(std::time::Instant::now() < end, "the socket stays");
        std::thread::yield_now();
    }
}

proptest! {
    #[test]
    fn errands_are_read_as_they_were_written(number: u32, port: u32, leave: bool) {
        let what = if leave { What::Leave } else { What::Connect(port) };
        let errand = Errand { number, what };
        prop_assert_eq!(Errand::decode(&errand.encode()), Some(errand));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        let errand = Errand::decode(&bytes);
        prop_assert!(errand.is_none() || bytes.len() == errand::ERRAND);
    }
}
