//! Who is asked for names.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::DomainName;

/// The port of name servers.
const PORT: u16 = 53;

/// A name server: an address, or a name that the host looks up.
///
/// Written `1.1.1.1`, `1.1.1.1:5353`, `2606:4700::1111`, `[2606:4700::1111]:53`, `dns.example` or
/// `dns.example:53`; the port is 53 when not given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Nameserver {
    /// By its address.
    Addr(SocketAddr),
    /// By its name.
    Host {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// A text that names no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no name server: write an address or a name, and a port behind a colon")]
pub struct ParseNameserverError {
    text: String,
}

impl FromStr for Nameserver {
    type Err = ParseNameserverError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Addr(address));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let named = match text.rsplit_once(':') {
            None => Some((text, PORT)),
            Some((host, port)) => port.parse().ok().map(|port| (host, port)),
        };
        let named = named.and_then(|(host, port)| Some((host.parse::<DomainName>().ok()?, port)));
        match named {
            // What looks like an address was meant to be one.
            Some((host, port)) if !host.as_str().chars().all(|c| matches!(c, '0'..='9' | '.')) => {
                Ok(Self::Host {
                    host: host.into(),
                    port,
                })
            }
            _ => Err(ParseNameserverError {
                text: text.to_owned(),
            }),
        }
    }
}

impl From<SocketAddr> for Nameserver {
    fn from(address: SocketAddr) -> Self {
        Self::Addr(address)
    }
}

impl From<IpAddr> for Nameserver {
    fn from(address: IpAddr) -> Self {
        Self::Addr(SocketAddr::new(address, PORT))
    }
}

impl fmt::Display for Nameserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(address) => address.fmt(f),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl TryFrom<String> for Nameserver {
    type Error = ParseNameserverError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Nameserver> for String {
    fn from(server: Nameserver) -> Self {
        server.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, meant) in [
            ("1.1.1.1", "1.1.1.1:53"),
            ("1.1.1.1:5353", "1.1.1.1:5353"),
            ("2606:4700:4700::1111", "[2606:4700:4700::1111]:53"),
            ("[2606:4700:4700::1111]:5353", "[2606:4700:4700::1111]:5353"),
            ("DNS.google", "dns.google:53"),
            ("dns.google:5353", "dns.google:5353"),
        ] {
            let server: Nameserver = text.parse().unwrap();
            assert_eq!(server.to_string(), meant);
        }
        for text in [
            "",
            ":53",
            "a b",
            "dns.google:",
            "dns.google:x",
            "dns.google:65536",
            "1.1.1",
            "1.1.1.256",
        ] {
            assert!(text.parse::<Nameserver>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_and_read_again(text in "\\PC{0,40}|[a-z0-9.:\\[\\]]{0,40}") {
            if let Ok(server) = text.parse::<Nameserver>() {
                prop_assert_eq!(server.to_string().parse::<Nameserver>().unwrap(), server);
            }
        }
    }
}
