//! TLS: who is trusted, and that nothing leads out of it.

use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;

/// Connections with TLS.
struct Secure {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                continue;
            };
            // Who does not like the certificate hangs up.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A registry with TLS, its authority's certificate, and where it is.
struct SecureRegistry {
    registry: FakeRegistry,
    authority: Vec<u8>,
    host: String,
}

impl SecureRegistry {
    async fn new() -> Self {
        let registry = FakeRegistry::new().await;
        registry.image("1", "amd64", &[bytes(1000)], "{}");
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem().into_bytes();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider);
        let config = config
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = config
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let router = registry.router();
        tokio::spawn(async move {
            let _ = axum::serve(Secure { listener, acceptor }, router).await;
        });
        Self {
            registry,
            authority,
            host,
        }
    }

    async fn resolve(&self, options: RegistryOptions) -> Result<Resolved, RegistryError> {
        let reference: Reference = format!("{}/team/app:1", self.host).parse().unwrap();
        let repository = Repository::new(&reference, options)?;
        let (platform, limits) = (Platform::LINUX_AMD64, Limits::default());
        repository.resolve(&reference, &platform, &limits).await
    }

    fn trusted(&self) -> RegistryOptions {
        RegistryOptions {
            insecure: false,
            ca_certs: vec![self.authority.clone()],
            ..options()
        }
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_when_it_is_given() {
    let secure = SecureRegistry::new().await;
    secure.resolve(secure.trusted()).await.unwrap();
    let other = SecureRegistry::new().await.authority;
    for ca_certs in [Vec::new(), vec![other]] {
        let options = RegistryOptions {
            ca_certs,
            ..secure.trusted()
        };
        let error = secure.resolve(options).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::Certificate { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("ca_certs"), "{error}");
    }
}

#[tokio::test]
async fn a_registry_without_tls_is_for_who_asks_for_it() {
    let registry = FakeRegistry::new().await;
    registry.image("1", "amd64", &[], "{}");
    let strict = RegistryOptions {
        insecure: false,
        ..options()
    };
    let error = resolve(&registry, ":1", strict).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotHttps { .. }), "{error:?}");
    assert!(error.to_string().contains("insecure()"), "{error}");
    assert!(registry.asked("").is_empty());
}

#[tokio::test]
async fn nothing_leads_from_https_to_http() {
    let secure = SecureRegistry::new().await;
    let plain = FakeRegistry::new().await;
    let to = format!("http://{}/v2/x?signature=s3cret", plain.host());
    for path in ["manifests", "blobs"] {
        secure.registry.fail(path, [Fault::Redirect(to.clone())]);
        let error = secure.resolve(secure.trusted()).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::Downgrade { .. }),
            "{error:?}"
        );
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    secure.registry.allow(Access::Token(None));
    secure
        .registry
        .realm(format!("http://{}/token", plain.host()));
    let error = secure.resolve(secure.trusted()).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Downgrade { .. }),
        "{error:?}"
    );
    assert!(plain.asked("").is_empty());
    // The other way is fine.
    let realm = format!("https://{}/token", secure.host);
    secure.registry.realm(realm);
    secure.resolve(secure.trusted()).await.unwrap();
}
