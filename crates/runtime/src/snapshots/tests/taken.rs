//! Taking them: of which sandboxes, and what others see meanwhile.

use super::*;

#[test]
fn of_a_sandbox_that_was_stopped() {
    let home = Home::new();
    home.stopped(&config("web"));
    let mut asked = take("web", Target::Name("base".to_owned()));
    asked.labels.insert("stage".to_owned(), "ready".to_owned());
    let taken = home
        .snapshots
        .take(&home.registry, asked, &mut always)
        .unwrap();
    assert_eq!(taken.path(), home.snapshots.dir().join("base"));
    let manifest = taken.sealed().manifest();
    assert_eq!(manifest.source_sandbox.as_deref(), Some("web"));
    assert_eq!(manifest.image.reference, "docker.io/library/python:3.12");
    assert_eq!(manifest.image.manifest_digest, image().to_string());
    assert_eq!((&manifest.parent, &manifest.patch), (&None, &None));
    assert_eq!(manifest.upper.size_bytes, 64 << 20);
    assert_eq!(manifest.labels["stage"], "ready");
    assert_eq!(word(&taken), "web");
    assert!(matches!(
        taken.verify(&mut always),
        Ok(UpperState::Verified { .. })
    ));
    // The sandbox is as it was, and nobody holds it.
    assert_eq!(home.status("web"), Some(SandboxStatus::Stopped));
    assert!(!RunDir::of(home.path(), "web").path().exists());
    // What it writes from now on is its own.
    ext4(&home.sandbox("web").path().join("upper.ext4"), "changed");
    assert_eq!(word(&taken), "web");
}

#[test]
fn of_one_that_was_lost_which_is_then_known_to_have_crashed() {
    let home = Home::new();
    let (owned, _) = home.running(&config("web"));
    drop(owned);
    // Under the lock that a snapshot is taken under, nobody else can find out.
    let mut looked = Vec::new();
    let mut look = || {
        looked.push(home.status("web"));
        Ok(())
    };
    let asked = take("web", Target::Name("base".to_owned()));
    home.snapshots
        .take(&home.registry, asked, &mut look)
        .unwrap();
    assert!(!looked.is_empty());
    assert!(
        looked
            .iter()
            .all(|status| *status == Some(SandboxStatus::Crashed)),
        "{looked:?}"
    );
}

#[test]
fn with_its_patches_and_of_its_parent() {
    let home = Home::new();
    home.stopped(&config("web"));
    let patch = home.sandbox("web").path().join("patch");
    fs::create_dir(&patch).unwrap();
    fs::write(patch.join("index"), "index").unwrap();
    fs::write(patch.join("data"), [7; 4096]).unwrap();
    let base = home.named("web", "base");
    assert!(base.sealed().manifest().patch.is_some());
    home.stopped(&child("next", &base));
    let next = home.named("next", "next");
    assert_eq!(next.sealed().parent(), Some(base.sealed().digest()));
    assert!(next.sealed().manifest().patch.is_none());

    fs::remove_file(patch.join("data")).unwrap();
    let half = home.take("web", Target::Name("half".to_owned()));
    assert!(matches!(half, Err(TakeError::Snapshot(_))));
    assert_eq!(home.names(), ["base", "next"]);
}

#[test]
fn not_of_one_that_runs_or_is_none() {
    let home = Home::new();
    let refused = |name: &str| home.take(name, Target::Name("base".to_owned()));
    assert!(matches!(refused("web"), Err(TakeError::NoSandbox)));
    let (owned, run) = home.running(&config("web"));
    for status in [
        SandboxStatus::Starting,
        SandboxStatus::Running,
        SandboxStatus::Paused,
        SandboxStatus::Draining,
    ] {
        owned.note(&run, status).unwrap();
        let refused = refused("web");
        assert!(matches!(refused, Err(TakeError::Active(found)) if found == status));
    }
    owned.note(&run, SandboxStatus::Stopped).unwrap();
    assert!(
        matches!(refused("web"), Err(TakeError::Busy)),
        "who holds it is about to let go"
    );
    owned.lock.remove().unwrap();

    let disk = SandboxConfig {
        image: RootfsSource::Bind("/root".into()),
        ..config("disk")
    };
    home.stopped(&disk);
    assert!(matches!(refused("disk"), Err(TakeError::Unfit(_))));
    home.stopped(&SandboxConfig {
        manifest_digest: None,
        ..config("unpinned")
    });
    assert!(matches!(refused("unpinned"), Err(TakeError::Unfit(_))));
    home.stopped(&config("bare"));
    let upper = home.sandbox("bare").path().join("upper.ext4");
    fs::write(&upper, vec![0; 1 << 20]).unwrap();
    assert!(matches!(refused("bare"), Err(TakeError::Unfit(_))));
    fs::remove_file(&upper).unwrap();
    assert!(matches!(refused("bare"), Err(TakeError::Unfit(_))));
    // A link is somebody else's file.
    std::os::unix::fs::symlink("/etc/passwd", &upper).unwrap();
    assert!(matches!(refused("bare"), Err(TakeError::Snapshot(_))));
    for name in ["disk", "unpinned", "bare"] {
        assert!(!RunDir::of(home.path(), name).path().exists(), "{name}");
    }
    assert_eq!(home.names(), [""; 0]);
    assert!(entries(home.snapshots.dir()).unwrap().is_empty());
}

#[test]
fn nobody_starts_or_removes_it_meanwhile() {
    let home = Home::new();
    home.stopped(&config("web"));
    let run_dir = RunDir::of(home.path(), "web");
    let mut looked = 0;
    let mut look = || {
        looked += 1;
        // As a supervisor would begin, as a removal, and as another who takes one.
        assert!(matches!(run_dir.lock(), Err(RunDirError::Held)));
        assert!(home.registry.remove("web").is_err());
        assert!(matches!(
            home.take("web", Target::Name("other".to_owned())),
            Err(TakeError::Busy)
        ));
        crate::rundir::sweep(home.path());
        assert_eq!(home.status("web"), Some(SandboxStatus::Stopped));
        Ok(())
    };
    let asked = take("web", Target::Name("base".to_owned()));
    home.snapshots
        .take(&home.registry, asked, &mut look)
        .unwrap();
    assert!(looked > 0);
    run_dir.lock().unwrap().remove().unwrap();
    home.registry.remove("web").unwrap();
    // It stays when its sandbox is gone.
    assert_eq!(home.names(), ["base"]);
}

#[test]
fn one_that_goes_with_its_run_is_gone() {
    let home = Home::new();
    let mut passing = config("web");
    passing.lifecycle.ephemeral = true;
    drop(home.running(&passing));
    let refused = home.take("web", Target::Name("base".to_owned()));
    assert!(matches!(refused, Err(TakeError::NoSandbox)));
    assert_eq!(home.status("web"), None);
}

#[test]
fn names_and_places_that_none_can_have() {
    let home = Home::new();
    home.stopped(&config("web"));
    let inside = home.snapshots.dir().join(".hidden");
    for target in [
        Target::Name("../base".to_owned()),
        Target::Name(String::new()),
        Target::Name(".hidden".to_owned()),
        Target::Path(PathBuf::new()),
        Target::Path("/".into()),
        Target::Path("/tmp/..".into()),
        Target::Path(inside),
    ] {
        let refused = home.take("web", target.clone());
        assert!(
            matches!(refused, Err(TakeError::Invalid(_))),
            "{target:?}: {refused:?}"
        );
    }
    let mut labelled = take("web", Target::Name("base".to_owned()));
    labelled.labels.insert("a b".to_owned(), String::new());
    let refused = home.snapshots.take(&home.registry, labelled, &mut always);
    assert!(matches!(refused, Err(TakeError::Invalid(_))));
    assert_eq!(home.names(), [""; 0]);
}

#[test]
fn one_in_the_place_of_another() {
    let home = Home::new();
    home.stopped(&config("web"));
    let first = home.named("web", "base");
    let again = home.take("web", Target::Name("base".to_owned()));
    assert!(matches!(
        again,
        Err(TakeError::Snapshot(SnapshotError::Exists { .. }))
    ));
    ext4(&home.sandbox("web").path().join("upper.ext4"), "second");
    let replacing = Take {
        replace: true,
        ..take("web", Target::Name("base".to_owned()))
    };
    let second = home
        .snapshots
        .take(&home.registry, replacing, &mut always)
        .unwrap();
    assert_ne!(first.sealed().digest(), second.sealed().digest());
    assert_eq!(word(&second), "second");
    assert_eq!(home.names(), ["base"]);

    // What is no snapshot stays, whoever says that it may go.
    let project = home.path().join("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("thesis.txt"), "years of work").unwrap();
    let replacing = Take {
        replace: true,
        ..take("web", Target::Path(project.clone()))
    };
    let refused = home.snapshots.take(&home.registry, replacing, &mut always);
    assert!(matches!(
        refused,
        Err(TakeError::Snapshot(SnapshotError::Foreign { .. }))
    ));
    assert!(project.join("thesis.txt").exists());
}
