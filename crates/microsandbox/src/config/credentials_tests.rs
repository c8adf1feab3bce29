//! The order of the places, and what is said of those that fail.

use std::collections::HashMap;

use super::*;
use crate::config::RegistryEntry;

fn basic(username: &str, password: &str) -> RegistryAuth {
    RegistryAuth::Basic {
        username: username.to_owned(),
        password: password.to_owned(),
    }
}

fn sources(home: &Path) -> Sources {
    Sources {
        home: home.to_path_buf(),
        docker: Some(DockerConfig::in_dir(home)),
        variable: |name| (name == "TOKEN").then(|| "from-env".into()),
        keyring: |hostname| {
            let kept = (hostname == "kept.example").then(|| basic("ann", "from-keyring"));
            Box::pin(async move { Ok(kept) })
        },
    }
}

fn registries(hostname: &str, entry: RegistryAuthEntry) -> RegistriesConfig {
    let entry = RegistryEntry {
        auth: Some(entry),
        ..RegistryEntry::default()
    };
    RegistriesConfig {
        hosts: HashMap::from([(hostname.to_owned(), entry)]),
        ..RegistriesConfig::default()
    }
}

fn entry() -> RegistryAuthEntry {
    RegistryAuthEntry {
        username: "bob".to_owned(),
        ..RegistryAuthEntry::default()
    }
}

#[tokio::test]
async fn the_keyring_comes_first_then_the_configuration_then_docker() {
    let home = tempfile::tempdir().unwrap();
    let docker = r#"{"auths": {"kept.example": {"auth": "ZTpk"}, "set.example": {"auth": "ZTpk"},
        "docker.example": {"username": "eve", "password": "from-docker"}}}"#;
    std::fs::write(home.path().join("config.json"), docker).unwrap();
    let secrets = home.path().join("secrets/registries");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("ours"), "from-secret\n").unwrap();
    let sources = sources(home.path());
    let by_env = RegistryAuthEntry {
        password_env: Some("TOKEN".to_owned()),
        ..entry()
    };
    let by_secret = RegistryAuthEntry {
        secret_name: Some("ours".to_owned()),
        ..entry()
    };
    let source = |source, username, password| Credential::new(source, basic(username, password));
    for (hostname, registries, wanted) in [
        (
            "kept.example",
            registries("kept.example", by_env.clone()),
            source(CredentialSource::Keyring, "ann", "from-keyring"),
        ),
        (
            "set.example",
            registries("set.example", by_env.clone()),
            source(CredentialSource::Config, "bob", "from-env"),
        ),
        (
            "set.example",
            registries("set.example", by_secret),
            source(CredentialSource::Config, "bob", "from-secret"),
        ),
        (
            "docker.example",
            registries("set.example", by_env),
            source(CredentialSource::Docker, "eve", "from-docker"),
        ),
        (
            "other.example",
            RegistriesConfig::default(),
            Credential::anonymous(),
        ),
    ] {
        let found = sources.credential(hostname, &registries).await.unwrap();
        assert_eq!(found, wanted, "{hostname}");
    }
}

#[tokio::test]
async fn an_entry_names_one_place_and_the_place_has_it() {
    let home = tempfile::tempdir().unwrap();
    let some = |text: &str| Some(text.to_owned());
    let wrong = [
        (entry(), "has no password"),
        (
            RegistryAuthEntry {
                store: Some(RegistryCredentialStore::Keyring),
                password_env: some("TOKEN"),
                ..entry()
            },
            "several places",
        ),
        (
            RegistryAuthEntry {
                store: Some(RegistryCredentialStore::Keyring),
                ..entry()
            },
            "has nothing for set.example",
        ),
        (
            RegistryAuthEntry {
                password_env: some("UNSET"),
                ..entry()
            },
            "not set",
        ),
        (
            RegistryAuthEntry {
                secret_name: some("none"),
                ..entry()
            },
            "is not there",
        ),
        (
            RegistryAuthEntry {
                secret_name: some("../../config.json"),
                ..entry()
            },
            "no file's name",
        ),
        (
            RegistryAuthEntry {
                secret_name: some("/etc/passwd"),
                ..entry()
            },
            "no file's name",
        ),
    ];
    for (entry, said) in wrong {
        let registries = registries("set.example", entry);
        let found = sources(home.path())
            .credential("set.example", &registries)
            .await;
        let error = found.unwrap_err();
        assert!(
            matches!(error, MicrosandboxError::InvalidConfig(_)),
            "{error:?}"
        );
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_asked_is_passed_over_unless_it_was_named() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(
        home.path().join("config.json"),
        r#"{"credsStore": "no-such-program"}"#,
    )
    .unwrap();
    let mut sources = sources(home.path());
    sources.keyring = |_| Box::pin(async { Err("there is no keyring".to_owned()) });
    let none = RegistriesConfig::default();
    let found = sources.credential("kept.example", &none).await.unwrap();
    assert_eq!(found, Credential::anonymous());
    let named = RegistryAuthEntry {
        store: Some(RegistryCredentialStore::Keyring),
        ..entry()
    };
    let found = sources
        .credential("set.example", &registries("set.example", named))
        .await;
    assert!(
        found
            .unwrap_err()
            .to_string()
            .contains("there is no keyring")
    );
}
