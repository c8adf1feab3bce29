//! A certificate for this machine, from an authority of our own.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

pub(super) const AUTHORITY: &str = "authority.pem";
pub(super) const CERTIFICATE: &str = "certificate.pem";
pub(super) const KEY: &str = "key.pem";

/// Writes an authority's certificate, and one of 127.0.0.1 with its key.
pub(super) fn write(dir: &Path) -> Result<()> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    fs::write(dir.join(AUTHORITY), authority.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(authority, key);

    let own = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let certificate = certificate.signed_by(&own, &issuer)?;
    fs::write(dir.join(CERTIFICATE), certificate.pem())?;
    Ok(fs::write(dir.join(KEY), own.serialize_pem())?)
}
