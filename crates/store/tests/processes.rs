//! Many processes, one catalog. The children are this same binary, started with a role.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use msb_store::{Catalog, LabelFilter, NewSandbox, OpenOptions, SandboxRecord, StoreError};

const ROLE: &str = "MSB_STORE_TEST_ROLE";
const CATALOG: &str = "MSB_STORE_TEST_CATALOG";
const SEED: &str = "MSB_STORE_TEST_SEED";

const PROCESSES: u64 = 8;
const OPERATIONS: usize = 120;
const PATIENT: Duration = Duration::from_secs(120);

/// A child whose lines are read; it dies with this.
struct Role {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Role {
    fn start(role: &str, path: &Path, seed: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .env(CATALOG, path)
            .env(SEED, seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line that is for us and not of the test harness. `None` when it is gone.
    fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some((_, said)) = line.trim_end().split_once("> ") {
                return Some(said.to_owned());
            }
        }
    }

    fn ask(&mut self, line: &str) -> String {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        self.line().unwrap()
    }

    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.line()).collect()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "> {line}").unwrap();
    out.flush().unwrap();
}

fn count(record: &SandboxRecord) -> u64 {
    record.config_json.parse().unwrap()
}

fn add_one(catalog: &Catalog, name: &str) -> Result<SandboxRecord, StoreError> {
    let done = catalog.update(name, |record| {
        record.config_json = (count(record) + 1).to_string();
        Ok::<_, ()>(())
    })?;
    Ok(done.unwrap())
}

fn patient(path: &Path) -> Catalog {
    Catalog::open(path, OpenOptions::with_deadline(PATIENT)).unwrap()
}

#[test]
#[ignore = "a role that other tests start"]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let path = PathBuf::from(std::env::var_os(CATALOG).unwrap());
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    match role.as_str() {
        "random" => random(&path, seed),
        "answers" => answers(&path),
        "stuck" => stuck(&path),
        "hasty" => hasty(&path),
        "counts" => counts(&path, seed),
        other => panic!("no role {other}"),
    }
}

/// Does this and that and says what was done.
fn random(path: &Path, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut catalog = patient(path);
    for _ in 0..OPERATIONS {
        let name = format!("box-{}", random.u8(0..20));
        let began = Instant::now();
        match random.u8(0..10) {
            0..3 => match catalog.insert(NewSandbox::new(&name, "0")) {
                Ok(record) => say(&format!("insert {}", record.id)),
                Err(StoreError::AlreadyExists { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            3..7 => match add_one(&catalog, &name) {
                Ok(record) => say(&format!("update {}", record.id)),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            7 => match catalog.remove_if(&name, |_| Ok::<_, ()>(())) {
                Ok(removed) => {
                    let removed = removed.unwrap();
                    say(&format!("remove {} {}", removed.id, count(&removed)));
                }
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            8 => {
                catalog.list(&LabelFilter::all()).unwrap();
            }
            _ => catalog = patient(path),
        }
        assert!(began.elapsed() < PATIENT, "it waited beyond its deadline");
    }
    say("done");
}

/// Answers how far the count of a name is.
fn answers(path: &Path) {
    let catalog = patient(path);
    for name in std::io::stdin().lines() {
        let record = catalog.get(&name.unwrap()).unwrap();
        say(&record.map_or("none".into(), |record| record.config_json));
    }
}

/// Enters a write transaction and stays there.
fn stuck(path: &Path) {
    let catalog = patient(path);
    let _ = catalog.update("a", |record| {
        record.config_json = "never".into();
        say("in");
        let _ = std::io::stdin().read(&mut [0]);
        Ok::<_, ()>(())
    });
}

/// Tries to open it again and again, and says how many threads that left.
fn hasty(path: &Path) {
    let tiny = OpenOptions::with_deadline(Duration::from_millis(1));
    for _ in 0..200 {
        let error = Catalog::open(path, tiny.clone()).unwrap_err();
        assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
    }
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    say(&threads.to_string());
}

/// Counts without end and says each number once it is committed.
fn counts(path: &Path, seed: u64) {
    let catalog = patient(path);
    let name = format!("count-{seed}");
    loop {
        say(&count(&add_one(&catalog, &name).unwrap()).to_string());
    }
}

#[test]
fn eight_processes_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // They begin without a directory: the creation is raced for too.
    let path = dir.path().join("home/db/catalog.redb");
    let roles: Vec<_> = (0..PROCESSES)
        .map(|seed| Role::start("random", &path, seed))
        .collect();
    let mut inserted = BTreeSet::new();
    let mut updates = BTreeMap::<u64, u64>::new();
    let mut removed = BTreeMap::new();
    for mut role in roles {
        let mut last = String::new();
        while let Some(line) = role.line() {
            let words: Vec<_> = line.split(' ').collect();
            let number = |index: usize| words[index].parse::<u64>().unwrap();
            match words[0] {
                "insert" => assert!(inserted.insert(number(1)), "id {} twice", number(1)),
                "update" => *updates.entry(number(1)).or_default() += 1,
                "remove" => assert_eq!(removed.insert(number(1), number(2)), None),
                _ => {}
            }
            last = line;
        }
        assert_eq!(last, "done", "a process failed");
    }
    let catalog = patient(&path);
    let mut end: BTreeMap<_, _> = catalog
        .list(&LabelFilter::all())
        .unwrap()
        .iter()
        .map(|record| (record.id, count(record)))
        .collect();
    for (id, count) in removed {
        assert_eq!(end.insert(id, count), None, "{id} was removed and is there");
    }
    assert_eq!(end.keys().copied().collect::<BTreeSet<_>>(), inserted);
    assert_eq!(
        inserted,
        (1..=inserted.len() as u64).collect(),
        "ids were left out"
    );
    for (id, count) in end {
        assert_eq!(updates.get(&id).copied().unwrap_or(0), count, "of {id}");
    }
}

#[test]
fn a_commit_is_seen_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    let catalog = patient(&path);
    let mut other = Role::start("answers", &path, 0);
    assert_eq!(other.ask("a"), "none");
    catalog.insert(NewSandbox::new("a", "0")).unwrap();
    for _ in 0..50 {
        let now = add_one(&catalog, "a").unwrap().config_json;
        assert_eq!(other.ask("a"), now);
    }
    catalog
        .remove_if("a", |_| Ok::<_, ()>(()))
        .unwrap()
        .unwrap();
    assert_eq!(other.ask("a"), "none");
}

#[test]
fn a_process_killed_while_it_writes_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    let catalog = patient(&path);
    let before = catalog.insert(NewSandbox::new("a", "0")).unwrap();
    let hasty = Catalog::open(
        &path,
        OpenOptions::with_deadline(Duration::from_millis(300)),
    )
    .unwrap();

    let mut stuck = Role::start("stuck", &path, 0);
    assert_eq!(stuck.line().unwrap(), "in");
    let error = add_one(&hasty, "a").unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
    assert_eq!(
        catalog.get("a").unwrap(),
        Some(before),
        "reading must not wait"
    );

    // Somebody is in the queue when it dies.
    let waiting = std::thread::spawn({
        let catalog = catalog.clone();
        move || add_one(&catalog, "a")
    });
    stuck.kill();
    assert_eq!(waiting.join().unwrap().unwrap().config_json, "1");
    assert_eq!(patient(&path).get("a").unwrap().unwrap().config_json, "1");
    // What was given up was not carried out, and the one who gave up goes on.
    drop(hasty);
    assert_eq!(add_one(&catalog, "a").unwrap().config_json, "2");
}

#[test]
fn killing_writers_at_any_moment_loses_no_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    let catalog = patient(&path);
    for number in 0..3 {
        let new = NewSandbox::new(format!("count-{number}"), "0");
        catalog.insert(new).unwrap();
    }
    // One goes on all the time.
    let mut survivor = Role::start("counts", &path, 0);
    let mut random = fastrand::Rng::with_seed(7);
    let mut said = [0_u64; 3];
    for _ in 0..12 {
        for (number, said) in (1..).zip(said.iter_mut().skip(1)) {
            let mut role = Role::start("counts", &path, number);
            let mut last = role.line();
            for _ in 0..random.u8(0..6) {
                last = role.line().or(last);
            }
            let rest = role.kill();
            let last: u64 = rest.last().or(last.as_ref()).unwrap().parse().unwrap();
            let found = catalog.get(&format!("count-{number}")).unwrap().unwrap();
            // It may have died between the commit and the word.
            assert!(
                [last, last + 1].contains(&count(&found)),
                "it said {last} and there is {}",
                count(&found)
            );
            assert!(last > *said);
            *said = count(&found);
        }
        survivor.line().unwrap();
    }
    let last: u64 = survivor.kill().last().unwrap().parse().unwrap();
    let found = count(&patient(&path).get("count-0").unwrap().unwrap());
    assert!([last, last + 1].contains(&found));
}

#[test]
fn a_stopped_process_makes_the_others_busy_and_not_stuck() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    let short = OpenOptions::with_deadline(Duration::from_millis(300));
    let catalog = patient(&path);
    catalog.insert(NewSandbox::new("a", "0")).unwrap();
    let mut stuck = Role::start("stuck", &path, 0);
    assert_eq!(stuck.line().unwrap(), "in");
    let pid = rustix::process::Pid::from_child(&stuck.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    for _ in 0..3 {
        let error = Catalog::open(&path, short.clone()).unwrap_err();
        assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
    }
    // Threads are not collected without end. Another process, for the limit is of a process.
    let mut hasty = Role::start("hasty", &path, 0);
    let threads: u64 = hasty.line().unwrap().parse().unwrap();
    assert!(threads < 80, "{threads} threads");
    stuck.kill();
    assert_eq!(add_one(&catalog, "a").unwrap().config_json, "1");
}
