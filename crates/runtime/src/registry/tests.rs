//! A supervisor may be killed between any two steps: what does whoever comes next see?

use std::fs;

use super::*;

struct Home {
    dir: tempfile::TempDir,
    registry: Registry,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        Self { dir, registry }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The lock of a sandbox, as its supervisor has it.
    fn own(&self, name: &str) -> Owned {
        let lock = RunDir::of(self.path(), name).lock().unwrap();
        self.registry.own(lock, name.to_owned())
    }

    /// A sandbox whose supervisor has just written it down.
    fn starting(&self, name: &str, ephemeral: bool) -> (Owned, RunFile) {
        let owned = self.own(name);
        let run = run(1);
        owned.create(&config(name, ephemeral), &run).unwrap();
        (owned, run)
    }

    /// One that was stopped in order.
    fn stopped(&self, name: &str) {
        let (owned, mut run) = self.starting(name, false);
        owned.note(&run, SandboxStatus::Running).unwrap();
        owned.end(&mut run, &end(EndReason::Stopped)).unwrap();
        owned.lock.remove().unwrap();
    }

    fn status(&self, name: &str) -> Option<SandboxStatus> {
        self.registry.get(name).unwrap().map(|record| record.status)
    }

    fn sandbox(&self, name: &str) -> SandboxDir {
        SandboxDir::of(self.path(), name)
    }
}

fn config(name: &str, ephemeral: bool) -> SandboxConfig {
    let mut config = SandboxConfig {
        name: name.to_owned(),
        ..SandboxConfig::default()
    };
    config.lifecycle.ephemeral = ephemeral;
    config.labels.insert("team".to_owned(), name.to_owned());
    config
}

fn run(id: u64) -> RunFile {
    RunFile {
        id,
        pid: std::process::id(),
        started_at: Utc::now(),
        ended: None,
        isolation: Default::default(),
    }
}

fn end(reason: EndReason) -> EndRecord {
    EndRecord {
        reason,
        exit_code: Some(0),
        signal: None,
        observed_at: Utc::now(),
        source: EndSource::Supervisor,
    }
}

#[test]
fn what_stood_around_a_run_is_kept_with_it() {
    use crate::isolation::{Layer, LayerReport, Strength};
    let home = Home::new();
    let owned = home.own("web");
    let mut file = run(1);
    owned.create(&config("web", false), &file).unwrap();
    let of_record = || {
        let record = owned.record().unwrap().unwrap();
        isolation(record.run.as_ref().unwrap())
    };
    assert_eq!(of_record(), None);
    file.isolation.layers.push(LayerReport {
        layer: Layer::Landlock,
        strength: Strength::Partial,
        detail: Some("paths only".to_owned()),
    });
    owned.describe(&file).unwrap();
    owned.note(&file, SandboxStatus::Running).unwrap();
    let written = home.sandbox("web").read_run().unwrap().unwrap();
    assert_eq!(written.isolation, file.isolation);
    owned.end(&mut file, &end(EndReason::Stopped)).unwrap();
    assert_eq!(of_record(), Some(file.isolation));
    // The next run has said nothing yet.
    owned.start(&run(2)).unwrap();
    assert_eq!(of_record(), None);
}

#[test]
fn what_a_creation_fills_is_there_with_the_sandbox_or_nothing_is() {
    let home = Home::new();
    let owned = home.own("web");
    let failing = |dir: &Path| {
        fs::write(dir.join("upper.ext4"), "half").unwrap();
        Err(LaunchError::Config("no".to_owned()))
    };
    let config = config("web", false);
    let failed = owned.create_with(&config, &run(1), failing);
    assert_eq!(failed, Err(LaunchError::Config("no".to_owned())));
    assert_eq!(home.status("web"), None);
    assert_eq!(
        fs::read_dir(home.path().join("sandboxes")).unwrap().count(),
        0
    );

    let filling = |dir: &Path| {
        // Nobody takes it for a sandbox yet.
        assert!(!home.sandbox("web").exists().unwrap());
        fs::write(dir.join("upper.ext4"), "whole").unwrap();
        Ok(())
    };
    owned.create_with(&config, &run(2), filling).unwrap();
    let upper = home.sandbox("web").path().join("upper.ext4");
    assert_eq!(fs::read(&upper).unwrap(), b"whole");
    owned.remove_record().unwrap();
    assert!(!upper.exists());
    assert_eq!(
        fs::read_dir(home.path().join("sandboxes")).unwrap().count(),
        0
    );
}

#[test]
fn a_life_in_order_is_told_step_by_step() {
    let home = Home::new();
    assert_eq!(home.status("web"), None);
    let (owned, mut run) = home.starting("web", false);
    assert_eq!(home.status("web"), Some(SandboxStatus::Starting));
    for status in [
        SandboxStatus::Running,
        SandboxStatus::Paused,
        SandboxStatus::Running,
        SandboxStatus::Draining,
    ] {
        owned.note(&run, status).unwrap();
        assert_eq!(home.status("web"), Some(status));
    }
    owned.end(&mut run, &end(EndReason::Drained)).unwrap();
    owned.lock.remove().unwrap();
    let record = home.registry.get("web").unwrap().unwrap();
    assert_eq!(record.status, SandboxStatus::Stopped);
    let ended = record.run.unwrap().ended.unwrap();
    assert_eq!(end_reason(&ended), Some(EndReason::Drained));
    assert_eq!(ended.exit_code, Some(0));
}

#[test]
fn a_supervisor_that_vanished_leaves_a_crashed_sandbox_that_starts_again() {
    let home = Home::new();
    let (owned, lost) = home.starting("web", false);
    owned.note(&lost, SandboxStatus::Running).unwrap();
    drop(owned);
    let record = home.registry.get("web").unwrap().unwrap();
    assert_eq!(record.status, SandboxStatus::Crashed);
    let ended = record.run.unwrap().ended.unwrap();
    assert_eq!(end_reason(&ended), Some(EndReason::SupervisorLost));
    assert_eq!(ended.source, EndSource::Lock.as_str());

    let owned = home.own("web");
    assert_eq!(owned.start(&run(2)).unwrap().name, "web");
    assert_eq!(home.status("web"), Some(SandboxStatus::Starting));
}

#[test]
fn an_end_that_only_the_directory_knows_is_taken_from_there() {
    let home = Home::new();
    let (owned, mut run) = home.starting("web", false);
    owned.note(&run, SandboxStatus::Running).unwrap();
    run.ended = Some(end(EndReason::GuestPowerOff));
    owned.dir().write_run(&run).unwrap();
    drop(owned);
    let record = home.registry.get("web").unwrap().unwrap();
    assert_eq!(record.status, SandboxStatus::Stopped);
    let ended = record.run.unwrap().ended.unwrap();
    assert_eq!(end_reason(&ended), Some(EndReason::GuestPowerOff));
}

#[test]
fn the_end_of_another_run_is_not_taken() {
    let home = Home::new();
    let (owned, _run) = home.starting("web", false);
    let mut other = run(99);
    other.ended = Some(end(EndReason::Stopped));
    owned.dir().write_run(&other).unwrap();
    drop(owned);
    assert_eq!(home.status("web"), Some(SandboxStatus::Crashed));
}

#[test]
fn a_failed_boot_ends_the_run_whatever_was_written_before() {
    let home = Home::new();
    home.stopped("web");
    let owned = home.own("web");
    let mut again = run(2);
    owned.start(&again).unwrap();
    // The catalog had taken "it runs" when that turned out to be wrong.
    owned.note(&again, SandboxStatus::Running).unwrap();
    let failed = end(EndReason::BootFailed("no".to_owned()));
    owned.end(&mut again, &failed).unwrap();
    assert!(!home.status("web").unwrap().is_active());
}

#[test]
fn removals_and_creations_cut_short_leave_all_or_nothing() {
    let home = Home::new();
    home.stopped("web");
    // Killed after the rename, which is where it is decided.
    let _aside = home.sandbox("web").set_aside().unwrap();
    assert!(home.registry.list(&LabelFilter::all()).unwrap().is_empty());
    assert_eq!(home.status("web"), None);

    // Killed after the record was written, before the directory had its name.
    let lock = RunDir::of(home.path(), "web").lock().unwrap();
    let record = NewSandbox {
        status: SandboxStatus::Starting,
        ..NewSandbox::new("web", "{}")
    };
    home.registry.catalog.insert(record).unwrap();
    assert_eq!(home.status("web"), Some(SandboxStatus::Starting));
    drop(lock);
    assert_eq!(home.status("web"), None);
    let (owned, _run) = home.starting("web", false);
    assert_eq!(home.status("web"), Some(SandboxStatus::Starting));
    assert!(owned.dir().read_run().unwrap().is_some());
}

#[test]
fn what_runs_is_not_removed_and_what_does_not_is() {
    let home = Home::new();
    let (owned, _run) = home.starting("web", false);
    let refused = home.registry.remove("web");
    assert!(
        matches!(refused, Err(RemoveError::Active(SandboxStatus::Starting))),
        "{refused:?}"
    );
    drop(owned);
    home.registry.remove("web").unwrap();
    assert_eq!(home.status("web"), None);
    assert!(!home.sandbox("web").exists().unwrap());
    assert!(!RunDir::of(home.path(), "web").path().exists());
    assert!(matches!(
        home.registry.remove("web"),
        Err(RemoveError::Missing)
    ));
}

#[test]
fn an_ephemeral_sandbox_goes_however_it_ends() {
    let home = Home::new();
    let (owned, mut run) = home.starting("told", true);
    owned.end(&mut run, &end(EndReason::Stopped)).unwrap();
    assert!(!owned.dir().exists().unwrap());
    owned.lock.remove().unwrap();

    let (owned, _run) = home.starting("lost", true);
    drop(owned);
    assert!(home.registry.list(&LabelFilter::all()).unwrap().is_empty());
    assert!(!home.sandbox("lost").exists().unwrap());
    assert_eq!(fs::read_dir(home.path().join("run")).unwrap().count(), 0);
}

#[test]
fn a_name_has_one_sandbox_and_a_sandbox_one_run() {
    let home = Home::new();
    let (owned, mut first) = home.starting("web", false);
    assert_eq!(
        owned.create(&config("web", false), &run(2)).unwrap_err(),
        LaunchError::Exists
    );
    owned.end(&mut first, &end(EndReason::Stopped)).unwrap();
    assert_eq!(
        owned.create(&config("web", false), &run(2)).unwrap_err(),
        LaunchError::Exists
    );
    owned.start(&run(3)).unwrap();
    owned.lock.remove().unwrap();
    let nobody = home.own("nobody");
    assert_eq!(nobody.start(&run(4)).unwrap_err(), LaunchError::Missing);
}

#[test]
fn labels_choose_and_order_is_by_age() {
    let home = Home::new();
    for name in ["one", "two", "three"] {
        home.stopped(name);
    }
    let names = |filter: &LabelFilter| -> Vec<String> {
        let records = home.registry.list(filter).unwrap();
        records.into_iter().map(|record| record.name).collect()
    };
    assert_eq!(names(&LabelFilter::all()), ["one", "two", "three"]);
    assert_eq!(names(&[("team", "two")].into_iter().collect()), ["two"]);
    assert!(names(&[("team", "none")].into_iter().collect()).is_empty());
}

#[test]
fn a_damaged_catalog_is_made_anew_from_the_directories() {
    let home = Home::new();
    home.stopped("done");
    let (alive, run) = home.starting("alive", false);
    alive.note(&run, SandboxStatus::Running).unwrap();
    let (lost, _run) = home.starting("lost", false);
    drop(lost);
    fs::write(home.path().join("db/catalog.redb"), vec![0x5a; 8192]).unwrap();
    assert!(Registry::open(home.path()).is_err());

    let rebuilt = Registry::rebuild(home.path()).unwrap();
    let status = |name: &str| rebuilt.get(name).unwrap().unwrap().status;
    assert_eq!(status("done"), SandboxStatus::Stopped);
    assert_eq!(status("alive"), SandboxStatus::Running);
    assert_eq!(status("lost"), SandboxStatus::Crashed);
    let labels = rebuilt.get("done").unwrap().unwrap().labels;
    assert_eq!(labels.get("team").map(String::as_str), Some("done"));
}

#[test]
fn a_run_taken_for_lost_by_mistake_is_put_right_by_its_supervisor() {
    let home = Home::new();
    let (owned, mut run) = home.starting("web", false);
    let record = home.registry.get("web").unwrap().unwrap();
    home.registry.conclude(owned.dir(), record).unwrap();
    assert_eq!(home.status("web"), Some(SandboxStatus::Crashed));
    owned.note(&run, SandboxStatus::Running).unwrap();
    assert_eq!(home.status("web"), Some(SandboxStatus::Running));
    owned.end(&mut run, &end(EndReason::Stopped)).unwrap();
    let record = home.registry.get("web").unwrap().unwrap();
    assert_eq!(record.status, SandboxStatus::Stopped);
    let ended = record.run.unwrap().ended.unwrap();
    assert_eq!(end_reason(&ended), Some(EndReason::Stopped));
}

#[test]
fn what_cannot_be_looked_at_is_not_taken_for_gone() {
    let home = Home::new();
    home.stopped("web");
    let place = home.path().join("sandboxes");
    let aside = home.path().join("elsewhere");
    fs::rename(&place, &aside).unwrap();
    assert!(home.registry.get("web").is_err());
    assert!(home.registry.list(&LabelFilter::all()).is_err());
    fs::rename(&aside, &place).unwrap();
    assert_eq!(home.status("web"), Some(SandboxStatus::Stopped));
}
