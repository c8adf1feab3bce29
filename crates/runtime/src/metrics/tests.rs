//! Tests of the page: what is published is read, whole or not at all.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;

use super::*;

/// A sample whose every field follows from one number.
fn sample(number: u32) -> Sample {
    let wide = u64::from(number);
    let optional = |bit: u32| (number >> bit & 1 == 1).then_some(wide << 32 | wide);
    Sample {
        cpu_percent: f32::from_bits(number),
        vcpu_time_ns: wide,
        memory_bytes: wide << 1,
        memory_available_bytes: optional(0),
        memory_host_resident_bytes: optional(1),
        memory_limit_bytes: wide << 2,
        disk_read_bytes: wide << 3,
        disk_write_bytes: wide << 4,
        net_rx_bytes: wide << 5,
        net_tx_bytes: wide << 6,
        upper_used_bytes: optional(2),
        upper_free_bytes: optional(3),
        upper_host_allocated_bytes: optional(4),
        uptime: Duration::from_millis(wide),
        timestamp: DateTime::UNIX_EPOCH + TimeDelta::milliseconds(number.into()),
    }
}

fn new_page() -> (tempfile::TempDir, PathBuf, MetricsPage) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(METRICS);
    let page = MetricsPage::create(&path).unwrap();
    (dir, path, page)
}

#[test]
fn what_is_published_is_read() {
    let (_dir, path, mut page) = new_page();
    assert_eq!(fs::metadata(&path).unwrap().len(), 4096);
    let reader = MetricsReader::open(&path).unwrap();
    assert!(matches!(reader.read(), Err(MetricsError::Unavailable)));
    for number in 0..100 {
        page.publish(&sample(number));
        assert_eq!(reader.read().unwrap(), sample(number));
    }
    let extreme = Sample {
        cpu_percent: f32::INFINITY,
        net_tx_bytes: u64::MAX,
        upper_free_bytes: Some(u64::MAX),
        uptime: Duration::MAX,
        timestamp: DateTime::UNIX_EPOCH - TimeDelta::nanoseconds(1),
        ..Sample::default()
    };
    page.publish(&extreme);
    assert_eq!(reader.read().unwrap(), extreme);
}

#[test]
fn a_writer_that_never_rests_is_read_whole() {
    let (_dir, path, mut page) = new_page();
    let stop = AtomicBool::new(false);
    page.publish(&sample(1));
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in (1..0x7f00_0000).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                page.publish(&sample(number));
            }
        });
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let reader = MetricsReader::open(&path).unwrap();
                    let (mut read, mut last) = (0, 0);
                    for _ in 0..20_000 {
                        match reader.read() {
                            Ok(found) => {
                                let number = found.cpu_percent.to_bits();
                                assert_eq!(found, sample(number));
                                assert!(number >= last);
                                (read, last) = (read + 1, number);
                            }
                            // Too busy each time; never half a sample.
                            Err(MetricsError::Unavailable) => {}
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                    read
                })
            })
            .collect();
        let read: Vec<u32> = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert!(read.iter().all(|read| *read > 0), "{read:?}");
    });
}

#[test]
fn a_writer_that_died_writing_is_told() {
    let (_dir, path, mut page) = new_page();
    page.publish(&sample(3));
    let reader = MetricsReader::open(&path).unwrap();
    page.abandon();
    assert!(matches!(reader.read(), Err(MetricsError::Unavailable)));
}

#[test]
fn half_a_sample_is_none() {
    let (_dir, path, mut page) = new_page();
    page.publish(&sample(3));
    let reader = MetricsReader::open(&path).unwrap();
    // One word of another sample, under the number of this one.
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[9; 8], 8 * 9).unwrap();
    assert!(matches!(reader.read(), Err(MetricsError::Unavailable)));
    page.publish(&sample(4));
    assert_eq!(reader.read().unwrap(), sample(4));
}

#[test]
fn a_page_that_is_replaced_removed_or_shortened_is_told() {
    let (_dir, path, mut page) = new_page();
    page.publish(&sample(1));
    let first = MetricsReader::open(&path).unwrap();
    let mut page = MetricsPage::create(&path).unwrap();
    page.publish(&sample(2));
    assert!(matches!(first.read(), Err(MetricsError::Replaced)));
    let second = MetricsReader::open(&path).unwrap();
    assert_ne!(first.run_id(), second.run_id());
    assert_eq!(second.read().unwrap(), sample(2));
    // Overwritten in place by a page of another run.
    let other = path.with_extension("other");
    let mut another = MetricsPage::create(&other).unwrap();
    another.publish(&sample(3));
    fs::copy(&other, &path).unwrap();
    assert!(matches!(second.read(), Err(MetricsError::Replaced)));
    // From here on nobody touches the mapping of the file.
    let third = MetricsReader::open(&path).unwrap();
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(100)
        .unwrap();
    assert!(matches!(third.read(), Err(MetricsError::NotMetrics)));
    fs::remove_file(&path).unwrap();
    assert!(matches!(third.read(), Err(MetricsError::Replaced)));
    assert!(matches!(
        MetricsReader::open(&path),
        Err(MetricsError::Io(_))
    ));
}

#[test]
fn another_release_is_told() {
    let (_dir, path, page) = new_page();
    drop(page);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8..16].copy_from_slice(&7_u64.to_ne_bytes());
    fs::write(&path, bytes).unwrap();
    let error = MetricsReader::open(&path).unwrap_err();
    assert!(matches!(error, MetricsError::Version { found: 7 }));
    let dir = path.parent().unwrap();
    assert!(matches!(
        MetricsReader::open(dir),
        Err(MetricsError::NotMetrics)
    ));
}

proptest! {
    #[test]
    fn any_file_is_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        genuine: bool,
        words in proptest::array::uniform18(prop_oneof![any::<u64>(), 0..2_000_000_000_u64]),
        run: u64,
        sequence: u64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(METRICS);
        let bytes = match genuine {
            // A right head and a right sum, over any words.
            true => [MAGIC, VERSION, run, sequence, checksum(run, sequence, &words)]
                .into_iter()
                .chain(words)
                .flat_map(u64::to_ne_bytes)
                .collect(),
            false => bytes,
        };
        fs::write(&path, bytes).unwrap();
        let read = MetricsReader::open(&path).and_then(|reader| reader.read());
        if let Ok(sample) = read {
            let again = Sample::from_words(sample.to_words()).unwrap();
            prop_assert_eq!(again.to_words(), sample.to_words());
        }
        prop_assert!(genuine || read.is_err());
    }
}
