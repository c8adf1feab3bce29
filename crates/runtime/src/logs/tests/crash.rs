//! Writers that are killed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

const DIR: &str = "MSB_TEST_LOG_DIR";

/// Not a test of its own: the process that the other one kills. It counts in the log for ever.
#[test]
fn counter() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let dir = Path::new(&dir);
    let seen = read_logs(
        dir,
        &LogOptions {
            tail: Some(1),
            ..everything()
        },
    )
    .unwrap();
    let last = seen.last().map_or(0, number);
    let mut log = ExecLog::open(dir, roomy(30_000)).unwrap();
    for count in last + 1.. {
        // Long enough that a kill can come in the middle of a write.
        let text = format!("{count} {}", "y".repeat(9000));
        log.append(&stdout(text.as_bytes())).unwrap();
    }
}

fn number(entry: &LogEntry) -> u64 {
    let text = std::str::from_utf8(&entry.data).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_killed_writer_loses_nothing_that_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    for _ in 0..20 {
        let before = read_logs_snapshot(dir.path(), &everything())
            .unwrap()
            .cursor;
        let mut child = Command::new(&program)
            .args(["--exact", "logs::tests::crash::counter"])
            .env(DIR, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let now = read_logs_snapshot(dir.path(), &everything()).unwrap();
            if now.cursor != before && now.entries.len() > 2 {
                break;
            }
            assert!(Instant::now() < deadline, "the writer writes nothing");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let entries = read_logs(dir.path(), &everything()).unwrap();
        let numbers: Vec<u64> = entries.iter().map(number).collect();
        for pair in numbers.windows(2) {
            // Twice the same: only the newline was torn off, and then it counts after all.
            assert!(
                matches!(pair[1].checked_sub(pair[0]), Some(0 | 1)),
                "{numbers:?}"
            );
        }
    }
}
