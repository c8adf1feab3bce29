//! Who is trusted to be who they say.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::error::RegistryError;

/// The most bytes of authorities' certificates that are read.
const MAX_PEM: usize = 4 << 20;

/// TLS that trusts the authorities of the host, and these, PEM.
pub(super) fn config(ca_certs: &[Vec<u8>]) -> Result<ClientConfig, RegistryError> {
    let mut roots = RootCertStore::empty();
    // A host without any is for who brings their own; the handshake says it when it matters.
    let host = rustls_native_certs::load_native_certs();
    for error in &host.errors {
        tracing::debug!(%error, "some of the host's authorities cannot be read");
    }
    roots.add_parsable_certificates(host.certs);
    for pem in ca_certs {
        add(&mut roots, pem).map_err(|detail| RegistryError::CaCerts { detail })?;
    }
    // Not the process's own default, which is the program's to choose.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| RegistryError::CaCerts {
        detail: error.to_string(),
    })?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

pub(super) fn add(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), String> {
    if pem.len() > MAX_PEM {
        return Err(format!("they have more than {MAX_PEM} bytes"));
    }
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
        found = true;
    }
    match found {
        true => Ok(()),
        false => Err("there is no certificate in them".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_certificate_is_no_authority() {
        let cut = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_vec();
        for pem in [Vec::new(), b"hello".to_vec(), cut, vec![0; MAX_PEM + 1]] {
            let refused = config(&[pem]).map(drop);
            assert!(matches!(refused, Err(RegistryError::CaCerts { .. })));
        }
        assert!(config(&[]).is_ok());
    }
}
