//! What a name stands for, and what becomes of answers that are none.

use super::*;
use crate::limits::MAX_DOCUMENT;
use crate::manifest::media;

const LINUX: &str = r#"{"architecture":"amd64","os":"linux"}"#;
const ARM: &str = r#"{"architecture":"arm64","os":"linux","variant":"v8"}"#;

fn entry(digest: Digest, media_type: &str, platform: Option<&str>) -> String {
    let platform = platform.map_or(String::new(), |platform| {
        format!(r#","platform":{platform}"#)
    });
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1{platform}}}"#)
}

fn index(registry: &FakeRegistry, tag: Option<&str>, entries: &[String]) -> Digest {
    let kind = media::OCI_INDEX;
    let entries = entries.join(",");
    let text = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{entries}]}}"#);
    registry.document(tag, kind, &text)
}

#[tokio::test]
async fn a_tag_and_a_digest_lead_to_the_image() {
    let registry = FakeRegistry::new().await;
    let image = registry.image("1.0", "amd64", &[bytes(100), bytes(5)], "{}");
    let pinned = format!("@{}", image.manifest);
    for rest in [":1.0", &pinned] {
        let resolved = resolve(&registry, rest, options()).await.unwrap();
        assert_eq!(resolved.manifest.digest, image.manifest);
        assert_eq!(resolved.config.digest, image.config);
        let found: Vec<_> = resolved
            .layers
            .iter()
            .map(|layer| (layer.digest, layer.size))
            .collect();
        assert_eq!(found, [(image.layers[0], 100), (image.layers[1], 5)]);
        assert_eq!(resolved.layers[1].diff_id, image.diff_ids[1]);
    }
}

#[tokio::test]
async fn an_index_of_indexes_leads_to_the_platform() {
    let registry = FakeRegistry::new().await;
    let arm = registry.image("arm", "arm64", &[bytes(1)], "{}");
    let ours = registry.image("amd", "amd64", &[bytes(2)], "{}");
    let inner = index(
        &registry,
        None,
        &[
            entry(arm.manifest, media::OCI_MANIFEST, Some(ARM)),
            entry(ours.manifest, media::OCI_MANIFEST, Some(LINUX)),
        ],
    );
    let outer = index(
        &registry,
        Some("latest"),
        &[entry(inner, media::OCI_INDEX, None)],
    );
    for rest in [
        String::new(),
        format!("@{outer}"),
        format!(":other@{outer}"),
    ] {
        let resolved = resolve(&registry, &rest, options()).await.unwrap();
        assert_eq!(resolved.manifest.digest, ours.manifest, "{rest}");
    }
}

#[tokio::test]
async fn an_image_for_others_says_for_whom() {
    let registry = FakeRegistry::new().await;
    let arm = registry.image("arm", "arm64", &[bytes(1)], "{}");
    index(
        &registry,
        Some("both"),
        &[
            entry(arm.manifest, media::OCI_MANIFEST, Some(ARM)),
            entry(
                arm.manifest,
                media::OCI_MANIFEST,
                Some(r#"{"architecture":"amd64","os":"windows"}"#),
            ),
        ],
    );
    // Nothing is said of it until its configuration is read.
    index(
        &registry,
        Some("silent"),
        &[entry(arm.manifest, media::OCI_MANIFEST, None)],
    );
    for (rest, named) in [
        (":both", "windows/amd64"),
        (":silent", "arm64"),
        (":arm", "arm64"),
    ] {
        let error = resolve(&registry, rest, options()).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::NoPlatform { .. }),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(
            text.contains(named) && text.contains("linux/amd64"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn indexes_without_end_are_left() {
    let registry = FakeRegistry::new().await;
    let mut last = index(&registry, None, &[]);
    for _ in 0..40 {
        last = index(
            &registry,
            Some("deep"),
            &[entry(last, media::OCI_INDEX, None)],
        );
    }
    let error = resolve(&registry, ":deep", options()).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::NoPlatform { .. }),
        "{error:?}"
    );
    assert!(registry.asked("manifests").len() < 20);
}

#[tokio::test]
async fn what_is_not_what_it_is_called_is_refused() {
    let registry = FakeRegistry::new().await;
    let image = registry.image("1", "amd64", &[bytes(10)], "{}");
    for path in ["manifests", "blobs"] {
        registry.fail(path, [Fault::Other(200)]);
        let pinned = format!("@{}", image.manifest);
        let error = resolve(&registry, &pinned, options()).await.unwrap_err();
        let digest = if path == "blobs" {
            image.config
        } else {
            image.manifest
        };
        let found = Digest::of(&[b'?'; 200]);
        assert!(
            matches!(error, RegistryError::Digest { expected, found: came, .. }
                if expected == digest && came == found),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_said_to() {
    let registry = FakeRegistry::new().await;
    registry.document(
        Some("page"),
        "text/html",
        "<html>Log in to our network</html>",
    );
    registry.document(
        Some("old"),
        "application/json",
        r#"{"schemaVersion":1,"fsLayers":[]}"#,
    );
    for rest in [":page", ":old"] {
        let error = resolve(&registry, rest, options()).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::Malformed { .. }),
            "{error:?}"
        );
    }
    assert_eq!(registry.asked("manifests").len(), 2);
}

#[tokio::test]
async fn a_document_without_end_is_not_read() {
    let registry = FakeRegistry::new().await;
    let large = usize::try_from(MAX_DOCUMENT).unwrap() + 1;
    registry.image("1", "amd64", &[], "{}");
    registry.fail("manifests", [Fault::Other(large)]);
    let error = resolve(&registry, ":1", options()).await.unwrap_err();
    let wanted = matches!(
        error,
        RegistryError::TooLarge {
            limit: MAX_DOCUMENT,
            ..
        }
    );
    assert!(wanted, "{error:?}");
    // A layer that is said to be more than any may be.
    let kind = media::OCI_MANIFEST;
    let config = registry.blob("{}");
    registry.document(Some("huge"), kind, &format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[{{"mediaType":"{}","digest":"{config}","size":{}}}]}}"#,
        media::OCI_CONFIG, media::OCI_LAYER, u64::MAX
    ));
    let error = resolve(&registry, ":huge", options()).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_not_there_is_asked_for_once() {
    let registry = FakeRegistry::new().await;
    let error = resolve(&registry, ":none", options()).await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::NotFound { what, .. } if what.contains("none")),
        "{error:?}"
    );
    for (status, retried) in [(400, false), (418, false), (403, false)] {
        registry.fail("manifests", [Fault::Status(status, Vec::new())]);
        let error = resolve(&registry, ":none", options()).await.unwrap_err();
        match status {
            403 => assert!(matches!(
                error,
                RegistryError::Unauthorized { status: 403, .. }
            )),
            _ => assert!(matches!(error, RegistryError::Refused { .. }), "{error:?}"),
        }
        assert!(!retried);
    }
    assert_eq!(registry.asked("manifests").len(), 4);
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let registry = FakeRegistry::new().await;
    let image = registry.image("1", "amd64", &[], "{}");
    let now = || vec![("retry-after", "0".to_owned())];
    registry.fail(
        "manifests",
        [
            Fault::Status(500, Vec::new()),
            Fault::Status(503, now()),
            Fault::Status(429, now()),
        ],
    );
    registry.fail(
        "blobs",
        [Fault::Cut(3), Fault::Status(408, Vec::new()), Fault::Cut(0)],
    );
    let resolved = resolve(&registry, ":1", options()).await.unwrap();
    assert_eq!(resolved.manifest.digest, image.manifest);
    assert_eq!(registry.asked("manifests").len(), 4);
    assert_eq!(registry.asked("blobs").len(), 4);
}

#[tokio::test]
async fn what_does_not_pass_is_tried_so_many_times() {
    let registry = FakeRegistry::new().await;
    let always = |fault: Fault| std::iter::repeat_n(fault, 50);
    registry.fail("manifests", always(Fault::Status(502, Vec::new())));
    let error = resolve(&registry, ":1", options()).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Server { status: 502, .. }),
        "{error:?}"
    );
    assert_eq!(registry.asked("manifests").len(), 4);

    registry.behave();
    registry.image("1", "amd64", &[], "{}");
    registry.fail("manifests", always(Fault::Stall(1)));
    let patience = RegistryOptions {
        timing: impatient(),
        ..options()
    };
    let error = resolve(&registry, ":1", patience).await.unwrap_err();
    assert!(matches!(error, RegistryError::Stalled { .. }), "{error:?}");
    assert_eq!(registry.asked("manifests").len(), 8);
}

#[tokio::test]
async fn who_is_to_come_tomorrow_does_not_wait() {
    let registry = FakeRegistry::new().await;
    let tomorrow = vec![("retry-after", "86400".to_owned())];
    registry.fail("manifests", [Fault::Status(429, tomorrow)]);
    let error = resolve(&registry, ":1", options()).await.unwrap_err();
    let RegistryError::RateLimited { retry_after, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*retry_after, Some(Duration::from_secs(86400)));
    assert!(error.to_string().contains("86400"), "{error}");
    assert_eq!(registry.asked("manifests").len(), 1);
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_said_to_be_not() {
    let registry = FakeRegistry::new().await;
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let reference: Reference = format!("{}/x", nobody.local_addr().unwrap())
        .parse()
        .unwrap();
    drop(nobody);
    let repository = Repository::new(&reference, options()).unwrap();
    let limits = Limits::default();
    let resolved = repository
        .resolve(&reference, &Platform::LINUX_AMD64, &limits)
        .await;
    let error = resolved.unwrap_err();
    assert!(
        matches!(error, RegistryError::Unreachable { .. }),
        "{error:?}"
    );
    drop(registry);
}
