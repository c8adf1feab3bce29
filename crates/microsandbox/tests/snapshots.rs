//! Snapshots through the public API, of sandboxes that are forged on disk: no machine runs.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use microsandbox::sandbox::{PullPolicy, RootfsSource, SandboxStatus};
use microsandbox::{
    Backend, EndReason, ExportOpts, LocalBackend, MicrosandboxError, Sandbox, SandboxBuilder,
    SandboxConfig, Snapshot, SnapshotDestination, SnapshotFormat, UpperVerifyStatus,
};
use msb_runtime::end::{EndRecord, EndSource};
use msb_runtime::registry::{Owned, Registry};
use msb_runtime::rundir::RunDir;
use msb_runtime::sandbox_dir::RunFile;

/// A home, and a backend that uses it.
struct Home {
    dir: tempfile::TempDir,
    backend: Arc<dyn Backend>,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let local = LocalBackend::builder().home(dir.path()).lazy();
        Self {
            backend: Arc::new(local),
            dir,
        }
    }

    async fn with<T>(&self, test: impl AsyncFnOnce(&Self) -> T) -> T {
        microsandbox::with_backend(Arc::clone(&self.backend), test(self)).await
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn snapshots(&self) -> std::path::PathBuf {
        self.backend.as_local().unwrap().snapshots_dir().unwrap()
    }

    /// A sandbox that runs, as far as anybody can tell.
    fn running(&self, config: &SandboxConfig) -> (Owned, RunFile) {
        let registry = Registry::open(self.path()).unwrap();
        let lock = RunDir::of(self.path(), &config.name).lock().unwrap();
        let owned = registry.own(lock, config.name.clone());
        let run = RunFile {
            id: 1,
            pid: std::process::id(),
            started_at: Utc::now(),
            ended: None,
            isolation: Default::default(),
        };
        owned.create(config, &run).unwrap();
        owned.note(&run, SandboxStatus::Running).unwrap();
        let disk = File::create(owned.dir().path().join("upper.ext4")).unwrap();
        disk.set_len(64 << 20).unwrap();
        disk.write_all_at(&[0x53, 0xef, 1, 0], 1024 + 0x38).unwrap();
        disk.write_all_at(config.name.as_bytes(), 32 << 20).unwrap();
        (owned, run)
    }

    /// One that was stopped in order.
    fn stopped(&self, name: &str) {
        self.end(self.running(&config(name)));
    }

    fn end(&self, (owned, mut run): (Owned, RunFile)) {
        let end = EndRecord {
            reason: EndReason::Stopped,
            exit_code: None,
            signal: None,
            observed_at: Utc::now(),
            source: EndSource::Supervisor,
        };
        owned.end(&mut run, &end).unwrap();
        owned.lock.remove().unwrap();
    }
}

fn image() -> String {
    format!("sha256:{}", "ab".repeat(32))
}

fn config(name: &str) -> SandboxConfig {
    SandboxConfig {
        name: name.to_owned(),
        image: RootfsSource::Oci {
            reference: "docker.io/library/python:3.12".to_owned(),
            upper_size_mib: Some(64),
        },
        manifest_digest: Some(image()),
        ..SandboxConfig::default()
    }
}

fn scribble(path: &Path, at: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"scribbled", at).unwrap();
}

macro_rules! refused {
    ($result:expr, $expected:pat) => {
        let result = $result;
        assert!(matches!(&result, Err($expected)), "{result:?}");
    };
}

use MicrosandboxError as E;

#[tokio::test]
async fn what_is_made_says_what_it_is() {
    let home = Home::new();
    home.with(async |home| {
        home.stopped("web");
        let made = Snapshot::builder("web")
            .name("base")
            .label("stage", "draft")
            .label("stage", "ready")
            .record_integrity()
            .create()
            .await
            .unwrap();
        assert_eq!(made.path(), home.snapshots().join("base"));
        assert_eq!(made.size_bytes(), 64 << 20);
        let manifest = made.manifest();
        assert_eq!(manifest.image.manifest_digest, image());
        assert_eq!(manifest.labels["stage"], "ready");
        assert_eq!(manifest.source_sandbox.as_deref(), Some("web"));
        let report = made.verify().await.unwrap();
        assert_eq!(
            (&*report.digest, &*report.path),
            (made.digest(), made.path())
        );
        let UpperVerifyStatus::Verified { algorithm, digest } = report.upper else {
            panic!("it was recorded");
        };
        let recorded = manifest.upper.integrity.as_ref().unwrap();
        assert_eq!(
            (&algorithm, &digest),
            (&recorded.algorithm, &recorded.digest)
        );

        for which in ["base", made.digest(), made.path().to_str().unwrap()] {
            assert_eq!(Snapshot::open(which).await.unwrap(), made);
            let handle = Snapshot::get(which).await.unwrap();
            assert_eq!(handle.name(), Some("base"));
            assert_eq!(handle.digest(), made.digest());
            assert_eq!(handle.parent_digest(), None);
            assert_eq!(handle.image_ref(), "docker.io/library/python:3.12");
            assert_eq!(handle.format(), SnapshotFormat::Raw);
            assert_eq!(handle.size_bytes(), Some(64 << 20));
            assert!(handle.created_at() <= Utc::now().naive_utc());
            assert_eq!(handle.path(), made.path());
            assert_eq!(handle.open().await.unwrap(), made);
        }
        let listed = Snapshot::list_dir(home.snapshots()).await.unwrap();
        assert_eq!(listed, [made]);
    })
    .await;
}

#[tokio::test]
async fn a_handle_on_a_sandbox_makes_them_too() {
    let home = Home::new();
    home.with(async |home| {
        let running = home.running(&config("web"));
        let handle = Sandbox::get("web").await.unwrap();
        refused!(handle.snapshot("base").await, E::SnapshotSandboxRunning(_));
        let elsewhere = home.path().join("elsewhere/base");
        refused!(
            handle.snapshot_to(&elsewhere).await,
            E::SnapshotSandboxRunning(_)
        );
        home.end(running);
        // The handle remembers one that runs, and looks again.
        handle.snapshot("base").await.unwrap();
        refused!(handle.snapshot("base").await, E::SnapshotAlreadyExists(_));
        refused!(handle.snapshot("../base").await, E::InvalidConfig(_));
        let made = handle.snapshot_to(&elsewhere).await.unwrap();
        assert_eq!(made.path(), elsewhere);
        let found = Snapshot::get(made.digest()).await.unwrap();
        assert_eq!((found.name(), found.path()), (None, &*elsewhere));
        assert_eq!(Snapshot::list().await.unwrap().len(), 2);
        handle.remove().await.unwrap();
        refused!(handle.snapshot("other").await, E::SandboxNotFound(_));
        made.verify().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn one_that_was_lost_can_be_taken() {
    let home = Home::new();
    home.with(async |home| {
        drop(home.running(&config("web")));
        Snapshot::builder("web")
            .name("base")
            .create()
            .await
            .unwrap();
        let handle = Sandbox::get("web").await.unwrap();
        assert_eq!(handle.status_snapshot(), SandboxStatus::Crashed);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_taken_says_why() {
    let home = Home::new();
    home.with(async |home| {
        let builder = || Snapshot::builder("web");
        refused!(builder().build(), E::InvalidConfig(_));
        refused!(builder().name("base").create().await, E::SandboxNotFound(_));
        let odd = Snapshot::builder("../web").name("base");
        refused!(odd.create().await, E::InvalidConfig(_));
        let disk = SandboxConfig {
            image: RootfsSource::Bind("/root".into()),
            manifest_digest: None,
            ..config("disk")
        };
        home.end(home.running(&disk));
        refused!(
            Snapshot::builder("disk").name("base").create().await,
            E::InvalidConfig(_)
        );
        home.stopped("web");
        let labelled = builder().name("base").label("a b", "");
        refused!(labelled.create().await, E::InvalidConfig(_));
        let project = home.path().join("project");
        fs::create_dir(&project).unwrap();
        fs::write(project.join("thesis.txt"), "years of work").unwrap();
        refused!(
            builder().path(&project).create().await,
            E::SnapshotAlreadyExists(_)
        );
        refused!(
            builder().path(&project).force().create().await,
            E::InvalidConfig(_)
        );
        assert_eq!(fs::read_dir(&project).unwrap().count(), 1);
        assert!(Snapshot::list().await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn who_runs_it_no_more_and_has_it_still_is_waited_for() {
    let home = Home::new();
    home.with(async |home| {
        let (owned, run) = home.running(&config("web"));
        owned.note(&run, SandboxStatus::Stopped).unwrap();
        let taking = tokio::spawn(microsandbox::with_backend(
            Arc::clone(&home.backend),
            Snapshot::builder("web").name("base").create(),
        ));
        // It cannot be there while somebody else has the sandbox.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!taking.is_finished());
        owned.lock.remove().unwrap();
        taking.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_or_not_right_is_told_apart() {
    let home = Home::new();
    home.with(async |home| {
        for which in ["base", "../base", "sha256:1", "/etc", ""] {
            refused!(Snapshot::open(which).await, E::SnapshotNotFound(_));
            refused!(Snapshot::get(which).await, E::SnapshotNotFound(_));
        }
        refused!(Snapshot::remove("base", true).await, E::SnapshotNotFound(_));
        home.stopped("web");
        let recorded = Snapshot::builder("web").name("base").record_integrity();
        let base = recorded.create().await.unwrap();
        scribble(&base.path().join("upper.ext4"), 1 << 20);
        Snapshot::open("base").await.unwrap();
        refused!(base.verify().await, E::SnapshotIntegrity(_));
        let out = home.path().join("archive");
        let exported = Snapshot::export("base", &out, ExportOpts::default()).await;
        refused!(exported, E::SnapshotIntegrity(_));
        assert!(!out.exists());
        let other = Snapshot::builder("web")
            .name("other")
            .create()
            .await
            .unwrap();
        let report = other.verify().await.unwrap();
        assert_eq!(report.upper, UpperVerifyStatus::NotRecorded);
        fs::remove_file(base.path().join("upper.ext4")).unwrap();
        refused!(Snapshot::open("base").await, E::SnapshotIntegrity(_));
        // It can be removed all the same.
        Snapshot::remove("base", false).await.unwrap();
        refused!(base.verify().await, E::SnapshotNotFound(_));
        // A newer release may know more.
        let manifest = other.path().join("manifest.json");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::set_permissions(&manifest, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&manifest, text.replace("\"schema\":1", "\"schema\":2")).unwrap();
        refused!(Snapshot::open("other").await, E::Unsupported { .. });
    })
    .await;
}

#[tokio::test]
async fn what_begins_from_one_is_pinned_to_its_image() {
    let home = Home::new();
    home.with(async |home| {
        home.stopped("web");
        let base = Snapshot::builder("web")
            .name("base")
            .create()
            .await
            .unwrap();
        let begun = || SandboxBuilder::new("child").from_snapshot("base");
        let built = begun().build().await.unwrap();
        assert_eq!(
            built.image,
            RootfsSource::Oci {
                reference: "docker.io/library/python:3.12".to_owned(),
                upper_size_mib: Some(64),
            }
        );
        assert_eq!(built.manifest_digest, Some(image()));
        let upper = base.path().join("upper.ext4");
        assert_eq!(built.snapshot_upper_source, Some(upper.clone()));
        for which in [base.digest(), base.path().to_str().unwrap()] {
            let again = SandboxBuilder::new("child").from_snapshot(which);
            assert_eq!(again.build().await.unwrap(), built);
        }
        // Larger it may be, and smaller not.
        let larger = begun().oci_upper_size(100).build().await.unwrap();
        assert!(matches!(
            larger.image,
            RootfsSource::Oci {
                upper_size_mib: Some(100),
                ..
            }
        ));
        refused!(
            begun().oci_upper_size(63).build().await,
            E::InvalidConfig(_)
        );
        let none = SandboxBuilder::new("child").from_snapshot("none");
        refused!(none.clone().build().await, E::SnapshotNotFound(_));
        // A snapshot is looked up where the call is made, whatever task does the rest.
        let (mut progress, task) = none.create_with_pull_progress().unwrap();
        assert_eq!(progress.recv().await, None);
        refused!(task.await.unwrap().map(drop), E::SnapshotNotFound(_));
        // One that is found already must be over the image that it was taken over.
        let other = format!("sha256:{}", "cd".repeat(32));
        let mixed = SandboxBuilder::new("child")
            .image("python:3.12")
            .snapshot_resolved(other, &upper);
        refused!(mixed.create_detached().await.map(drop), E::InvalidConfig(_));
        // Its image is not here, and may not be pulled.
        let alone = begun().pull_policy(PullPolicy::Never).create().await;
        refused!(alone.map(drop), E::SnapshotImageMissing(_));
    })
    .await;
}

#[tokio::test]
async fn to_another_home_and_back() {
    let (home, other) = (Home::new(), Home::new());
    let out = home.path().join("web.tar.zst");
    let base = home
        .with(async |home| {
            home.stopped("web");
            let base = Snapshot::builder("web")
                .name("base")
                .create()
                .await
                .unwrap();
            home.end(home.running(&SandboxConfig {
                parent_snapshot: Some(base.digest().to_owned()),
                ..config("next")
            }));
            let next = Snapshot::builder("next")
                .name("next")
                .create()
                .await
                .unwrap();
            assert_eq!(next.manifest().parent.as_deref(), Some(base.digest()));
            refused!(
                Snapshot::remove("base", false).await,
                E::SnapshotInUse { .. }
            );
            let missing = ExportOpts {
                with_image: true,
                ..ExportOpts::default()
            };
            refused!(
                Snapshot::export("next", &out, missing).await,
                E::SnapshotImageMissing(_)
            );
            let opts = ExportOpts {
                with_parents: true,
                ..ExportOpts::default()
            };
            Snapshot::export("next", &out, opts).await.unwrap();
            assert!(fs::metadata(&out).unwrap().len() < 100_000);
            base
        })
        .await;
    other
        .with(async |other| {
            let handle = Snapshot::import(&out, None).await.unwrap();
            assert_eq!(handle.name(), Some("next"));
            assert_eq!(handle.parent_digest(), Some(base.digest()));
            let names: Vec<_> = Snapshot::list().await.unwrap();
            let names: Vec<_> = names.iter().filter_map(|handle| handle.name()).collect();
            assert_eq!(names, ["base", "next"]);
            let dest = other.path().join("dest");
            let there = Snapshot::import(&out, Some(&dest)).await.unwrap();
            assert_eq!(there.path(), dest.join("next"));
            assert_eq!(Snapshot::reindex(&dest).await.unwrap(), 2);

            // Another has the name.
            Snapshot::remove("next", false).await.unwrap();
            other.stopped("web");
            let taken =
                Snapshot::builder("web").destination(SnapshotDestination::Name("next".to_owned()));
            taken.create().await.unwrap();
            refused!(
                Snapshot::import(&out, None).await,
                E::SnapshotAlreadyExists(_)
            );
            let mut bytes = fs::read(&out).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&out, bytes).unwrap();
            refused!(Snapshot::import(&out, None).await, E::SnapshotIntegrity(_));
            refused!(
                Snapshot::import(Path::new("/no/such"), None).await,
                E::Io(_)
            );
        })
        .await;
}

#[tokio::test]
async fn whoever_stops_waiting_ends_it() {
    let home = Home::new();
    home.with(async |home| {
        home.stopped("web");
        // Enough data that it takes more than one step.
        let upper = home.path().join("sandboxes/web/upper.ext4");
        let disk = OpenOptions::new().write(true).open(upper).unwrap();
        disk.write_all_at(&vec![7; 48 << 20], 8 << 20).unwrap();
        {
            let taking = Snapshot::builder("web").name("base").record_integrity();
            let mut taking = Box::pin(taking.create());
            assert!(futures::poll!(&mut taking).is_pending());
        }
        // Whether it came that far or not, nobody has the sandbox soon, and nothing is left by halves.
        let free = RunDir::of(home.path(), "web");
        tokio::task::spawn_blocking(move || free.wait_until_free())
            .await
            .unwrap()
            .unwrap();
        Snapshot::builder("web")
            .name("base")
            .force()
            .create()
            .await
            .unwrap();
        for entry in fs::read_dir(home.snapshots()).unwrap() {
            assert_eq!(entry.unwrap().file_name(), "base");
        }
    })
    .await;
}
