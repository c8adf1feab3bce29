//! Answers that are not what was asked for: what they mean, and whether to ask again.

use std::time::Duration;

use oci_client::errors::{OciEnvelope, OciErrorCode};
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};

use super::client::{Get, Repository};
use super::error::{Failure, RegistryError};

/// The longest explanation that is read, in bytes.
const MAX_EXPLANATION: u64 = 16 << 10;

/// How long an explanation is waited for.
const EXPLAINING: Duration = Duration::from_secs(5);

impl Repository {
    /// What the status says.
    pub(super) async fn judge(
        &self,
        get: Get<'_>,
        response: Response,
    ) -> Result<Response, Failure> {
        let status = response.status();
        let registry = self.registry();
        let code = status.as_u16();
        let error = match status {
            status if status.is_success() => return Ok(response),
            StatusCode::RANGE_NOT_SATISFIABLE if get.from > 0 => return Ok(response),
            StatusCode::NOT_FOUND => {
                let name = &self.inner.name;
                RegistryError::NotFound {
                    registry,
                    what: match self.explanation(response).await {
                        Some(OciErrorCode::NameUnknown) => format!("the repository {name}"),
                        _ => format!("{} of {name}", get.what),
                    },
                }
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.refused(code),
            StatusCode::TOO_MANY_REQUESTS => {
                let retry_after = retry_after(&response);
                return Err(Failure::Passing {
                    error: RegistryError::RateLimited {
                        registry,
                        retry_after,
                    },
                    after: retry_after,
                });
            }
            status if status == StatusCode::REQUEST_TIMEOUT || status.is_server_error() => {
                return Err(Failure::Passing {
                    error: RegistryError::Server {
                        registry,
                        status: code,
                    },
                    after: retry_after(&response),
                });
            }
            _ => RegistryError::Refused {
                registry,
                status: code,
            },
        };
        Err(error.into())
    }

    /// The code that a registry explains its answer with. Its text is not taken over: who is refused may find
    /// there what was shown.
    async fn explanation(&self, response: Response) -> Option<OciErrorCode> {
        let body = self.body(response, MAX_EXPLANATION, "the explanation");
        let body = tokio::time::timeout(EXPLAINING, body).await.ok()?.ok()?;
        let envelope: OciEnvelope = serde_json::from_slice(&body).ok()?;
        envelope.errors.into_iter().next().map(|error| error.code)
    }
}

/// When to come again, in seconds. (A date, which some send in its place, is left alone: the pauses between
/// tries are as good.)
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(seconds.trim().parse().ok()?))
}
