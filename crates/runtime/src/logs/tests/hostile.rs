//! Files that a writer never made.

use std::fs;

use proptest::prelude::*;

use super::*;

/// Bytes that look a little like a log.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        Just(b"\n".to_vec()),
        Just(br#"{"t":"2026-01-02T03:04:05.678Z","s":"stdout","d":"good","id":1}"#.to_vec()),
        Just(br#"{"t":"2026-01-02T03:04:05.678Z","s":"stdout","d":"!","e":"b64"}"#.to_vec()),
        Just(br#"{"t":"2026-01-02T03:04:05.678Z","s":"stdout","d":"","e":"rot13"}"#.to_vec()),
        Just(br#"{"t":"+99999-01-02T03:04:05Z","s":"system","d":"\ud800"}"#.to_vec()),
        Just(br#"{"log":"00000000000000aa","seq":3}"#.to_vec()),
        Just(br#"{"log":"zz","seq":18446744073709551615}"#.to_vec()),
        Just(vec![b'['; 2000]),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_are_read(files in proptest::collection::vec(garbage(), 1..5), tail in 0_usize..9) {
        let dir = tempfile::tempdir().unwrap();
        for (number, bytes) in files.iter().enumerate() {
            let name = match number {
                0 => EXEC_LOG.to_owned(),
                _ => format!("{EXEC_LOG}.{number}"),
            };
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let all = read_logs_snapshot(dir.path(), &everything()).unwrap();
        let last = read_logs_snapshot(
            dir.path(),
            &LogOptions { tail: Some(tail), ..everything() },
        ).unwrap();
        prop_assert_eq!(&all.entries[all.entries.len().saturating_sub(tail)..], &last.entries);
        prop_assert_eq!(all.cursor, last.cursor);
        // A writer copes as well, and nothing that was readable is lost while there is room.
        let mut log = ExecLog::open(dir.path(), roomy(1000)).unwrap();
        log.append(&stdout(b"new")).unwrap();
        let after = read_logs(dir.path(), &everything()).unwrap();
        prop_assert!(after.len() > all.entries.len());
        prop_assert_eq!(&after.last().unwrap().data[..], b"new");
    }

    #[test]
    fn any_text_is_a_cursor_or_an_error(text in ".{0,60}", log: u64, seq: u64, offset: u64) {
        let _ = text.parse::<LogCursor>();
        let cursor = LogCursor { file: cursor::FileId { log, seq }, offset };
        prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
}

#[test]
fn foreign_cursors_are_told_apart() {
    use LogCursorParseError::{BadBase64, WrongLength};
    assert_eq!("not base64!".parse::<LogCursor>(), Err(BadBase64));
    assert_eq!("AAAA".parse::<LogCursor>(), Err(WrongLength));
    assert_eq!("".parse::<LogCursor>(), Err(WrongLength));
    assert_eq!("A".repeat(5000).parse::<LogCursor>(), Err(WrongLength));
    let empty = LogCursor::empty();
    assert_eq!(empty.to_string().parse(), Ok(empty));
}

#[test]
fn an_endless_line_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    log.append(&stdout(b"before")).unwrap();
    let mut bytes = fs::read(log.path()).unwrap();
    drop(log);
    bytes.extend(vec![b'z'; 3 * format::MAX_LINE]);
    fs::write(dir.path().join(EXEC_LOG), bytes).unwrap();
    let mut log = ExecLog::open(dir.path(), Limits::default()).unwrap();
    log.append(&stdout(b"after")).unwrap();
    for tail in [None, Some(10)] {
        let options = LogOptions {
            tail,
            ..everything()
        };
        assert_eq!(read_texts(dir.path(), &options), ["before", "after"]);
    }
}
