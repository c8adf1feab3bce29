//! Following: ends, cursors, rotation, and how little it takes.

use std::fs;
use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::roundtrip::written;
use super::*;

/// Far beyond what any of this takes.
const DEADLINE: Duration = Duration::from_secs(60);

fn from(cursor: LogCursor) -> LogStreamOptions {
    LogStreamOptions {
        sources: everything().sources,
        start: LogStreamStart::From(cursor),
        ..LogStreamOptions::default()
    }
}

fn follow() -> LogStreamOptions {
    LogStreamOptions {
        follow: true,
        ..from(LogCursor::empty())
    }
}

async fn collect(dir: &Path, options: LogStreamOptions) -> Vec<LogEntry> {
    let stream = log_stream(dir, options, std::future::pending());
    tokio::time::timeout(DEADLINE, stream.try_collect())
        .await
        .expect("the stream does not end")
        .unwrap()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("nothing came")
}

#[tokio::test]
async fn a_stream_that_does_not_follow_ends_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        collect(&dir.path().join("none"), from(LogCursor::empty())).await,
        []
    );
    let mut log = ExecLog::open(dir.path(), small(150)).unwrap();
    for text in ["one", "two", "three"] {
        log.append(&stdout(text.as_bytes())).unwrap();
    }
    let entries = collect(dir.path(), from(LogCursor::empty())).await;
    assert_eq!(texts(&entries), ["one", "two", "three"]);
    assert_eq!(entries, read_logs(dir.path(), &everything()).unwrap());
    let late = LogStreamOptions {
        start: LogStreamStart::Since(at(1)),
        ..LogStreamOptions::default()
    };
    assert_eq!(collect(dir.path(), late).await, []);
    let early = LogStreamOptions {
        until: Some(at(0)),
        ..LogStreamOptions::default()
    };
    assert_eq!(collect(dir.path(), early).await, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_cursor_gives_exactly_the_rest(
        entries in proptest::collection::vec(written(), 1..30),
        file_bytes in 300_u64..3000,
        ahead in 0_usize..30,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut log = ExecLog::open(dir.path(), roomy(file_bytes)).unwrap();
        let ahead = ahead.min(entries.len());
        for entry in &entries[..ahead] {
            log.append(&entry.entry()).unwrap();
        }
        let snapshot = read_logs_snapshot(dir.path(), &everything()).unwrap();
        for entry in &entries[ahead..] {
            log.append(&entry.entry()).unwrap();
        }
        let all = read_logs(dir.path(), &everything()).unwrap();
        prop_assume!(all.len() == entries.len());
        runtime.block_on(async {
            for (count, entry) in all.iter().enumerate() {
                let rest = collect(dir.path(), from(entry.cursor)).await;
                assert_eq!(rest, all[count + 1..]);
            }
            assert_eq!(collect(dir.path(), from(snapshot.cursor)).await, all[ahead..]);
        });
    }
}

#[tokio::test]
async fn a_cursor_whose_file_is_gone_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = ExecLog::open(dir.path(), small(150)).unwrap();
    log.append(&stdout(b"0")).unwrap();
    let snapshot = read_logs_snapshot(dir.path(), &everything()).unwrap();
    for number in 1..=6 {
        log.append(&stdout(format!("{number}").as_bytes())).unwrap();
    }
    let items: Vec<_> = log_stream(dir.path(), from(snapshot.cursor), async {})
        .collect()
        .await;
    let Err(LogError::MissedRotation {
        dropped_from_offset,
    }) = items[0]
    else {
        panic!("not told: {items:?}");
    };
    assert_eq!(dropped_from_offset, snapshot.cursor.offset);
    let rest: Vec<_> = items.into_iter().skip(1).map(Result::unwrap).collect();
    assert_eq!(rest, read_logs(dir.path(), &everything()).unwrap());
}

#[tokio::test]
async fn a_cursor_between_no_two_entries_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    log.append(&stdout(b"0")).unwrap();
    let good = read_logs_snapshot(dir.path(), &everything())
        .unwrap()
        .cursor;
    for offset in [good.offset - 1, good.offset + 1, u64::MAX] {
        let bad = LogCursor { offset, ..good };
        let items: Vec<_> = log_stream(dir.path(), from(bad), async {}).collect().await;
        assert!(
            matches!(items[..], [Err(LogError::InvalidCursor)]),
            "{items:?}"
        );
    }
}

/// A writer that rotates at nearly every entry, faster than anybody reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_all_or_is_told() {
    const COUNT: usize = 3000;
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("sandbox/logs");
    for limits in [small(1000), roomy(40_000)] {
        let logs = logs.join(limits.kept.to_string());
        let stop = oneshot::channel::<()>();
        let ended = async {
            let _ = stop.1.await;
        };
        let stream = log_stream(&logs, follow(), ended);
        let written = logs.clone();
        let writer = tokio::task::spawn_blocking(move || {
            let mut log = ExecLog::open(&written, limits).unwrap();
            for number in 0..COUNT {
                log.append(&stdout(number.to_string().as_bytes())).unwrap();
            }
            stop.0.send(()).unwrap();
        });
        let items: Vec<_> = soon(stream.collect()).await;
        writer.await.unwrap();
        // Where little is kept, the first ones may be gone before the beginning is looked for.
        let mut expected = (limits.kept > 3).then_some(0);
        for item in items {
            match item {
                Ok(entry) => {
                    let number: usize = texts(&[entry])[0].parse().unwrap();
                    assert!(expected.is_none_or(|expected| expected == number));
                    expected = Some(number + 1);
                }
                Err(LogError::MissedRotation { .. }) if limits.kept == 3 => expected = None,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(expected, Some(COUNT), "the last ones are always there");
    }
}

#[tokio::test]
async fn a_log_that_comes_later_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("a/b/logs");
    let mut stream = pin!(log_stream(&logs, follow(), std::future::pending()));
    assert!(futures::poll!(stream.next()).is_pending());
    fs::create_dir(dir.path().join("a")).unwrap();
    assert!(futures::poll!(stream.next()).is_pending());
    for round in ["one", "two"] {
        let mut log = ExecLog::open(&logs, Limits::default()).unwrap();
        log.append(&stdout(round.as_bytes())).unwrap();
        assert_eq!(
            texts(&[soon(stream.try_next()).await.unwrap().unwrap()]),
            [round]
        );
        // Removed, and made again under the same name: a log of its own.
        fs::remove_dir_all(dir.path().join("a")).unwrap();
    }
}

#[tokio::test]
async fn a_quiet_log_ends_on_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    log.append(&stdout(b"only")).unwrap();
    let options = LogStreamOptions {
        until: Some(Utc::now() + TimeDelta::milliseconds(300)),
        ..follow()
    };
    assert_eq!(texts(&collect(dir.path(), options).await), ["only"]);
}

#[tokio::test]
async fn an_emptied_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    log.append(&stdout(b"one")).unwrap();
    let mut stream = pin!(log_stream(dir.path(), follow(), std::future::pending()));
    assert_eq!(soon(stream.try_next()).await.unwrap().unwrap().data, "one");
    fs::File::create(log.path()).unwrap();
    log.append(&stdout(b"2")).unwrap();
    let error = soon(stream.try_next()).await.unwrap_err();
    assert!(matches!(error, LogError::MissedRotation { .. }));
    assert_eq!(soon(stream.try_next()).await.unwrap().unwrap().data, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_followers_share_one_instance() {
    let dir = tempfile::tempdir().unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let logs: Vec<_> = (0..20)
        .map(|number| dir.path().join(number.to_string()))
        .collect();
    let (seen, mut all_seen) = tokio::sync::mpsc::channel::<()>(1);
    let mut followers = Vec::new();
    for number in 0..200 {
        let logs = logs[number % logs.len()].clone();
        let mut stopped = stopped.clone();
        let seen = seen.clone();
        followers.push(tokio::spawn(async move {
            let ended = async move {
                let _ = stopped.wait_for(|stopped| *stopped).await;
            };
            let mut stream = pin!(log_stream(&logs, follow(), ended));
            let first = stream.try_next().await.unwrap();
            drop(seen);
            (first, stream.try_collect::<Vec<_>>().await.unwrap())
        }));
    }
    drop(seen);
    for logs in &logs {
        let mut log = ExecLog::open(logs, Limits::default()).unwrap();
        log.append(&stdout(b"first")).unwrap();
    }
    assert!(soon(all_seen.recv()).await.is_none());
    assert_eq!(instances(), 1);
    assert!(watch::watched() >= logs.len());
    for logs in &logs {
        let mut log = ExecLog::open(logs, Limits::default()).unwrap();
        log.append(&stdout(b"second")).unwrap();
    }
    stop.send(true).unwrap();
    for follower in followers {
        let (first, rest) = soon(follower).await.unwrap();
        assert_eq!(first.unwrap().data, "first");
        assert_eq!(texts(&rest), ["second"]);
    }
}

/// How many inotify instances this process has.
fn instances() -> usize {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.to_string_lossy().contains("inotify"))
        .count()
}
