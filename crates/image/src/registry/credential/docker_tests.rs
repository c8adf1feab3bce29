//! What `docker login` leaves behind, in all its forms.

use std::os::unix::fs::PermissionsExt;

use super::super::Secret;
use super::*;

fn config(dir: &Path, text: &str) -> DockerConfig {
    std::fs::write(dir.join("config.json"), text).unwrap();
    DockerConfig::in_dir(dir)
}

fn password(credential: &Credential) -> (&str, &str) {
    match &credential.secret {
        Secret::Password { username, password } => (username, password),
        _ => panic!("{credential:?}"),
    }
}

#[tokio::test]
async fn entries_are_found_by_all_their_names() {
    let dir = tempfile::tempdir().unwrap();
    // ann:pass, with a colon in the password, and without padding.
    let config = config(
        dir.path(),
        r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "YW5uOnBhc3M="},
            "ghcr.io": {"auth": "Ym9iOmE6Yg"},
            "https://r.example:5000/v2/": {"username": "eve", "password": "p"},
            "empty.example": {}, "null.example": null
        }, "HttpHeaders": {"X": "y"}, "proxies": {"default": {}}}"#,
    );
    for (registry, wanted) in [
        ("docker.io", ("ann", "pass")),
        ("registry-1.docker.io", ("ann", "pass")),
        ("ghcr.io", ("bob", "a:b")),
        ("r.example:5000", ("eve", "p")),
    ] {
        let found = config.credential(registry).await.unwrap().unwrap();
        assert_eq!(password(&found), wanted);
        assert_eq!(*found.source(), CredentialSource::Docker);
        let text = format!("{found:?}");
        assert!(!text.contains(wanted.1) || wanted.1 == "p", "{text}");
    }
    for registry in [
        "r.example",
        "empty.example",
        "null.example",
        "evil-ghcr.io",
        "io",
    ] {
        assert_eq!(
            config.credential(registry).await.unwrap(),
            None,
            "{registry}"
        );
    }
}

#[tokio::test]
async fn what_is_no_configuration_is_said_without_its_text() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        DockerConfig::in_dir(dir.path())
            .credential("x")
            .await
            .unwrap(),
        None
    );
    for text in [
        r#"{"auths": {"x": {"auth": "hunter2 hunter2"}}}"#,
        r#"{"auths": {"x": {"auth": "aHVudGVyMg=="}}}"#,
        r#"{"auths": {"x": {"auth": ["hunter2"]}}}"#,
        r#"{"auths": hunter2"#,
        r#"{"credsStore": "../../bin/hunter2"}"#,
    ] {
        let error = config(dir.path(), text).credential("x").await.unwrap_err();
        assert!(matches!(error, DockerError::Malformed { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

/// Programs are looked for in `PATH`, which is the process's; so one test has them all.
#[tokio::test]
async fn programs_are_asked_and_not_waited_for_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let program = |name: &str, script: &str| {
        let path = dir.path().join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str()
            .unwrap()
            .rsplit_once("docker-credential-")
            .unwrap()
            .1
            .to_owned()
    };
    // An absolute name in the place of `PATH`, which only tests can give.
    let ask = async |name: &str, limit: Duration| {
        let path = dir.path().join(format!("docker-credential-{name}"));
        let run = run(path.to_str().unwrap(), "r.example");
        tokio::time::timeout(limit, run).await
    };
    let generous = Duration::from_secs(60);
    program(
        "good",
        r#"read -r server; printf '{"ServerURL":"%s","Username":"ann","Secret":"s"}' "$server""#,
    );
    let (good, answer) = ask("good", generous).await.unwrap().unwrap();
    assert!(good && String::from_utf8_lossy(&answer).contains("r.example"));
    program(
        "deaf",
        r#"exec <&-; printf '{"Username":"ann","Secret":"s"}'"#,
    );
    assert!(ask("deaf", generous).await.unwrap().unwrap().0);
    program(
        "none",
        r#"echo "credentials not found in native keychain"; exit 1"#,
    );
    assert!(!ask("none", generous).await.unwrap().unwrap().0);
    program("endless", "yes hunter2");
    let (_, answer) = tokio::time::timeout(generous, ask("endless", generous))
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(answer.len() as u64, MAX_ANSWER);
    program("silent", "sleep 1000");
    assert!(ask("silent", Duration::from_millis(300)).await.is_err());
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(
        dir.path(),
        r#"{"auths": {"ghcr.io": {}}, "credsStore": "no-such-program", "credHelpers": {"x.example": "nor-this"}}"#,
    );
    for (registry, name) in [("ghcr.io", "no-such-program"), ("x.example", "nor-this")] {
        let error = config.credential(registry).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, DockerError::Helper { .. }), "{error:?}");
        assert!(
            text.contains(name) && text.contains("not installed"),
            "{text}"
        );
    }
}
