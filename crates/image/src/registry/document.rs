//! Manifests, indexes and configurations: small, so they come whole into memory, up to a limit.

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;

use super::client::{Get, Repository};
use super::error::{Failure, RegistryError};
use super::outcome;
use super::timing::Tries;
use crate::Digest;
use crate::limits::MAX_DOCUMENT;

/// A document as it came.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) bytes: Bytes,
    pub(super) digest: Digest,
    pub(super) media_type: Option<String>,
}

/// The header in which a registry says what a document's digest is.
const CONTENT_DIGEST: &str = "docker-content-digest";

impl Repository {
    /// A document; what it must be, if that is known.
    pub(super) async fn document(
        &self,
        get: Get<'_>,
        expected: Option<Digest>,
    ) -> Result<Answer, RegistryError> {
        let mut tries = Tries::new(self.timing());
        loop {
            let limit = self.timing().document;
            let tried = tokio::time::timeout(limit, self.try_document(get)).await;
            let failure = match tried {
                Ok(Ok((answer, said))) => {
                    return self.verified(answer, expected.or(said));
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::passing(self.stalled(limit)),
            };
            tries.again(failure).await?;
        }
    }

    async fn try_document(&self, get: Get<'_>) -> Result<(Answer, Option<Digest>), Failure> {
        let response = self.get(get).await?;
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let media_type = header(CONTENT_TYPE.as_str());
        // Digests of other kinds are not for us.
        let said = header(CONTENT_DIGEST).and_then(|digest| digest.parse().ok());
        let bytes = self.body(response, MAX_DOCUMENT, get.what).await?;
        let answer = Answer {
            digest: Digest::of(&bytes),
            bytes,
            media_type,
        };
        Ok((answer, said))
    }

    fn verified(&self, answer: Answer, expected: Option<Digest>) -> Result<Answer, RegistryError> {
        match expected {
            Some(expected) if expected != answer.digest => Err(RegistryError::Digest {
                registry: self.registry(),
                expected,
                found: answer.digest,
            }),
            _ => Ok(answer),
        }
    }

    /// A whole body, if it is not longer than `limit`.
    pub(super) async fn body(
        &self,
        mut response: Response,
        limit: u64,
        what: &str,
    ) -> Result<Bytes, Failure> {
        let too_large = || RegistryError::TooLarge {
            registry: self.registry(),
            what: what.to_owned(),
            limit,
        };
        if response
            .content_length()
            .is_some_and(|length| length > limit)
        {
            return Err(too_large().into());
        }
        let mut body = BytesMut::new();
        while let Some(piece) = self.piece(&mut response).await? {
            if body.len() as u64 + piece.len() as u64 > limit {
                return Err(too_large().into());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    /// The next bytes of a body.
    pub(super) async fn piece(&self, response: &mut Response) -> Result<Option<Bytes>, Failure> {
        let stall = self.timing().stall;
        match tokio::time::timeout(stall, response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(Failure::passing(RegistryError::Cut {
                registry: self.registry(),
                detail: outcome::chain(&error),
            })),
            Err(_) => Err(Failure::passing(self.stalled(stall))),
        }
    }
}
