//! What is written is read, however it is cut and rotated.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) milliseconds: i64,
    pub(super) source: LogSource,
    pub(super) session: Option<u64>,
    pub(super) data: Vec<u8>,
}

impl Written {
    pub(super) fn entry(&self) -> Entry<'_> {
        Entry {
            timestamp: at(self.milliseconds),
            source: self.source,
            session_id: self.session,
            data: &self.data,
        }
    }

    pub(super) fn is(&self, read: &LogEntry) -> bool {
        self.entry().timestamp == read.timestamp
            && self.source == read.source
            && self.session == read.session_id
            && self.data == read.data
    }
}

pub(super) fn written() -> impl Strategy<Value = Written> {
    let source = prop_oneof![
        Just(LogSource::Stdout),
        Just(LogSource::Stderr),
        Just(LogSource::Output),
        Just(LogSource::System),
    ];
    let data = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        "\\PC{0,40}".prop_map(String::into_bytes),
        // A character that is cut.
        "[äß漢🦀]{1,9}".prop_map(|text| text.as_bytes()[..text.len() - 1].to_vec()),
    ];
    (0_i64..1_000_000, source, any::<Option<u64>>(), data).prop_map(
        |(milliseconds, source, session, data)| Written {
            milliseconds,
            source,
            session,
            data,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_read(
        entries in proptest::collection::vec(written(), 0..60),
        file_bytes in 0_u64..4000,
        kept in 0_u32..12,
        reopen in 1_usize..20,
        tail in 0_usize..70,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { file_bytes, kept };
        for part in entries.chunks(reopen) {
            let mut log = ExecLog::open(dir.path(), limits).unwrap();
            for entry in part {
                log.append(&entry.entry()).unwrap();
            }
        }
        let read = read_logs(dir.path(), &everything()).unwrap();
        prop_assert!(read.len() <= entries.len());
        // The newest are there, whatever was rotated away.
        let newest = &entries[entries.len() - read.len()..];
        prop_assert!(newest.iter().zip(&read).all(|(written, read)| written.is(read)));
        prop_assert_eq!(read.is_empty(), entries.is_empty());
        let options = LogOptions { tail: Some(tail), ..everything() };
        let last = read_logs(dir.path(), &options).unwrap();
        prop_assert_eq!(&read[read.len().saturating_sub(tail)..], &last);
        for number in 0..=MAX_KEPT {
            let exists = rotate::Files::new(dir.path(), EXEC_LOG, MAX_KEPT)
                .path(number)
                .exists();
            prop_assert!(!exists || number <= kept);
        }
    }
}

#[test]
fn a_snapshot_ends_where_the_log_does() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        tail: Some(1),
        ..LogOptions::default()
    };
    assert_eq!(
        read_logs_snapshot(dir.path(), &options).unwrap().cursor,
        LogCursor::empty()
    );
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    log.append(&stdout(b"one")).unwrap();
    let one = read_logs_snapshot(dir.path(), &options).unwrap();
    assert_eq!(one.cursor, one.entries[0].cursor);
    // The end moves with entries that are not asked for, too.
    log.notice("two").unwrap();
    let two = read_logs_snapshot(dir.path(), &options).unwrap();
    assert_eq!(two.entries, one.entries);
    assert_ne!(two.cursor, one.cursor);
}
