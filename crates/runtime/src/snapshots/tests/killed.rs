//! Whoever takes one may be killed at any moment.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

const HOME: &str = "MSB_TEST_SNAPSHOTS_HOME";

/// Not a test of its own: the process that the other one kills. It takes snapshots for ever, and sends them.
#[test]
fn taker() {
    let Some(home) = std::env::var_os(HOME) else {
        return;
    };
    let home = Path::new(&home);
    let registry = Registry::open(home).unwrap();
    let snapshots = Snapshots::of(home);
    loop {
        let asked = Take {
            replace: true,
            ..take("web", Target::Name("base".to_owned()))
        };
        snapshots.take(&registry, asked, &mut always).unwrap();
        let out = home.join("archive");
        snapshots
            .export("base", &out, Export::default(), &mut always)
            .unwrap();
        snapshots.remove("base", true).unwrap();
        snapshots.import(&out, None, &mut always).unwrap();
    }
}

#[test]
fn a_kill_at_any_moment_leaves_whole_snapshots_and_a_sandbox_that_starts() {
    let home = Home::new();
    home.stopped(&config("web"));
    let program = std::env::current_exe().unwrap();
    let run_dir = RunDir::of(home.path(), "web");
    for round in 0..12 {
        let mut child = Command::new(&program)
            .args(["--exact", "snapshots::tests::killed::taker"])
            .env(HOME, home.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Until it has come round at least once, and then at another moment each time.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut seen = 0;
        while seen < 10 + round * 11 {
            seen += u32::from(home.snapshots.find("base").is_ok());
            assert!(Instant::now() < deadline, "the taker takes nothing");
        }
        child.kill().unwrap();
        child.wait().unwrap();

        for found in home.snapshots.list().unwrap() {
            assert!(matches!(
                found.dir.verify(&mut always),
                Ok(UpperState::Verified { .. })
            ));
            assert_eq!(word(&found.dir), "web");
        }
        home.snapshots.sweep();
        let left = fs::read_dir(home.snapshots.dir()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "base"), "{left:?}");
        // Of an archive that was being written there is nothing either, once another is.
        let other = home.path().join("other");
        if home.snapshots.find("base").is_ok() {
            home.snapshots
                .export("base", &other, Export::default(), &mut always)
                .unwrap();
            let left = fs::read_dir(home.path()).unwrap();
            let mut left = left.map(|entry| entry.unwrap().file_name());
            assert!(left.all(|name| !name.as_encoded_bytes().starts_with(b".msb-export")));
        }
        assert_eq!(home.status("web"), Some(SandboxStatus::Stopped));
        run_dir.lock().unwrap().remove().unwrap();
    }
}
