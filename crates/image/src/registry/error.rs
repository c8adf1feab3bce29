//! What a registry can answer, or fail to.

use std::time::Duration;

use super::credential::CredentialSource;
use crate::Digest;

/// Why a registry did not give what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// It does not have that.
    #[error("{registry} does not have {what}; check the name, the tag and the registry")]
    NotFound {
        /// The registry.
        registry: String,
        /// What it was asked for.
        what: String,
    },
    /// It does not give that to us (401 or 403). Many registries say so of what they do not have, too.
    #[error(
        "{registry} does not give {repository} to {tried} (status {status}); check the name, and \
         log in or pass other credentials with registry()"
    )]
    Unauthorized {
        /// The registry.
        registry: String,
        /// What it was asked for.
        repository: String,
        /// Where the credentials came from that were shown.
        tried: CredentialSource,
        /// The status of its answer.
        status: u16,
    },
    /// It has had enough of us for now, and went on saying so.
    #[error("{registry} limits how much is pulled; {}", wait(*retry_after))]
    RateLimited {
        /// The registry.
        registry: String,
        /// When to come again, if it said so.
        retry_after: Option<Duration>,
    },
    /// It failed, and went on failing.
    #[error("{registry} failed with status {status}; try again later")]
    Server {
        /// The registry.
        registry: String,
        /// The status of its answer.
        status: u16,
    },
    /// It answered what no registry should.
    #[error("{registry} answered with status {status}, which a registry does not; is it one?")]
    Refused {
        /// The registry.
        registry: String,
        /// The status of its answer.
        status: u16,
    },
    /// It cannot be reached.
    #[error("{registry} cannot be reached ({detail}); check its name, the network and the proxy")]
    Unreachable {
        /// The registry, or where it sent us.
        registry: String,
        /// What the host said.
        detail: String,
    },
    /// The connection broke, time and again.
    #[error("the connection to {registry} broke ({detail}); what has come is kept, so try again")]
    Cut {
        /// The registry, or where it sent us.
        registry: String,
        /// How it broke.
        detail: String,
    },
    /// Nothing came for too long, time and again.
    #[error(
        "nothing came from {registry} for {} s; what has come is kept, so try again", after.as_secs()
    )]
    Stalled {
        /// The registry.
        registry: String,
        /// How long was waited.
        after: Duration,
    },
    /// Nobody that is trusted vouches for it.
    #[error(
        "the certificate of {registry} is not trusted ({detail}); pass its authority with \
         registry(|registry| registry.ca_certs(pem))"
    )]
    Certificate {
        /// The registry, or where it sent us.
        registry: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The certificates of authorities that were given cannot be read.
    #[error("the authorities' certificates cannot be read: {detail}; give them as PEM")]
    CaCerts {
        /// What is wrong with them.
        detail: String,
    },
    /// It does not speak TLS.
    #[error(
        "{registry} does not speak TLS; if it is to be talked to without, say so with \
         registry(|registry| registry.insecure())"
    )]
    NotHttps {
        /// The registry.
        registry: String,
    },
    /// It sends us on to where nothing is encrypted.
    #[error("{registry} leads from https to http ({to}), which is not followed")]
    Downgrade {
        /// The registry.
        registry: String,
        /// Where to.
        to: String,
    },
    /// It sends us from one place to the next without end.
    #[error("{registry} leads from one address to the next without end")]
    Redirects {
        /// The registry.
        registry: String,
    },
    /// What came is not what was asked for.
    #[error(
        "{registry} gave something else than {expected}: it has the digest {found}; nothing of it was kept"
    )]
    Digest {
        /// The registry.
        registry: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A blob is not as long as its image says.
    #[error("{registry} gives {found} bytes for {digest}, of which its image says {expected}")]
    Size {
        /// The registry.
        registry: String,
        /// The blob.
        digest: Digest,
        /// Bytes by the image.
        expected: u64,
        /// Bytes by the registry, or more.
        found: u64,
    },
    /// It is more than is taken.
    #[error("{what} of {registry} is larger than {limit} bytes, the most that is taken")]
    TooLarge {
        /// The registry.
        registry: String,
        /// What.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The image is not for this platform.
    #[error("{image} cannot run here: {detail}")]
    NoPlatform {
        /// The image.
        image: String,
        /// For which platform it is looked for, and what there is.
        detail: String,
    },
    /// A document makes no sense.
    #[error("{what} of {registry} cannot be understood: {detail}")]
    Malformed {
        /// The registry.
        registry: String,
        /// Which document.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
}

fn wait(after: Option<Duration>) -> String {
    match after {
        Some(after) => format!("try again in {} s, or log in", after.as_secs()),
        None => "try again later, or log in".to_owned(),
    }
}

/// What came of one try.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// Another try would end the same.
    Final(RegistryError),
    /// It may pass. The server may have said when.
    Passing {
        error: RegistryError,
        after: Option<Duration>,
    },
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Final(error)
    }
}

impl Failure {
    /// One that may pass.
    pub(super) fn passing(error: RegistryError) -> Self {
        Self::Passing { error, after: None }
    }
}
