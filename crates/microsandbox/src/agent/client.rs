//! The client: one agent, any number of conversations.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use msb_protocol::{
    Features, GENERATION, GuestMessage, HostMessage, MessageType, Ready, Session, SessionAnswer,
    SessionCall,
};
use msb_runtime::conversation::{Conversation, ConversationError, Speaker};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OnceCell, watch};

use super::dialer::{self, Dialer};
use super::{AgentClientError, AgentStream, RawFrame, RawStream};
use crate::backend::local::End;
use crate::backend::{Backend, LocalBackend, default_backend};
use crate::sandbox::validate_sandbox_name;

/// How long a call may take when nobody says.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The most streams at a time: as many as the agent takes.
const MAX_STREAMS: usize = 1024;

/// Which protocol an agent speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AgentProtocol {
    /// The one of this library.
    Current,
    /// An older one; no agent of this library has ever spoken it.
    LegacyV1,
}

/// A client of one agent.
///
/// Every call has a deadline: 30 seconds, or the timeout that the client was connected with.
/// Waiting for a stream's next message is the exception. Dropping a client ends its streams.
#[derive(Debug)]
pub struct AgentClient {
    dialer: Dialer,
    timeout: Duration,
    facts: OnceCell<Facts>,
    streams: Arc<Streams>,
    closed: AtomicBool,
}

/// What is known of the agent once it was spoken to.
#[derive(Debug)]
struct Facts {
    session: Session,
    ready: Option<(Ready, Bytes)>,
}

/// The streams that are open, so that they can be sent to by their numbers.
#[derive(Debug, Default)]
pub(super) struct Streams {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u32, Speaker>,
    last: u32,
}

impl Streams {
    fn begin(&self, speaker: Speaker) -> Result<u32, AgentClientError> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.open.len() >= MAX_STREAMS {
            speaker.hang_up();
            return Err(AgentClientError::IdRangeExhausted);
        }
        // There are fewer open ones than numbers.
        while table.last == 0 || table.open.contains_key(&table.last) {
            table.last = table.last.wrapping_add(1);
        }
        let id = table.last;
        table.last = table.last.wrapping_add(1);
        table.open.insert(id, speaker);
        Ok(id)
    }

    fn speaker(&self, id: u32) -> Option<Speaker> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.open.get(&id).cloned()
    }

    pub(super) fn end(&self, id: u32) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(speaker) = table.open.remove(&id) {
            speaker.hang_up();
        }
    }

    fn end_all(&self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, speaker) in table.open.drain() {
            speaker.hang_up();
        }
    }
}

/// Connecting.
impl AgentClient {
    fn new(dialer: Dialer, timeout: Duration) -> Self {
        Self {
            dialer,
            timeout,
            facts: OnceCell::new(),
            streams: Arc::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Of one run of a sandbox, spoken to when that is first needed.
    pub(crate) fn of_run(
        backend: Arc<dyn Backend>,
        name: String,
        end: watch::Receiver<Option<End>>,
    ) -> Self {
        let end = Some(end);
        Self::new(Dialer::Sandbox { backend, name, end }, CALL_TIMEOUT)
    }

    /// Connects to the agent behind a sandbox's vsock socket.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, AgentClientError> {
        Self::connect_with_timeout(path, CALL_TIMEOUT).await
    }

    /// The same within `timeout`, which later calls have too.
    pub async fn connect_with_timeout(
        path: impl AsRef<Path>,
        timeout: Duration,
    ) -> Result<Self, AgentClientError> {
        let dialer = Dialer::Path(path.as_ref().to_path_buf());
        Self::new(dialer, timeout).greeted().await
    }

    /// The same until `deadline`. Later calls have 30 seconds.
    pub async fn connect_with_deadline(
        path: impl AsRef<Path>,
        deadline: Instant,
    ) -> Result<Self, AgentClientError> {
        let client = Self::connect_with_timeout(path, until(deadline)).await?;
        Ok(client.with_timeout(CALL_TIMEOUT))
    }

    /// Connects to the agent of a running sandbox.
    pub async fn connect_sandbox(name: &str) -> Result<Self, AgentClientError> {
        Self::connect_sandbox_with_timeout(name, CALL_TIMEOUT).await
    }

    /// The same within `timeout`, which later calls have too.
    pub async fn connect_sandbox_with_timeout(
        name: &str,
        timeout: Duration,
    ) -> Result<Self, AgentClientError> {
        let dialer = Dialer::Sandbox {
            backend: default_backend(),
            name: valid(name)?,
            end: None,
        };
        Self::new(dialer, timeout).greeted().await
    }

    /// Speaks to the agent at the other end of `stream`. One connection is one conversation, so such
    /// a client makes one request or opens one stream.
    pub async fn connect_stream<S>(stream: S) -> Result<Self, AgentClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::connect_stream_with_timeout(stream, CALL_TIMEOUT).await
    }

    /// The same within `timeout`, which the later call has too.
    pub async fn connect_stream_with_timeout<S>(
        stream: S,
        timeout: Duration,
    ) -> Result<Self, AgentClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let accepted = Conversation::accept(dialer::socket(stream)?, timeout).await;
        let conversation = accepted.map_err(dialer::opening)?;
        let session = conversation.session;
        let client = Self::new(Dialer::Once(Mutex::new(Some(conversation))), timeout);
        let facts = Facts {
            session,
            ready: None,
        };
        // It was made just now, so it is empty.
        let _ = client.facts.set(facts);
        Ok(client)
    }

    /// The same until `deadline`. The later call has 30 seconds.
    pub async fn connect_stream_with_deadline<S>(
        stream: S,
        deadline: Instant,
    ) -> Result<Self, AgentClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let client = Self::connect_stream_with_timeout(stream, until(deadline)).await?;
        Ok(client.with_timeout(CALL_TIMEOUT))
    }

    fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Where the socket to the agent of the sandbox of this name is, when it runs.
    pub fn socket_path(name: &str) -> Result<PathBuf, AgentClientError> {
        let name = valid(name)?;
        let dir = LocalBackend::lazy().run_dir(&name);
        let dir = dir.map_err(|error| AgentClientError::Lookup(Box::new(error)))?;
        Ok(dir.vsock_socket())
    }

    /// Ends all its streams.
    pub async fn close(self) {
        self.shut();
    }

    fn shut(&self) {
        self.closed.store(true, Ordering::Release);
        self.streams.end_all();
    }

    async fn greeted(self) -> Result<Self, AgentClientError> {
        self.facts().await?;
        Ok(self)
    }
}

impl Drop for AgentClient {
    fn drop(&mut self) {
        self.shut();
    }
}

/// What the agent is.
impl AgentClient {
    /// Speaks to the agent, if that has not been done, so that the rest here is known.
    pub async fn ensure_ready(&self) -> Result<(), AgentClientError> {
        self.facts().await.map(drop)
    }

    /// How the guest came up, and the agent's version. `None` before the agent was spoken to, and
    /// of one that does not say.
    pub fn ready(&self) -> Option<&Ready> {
        Some(&self.facts.get()?.ready.as_ref()?.0)
    }

    /// The message with that, in bytes; empty where there is none.
    pub fn ready_bytes(&self) -> Bytes {
        let ready = self.facts.get().and_then(|facts| facts.ready.as_ref());
        ready.map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }

    /// Which protocol is spoken.
    pub fn protocol(&self) -> AgentProtocol {
        AgentProtocol::Current
    }

    /// The generation of it that is spoken; before the agent was spoken to, this library's.
    pub fn negotiated_version(&self) -> u8 {
        u8::try_from(self.session().generation).unwrap_or(u8::MAX)
    }

    /// The agent's version; empty where that is not known.
    pub fn agent_version(&self) -> &str {
        self.ready().map_or("", |ready| &ready.version)
    }

    /// Whether the agent knows such messages. Before it was spoken to: whether this library does.
    pub fn supports(&self, kind: MessageType) -> bool {
        self.session().understands(kind)
    }

    /// The error that sending such a message would be.
    pub fn ensure_version_compat(&self, kind: MessageType) -> Result<(), AgentClientError> {
        match self.supports(kind) {
            true => Ok(()),
            false => Err(ConversationError::Unsupported { kind }.into()),
        }
    }

    fn session(&self) -> Session {
        self.facts.get().map_or(
            Session {
                generation: GENERATION,
                features: Features::SUPPORTED,
            },
            |facts| facts.session,
        )
    }

    async fn facts(&self) -> Result<&Facts, AgentClientError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(AgentClientError::Closed);
        }
        self.facts
            .get_or_try_init(|| self.within(self.look()))
            .await
    }

    async fn look(&self) -> Result<Facts, AgentClientError> {
        let mut conversation = self.dialer.dial(self.timeout).await?;
        let session = conversation.session;
        if !session.understands(MessageType::Session) {
            let ready = None;
            return Ok(Facts { session, ready });
        }
        let about = SessionCall::About.into();
        conversation.speaker.send(&about).await?;
        let message = conversation.listener.next().await?;
        let bytes = RawFrame::of(&message)?.body;
        match message {
            GuestMessage::Session(SessionAnswer::About(ready)) => Ok(Facts {
                session,
                ready: Some((ready, bytes)),
            }),
            GuestMessage::Refused(refusal) => Err(AgentClientError::Refused(refusal)),
            _ => Err(AgentClientError::Protocol(ConversationError::OutOfTurn)),
        }
    }
}

/// Messages.
impl AgentClient {
    /// Opens a conversation with a message of type `kind`, whose contents `payload` is, and returns
    /// the first answer. The conversation ends with that.
    pub async fn request<T: Serialize>(
        &self,
        kind: MessageType,
        payload: &T,
    ) -> Result<GuestMessage, AgentClientError> {
        let message = kind.message(payload);
        let message = message.map_err(AgentClientError::InvalidPacket)?;
        match self.ask(message).await? {
            GuestMessage::Refused(refusal) => Err(AgentClientError::Refused(refusal)),
            answer => Ok(answer),
        }
    }

    /// The same in bytes.
    pub async fn request_raw(
        &self,
        flags: u8,
        body: impl AsRef<[u8]>,
    ) -> Result<RawFrame, AgentClientError> {
        RawFrame::of(&self.ask(message(flags, body.as_ref())?).await?)
    }

    /// Opens a conversation and returns its number and its answers as they come.
    pub async fn stream<T: Serialize>(
        &self,
        kind: MessageType,
        payload: &T,
    ) -> Result<(u32, AgentStream), AgentClientError> {
        let message = kind.message(payload);
        self.open(message.map_err(AgentClientError::InvalidPacket)?)
            .await
    }

    /// The same in bytes.
    pub async fn stream_raw(
        &self,
        flags: u8,
        body: impl AsRef<[u8]>,
    ) -> Result<(u32, RawStream), AgentClientError> {
        let (id, stream) = self.open(message(flags, body.as_ref())?).await?;
        Ok((id, RawStream::new(stream)))
    }

    /// Sends one more message in the stream of this number.
    pub async fn send<T: Serialize>(
        &self,
        id: u32,
        kind: MessageType,
        payload: &T,
    ) -> Result<(), AgentClientError> {
        let message = kind.message(payload);
        let message = message.map_err(AgentClientError::InvalidPacket)?;
        self.go_on(id, message).await
    }

    /// The same in bytes.
    pub async fn send_raw(
        &self,
        id: u32,
        flags: u8,
        body: impl AsRef<[u8]>,
    ) -> Result<(), AgentClientError> {
        self.go_on(id, message(flags, body.as_ref())?).await
    }

    async fn ask(&self, message: HostMessage) -> Result<GuestMessage, AgentClientError> {
        self.within(async {
            let mut conversation = self.converse(&message).await?;
            let answer = conversation.listener.next().await?;
            conversation.speaker.hang_up();
            Ok(answer)
        })
        .await
    }

    async fn open(&self, message: HostMessage) -> Result<(u32, AgentStream), AgentClientError> {
        let conversation = self.within(self.converse(&message)).await?;
        let id = self.streams.begin(conversation.speaker)?;
        let streams = Arc::clone(&self.streams);
        Ok((id, AgentStream::new(id, conversation.listener, streams)))
    }

    async fn go_on(&self, id: u32, message: HostMessage) -> Result<(), AgentClientError> {
        self.ensure_version_compat(message.kind())?;
        let speaker = self.streams.speaker(id);
        let speaker = speaker.ok_or(AgentClientError::ReaderClosed(id))?;
        self.within(async { Ok(speaker.send(&message).await?) })
            .await
    }

    /// A conversation that begins with this message, if the agent knows such.
    async fn converse(&self, message: &HostMessage) -> Result<Conversation, AgentClientError> {
        let facts = self.facts().await?;
        let kind = message.kind();
        if !facts.session.understands(kind) {
            return Err(ConversationError::Unsupported { kind }.into());
        }
        let conversation = self.dialer.dial(self.timeout).await?;
        conversation.speaker.send(message).await?;
        Ok(conversation)
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, AgentClientError>>,
    ) -> Result<T, AgentClientError> {
        tokio::time::timeout(self.timeout, call)
            .await
            .unwrap_or(Err(AgentClientError::Timeout(self.timeout)))
    }
}

/// The message that a body is.
fn message(flags: u8, body: &[u8]) -> Result<HostMessage, AgentClientError> {
    if flags != 0 {
        return Err(AgentClientError::InvalidFlags(flags));
    }
    HostMessage::from_bytes(body).map_err(AgentClientError::InvalidPacket)
}

fn valid(name: &str) -> Result<String, AgentClientError> {
    match validate_sandbox_name(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(_) => Err(AgentClientError::InvalidSandboxName(name.to_owned())),
    }
}

fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
