//! The files of a running sandbox.
//!
//! Each operation is a conversation of its own with the guest's agent, which does it as root.
//! Paths are the guest's; a relative one begins at its root.
//!
//! The guest is not trusted with any of it. Nothing is allocated because it named a size, the
//! calls that return all at once have limits ([`MAX_READ_BYTES`], [`MAX_LIST_BYTES`]), and a copy to
//! the host is made below one new directory by steps that follow no link, whatever the guest calls
//! its files. A guest that says nothing any more fails the call, after a minute or what
//! [`with_stall_timeout`](SandboxFs::with_stall_timeout) was told. Dropping a call ends it, in
//! the guest too.
//!
//! ```no_run
//! # async fn example(sandbox: microsandbox::Sandbox) -> microsandbox::MicrosandboxResult<()> {
//! use microsandbox::{FsErrorKind, MicrosandboxError};
//!
//! let fs = sandbox.fs();
//! fs.copy_from_host("./project", "/work").await?;
//! sandbox.shell("make -C /work").await?;
//! match fs.read_to_string("/work/report.txt").await {
//!     Ok(report) => println!("{report}"),
//!     Err(MicrosandboxError::SandboxFsOps(error)) if error.kind == FsErrorKind::NotFound => {}
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```

mod call;
mod error;
mod stream;
mod transfer;
mod types;

pub use error::{FsError, FsErrorKind, FsSide};
pub use stream::{FsReadStream, FsWriteSink};
pub use types::{FsEntry, FsEntryKind, FsMetadata, FsSetAttrs};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use msb_protocol::{Features, FsAnswer, FsRequest, check_name};

use crate::backend::Backend;
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::sandbox::{Sandbox, validate_sandbox_name};

use call::Call;

/// The most that [`SandboxFs::read`] and [`FsReadStream::collect`] return: 1 GiB. What is larger is
/// read with [`SandboxFs::read_stream`].
pub const MAX_READ_BYTES: usize = 1 << 30;

/// The most that [`SandboxFs::list`] returns, in bytes of memory: 128 MiB, which is half a million
/// entries and more.
pub const MAX_LIST_BYTES: usize = 128 << 20;

/// How long the guest may make no progress with an operation.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Permission bits of files that are written anew, less the agent's file mode mask.
const NEW_FILE: u32 = 0o666;

/// The files of a running sandbox, from [`Sandbox::fs`](crate::Sandbox::fs).
///
/// What an operation fails of is [`SandboxFsOps`](MicrosandboxError::SandboxFsOps), with a
/// [kind](FsErrorKind) to match on.
#[derive(Clone, Debug)]
pub struct SandboxFs<'a> {
    backend: Arc<dyn Backend>,
    name: &'a str,
    /// The sandbox, where it can say what became of it.
    sandbox: Option<&'a Sandbox>,
    stall: Duration,
    memory_limit: usize,
    copy_limit: u64,
}

impl<'a> SandboxFs<'a> {
    /// The files of the sandbox of this name, on this backend.
    pub fn with_backend(backend: Arc<dyn Backend>, name: &'a str) -> Self {
        Self {
            backend,
            name,
            sandbox: None,
            stall: STALL_TIMEOUT,
            memory_limit: MAX_READ_BYTES,
            copy_limit: u64::MAX,
        }
    }

    pub(crate) fn of(sandbox: &'a Sandbox) -> Self {
        Self {
            sandbox: Some(sandbox),
            ..Self::with_backend(Arc::clone(sandbox.backend()), sandbox.name())
        }
    }

    /// How long the guest may make no progress with an operation before that fails: a minute if
    /// nothing is said. One that has nothing to report on the way is to be done within it.
    pub fn with_stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall = timeout;
        self
    }

    /// The most that a call may return all at once, in bytes, if that is to be less than
    /// [`MAX_READ_BYTES`] and [`MAX_LIST_BYTES`].
    pub fn with_memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes.min(MAX_READ_BYTES);
        self
    }

    /// The most that [`copy_to_host`](Self::copy_to_host) may put on the host, in bytes, with 4096
    /// added for each file and directory. If nothing is said that is what the host's disk holds;
    /// what is copied from a guest that may be hostile should have a limit.
    pub fn with_copy_limit(mut self, bytes: u64) -> Self {
        self.copy_limit = bytes;
        self
    }

    /// All that is in a file. One that does not know its size, as those of /proc, is read to its end.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](FsErrorKind::TooLarge) when it is more than [`MAX_READ_BYTES`].
    pub async fn read(&self, path: &str) -> MicrosandboxResult<Bytes> {
        let read = async { self.open_read(path).await?.collect().await };
        self.explained(read).await
    }

    /// All that is in a file, as text.
    ///
    /// # Errors
    ///
    /// [`NotUtf8`](FsErrorKind::NotUtf8) when it is not text in UTF-8.
    pub async fn read_to_string(&self, path: &str) -> MicrosandboxResult<String> {
        utf8(self.read(path).await?, path)
    }

    /// What is in a file, piece by piece.
    pub async fn read_stream(&self, path: &str) -> MicrosandboxResult<FsReadStream> {
        self.explained(self.open_read(path)).await
    }

    async fn open_read(&self, path: &str) -> MicrosandboxResult<FsReadStream> {
        let path = bytes(path);
        let mut call = self.call(FsRequest::Read { path }).await?;
        call.opened().await?;
        Ok(FsReadStream::new(call, self.memory_limit))
    }

    /// Puts `data` into a file, which is made if it is not there, and emptied first if it is.
    ///
    /// The file is written in place, so a link is followed, and its owner and permissions stay.
    /// Whoever reads it meanwhile sees a part; to replace it at once, write another and
    /// [`rename`](Self::rename) it.
    pub async fn write(&self, path: &str, data: impl AsRef<[u8]>) -> MicrosandboxResult<()> {
        let write = async {
            let sink = self.open_write(path).await?;
            sink.write(data).await?;
            sink.close().await
        };
        self.explained(write).await
    }

    /// Writes a file as [`write`](Self::write) does, piece by piece.
    pub async fn write_stream(&self, path: &str) -> MicrosandboxResult<FsWriteSink> {
        self.explained(self.open_write(path)).await
    }

    async fn open_write(&self, path: &str) -> MicrosandboxResult<FsWriteSink> {
        let request = FsRequest::Write {
            path: bytes(path),
            mode: NEW_FILE,
        };
        let mut call = self.call(request).await?;
        call.opened().await?;
        Ok(FsWriteSink::new(call))
    }

    /// What is in a directory, sorted by path; nothing of what is in those below it. What is said of
    /// a link is said of itself.
    ///
    /// Names that are not text in UTF-8 have U+FFFD in the place of what is not; a copy of
    /// the directory has them as they are.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](FsErrorKind::TooLarge) when it is more than [`MAX_LIST_BYTES`].
    pub async fn list(&self, path: &str) -> MicrosandboxResult<Vec<FsEntry>> {
        self.explained(self.gather(path)).await
    }

    async fn gather(&self, path: &str) -> MicrosandboxResult<Vec<FsEntry>> {
        let request = FsRequest::List { path: bytes(path) };
        let mut call = self.call(request).await?;
        let mut entries = Vec::new();
        let (mut size, limit) = (0usize, self.memory_limit.min(MAX_LIST_BYTES));
        loop {
            match call.next().await? {
                FsAnswer::Entries(batch) if !batch.is_empty() => {
                    for listed in batch {
                        if let Err(kind) = check_name(&listed.name) {
                            let message = "the guest lists something that is not a file's name";
                            return Err(FsError::guest(kind, message).into());
                        }
                        let entry = FsEntry::new(path, &listed);
                        size += size_of::<FsEntry>() + entry.path.len();
                        if size > limit {
                            return Err(FsError::too_large(path, limit).into());
                        }
                        entries.push(entry);
                    }
                }
                FsAnswer::Done => break,
                _ => return Err(call::out_of_turn()),
            }
        }
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Makes a directory, and those above it that are missing. One that is there is fine.
    pub async fn mkdir(&self, path: &str) -> MicrosandboxResult<()> {
        self.brief(FsRequest::MakeDirectory { path: bytes(path) })
            .await
    }

    /// Removes a directory with all in it, or a link. No link is followed, and what is mounted
    /// below it is an error and stays.
    pub async fn remove_dir(&self, path: &str) -> MicrosandboxResult<()> {
        self.long(FsRequest::RemoveTree { path: bytes(path) }).await
    }

    /// Removes a file or a link.
    pub async fn remove(&self, path: &str) -> MicrosandboxResult<()> {
        self.brief(FsRequest::Remove { path: bytes(path) }).await
    }

    /// Copies a file, or a directory with all in it, within the sandbox.
    ///
    /// A file that is there is replaced, at once and when the copy is complete; a directory has to be
    /// empty for that. Kinds, modes, times and holes are kept; the copy is root's.
    /// Each name of a hard link becomes a file of its own; sockets, pipes and devices are left out.
    pub async fn copy(&self, from: &str, to: &str) -> MicrosandboxResult<()> {
        let (from, to) = (bytes(from), bytes(to));
        self.long(FsRequest::Copy { from, to }).await
    }

    /// Gives a file or directory another place on its file system. A file that is there is replaced.
    pub async fn rename(&self, from: &str, to: &str) -> MicrosandboxResult<()> {
        let (from, to) = (bytes(from), bytes(to));
        self.brief(FsRequest::Rename { from, to }).await
    }

    /// What is known of a file; of what a link leads to.
    pub async fn stat(&self, path: &str) -> MicrosandboxResult<FsMetadata> {
        self.stat_with_follow(path, true).await
    }

    /// What is known of a file; of the link itself, if it is one and none is to be followed.
    pub async fn stat_with_follow(
        &self,
        path: &str,
        follow_symlink: bool,
    ) -> MicrosandboxResult<FsMetadata> {
        let request = FsRequest::Stat {
            path: bytes(path),
            follow: follow_symlink,
        };
        match self.single(request).await? {
            FsAnswer::Stat(stat) => Ok(FsMetadata::new(&stat)),
            _ => Err(call::out_of_turn()),
        }
    }

    /// Changes what is known of a file; what is not given stays. The size, the owner, the permissions
    /// and the times are set in this order, and the first that fails ends it.
    pub async fn set_stat(
        &self,
        path: &str,
        follow_symlink: bool,
        attrs: FsSetAttrs,
    ) -> MicrosandboxResult<()> {
        self.brief(FsRequest::SetStat {
            path: bytes(path),
            follow: follow_symlink,
            attributes: attrs.on_the_wire(),
        })
        .await
    }

    /// Where a link leads.
    ///
    /// # Errors
    ///
    /// [`NotUtf8`](FsErrorKind::NotUtf8) when that is not text in UTF-8.
    pub async fn read_link(&self, path: &str) -> MicrosandboxResult<String> {
        match self
            .single(FsRequest::ReadLink { path: bytes(path) })
            .await?
        {
            FsAnswer::Target(target) => utf8(target, path),
            _ => Err(call::out_of_turn()),
        }
    }

    /// Makes a link at `link_path` that leads to `target`.
    pub async fn symlink(&self, target: &str, link_path: &str) -> MicrosandboxResult<()> {
        self.brief(FsRequest::Symlink {
            target: bytes(target),
            path: bytes(link_path),
        })
        .await
    }

    /// Whether something is there. Nothing is where a link leads nowhere.
    pub async fn exists(&self, path: &str) -> MicrosandboxResult<bool> {
        match self.stat(path).await {
            Ok(_) => Ok(true),
            Err(MicrosandboxError::SandboxFsOps(error))
                if matches!(
                    error.kind,
                    FsErrorKind::NotFound | FsErrorKind::NotADirectory
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Copies a file, or a directory with all in it, from the host. `guest_path` is where it is to
    /// be, not a directory to put it into; the directory above has to be there.
    ///
    /// It appears there when it is complete, and replaces a file that is there, or an empty
    /// directory. Kinds, modes (without set-user-id and the like), times, links and holes are kept;
    /// the copy is root's. Each name of a hard link becomes a file of its own; sockets,
    /// pipes and devices are left out. A link is followed if it is `host_path` itself.
    pub async fn copy_from_host(
        &self,
        host_path: impl AsRef<Path>,
        guest_path: &str,
    ) -> MicrosandboxResult<()> {
        let source = host_path.as_ref().to_owned();
        let dial = self.call(FsRequest::Import {
            path: bytes(guest_path),
        });
        self.explained(transfer::from_host(source, dial)).await
    }

    /// Copies a file, or a directory with all in it, to the host. `host_path` is where it is to
    /// be, not a directory to put it into; the directory above has to be there.
    ///
    /// It appears there when it is complete, under the same rules as with
    /// [`copy_from_host`](Self::copy_from_host); it is this program's user's. Until then it grows
    /// beside that place in something hidden (`.msb-copy-…`), which is removed if the copy fails and
    /// left behind only by a program that is killed.
    ///
    /// Nothing is written anywhere else, whatever the guest does. Links in the copy lead where the
    /// guest says, so whoever opens files of an untrusted copy should not follow them.
    pub async fn copy_to_host(
        &self,
        guest_path: &str,
        host_path: impl AsRef<Path>,
    ) -> MicrosandboxResult<()> {
        let target = host_path.as_ref().to_owned();
        let dial = self.call(FsRequest::Export {
            path: bytes(guest_path),
        });
        self.explained(transfer::to_host(target, dial, self.copy_limit))
            .await
    }

    /// Opens the conversation of an operation.
    async fn call(&self, request: FsRequest) -> MicrosandboxResult<Call> {
        validate_sandbox_name(self.name)?;
        if let Some(error) = self.sandbox.and_then(Sandbox::not_running) {
            return Err(error);
        }
        let conversation = self.backend.sandboxes().dial(self.name).await?;
        if !conversation.session.features.has(Features::FILES) {
            return Err(MicrosandboxError::Unsupported {
                feature: "working on the files of a sandbox whose guest is of an older release"
                    .to_owned(),
                available_when: "stop the sandbox and start it again".to_owned(),
            });
        }
        Call::open(conversation, request, self.stall).await
    }

    /// An operation with one answer, to be given soon.
    async fn single(&self, request: FsRequest) -> MicrosandboxResult<FsAnswer> {
        let single = async { self.call(request).await?.single().await };
        self.explained(single).await
    }

    /// An operation that is to be done soon.
    async fn brief(&self, request: FsRequest) -> MicrosandboxResult<()> {
        match self.single(request).await? {
            FsAnswer::Done => Ok(()),
            _ => Err(call::out_of_turn()),
        }
    }

    /// An operation that may take long, as long as it goes on.
    async fn long(&self, request: FsRequest) -> MicrosandboxResult<()> {
        let long = async { self.call(request).await?.done().await };
        self.explained(long).await
    }

    /// A broken conversation is explained by the end of the sandbox, where that is known.
    async fn explained<T>(
        &self,
        work: impl Future<Output = MicrosandboxResult<T>>,
    ) -> MicrosandboxResult<T> {
        match (work.await, self.sandbox) {
            (Err(error), Some(sandbox)) => Err(sandbox.explain(error).await),
            (result, _) => result,
        }
    }
}

fn bytes(path: &str) -> Bytes {
    Bytes::copy_from_slice(path.as_bytes())
}

fn utf8(bytes: Bytes, path: &str) -> MicrosandboxResult<String> {
    String::from_utf8(bytes.into()).map_err(|_| {
        let message = format!("{path}: it is not text in UTF-8");
        FsError::guest(FsErrorKind::NotUtf8, message).into()
    })
}
