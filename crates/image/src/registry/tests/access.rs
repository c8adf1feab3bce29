//! Who is let in, and what is shown to whom.

use msb_types::RegistryAuth;

use super::*;

const PASSWORD: &str = "hunter2-is-secret";

fn with(credential: Credential) -> RegistryOptions {
    RegistryOptions {
        credential,
        ..options()
    }
}

fn ann(password: &str) -> RegistryOptions {
    let auth = RegistryAuth::Basic {
        username: "ann".to_owned(),
        password: password.to_owned(),
    };
    with(Credential::new(CredentialSource::Given, auth))
}

async fn serving(access: Access) -> FakeRegistry {
    let registry = FakeRegistry::new().await;
    registry.image("1", "amd64", &[bytes(1000)], "{}");
    registry.allow(access);
    registry
}

#[tokio::test]
async fn a_password_is_shown_when_it_is_asked_for() {
    let registry = serving(Access::Password("ann", PASSWORD)).await;
    resolve(&registry, ":1", ann(PASSWORD)).await.unwrap();
    let asked = registry.asked("");
    assert_eq!(asked[0].authorization, None, "not before");
    assert_eq!(asked.len(), 3, "and not asked for twice");
}

#[tokio::test]
async fn a_token_is_bought_for_a_password_or_for_nothing() {
    let registry = serving(Access::Token(None)).await;
    resolve(&registry, ":1", options()).await.unwrap();
    let registry = serving(Access::Token(Some(("ann", PASSWORD)))).await;
    resolve(&registry, ":1", ann(PASSWORD)).await.unwrap();
    assert_eq!(registry.tokens(), 1, "one for all requests");
    let asked = &registry.asked("/token")[0];
    let query = &asked.path;
    assert!(
        query.contains("scope=repository%3Ateam%2Fapp%3Apull"),
        "{query}"
    );
    assert!(
        query.contains("service=fake") && !query.contains(PASSWORD),
        "{query}"
    );
    for asked in registry.asked("/v2/") {
        let shown = asked.authorization.unwrap_or_default();
        assert!(
            !shown.starts_with("Basic"),
            "the password is for the token's service"
        );
    }
}

#[tokio::test]
async fn what_stands_for_a_login_buys_a_token_too() {
    let dir = tempfile::tempdir().unwrap();
    let registry = serving(Access::Identity("stand-in")).await;
    let config = format!(
        r#"{{"auths":{{"{}":{{"identitytoken":"stand-in"}}}}}}"#,
        registry.host()
    );
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    let credential = DockerConfig::in_dir(dir.path())
        .credential(&registry.host())
        .await;
    let credential = credential.unwrap().unwrap();
    assert!(!format!("{credential:?}").contains("stand-in"));
    resolve(&registry, ":1", with(credential)).await.unwrap();
}

#[tokio::test]
async fn a_token_that_expires_is_bought_anew() {
    let registry = serving(Access::Token(None)).await;
    let repository = repository(&registry, options());
    let reference = reference(&registry, ":1");
    for _ in 0..2 {
        let limits = Limits::default();
        let platform = Platform::LINUX_AMD64;
        repository
            .resolve(&reference, &platform, &limits)
            .await
            .unwrap();
        registry.expire();
    }
    assert_eq!(registry.asked("/token").len(), 2);
}

#[tokio::test]
async fn who_is_not_let_in_is_told_what_was_shown_and_shows_nothing() {
    for access in [
        Access::Password("ann", "other"),
        Access::Token(Some(("ann", "other"))),
    ] {
        let registry = serving(access).await;
        for (options, source) in [
            (ann(PASSWORD), CredentialSource::Given),
            (options(), CredentialSource::Anonymous),
        ] {
            let error = resolve(&registry, ":1", options).await.unwrap_err();
            let RegistryError::Unauthorized { tried, status, .. } = &error else {
                panic!("{error:?}");
            };
            assert_eq!((tried, *status), (&source, 401));
            let text = format!("{error} {error:?}");
            assert!(!text.contains(PASSWORD), "{text}");
        }
    }
    assert!(!format!("{:?}", ann(PASSWORD)).contains(PASSWORD));
}

#[tokio::test]
async fn a_token_service_may_say_what_it_likes() {
    let registry = serving(Access::Token(None)).await;
    for answer in [
        "",
        "no",
        "{}",
        r#"{"token":1}"#,
        r#"{"token":"a\r\nHost: evil"}"#,
    ] {
        registry.token(answer);
        let error = resolve(&registry, ":1", options()).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::Malformed { .. }),
            "{answer}: {error:?}"
        );
        assert!(!error.to_string().contains("evil"));
    }
    registry.token("x".repeat(1 << 20));
    let error = resolve(&registry, ":1", options()).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error:?}");
    registry.token(r#"{"token":"never right"}"#);
    let error = resolve(&registry, ":1", options()).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Unauthorized { .. }),
        "{error:?}"
    );
    for realm in ["nowhere", "ftp://example.com/", "javascript:0", ""] {
        registry.realm(realm);
        let error = resolve(&registry, ":1", options()).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::Malformed { .. }),
            "{realm}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_token_service_that_fails_is_asked_again() {
    let registry = serving(Access::Token(None)).await;
    registry.fail(
        "/token",
        [
            Fault::Status(503, Vec::new()),
            Fault::Status(429, Vec::new()),
        ],
    );
    resolve(&registry, ":1", options()).await.unwrap();
    assert_eq!(registry.asked("/token").len(), 3);
}

#[tokio::test]
async fn credentials_do_not_go_along_to_another_host() {
    let storage = FakeRegistry::new().await;
    let digest = storage.blob(bytes(5000));
    let there = format!(
        "http://{}/elsewhere/blobs/{digest}?signature=s3cret",
        storage.host()
    );
    for access in [
        Access::Password("ann", PASSWORD),
        Access::Token(Some(("ann", PASSWORD))),
    ] {
        let registry = serving(access).await;
        // So that there is something to go along.
        let repository = repository(&registry, ann(PASSWORD));
        let (limits, platform) = (Limits::default(), Platform::LINUX_AMD64);
        let named = reference(&registry, ":1");
        repository
            .resolve(&named, &platform, &limits)
            .await
            .unwrap();
        let before = registry.asked("blobs").len();
        registry.fail("blobs", [Fault::Redirect(there.clone())]);
        Host::new().blob(&repository, digest, 5000).await.unwrap();
        assert!(registry.asked("blobs")[before].authorization.is_some());
    }
    assert_eq!(storage.asked("elsewhere").len(), 2);
    for asked in storage.asked("") {
        assert_eq!(asked.authorization, None);
    }
}

#[tokio::test]
async fn addresses_that_lead_in_a_circle_are_left() {
    let registry = serving(Access::All).await;
    registry.fail(
        "blobs",
        std::iter::repeat_n(Fault::Redirect("/v2/team/app/blobs/x".to_owned()), 50),
    );
    let error = resolve(&registry, ":1", options()).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Redirects { .. }),
        "{error:?}"
    );
    assert!(registry.asked("blobs").len() < 10);
}
