//! A guest that is a thread of the test: it takes connections on the socket where a sandbox's VMM
//! would listen, and says in each what its script says.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use microsandbox::fs::{FsError, SandboxFs};
use microsandbox::{Backend, LocalBackend, MicrosandboxError, MicrosandboxResult};
use msb_protocol::*;
use msb_runtime::rundir::RunDir;
use tempfile::TempDir;

const NAME: &str = "box";

/// How long the guest may be silent in these tests. Nothing that is not silent takes so long.
pub(crate) const STALL: Duration = Duration::from_secs(2);

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The guest, and the directory of the test.
pub(crate) struct Guest {
    pub(crate) dir: TempDir,
    backend: Arc<dyn Backend>,
}

impl Guest {
    /// One that does as `script` says in each conversation.
    pub(crate) async fn new(script: impl Fn(&mut Peer, FsRequest) + Send + Sync + 'static) -> Self {
        Self::with(Features::SUPPORTED, script).await
    }

    /// One that has these features.
    pub(crate) async fn with(
        features: Features,
        script: impl Fn(&mut Peer, FsRequest) + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let socket = RunDir::of(&home, NAME).vsock_socket();
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let script = Arc::clone(&script);
                std::thread::spawn(move || {
                    let mut peer = Peer::accept(stream.unwrap(), features);
                    if let Some(HostMessage::Fs(FsCall::Open(request))) = peer.next() {
                        script(&mut peer, request);
                    }
                });
            }
        });
        let backend = LocalBackend::builder().home(home).build().await.unwrap();
        Self {
            dir,
            backend: Arc::new(backend),
        }
    }

    pub(crate) fn fs(&self) -> SandboxFs<'static> {
        SandboxFs::with_backend(Arc::clone(&self.backend), NAME).with_stall_timeout(STALL)
    }

    /// What is in the test's directory beside the home.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "home")
            .collect();
        names.sort();
        names
    }
}

/// The guest's end of one conversation.
pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    decoder: Decoder,
}

impl Peer {
    fn accept(mut stream: UnixStream, features: Features) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut line = [0; 13];
        stream.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"CONNECT 1024\n");
        stream.write_all(b"OK 7\n").unwrap();
        let mut peer = Self {
            stream,
            decoder: Decoder::new(),
        };
        let hello = Hello {
            features,
            ..Hello::ours()
        };
        peer.say(&GuestMessage::Hello(hello));
        assert!(matches!(peer.next(), Some(HostMessage::Hello(_))));
        peer
    }

    /// What the host says next; `None` when it has gone.
    pub(crate) fn next(&mut self) -> Option<HostMessage> {
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return Some(message);
            }
            let mut buffer = [0; 65536];
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.decoder.feed(&buffer[..count]),
            }
        }
    }

    /// Says something; `false` when the host has gone.
    pub(crate) fn say(&mut self, message: &GuestMessage) -> bool {
        let mut frame = Vec::new();
        encode(message, &mut frame).unwrap();
        self.stream.write_all(&frame).is_ok()
    }

    pub(crate) fn answer(&mut self, answer: FsAnswer) -> bool {
        self.say(&GuestMessage::Fs(answer))
    }

    /// Waits until the host has gone, whatever it says.
    pub(crate) fn until_gone(&mut self) {
        while self.next().is_some() {}
    }
}

/// Waits for a call that is to end.
pub(crate) async fn ends<T>(
    call: impl Future<Output = MicrosandboxResult<T>>,
) -> MicrosandboxResult<T> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(result) => result,
        Err(_) => panic!("the call does not end"),
    }
}

/// What a call failed of, that had to do with files.
pub(crate) async fn failure<T: std::fmt::Debug>(
    call: impl Future<Output = MicrosandboxResult<T>>,
) -> FsError {
    match ends(call).await {
        Err(MicrosandboxError::SandboxFsOps(error)) => error,
        other => panic!("not an error of files: {other:?}"),
    }
}

/// A file or directory of a tree.
pub(crate) fn entry(name: &'static [u8], node: FsNode) -> FsAnswer {
    let time = FsTime {
        seconds: 1_000_000_000,
        nanos: 0,
    };
    FsAnswer::Part(FsPart::Entry(FsTreeEntry {
        name: name.into(),
        node,
        mode: 0o755,
        accessed: time,
        modified: time,
    }))
}

pub(crate) fn data(bytes: &'static [u8]) -> FsAnswer {
    FsAnswer::Part(FsPart::Data(bytes.into()))
}

pub(crate) fn stat(kind: FsKind) -> FsStat {
    let time = FsTime {
        seconds: 1_000_000_000,
        nanos: 500,
    };
    FsStat {
        kind,
        size: 5 << 30,
        mode: 0o444,
        uid: 1,
        gid: 2,
        accessed: time,
        modified: time,
        created: Some(time),
    }
}
