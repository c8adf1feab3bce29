//! Rotation, torn lines, failing disks, raw files.

use std::fs::{self, File, OpenOptions};
use std::io::Write;

use super::*;

#[test]
fn entries_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("not/yet");
    assert_eq!(read_logs(&dir, &everything()).unwrap(), []);
    let mut log = ExecLog::open(&dir, Limits::default()).unwrap();
    log.notice(STARTED).unwrap();
    log.append(&stdout(b"hello\n")).unwrap();
    let terminal = Entry {
        source: LogSource::Output,
        session_id: Some(u64::MAX),
        timestamp: at(5),
        data: b"\x1b[0m\xff\xfe",
    };
    log.append(&terminal).unwrap();
    let entries = read_logs(&dir, &LogOptions::default()).unwrap();
    assert_eq!(texts(&entries[..1]), ["hello\n"]);
    assert_eq!(entries[1].data, terminal.data);
    assert_eq!(entries[1].source, terminal.source);
    assert_eq!(entries[1].session_id, terminal.session_id);
    assert_eq!(entries[1].timestamp, terminal.timestamp);
    assert_eq!(read_texts(&dir, &everything())[0], STARTED);
    let text = fs::read_to_string(log.path()).unwrap();
    assert!(text.contains(r#"{"t":"2026-01-02T03:04:05.678Z","s":"stdout","d":"hello\n","id":7}"#));
    assert!(text.contains(r#","e":"b64"}"#));
    let system = text.lines().nth(1).unwrap();
    assert!(system.contains(STARTED) && !system.contains("\"id\""));
}

#[test]
fn options_choose() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    for second in 0..10 {
        let (text, source) = match second % 2 {
            0 => (format!("out {second}"), LogSource::Stdout),
            _ => (format!("err {second}"), LogSource::Stderr),
        };
        let entry = Entry {
            timestamp: at(second * 1000),
            source,
            session_id: None,
            data: text.as_bytes(),
        };
        log.append(&entry).unwrap();
    }
    let options = LogOptions {
        since: Some(at(2000)),
        until: Some(at(8000)),
        sources: vec![LogSource::Stdout],
        tail: None,
    };
    assert_eq!(
        read_texts(dir.path(), &options),
        ["out 2", "out 4", "out 6"]
    );
    let tail = LogOptions {
        tail: Some(2),
        ..options
    };
    assert_eq!(read_texts(dir.path(), &tail), ["out 4", "out 6"]);
    let none = LogOptions {
        tail: Some(0),
        ..tail
    };
    assert_eq!(read_texts(dir.path(), &none), [""; 0]);
}

#[test]
fn four_rotations_keep_three() {
    let dir = tempfile::tempdir().unwrap();
    // One line fits, two do not. A file of a larger limit, long ago, goes.
    fs::write(dir.path().join("exec.log.4"), "old").unwrap();
    let mut log = ExecLog::open(dir.path(), small(120)).unwrap();
    for number in 0..5 {
        log.append(&stdout(format!("{number}").as_bytes())).unwrap();
    }
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["exec.log", "exec.log.1", "exec.log.2", "exec.log.3"]
    );
    assert_eq!(read_texts(dir.path(), &everything()), ["1", "2", "3", "4"]);
    for tail in 0..=5 {
        let options = LogOptions {
            tail: Some(tail),
            ..everything()
        };
        assert_eq!(
            read_texts(dir.path(), &options),
            ["1", "2", "3", "4"][4_usize.saturating_sub(tail)..]
        );
    }
}

#[test]
fn a_rotation_that_stopped_in_the_middle_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = |number: u32| dir.path().join(format!("exec.log.{number}"));
    let mut log = ExecLog::open(dir.path(), small(120)).unwrap();
    for number in 0..4 {
        log.append(&stdout(format!("{number}").as_bytes())).unwrap();
    }
    drop(log);
    // As after the first rename of a shift, and with the live file gone as after the last one.
    fs::remove_file(path(3)).unwrap();
    fs::rename(path(2), path(3)).unwrap();
    fs::rename(path(1), path(2)).unwrap();
    fs::rename(dir.path().join(EXEC_LOG), path(1)).unwrap();
    fs::write(dir.path().join("exec.log.new"), "{\"log\":").unwrap();
    assert_eq!(read_texts(dir.path(), &everything()), ["1", "2", "3"]);
    fs::rename(path(1), dir.path().join(EXEC_LOG)).unwrap();
    let mut log = ExecLog::open(dir.path(), small(120)).unwrap();
    log.append(&stdout(b"4")).unwrap();
    assert_eq!(read_texts(dir.path(), &everything()), ["1", "2", "3", "4"]);
}

#[test]
fn a_torn_line_is_passed_over_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    log.append(&stdout(b"before")).unwrap();
    let path = log.path();
    drop(log);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(br#"{"t":"2026-01-02T03:04:05.678Z","s":"std"#)
        .unwrap();
    let cursor = read_logs_snapshot(dir.path(), &everything())
        .unwrap()
        .cursor;
    for tail in [None, Some(10)] {
        let options = LogOptions {
            tail,
            ..everything()
        };
        assert_eq!(read_texts(dir.path(), &options), ["before"]);
    }
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    log.append(&stdout(b"after")).unwrap();
    for tail in [None, Some(10)] {
        let options = LogOptions {
            tail,
            ..everything()
        };
        let entries = read_logs(dir.path(), &options).unwrap();
        assert_eq!(texts(&entries), ["before", "after"]);
        assert_eq!(entries[0].cursor, cursor);
    }
    // Still one file: the count goes on.
    assert!(!dir.path().join("exec.log.1").exists());
}

#[test]
fn what_could_not_be_written_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    log.append(&stdout(b"one")).unwrap();
    let read_only = File::open(log.path()).unwrap();
    let working = std::mem::replace(&mut log.live.as_mut().unwrap().file, read_only);
    for text in ["lost", "lost too"] {
        let error = log.append(&stdout(text.as_bytes())).unwrap_err();
        assert!(matches!(error, LogError::Io { .. }));
    }
    let losses = Losses {
        entries: 2,
        bytes: 12,
    };
    assert_eq!(log.losses(), losses);
    log.live.as_mut().unwrap().file = working;
    log.append(&stdout(b"two")).unwrap();
    assert_eq!(log.losses(), Losses::default());
    let texts = read_texts(dir.path(), &everything());
    assert_eq!(texts.len(), 3);
    assert!(texts[1].contains("2 entries (12 bytes) are missing"));
    assert_eq!(texts[2], "two");
}

#[test]
fn a_full_disk_is_an_error_and_what_is_missing_is_said() {
    let full = Path::new("/dev/full");
    let dir = tempfile::tempdir().unwrap();
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    let disk = OpenOptions::new().write(true).open(full).unwrap();
    let working = std::mem::replace(&mut log.live.as_mut().unwrap().file, disk);
    let Err(LogError::Io { source, .. }) = log.append(&stdout(b"lost")) else {
        panic!("written to a full disk");
    };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    log.live.as_mut().unwrap().file = working;
    log.append(&stdout(b"kept")).unwrap();
    let texts = read_texts(dir.path(), &everything());
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].contains("1 entries (4 bytes)"));
}

#[test]
fn a_log_that_cannot_be_opened_is_opened_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    fs::write(&logs, "in the way").unwrap();
    let error = ExecLog::open(&logs, Limits::default()).unwrap_err();
    assert!(matches!(error, LogError::Io { .. }));
    let mut log = ExecLog::unopened(&logs, Limits::default());
    log.append(&stdout(b"lost")).unwrap_err();
    fs::remove_file(&logs).unwrap();
    log.append(&stdout(b"kept")).unwrap();
    let texts = read_texts(&logs, &everything());
    assert!(texts[0].contains("(4 bytes) are missing"));
    assert_eq!(texts[1..], ["kept"]);
}

#[test]
fn a_file_of_another_writer_is_read_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let line =
        "{\"t\":\"2026-01-02T03:04:05+00:00\",\"s\":\"output\",\"d\":\"foreign\",\"id\":1}\n";
    fs::write(dir.path().join(EXEC_LOG), line).unwrap();
    assert_eq!(read_texts(dir.path(), &everything()), ["foreign"]);
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    log.append(&stdout(b"own")).unwrap();
    drop(log);
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    log.append(&stdout(b"more")).unwrap();
    assert_eq!(
        read_texts(dir.path(), &everything()),
        ["foreign", "own", "more"]
    );
    assert!(!dir.path().join("exec.log.2").exists());
}

#[test]
fn long_entries_become_several_and_characters_stay_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    let text = "x".repeat(MAX_CHUNK - 1) + &"é".repeat(MAX_CHUNK);
    log.append(&stdout(text.as_bytes())).unwrap();
    let entries = read_logs(dir.path(), &everything()).unwrap();
    assert!(entries.iter().all(|entry| entry.data.len() <= MAX_CHUNK));
    assert!(
        entries
            .iter()
            .all(|entry| std::str::from_utf8(&entry.data).is_ok())
    );
    assert_eq!(texts(&entries).concat(), text);
    // All control characters: the longest line there can be.
    let worst = vec![1; MAX_CHUNK];
    log.append(&stdout(&worst)).unwrap();
    let options = LogOptions {
        tail: Some(1),
        ..everything()
    };
    assert_eq!(read_logs(dir.path(), &options).unwrap()[0].data, worst);
    assert_eq!(
        read_logs(dir.path(), &everything())
            .unwrap()
            .last()
            .unwrap()
            .data,
        worst
    );
}

#[test]
fn a_raw_file_keeps_to_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        file_bytes: 10,
        kept: 1,
    };
    let mut console = BoundedFile::open(dir.path(), KERNEL_LOG, limits).unwrap();
    console.append(b"0123456").unwrap();
    drop(console);
    let mut console = BoundedFile::open(dir.path(), KERNEL_LOG, limits).unwrap();
    console.append(b"789abcdefghijklmnop").unwrap();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("kernel.log"), "klmnop");
    assert_eq!(read("kernel.log.1"), "abcdefghij");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}
