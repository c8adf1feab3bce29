//! One repository of a registry, over HTTP.
//!
//! Names, documents and tokens are in the words of `oci-client`, but its HTTP is not used: it reads whatever
//! length a registry sends into memory, follows a redirect from https to http, panics on a token with a line
//! break in it, hides why a login failed, and cannot go on with a download on its own connection's terms. The
//! requests here are few, each with a deadline and a limit.
//!
//! A request goes out without credentials first, or with what worked before. To a 401 the registry says how it
//! wants to know who we are: by password, or by a token of a service that it names
//! ([`token`](super::token)).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, RANGE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode};

use super::credential::Credential;
use super::error::{Failure, RegistryError};
use super::timing::Timing;
use super::{outcome, tls};
use crate::Reference;

/// Addresses that one request may lead to.
const MAX_REDIRECTS: usize = 5;

const USER_AGENT: &str = concat!("microsandbox/", env!("CARGO_PKG_VERSION"));

/// How a registry is talked to.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Who one is to it.
    pub credential: Credential,
    /// Without TLS.
    pub insecure: bool,
    /// Authorities that are trusted beside the host's, PEM.
    pub ca_certs: Vec<Vec<u8>>,
    /// How long is waited, and how often.
    pub timing: Timing,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            credential: Credential::anonymous(),
            insecure: false,
            ca_certs: Vec::new(),
            timing: Timing::default(),
        }
    }
}

/// One repository of a registry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) http: Client,
    /// As people call it.
    pub(super) registry: String,
    pub(super) name: String,
    base: String,
    pub(super) insecure: bool,
    pub(super) credential: Credential,
    pub(super) timing: Timing,
    /// What was let in last.
    authorization: RwLock<Option<HeaderValue>>,
    /// Held by whoever asks for a token; others wait for what they get.
    pub(super) asking: tokio::sync::Mutex<()>,
    /// Whether it ever answered: from then on it is there, and a connection that fails may pass.
    answered: AtomicBool,
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Get<'a> {
    /// Below the repository: `manifests/latest`.
    pub(super) path: &'a str,
    /// Media types.
    pub(super) accept: &'a str,
    /// From which byte on.
    pub(super) from: u64,
    /// What it is called in errors.
    pub(super) what: &'a str,
}

impl Repository {
    /// The repository that a reference names.
    ///
    /// # Errors
    ///
    /// [`CaCerts`](RegistryError::CaCerts) when the authorities cannot be read.
    pub fn new(reference: &Reference, options: RegistryOptions) -> Result<Self, RegistryError> {
        let timing = options.timing;
        let http = Client::builder()
            .tls_backend_preconfigured(tls::config(&options.ca_certs)?)
            .user_agent(USER_AGENT)
            .connect_timeout(timing.connect)
            .redirect(Policy::custom(follow))
            .referer(false)
            .http1_only()
            .build()
            .map_err(|error| RegistryError::CaCerts {
                detail: outcome::chain(&error),
            })?;
        let registry = reference.registry().to_owned();
        let host = match registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let scheme = match options.insecure {
            true => "http",
            false => "https",
        };
        let name = reference.repository().to_owned();
        let inner = Inner {
            http,
            base: format!("{scheme}://{host}/v2/{name}/"),
            registry,
            name,
            insecure: options.insecure,
            credential: options.credential,
            timing,
            authorization: RwLock::new(None),
            asking: tokio::sync::Mutex::new(()),
            answered: AtomicBool::new(false),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    pub(super) fn timing(&self) -> Timing {
        self.inner.timing
    }

    /// The registry, as people call it.
    pub(super) fn registry(&self) -> String {
        self.inner.registry.clone()
    }

    /// One try: an answer whose status is good.
    pub(super) async fn get(&self, get: Get<'_>) -> Result<Response, Failure> {
        let shown = self.authorization();
        let response = self.send(get, shown.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.judge(get, response).await;
        }
        let fresh = self.log_in(&response, shown).await?;
        let response = self.send(get, Some(&fresh)).await?;
        self.judge(get, response).await
    }

    async fn send(&self, get: Get<'_>, shown: Option<&HeaderValue>) -> Result<Response, Failure> {
        let inner = &self.inner;
        let mut request = inner
            .http
            .get(format!("{}{}", inner.base, get.path))
            .header(ACCEPT, get.accept)
            // A digest is of the bytes as they are.
            .header(ACCEPT_ENCODING, "identity");
        if let Some(shown) = shown {
            request = request.header(AUTHORIZATION, shown);
        }
        if get.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", get.from));
        }
        self.answer(request).await
    }

    /// Sends a request and waits for the beginning of the answer.
    pub(super) async fn answer(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<Response, Failure> {
        let inner = &self.inner;
        let limit = inner.timing.connect + inner.timing.stall;
        match tokio::time::timeout(limit, request.send()).await {
            Ok(Ok(response)) => {
                inner.answered.store(true, Ordering::Relaxed);
                Ok(response)
            }
            Ok(Err(error)) => {
                let known = inner.answered.load(Ordering::Relaxed);
                Err(outcome::failure(&self.registry(), &error, known))
            }
            Err(_) => Err(Failure::passing(self.stalled(limit))),
        }
    }

    pub(super) fn refused(&self, status: u16) -> RegistryError {
        RegistryError::Unauthorized {
            registry: self.registry(),
            repository: self.inner.name.clone(),
            tried: self.inner.credential.source().clone(),
            status,
        }
    }

    pub(super) fn stalled(&self, after: Duration) -> RegistryError {
        RegistryError::Stalled {
            registry: self.registry(),
            after,
        }
    }

    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let known = self.inner.authorization.read();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn remember(&self, authorization: &HeaderValue) {
        let known = self.inner.authorization.write();
        *known.unwrap_or_else(PoisonError::into_inner) = Some(authorization.clone());
    }
}

/// A place that a redirect must not lead to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Astray {
    #[error("from https to http")]
    Downgrade { to: String },
    #[error("too many redirects")]
    Endless,
}

/// Follows a redirect. Credentials go along only where scheme, host and port stay the same, which is the
/// client's own doing.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error(Astray::Endless);
    }
    let secret = attempt.previous().iter().any(|url| url.scheme() == "https");
    if secret && attempt.url().scheme() != "https" {
        // Without path and query, which can hold what lets one in.
        let to = attempt.url().origin().ascii_serialization();
        return attempt.error(Astray::Downgrade { to });
    }
    attempt.follow()
}
