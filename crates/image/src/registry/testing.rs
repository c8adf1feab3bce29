//! A registry for tests, in this process: it serves what it is given, remembers what it was asked, and
//! misbehaves as it is told.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use tokio::task::JoinHandle;

use crate::Digest;
use crate::manifest::media;

/// Has every reader of foreign text of this module read this.
pub fn read_hostile(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    super::token::read_hostile(&text, bytes);
    let _ = super::blob::first_byte(&text);
    super::credential::read_hostile(&text, bytes);
    let _ = super::tls::add(&mut rustls::RootCertStore::empty(), bytes);
}

/// How it answers one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// With this status, and these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// As it should, until so many bytes of the body have gone; then the connection ends.
    Cut(usize),
    /// As it should, until so many bytes of the body have gone; then nothing more comes.
    Stall(usize),
    /// With all of it, whatever part was asked for.
    Whole,
    /// With all of it, until so many bytes have gone.
    WholeCut(usize),
    /// With other bytes, of this length.
    Other(usize),
    /// With a part that begins elsewhere.
    OtherPart,
    /// It leads elsewhere.
    Redirect(String),
}

/// Whom it lets in.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everybody.
    All,
    /// Who shows this password with each request.
    Password(&'static str, &'static str),
    /// Who shows a token, which its service gives for this password, or for nothing.
    Token(Option<(&'static str, &'static str)>),
    /// Who shows a token, which its service gives for this in the place of a login.
    Identity(&'static str),
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// With its query.
    pub path: String,
    /// What it showed.
    pub authorization: Option<String>,
    /// What part was asked for.
    pub range: Option<String>,
    /// How it was answered.
    pub status: u16,
}

#[derive(Debug)]
struct Inner {
    access: Access,
    /// Where its token service is; where it is itself, if nothing is said.
    realm: Option<String>,
    /// What it says of tokens, in their place.
    token: Option<String>,
    manifests: HashMap<String, (String, Bytes)>,
    blobs: HashMap<String, Bytes>,
    /// By a part of the path, the next first.
    faults: Vec<(String, VecDeque<Fault>)>,
    asked: Vec<Asked>,
    tokens: usize,
}

/// A registry, until it is dropped.
#[derive(Debug)]
pub struct FakeRegistry {
    address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    server: JoinHandle<()>,
}

/// An image that it serves.
#[derive(Clone, Debug)]
pub struct FakeImage {
    /// Its manifest's digest.
    pub manifest: Digest,
    /// Its configuration's.
    pub config: Digest,
    /// Its layers', the lowest first.
    pub layers: Vec<Digest>,
    /// What is in its layers.
    pub diff_ids: Vec<Digest>,
}

impl FakeRegistry {
    /// One on a port of its own.
    ///
    /// # Panics
    ///
    /// When the host has no port for it.
    pub async fn new() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port of this host");
        let address = listener.local_addr().expect("its address");
        let inner = Arc::new(Mutex::new(Inner {
            access: Access::All,
            realm: None,
            token: None,
            manifests: HashMap::new(),
            blobs: HashMap::new(),
            faults: Vec::new(),
            asked: Vec::new(),
            tokens: 0,
        }));
        let router = router(Arc::clone(&inner), address);
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self {
            address,
            inner,
            server,
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The same as a service, to be put behind something else.
    pub fn router(&self) -> Router {
        router(Arc::clone(&self.inner), self.address)
    }

    /// Lets these in from now on.
    pub fn allow(&self, access: Access) {
        self.lock().access = access;
    }

    /// Names this as the token service.
    pub fn realm(&self, realm: impl Into<String>) {
        self.lock().realm = Some(realm.into());
    }

    /// Has the token service answer with this.
    pub fn token(&self, answer: impl Into<String>) {
        self.lock().token = Some(answer.into());
    }

    /// Has the next requests whose path has this in it fail so, one after the other.
    pub fn fail(&self, path: impl Into<String>, faults: impl IntoIterator<Item = Fault>) {
        let faults = faults.into_iter().collect();
        self.lock().faults.push((path.into(), faults));
    }

    /// Forgets the faults that are left.
    pub fn behave(&self) {
        self.lock().faults.clear();
    }

    /// What was asked whose path has this in it.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let inner = self.lock();
        let matching = inner.asked.iter().filter(|asked| asked.path.contains(path));
        matching.cloned().collect()
    }

    /// How many tokens were given.
    pub fn tokens(&self) -> usize {
        self.lock().tokens
    }

    /// Forgets the tokens that were given.
    pub fn expire(&self) {
        self.lock().tokens += 1;
    }

    /// Adds a blob.
    pub fn blob(&self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.lock().blobs.insert(digest.to_string(), bytes);
        digest
    }

    /// Adds a document under its digest and, if there is one, a tag.
    pub fn document(&self, tag: Option<&str>, media_type: &str, text: &str) -> Digest {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let digest = Digest::of(&bytes);
        let mut inner = self.lock();
        for name in [Some(digest.to_string().as_str()), tag]
            .into_iter()
            .flatten()
        {
            let document = (media_type.to_owned(), bytes.clone());
            inner.manifests.insert(name.to_owned(), document);
        }
        digest
    }

    /// Adds an image for `architecture` of these tars, with this `config` of how to run it (JSON).
    pub fn image(
        &self,
        tag: &str,
        architecture: &str,
        layers: &[Vec<u8>],
        config: &str,
    ) -> FakeImage {
        let blobs: Vec<_> = layers.iter().map(|tar| self.blob(tar.clone())).collect();
        let listed: Vec<_> = blobs.iter().map(|id| format!("\"{id}\"")).collect();
        let config = self.blob(format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            listed.join(",")
        ));
        let described = layers.iter().zip(&blobs).map(|(tar, digest)| {
            let (kind, size) = (media::OCI_LAYER, tar.len());
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
        });
        let described = described.collect::<Vec<_>>().join(",");
        let size = self
            .lock()
            .blobs
            .get(&config.to_string())
            .map_or(0, Bytes::len);
        let (kind, of) = (media::OCI_MANIFEST, media::OCI_CONFIG);
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"{of}","digest":"{config}","size":{size}}},"layers":[{described}]}}"#
        );
        FakeImage {
            manifest: self.document(Some(tag), kind, &manifest),
            config,
            layers: blobs.clone(),
            diff_ids: blobs,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Shared {
    inner: Arc<Mutex<Inner>>,
    address: SocketAddr,
}

fn router(inner: Arc<Mutex<Inner>>, address: SocketAddr) -> Router {
    Router::new()
        .fallback(answer)
        .with_state(Shared { inner, address })
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let path = request.uri().to_string();
    let (parts, body) = request.into_parts();
    let shown = |name| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let (authorization, range) = (shown(header::AUTHORIZATION), shown(header::RANGE));
    let body = axum::body::to_bytes(body, 64 << 10).await;
    let body = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
    let mut inner = shared.inner.lock().unwrap_or_else(PoisonError::into_inner);
    let response = inner.answer(
        &path,
        authorization.as_deref(),
        range.as_deref(),
        &body,
        shared.address,
    );
    inner.asked.push(Asked {
        status: response.status().as_u16(),
        path,
        authorization,
        range,
    });
    response
}

impl Inner {
    fn answer(
        &mut self,
        path: &str,
        authorization: Option<&str>,
        range: Option<&str>,
        body: &str,
        address: SocketAddr,
    ) -> Response {
        let fault = self.fault(path);
        match &fault {
            Some(Fault::Status(status, headers)) => {
                let mut response = plain(*status, Body::empty());
                for (name, value) in headers {
                    put(&mut response, name, value);
                }
                return response;
            }
            Some(Fault::Redirect(to)) => {
                let mut response = plain(307, Body::empty());
                put(&mut response, "location", to);
                return response;
            }
            _ => {}
        }
        if path.starts_with("/token") {
            return self.give_token(authorization, body);
        }
        if let Some(refusal) = self.refuse(authorization, address) {
            return refusal;
        }
        let path = path.split('?').next().unwrap_or(path);
        let name = path.rsplit('/').next().unwrap_or_default();
        if path.contains("/manifests/") {
            let Some((kind, bytes)) = self.manifests.get(name) else {
                return plain(404, Body::empty());
            };
            let mut response = body_of(bytes.clone(), None, fault);
            put(&mut response, "content-type", kind);
            put(
                &mut response,
                "docker-content-digest",
                &Digest::of(bytes).to_string(),
            );
            return response;
        }
        match self.blobs.get(name) {
            Some(bytes) => body_of(bytes.clone(), range, fault),
            None => plain(404, Body::empty()),
        }
    }

    fn fault(&mut self, path: &str) -> Option<Fault> {
        let faults = self.faults.iter_mut();
        let mut matching = faults.filter(|(part, _)| path.contains(part.as_str()));
        matching.find_map(|(_, faults)| faults.pop_front())
    }

    fn refuse(&self, authorization: Option<&str>, address: SocketAddr) -> Option<Response> {
        let (wanted, challenge) = match &self.access {
            Access::All => return None,
            Access::Password(user, password) => {
                (basic(user, password), "Basic realm=\"here\"".to_owned())
            }
            Access::Token(_) | Access::Identity(_) => {
                let realm = self.realm.clone();
                let realm = realm.unwrap_or_else(|| format!("http://{address}/token"));
                let challenge = format!("Bearer realm=\"{realm}\",service=\"fake\",scope=\"x\"");
                (format!("Bearer token-{}", self.tokens), challenge)
            }
        };
        if authorization == Some(&wanted) {
            return None;
        }
        let mut response = plain(401, Body::empty());
        put(&mut response, "www-authenticate", &challenge);
        Some(response)
    }

    fn give_token(&mut self, authorization: Option<&str>, body: &str) -> Response {
        let good = match &self.access {
            Access::Token(Some((user, password))) => authorization == Some(&basic(user, password)),
            Access::Identity(token) => body.contains(&format!("refresh_token={token}")),
            _ => true,
        };
        if !good {
            return plain(401, Body::empty());
        }
        self.tokens += 1;
        let token = format!(r#"{{"token":"token-{}"}}"#, self.tokens);
        plain(200, Body::from(self.token.clone().unwrap_or(token)))
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn plain(status: u16, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response
}

fn put(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn body_of(bytes: Bytes, range: Option<&str>, fault: Option<Fault>) -> Response {
    let asked = range.and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    let total = bytes.len();
    let mut from = asked.unwrap_or(0);
    if matches!(fault, Some(Fault::Whole | Fault::WholeCut(_))) {
        from = 0;
    }
    if from > total || (from == total && total > 0) {
        return plain(416, Body::empty());
    }
    let part = match fault {
        Some(Fault::Other(length)) => Bytes::from(vec![b'?'; length]),
        _ => bytes.slice(from..),
    };
    let length = part.len();
    let first = |count: usize| part.slice(..count.min(length));
    let body = match fault {
        Some(Fault::Cut(count) | Fault::WholeCut(count)) => {
            let cut = [Ok(first(count)), Err(std::io::Error::other("cut"))];
            // What was written goes out before the connection ends.
            let cut = futures::stream::iter(cut).then(|piece| async {
                if piece.is_err() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                piece
            });
            Body::from_stream(cut)
        }
        Some(Fault::Stall(count)) => {
            let some = futures::stream::iter([std::io::Result::Ok(first(count))]);
            Body::from_stream(some.chain(futures::stream::pending()))
        }
        _ => Body::from(part.clone()),
    };
    let mut response = plain(if from > 0 { 206 } else { 200 }, body);
    put(&mut response, "content-length", &length.to_string());
    if from > 0 {
        let first = match fault {
            Some(Fault::OtherPart) => from - 1,
            _ => from,
        };
        let last = total.saturating_sub(1);
        put(
            &mut response,
            "content-range",
            &format!("bytes {first}-{last}/{total}"),
        );
    }
    response
}
