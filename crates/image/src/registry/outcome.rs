//! What it means when a request came to no answer.
//!
//! The HTTP client knows that a connection failed; why is in the errors behind its error.

use std::error::Error;
use std::io;

use super::client::Astray;
use super::error::{Failure, RegistryError};

/// The longest text that is taken over from elsewhere, in characters.
const MAX_DETAIL: usize = 300;

/// What a failed request means. `known`: the registry has answered before.
pub(super) fn failure(registry: &str, error: &reqwest::Error, known: bool) -> Failure {
    let registry = match error.url().and_then(|url| url.host_str()) {
        // The place that it sent us on to.
        Some(host) if !registry.starts_with(host) && !at_home(registry, host) => {
            format!("{host} (for {registry})")
        }
        _ => registry.to_owned(),
    };
    let detail = chain(error);
    for cause in causes(error) {
        if let Some(astray) = cause.downcast_ref::<Astray>() {
            return Failure::Final(match astray {
                Astray::Downgrade { to } => RegistryError::Downgrade {
                    registry,
                    to: to.clone(),
                },
                Astray::Endless => RegistryError::Redirects { registry },
            });
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return tls_failure(registry, tls);
        }
    }
    if error.is_connect() && !error.is_timeout() && !known {
        return Failure::Final(RegistryError::Unreachable { registry, detail });
    }
    if error.is_builder() {
        return Failure::Final(RegistryError::Malformed {
            registry,
            what: "the address".to_owned(),
            detail,
        });
    }
    Failure::passing(match error.is_connect() {
        true => RegistryError::Unreachable { registry, detail },
        false => RegistryError::Cut { registry, detail },
    })
}

fn at_home(registry: &str, host: &str) -> bool {
    registry == "docker.io" && host == "registry-1.docker.io"
}

fn tls_failure(registry: String, error: &rustls::Error) -> Failure {
    match error {
        rustls::Error::InvalidCertificate(_) => Failure::Final(RegistryError::Certificate {
            registry,
            detail: cut(&error.to_string()),
        }),
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            Failure::Final(RegistryError::NotHttps { registry })
        }
        error => Failure::passing(RegistryError::Cut {
            registry,
            detail: cut(&error.to_string()),
        }),
    }
}

/// An error and all that is behind it. An I/O error hides the one that it was made of.
fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let first: &'a (dyn Error + 'static) = error;
    std::iter::successors(Some(first), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        }
    })
}

/// The innermost causes of an error as one line, without addresses, whose queries can hold what lets one in.
pub(super) fn chain(error: &reqwest::Error) -> String {
    let texts: Vec<String> = causes(error).skip(1).map(ToString::to_string).collect();
    match texts.last() {
        Some(last) => cut(last),
        None if error.is_timeout() => "it took too long".to_owned(),
        None => "the request could not be made".to_owned(),
    }
}

/// A text from elsewhere, made fit for a line of ours.
pub(super) fn cut(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_DETAIL).collect()
}
