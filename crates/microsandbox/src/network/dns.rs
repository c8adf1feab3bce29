//! How names are looked up.

use msb_types::network::{BuildError, DnsConfig, Nameserver};

/// Describes how a guest's names are looked up.
#[derive(Clone, Debug, Default)]
pub struct DnsBuilder {
    config: DnsConfig,
}

impl DnsBuilder {
    /// By the host's servers, within 5 seconds, and with protection.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn from_config(config: DnsConfig) -> Self {
        Self { config }
    }

    /// Whether a public name may not turn out to be a private address; true when not set.
    #[must_use]
    pub fn rebind_protection(mut self, enabled: bool) -> Self {
        self.config.rebind_protection = enabled;
        self
    }

    /// Who is asked, instead of whom was set before; the host's servers when empty.
    #[must_use]
    pub fn nameservers<I>(mut self, nameservers: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Nameserver>,
    {
        self.config.nameservers = nameservers.into_iter().map(Into::into).collect();
        self
    }

    /// How long a query may take, in milliseconds; 5000 when not set.
    #[must_use]
    pub fn query_timeout_ms(mut self, ms: u64) -> Self {
        self.config.query_timeout_ms = ms;
        self
    }

    /// The description, or what is wrong with it.
    pub fn build(self) -> Result<DnsConfig, BuildError> {
        match self.config.query_timeout_ms {
            0 => Err(BuildError::NoQueryTimeout),
            _ => Ok(self.config),
        }
    }

    pub(super) fn into_config(self) -> DnsConfig {
        self.config
    }
}
