//! Creating from images of a registry, as far as that goes without a machine: the parts that boot one are not
//! installed in these homes, so a creation that comes to them has its image.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use microsandbox::sandbox::{PullPolicy, PullProgress};
use microsandbox::{
    Backend, ImageError, LocalBackend, MicrosandboxError, PullError, RegistryError, Sandbox,
    SandboxBuilder,
};
use msb_image::registry::testing::{FakeRegistry, Fault};
use msb_runtime::registry::Registry;
use msb_runtime::rundir::RunDir;
use msb_runtime::sandbox_dir::RunFile;

/// Runs with a home of its own, and a registry.
async fn at_home<T>(test: impl AsyncFnOnce(&Path, &FakeRegistry) -> T) -> T {
    let home = tempfile::tempdir().unwrap();
    let registry = FakeRegistry::new().await;
    let builder = LocalBackend::builder().home(home.path());
    let local = builder
        .ca_certs(None)
        .registry_hosts(Default::default())
        .lazy();
    let backend: Arc<dyn Backend> = Arc::new(local);
    microsandbox::with_backend(backend, test(home.path(), &registry)).await
}

fn builder(registry: &FakeRegistry) -> SandboxBuilder {
    Sandbox::builder("web")
        .image(format!("{}/app:1", registry.host()))
        .registry(|registry| registry.insecure())
}

/// The sandbox `web`, stopped.
async fn stopped(home: &Path) {
    let registry = Registry::open(home).unwrap();
    let lock = RunDir::of(home, "web").lock().unwrap();
    let owned = registry.own(lock, "web".to_owned());
    let run = RunFile {
        id: 1,
        pid: std::process::id(),
        started_at: Utc::now(),
        ended: None,
        isolation: Default::default(),
    };
    let config = Sandbox::builder("web")
        .image("/nowhere/disk.ext4")
        .build()
        .await
        .unwrap();
    owned.create(&config, &run).unwrap();
}

fn without_parts<T>(created: Result<T, MicrosandboxError>) -> bool {
    matches!(created, Err(MicrosandboxError::ComponentNotFound { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_pulls_its_image_and_tells_of_it() {
    at_home(async |_, registry| {
        registry.image("1", "amd64", &[vec![0; 1024]], "{}");
        let (mut progress, task) = builder(registry).create_with_pull_progress().unwrap();
        let mut events = Vec::new();
        while let Some(event) = progress.recv().await {
            events.push(event);
        }
        assert!(without_parts(task.await.unwrap()));
        let reference: Arc<str> = format!("{}/app:1", registry.host()).into();
        assert_eq!(
            events.first(),
            Some(&PullProgress::Resolving {
                reference: Arc::clone(&reference)
            })
        );
        let complete = PullProgress::Complete {
            reference,
            layer_count: 1,
        };
        assert_eq!(events.last(), Some(&complete));
        let downloaded = |event: &PullProgress| {
            matches!(
                event,
                PullProgress::LayerDownloadComplete {
                    downloaded_bytes: 1024,
                    ..
                }
            )
        };
        assert!(events.iter().any(downloaded), "{events:?}");

        let asked = registry.asked("").len();
        assert!(without_parts(builder(registry).create().await));
        assert!(without_parts(builder(registry).create_detached().await));
        assert_eq!(registry.asked("").len(), asked, "it is here");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_pulls_nothing() {
    at_home(async |home, registry| {
        registry.image("1", "amd64", &[], "{}");
        stopped(home).await;
        let created = builder(registry).create().await.map(|_| ());
        assert!(
            matches!(created, Err(MicrosandboxError::SandboxAlreadyExists(name)) if name == "web")
        );
        assert!(registry.asked("").is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_stays_until_the_image_is_here() {
    at_home(async |home, registry| {
        stopped(home).await;
        let created = builder(registry).replace().create().await.map(|_| ());
        let Err(MicrosandboxError::Image(ImageError::Pull { source, .. })) = created else {
            panic!("{created:?}");
        };
        assert!(matches!(
            *source,
            PullError::Registry(RegistryError::NotFound { .. })
        ));
        Sandbox::get("web").await.unwrap();
        registry.image("1", "amd64", &[], "{}");
        assert!(without_parts(builder(registry).replace().create().await));
        let gone = Sandbox::get("web").await.map(|_| ());
        assert!(matches!(gone, Err(MicrosandboxError::SandboxNotFound(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_may_not_be_pulled_must_be_here() {
    at_home(async |_, registry| {
        let created = builder(registry)
            .pull_policy(PullPolicy::Never)
            .create()
            .await
            .map(|_| ());
        assert!(matches!(created, Err(MicrosandboxError::ImageNotFound(_))));
        assert!(registry.asked("").is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_is_ended_ends_its_pull() {
    at_home(async |_, registry| {
        let image = registry.image("1", "amd64", &[vec![0; 2 << 20]], "{}");
        let layer = format!("blobs/{}", image.layers.first().unwrap());
        registry.fail(layer.clone(), [Fault::Stall(1 << 20)]);
        let (mut progress, task) = builder(registry).create_with_pull_progress().unwrap();
        let here = async {
            while let Some(event) = progress.recv().await {
                if matches!(event, PullProgress::LayerDownloadProgress { downloaded_bytes, .. }
                    if downloaded_bytes == 1 << 20)
                {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), here)
            .await
            .unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(progress.recv().await, None);
        // The next goes on from there.
        assert!(without_parts(builder(registry).create().await));
        let ranges: Vec<_> = registry
            .asked(&layer)
            .into_iter()
            .map(|asked| asked.range)
            .collect();
        assert_eq!(ranges, [None, Some(format!("bytes={}-", 1 << 20))]);
    })
    .await;
}
